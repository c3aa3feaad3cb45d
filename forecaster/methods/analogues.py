"""What followed the past moments that looked like this one: a quantile forest on the endpoint's own history.

Three readings of the same idea, which fail differently and are pooled: `analogues_level` learns sqrt(demand / scale)
itself, `analogues_change` its difference to the last value, `analogues_profile` its difference to what earlier days
lead to from here (days.py). On the square-root scale counts have an even spread, and scaling makes yesterday's
situations comparable to today's. One forest serves each bucket of leads, with the lead as a feature.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

import numpy as np

from forecaster.calendar import IntArray
from forecaster.errors import ShortHistory, StoreError
from forecaster.methods.base import Arrays, FittedMethod
from forecaster.methods.features import Known, known_at
from forecaster.methods.learners import ForestOfAnalogues
from forecaster.panel import Panel
from forecaster.series import FloatArray

BUCKET_ENDS_SECONDS = (900, 7200, 36_000, float("inf"))  # leads up to 15 min, 2 h, 10 h, and beyond learn together
TRAIN_STRIDE = timedelta(minutes=2)
TRAIN_SPAN = timedelta(days=28)
MAX_ROWS = 4000
# At long leads what followed a bin sooner or later says the same: it counts too while situations are few.
FEW_ROWS, NEAR_FROM = 2000, timedelta(hours=2)
MIN_ROWS = 60


class Base(Enum):
    """What a target is measured from."""

    ZERO = "level"
    LAST = "change"
    PROFILE = "profile"


@dataclass(frozen=True)
class Analogues:
    """The method; `base` says from what the target is measured."""

    name: str
    base: Base

    def fit(self, panel: Panel, steps_ahead: IntArray, previous: FittedMethod | None = None) -> "FittedAnalogues":
        """Learn from all series together. Raises ShortHistory with fewer than MIN_ROWS situations seen to their end."""
        forests = {}
        for bucket, leads in buckets(panel, steps_ahead):
            features, target = training_rows(panel, leads, base=self.base)
            if len(target) < MIN_ROWS:
                continue
            forests[bucket] = ForestOfAnalogues(features=features, target=target)
        if not forests:
            raise ShortHistory(
                f"{self.name}: have {panel.n_steps} steps of {panel.step}, need {MIN_ROWS} whose outcome was seen"
            )
        return FittedAnalogues(base=self.base, forests=forests)

    def restore(self, arrays: Arrays) -> "FittedAnalogues":
        forests = {}
        for name in arrays:
            if name.endswith("_target"):
                bucket = name.removesuffix("_target")
                try:
                    forests[int(bucket)] = ForestOfAnalogues(
                        features=arrays[f"{bucket}_features"], target=arrays[name].astype(np.float64)
                    )
                except (KeyError, ValueError) as error:
                    raise StoreError(f"{self.name}: stored array {name} has no features beside it") from error
        if not forests:
            raise StoreError(f"{self.name}: have no stored forest, need at least one")
        return FittedAnalogues(base=self.base, forests=forests)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedAnalogues:
    """Forests by bucket of leads; a bucket without one uses the nearest."""

    base: Base
    forests: dict[int, ForestOfAnalogues]

    def arrays(self) -> Arrays:
        stored: Arrays = {}
        for bucket, forest in self.forests.items():
            stored[f"{bucket}_features"] = forest.features
            stored[f"{bucket}_target"] = forest.target
        return stored

    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        out = np.full((panel.n_series, len(origins), len(steps_ahead), len(levels)), np.nan)
        for bucket, leads in buckets(panel, steps_ahead):
            nearest = min(self.forests, key=lambda have: (abs(have - bucket), have))
            at = np.searchsorted(steps_ahead, leads)
            out[:, :, at] = self._of_bucket(self.forests[nearest], panel, origins, leads, levels)
        return out

    def _of_bucket(
        self, forest: ForestOfAnalogues, panel: Panel, origins: IntArray, leads: IntArray, levels: FloatArray
    ) -> FloatArray:
        known = known_at(panel, origins, leads)
        n_features = known.features.shape[-1]
        on_root = forest.quantiles(known.features.reshape(-1, n_features), levels)
        demand = from_root(on_root.reshape(*known.profile.shape, len(levels)), known, base=self.base)
        return np.minimum(demand, highest_credible(panel, origins)[..., None, None])


def buckets(panel: Panel, steps_ahead: IntArray) -> Iterator[tuple[int, IntArray]]:
    """The asked leads of each bucket that has any."""
    seconds = steps_ahead * panel.step_seconds
    which = np.searchsorted(np.array(BUCKET_ENDS_SECONDS), seconds)
    for bucket in np.unique(which):
        yield int(bucket), steps_ahead[which == bucket]


def training_rows(
    panel: Panel, leads: IntArray, *, base: Base, max_rows: int = MAX_ROWS
) -> tuple[np.ndarray, FloatArray]:
    """Features (n_rows, n_features) and targets on the root scale of past situations whose outcome was seen.

    Every series and lead has its share; the newest `max_rows` on a stride that keeps them evenly spaced.
    """
    stride = panel.steps(TRAIN_STRIDE)
    first = max(panel.steps(timedelta(hours=6)), panel.n_steps - panel.steps(TRAIN_SPAN))
    origins = np.arange(first, panel.n_steps - int(leads.min()), stride)
    n_rows = len(origins) * len(leads) * panel.n_series
    origins = origins[::-1][:: max(-(-n_rows // max_rows), 1)][::-1]
    if n_rows <= FEW_ROWS and leads.min() >= panel.steps(NEAR_FROM):
        leads = np.unique(leads[:, None] + np.array([-1, 0, 1]))
    if len(origins) == 0:
        return np.empty((0, 0), dtype=np.float32), np.empty(0)
    known = known_at(panel, origins, leads)
    targets = origins[:, None] + leads
    outcome = np.where(targets < panel.n_steps, panel.values[:, np.minimum(targets, panel.n_steps - 1)], np.nan)
    rooted = np.sqrt(outcome / known.scale[..., None])
    rooted = rooted - base_on_root(known, base)
    seen = np.isfinite(rooted)
    return np.ascontiguousarray(known.features[seen]), rooted[seen]


def base_on_root(known: Known, base: Base) -> FloatArray:
    """What the target is measured from, on the root scale, shape that broadcasts to (n_series, n_origins, n_ahead)."""
    if base is Base.ZERO:
        return np.zeros((1, 1, 1))
    demand = known.last[..., None] if base is Base.LAST else known.profile
    return np.asarray(np.sqrt(demand / known.scale[..., None]))


def highest_credible(panel: Panel, origins: IntArray) -> FloatArray:
    """1.2 times the most that was seen before each origin, (n_series, n_origins): learnt methods say nothing of more.

    Just after a restart from idle the scale is small and a learnt multiple of it means nothing.
    """
    highest = np.maximum.accumulate(np.nan_to_num(panel.values[:, : int(origins.max())]), axis=1)
    return np.asarray(1.2 * highest[:, np.maximum(origins - 1, 0)])


def from_root(on_root: FloatArray, known: Known, *, base: Base) -> FloatArray:
    """Demand from quantiles on the root scale, (n_series, n_origins, n_ahead, n_levels); NaN where nothing was seen."""
    demand = np.maximum(on_root + base_on_root(known, base)[..., None], 0.0) ** 2 * known.scale[..., None, None]
    return np.where(np.isnan(known.last)[..., None, None], np.nan, demand)
