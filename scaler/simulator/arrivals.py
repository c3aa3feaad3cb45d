"""When inside its bin a request arrives: counts of a trace's bins spread over the control steps."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zlib import crc32

import numpy as np

from forecaster.series import DemandSeries, FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class StepGrid:
    """Control steps [start + k*step, start + (k+1)*step) for k in range(n_steps), aligned to multiples of `step`
    since the epoch."""

    start: datetime
    step: timedelta
    n_steps: int

    @property
    def end(self) -> datetime:
        return self.start + self.n_steps * self.step

    @property
    def step_seconds(self) -> float:
        return self.step.total_seconds()

    def index(self, when: datetime) -> int:
        """The first step that starts at `when` or later."""
        return -((self.start - when) // self.step)

    def time(self, k: int) -> datetime:
        return self.start + k * self.step


@dataclass(frozen=True, kw_only=True, eq=False)
class StepDemand:
    """What arrives in each control step.

    `work` (n_steps,) is demand units per step: whole requests or tokens; for concurrency, unit-seconds (level x step).
    `seen` (n_steps,) is False where the trace has no data: nothing arrives there and the source reports NaN.
    """

    grid: StepGrid
    work: FloatArray
    seen: np.ndarray

    def values(self) -> FloatArray:
        """Units per second (concurrency: the level), NaN where not seen."""
        return np.where(self.seen, self.work / self.grid.step_seconds, np.nan)


def covering_grid(start: datetime, end: datetime, step: timedelta) -> StepGrid:
    """The aligned grid of the fewest steps that covers [start, end)."""
    epoch = datetime.fromtimestamp(0, UTC)
    first = (start - epoch) // step
    last = -((epoch - end) // step)
    return StepGrid(start=epoch + first * step, step=step, n_steps=last - first)


def spread(series: DemandSeries, grid: StepGrid, seed: int, key: str = "") -> StepDemand:
    """The series on the control grid: each bin's arrivals fall independently and uniformly over the bin.

    The counts of the steps are whole numbers that add up to the bin's count. Every bin draws from its own generator,
    seeded by (seed, key, the bin's start), so that changing one bin changes no other. A concurrency level is not
    spread: each step holds the level itself, as unit-seconds. Example: a 60 s bin of 8 requests might give 3, 1, 2, 2.
    """
    bin_s, step_s = series.step_seconds, grid.step_seconds
    offset = (series.start - grid.start).total_seconds()
    work = np.zeros(grid.n_steps)
    blind = np.zeros(grid.n_steps)
    counts = np.rint(series.counts()) if series.unit.is_rate else series.values
    origin = int(series.start.timestamp())
    for i in np.flatnonzero(counts != 0):
        first, shares = _overlaps(offset + i * bin_s, bin_s, step_s)
        if np.isnan(counts[i]):
            blind[first : first + len(shares)] += shares * bin_s
        elif series.unit.is_rate:
            rng = np.random.Generator(np.random.PCG64([seed, crc32(key.encode()), origin + int(i * bin_s)]))
            work[first : first + len(shares)] += rng.multinomial(int(counts[i]), shares)
        else:
            work[first : first + len(shares)] += counts[i] * shares * bin_s
    return StepDemand(grid=grid, work=work, seen=blind < step_s / 2)


def _overlaps(start_seconds: float, length_seconds: float, step_seconds: float) -> tuple[int, FloatArray]:
    """The first step that a bin touches, and the share of the bin in each step from there."""
    first = int(np.floor(start_seconds / step_seconds + 1e-9))
    last = int(np.ceil((start_seconds + length_seconds) / step_seconds - 1e-9))
    edges = np.arange(first, last + 1) * step_seconds
    edges[0], edges[-1] = start_seconds, start_seconds + length_seconds
    shares = np.diff(edges) / length_seconds
    return first, shares / shares.sum()
