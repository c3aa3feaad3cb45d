"""What will be asked for: quantile paths of demand."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from forecaster.errors import BadSeries
from forecaster.series import FloatArray, require_utc

DEFAULT_LEVELS = (0.1, 0.5, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True, eq=False)
class DemandForecast:
    """Quantiles of demand for the bins [start + i*step, start + (i+1)*step), issued at `issued_at`.

    Only bins that had ended by `issued_at` were known. `quantile_levels` has shape (n_levels,) and increases in (0, 1);
    `values` has shape (n_steps, n_levels), unit as the series it came from, >= 0, finite, never crossing
    (non-decreasing along levels). Both are read-only. `method` names what made it; `fell_back_from` names the method
    that was asked for but could not be used, else "".
    """

    issued_at: datetime
    start: datetime
    step: timedelta
    quantile_levels: FloatArray
    values: FloatArray
    method: str
    fell_back_from: str = ""

    def __post_init__(self) -> None:
        require_utc(self.issued_at, "forecast issued_at")
        require_utc(self.start, "forecast start")
        if self.step <= timedelta(0):
            raise BadSeries(f"forecast step: need > 0, have {self.step}")
        levels = np.array(self.quantile_levels, dtype=np.float64)
        values = np.array(self.values, dtype=np.float64)
        if levels.ndim != 1 or len(levels) == 0 or np.any(np.diff(levels) <= 0) or levels[0] <= 0 or levels[-1] >= 1:
            raise BadSeries(f"forecast quantile_levels: need increasing within (0, 1), have {levels.tolist()}")
        if values.ndim != 2 or values.shape[1] != len(levels):
            raise BadSeries(f"forecast values: need shape (n_steps, {len(levels)}), have {values.shape}")
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise BadSeries(f"forecast values of {self.method}: need finite and >= 0")
        if np.any(np.diff(values, axis=1) < 0):
            raise BadSeries(f"forecast values of {self.method}: quantiles cross")
        levels.setflags(write=False)
        values.setflags(write=False)
        object.__setattr__(self, "quantile_levels", levels)
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def end(self) -> datetime:
        return self.start + len(self.values) * self.step

    def at_level(self, level: float) -> FloatArray:
        """The path of one quantile, shape (n_steps,): linear between levels, the outermost level beyond them."""
        return np.array([np.interp(level, self.quantile_levels, row) for row in self.values])
