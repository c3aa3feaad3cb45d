"""Demand as a regular UTC grid."""

from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from forecaster.errors import BadSeries

FloatArray = NDArray[np.float64]


class DemandUnit(StrEnum):
    """What one unit of demand is. Requests and tokens are rates per second, concurrency is a level."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"

    @property
    def is_rate(self) -> bool:
        return self is not DemandUnit.CONCURRENCY


def require_utc(when: datetime, name: str) -> None:
    """Raise BadSeries unless `when` is aware and UTC: local time exists only in forecaster.calendar."""
    if when.tzinfo is None or when.utcoffset() != timedelta(0):
        raise BadSeries(f"{name}: need an aware UTC time, have {when!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class DemandSeries:
    """Demand seen on a regular grid: bin i covers [start + i*step, start + (i+1)*step).

    `values` has shape (n_steps,), is read-only, >= 0, in units per second (requests, tokens) or a level (concurrency).
    NaN means not seen; 0 means idle. The unfinished bin is never part of a series.
    """

    unit: DemandUnit
    start: datetime
    step: timedelta
    values: FloatArray

    def __post_init__(self) -> None:
        require_utc(self.start, "series start")
        if self.step <= timedelta(0):
            raise BadSeries(f"series step: need > 0, have {self.step}")
        values = np.array(self.values, dtype=np.float64)
        if values.ndim != 1:
            raise BadSeries(f"series values: need shape (n_steps,), have {values.shape}")
        if np.any(values < 0) or np.any(np.isinf(values)):
            worst = int(np.flatnonzero((values < 0) | np.isinf(values))[0])
            raise BadSeries(f"series values: need finite and >= 0 (or NaN), have {values[worst]} at step {worst}")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def step_seconds(self) -> float:
        return self.step.total_seconds()

    @property
    def end(self) -> datetime:
        """The first moment that is not covered."""
        return self.start + len(self.values) * self.step

    def counts(self) -> FloatArray:
        """Units per bin (rates times the step); for concurrency the level itself. NaN stays NaN."""
        return self.values * self.step_seconds if self.unit.is_rate else self.values.copy()

    def until(self, when: datetime) -> Self:
        """Only the bins that had ended by `when`: what could have been known then."""
        n = int(np.clip((when - self.start) // self.step, 0, len(self.values)))
        return self.part(0, n)

    def since(self, when: datetime) -> Self:
        """Only the bins that start at `when` or later."""
        skipped = int(np.clip(-((self.start - when) // self.step), 0, len(self.values)))
        return self.part(skipped, len(self.values))

    def part(self, first: int, last: int) -> Self:
        """The bins first..last-1 (0 <= first), as a view: they were checked once and cannot be written."""
        found = copy(self)
        object.__setattr__(found, "start", self.start + first * self.step)
        object.__setattr__(found, "values", self.values[first:last])
        return found

    def resampled(self, step: timedelta) -> Self:
        """The same demand on another grid. A coarser one, aligned to multiples of `step` since the epoch, has means
        over whole bins; a finer one repeats each bin.

        A coarse bin of which less than half was seen is NaN; incomplete bins at both ends are left out.
        """
        if step == self.step:
            return self
        if step < self.step and not self.step % step:
            return type(self)(unit=self.unit, start=self.start, step=step, values=self.values.repeat(self.step // step))
        factor, rest = divmod(step, self.step)
        if rest or factor < 1:
            raise BadSeries(f"resample: need a multiple or an even part of {self.step}, have {step}")
        epoch_steps = round(self.start.timestamp() / self.step_seconds)
        skip = (-epoch_steps) % factor
        n_coarse = max((len(self.values) - skip) // factor, 0)
        blocks = self.values[skip : skip + n_coarse * factor].reshape(n_coarse, factor)
        seen = ~np.isnan(blocks)
        totals = np.where(seen, blocks, 0.0).sum(axis=1)
        n_seen = seen.sum(axis=1)
        means = np.where(2 * n_seen >= factor, totals / np.maximum(n_seen, 1), np.nan)
        return type(self)(unit=self.unit, start=self.start + skip * self.step, step=step, values=means)
