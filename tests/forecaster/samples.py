"""Generated demand for tests: seeded, small, with a daily shape."""

from datetime import UTC, datetime, timedelta

import numpy as np

from forecaster.panel import Panel
from forecaster.series import DemandSeries, DemandUnit

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def daily_counts(n_days: float, step: timedelta, *, mean_per_bin: float = 20.0, seed: int = 0) -> np.ndarray:
    """Poisson counts around a sine of one day."""
    n_steps = round(timedelta(days=n_days) / step)
    phase = 2 * np.pi * np.arange(n_steps) * (step / timedelta(days=1))
    expected = mean_per_bin * (1.0 + 0.7 * np.sin(phase))
    return np.random.default_rng(seed).poisson(expected).astype(np.float64)


def a_series(values: np.ndarray, step: timedelta = timedelta(minutes=10), start: datetime = MONDAY) -> DemandSeries:
    """Requests per second from counts per bin."""
    return DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=step, values=values / step.total_seconds())


def a_panel(values: np.ndarray, step: timedelta = timedelta(minutes=10), start: datetime = MONDAY) -> Panel:
    rows = np.atleast_2d(values)
    return Panel(keys=tuple(f"e{i}" for i in range(len(rows))), start=start, step=step, values=rows)
