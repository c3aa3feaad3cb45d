"""What the members of the pool said at past origins, and what came."""

import zlib
from dataclasses import dataclass

import numpy as np

from forecaster.calendar import IntArray
from forecaster.panel import Panel
from forecaster.series import FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Ledger:
    """What the members said. `made` (n_past,) epoch seconds of the origins, increasing; `steps_ahead` (n_leads,);
    `quantiles` (n_series, n_past, n_leads, n_members, n_levels), NaN where a member could not say; `told`
    (n_series, n_past, n_leads, n_levels) what they said of the past told at a new level, NaN where the level had not
    plainly changed; `actual` (n_series, n_past, n_leads), NaN while not seen."""

    made: FloatArray
    steps_ahead: IntArray
    quantiles: FloatArray
    told: FloatArray
    actual: FloatArray

    def extended(self, newer: "Ledger", keep_from: float) -> "Ledger":
        old = self.made >= keep_from
        return Ledger(
            made=np.concatenate([self.made[old], newer.made]),
            steps_ahead=self.steps_ahead,
            quantiles=np.concatenate([self.quantiles[:, old], newer.quantiles], axis=1),
            told=np.concatenate([self.told[:, old], newer.told], axis=1),
            actual=np.concatenate([self.actual[:, old], newer.actual], axis=1),
        )


def empty_ledger(panel: Panel, leads: IntArray, n_members: int, n_levels: int) -> Ledger:
    shape = (panel.n_series, 0, len(leads))
    return Ledger(
        made=np.empty(0),
        steps_ahead=leads,
        quantiles=np.empty((*shape, n_members, n_levels)),
        told=np.empty((*shape, n_levels)),
        actual=np.empty(shape),
    )


def ahead_hours(panel: Panel, steps_ahead: IntArray) -> FloatArray:
    """Hours from the issue of a forecast to the end of its bin, (n_leads,)."""
    return np.asarray((steps_ahead + 1.0) * panel.step_seconds / 3600.0)


def bins_of(panel: Panel, ledger: Ledger) -> tuple[IntArray, IntArray]:
    """The ledger's origins as bins of this panel (may be negative), and the bin from which each outcome is known."""
    made = np.round((ledger.made - panel.start.timestamp()) / panel.step_seconds).astype(np.int64)
    return made, made[:, None] + ledger.steps_ahead + 1


def digest(panel: Panel, until: float) -> int:
    """A checksum of the history before `until` (epoch seconds)."""
    n_known = int(np.clip(round((until - panel.start.timestamp()) / panel.step_seconds), 0, panel.n_steps))
    return zlib.crc32(panel.values[:, :n_known].tobytes(), zlib.crc32(panel.start.isoformat().encode()))


def outcomes(panel: Panel, ledger: Ledger) -> FloatArray:
    """The outcomes that this panel knows, else those that the ledger knew."""
    targets = bins_of(panel, ledger)[1] - 1
    inside = (targets >= 0) & (targets < panel.n_steps)
    here = np.where(inside, panel.values[:, np.clip(targets, 0, panel.n_steps - 1)], np.nan)
    return np.where(np.isnan(here), ledger.actual, here)
