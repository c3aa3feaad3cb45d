"""Forecasts made wrong on purpose: what a replay with a forecast fault plays on."""

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from forecaster.series import FloatArray
from scaler.simulator.compiled import IntArray
from scaler.simulator.selfreplay.family import FORECAST_PEAK, N_FORECAST_COLUMNS
from scaler.simulator.selfreplay.signals import BaseRows

KINDS = ("noise", "zero", "shift")


@dataclass(frozen=True, kw_only=True)
class Spoil:
    """Every forecast replaced: by noise around the usual demand, by zero, or by what was forecast `shift` before.

    What is measured (demand now, its medians) and everything derived from it alone stays true.
    """

    kind: str
    shift: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"spoilt forecast: need one of {', '.join(KINDS)}, have {self.kind!r}")

    def shift_steps(self, step: timedelta) -> int:
        """How many earlier rows must be kept."""
        return round(self.shift / step) if self.kind == "shift" else 0

    def apply(
        self, rows: BaseRows, earlier: BaseRows, numbers: IntArray, typical: FloatArray, step: timedelta
    ) -> BaseRows:
        """`rows` with their forecasts replaced. `earlier` are the true rows just before them, `numbers` the rows' own
        (they seed the noise), `typical` the usual demand at each."""
        ahead, peaks = rows.ahead.copy(), rows.peaks.copy()
        if self.kind == "shift":
            lag, n = self.shift_steps(step), len(rows.now)
            both = np.concatenate([earlier.ahead[:N_FORECAST_COLUMNS], rows.ahead[:N_FORECAST_COLUMNS]], axis=1)
            soon = np.concatenate([earlier.peaks[FORECAST_PEAK], rows.peaks[FORECAST_PEAK]])
            at = np.maximum(np.arange(len(soon) - n, len(soon)) - lag, 0)
            ahead[:N_FORECAST_COLUMNS], peaks[FORECAST_PEAK] = both[:, at], soon[at]
        else:
            wrong = np.zeros(len(rows.now))
            if self.kind == "noise":
                wrong = 2.0 * typical * np.array([np.random.default_rng(int(k)).random() for k in numbers])
            ahead[:N_FORECAST_COLUMNS], peaks[FORECAST_PEAK] = wrong, wrong
        ahead[:, np.isnan(rows.now)] = np.nan
        return replace(rows, ahead=ahead, peaks=peaks)
