"""Generated traffic for policy tests: a shape of demand per second, and seeded Poisson counts around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from types import MappingProxyType

import numpy as np

from forecaster.series import DemandSeries, DemandUnit, FloatArray

START = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday: generated traffic begins here."""
MINUTE = timedelta(minutes=1)

Shape = Callable[[FloatArray, float, float], FloatArray]
"""(second of the day, second at which it happens, seconds it lasts) to 0..1: how far from `low` to `high`."""


def _constant(second: FloatArray, at: float, lasts: float) -> FloatArray:
    return np.ones_like(second)


def _diurnal(second: FloatArray, at: float, lasts: float) -> FloatArray:
    """A cosine over the day, highest at `at`."""
    return 0.5 + 0.5 * np.cos((second - at) / 86_400.0 * 2.0 * np.pi)


def _spike(second: FloatArray, at: float, lasts: float) -> FloatArray:
    """`high` from `at` for as long as it lasts, every day; announced by nothing."""
    return ((second - at) % 86_400.0 < lasts).astype(np.float64)


def _ramp(second: FloatArray, at: float, lasts: float) -> FloatArray:
    """From low to high over `lasts`, then high to the end of the day."""
    return np.clip((second - at) / lasts, 0.0, 1.0)


def _timer(second: FloatArray, at: float, lasts: float) -> FloatArray:
    """One minute of `high` each `lasts`, counted from `at`."""
    return ((second - at) % lasts < 60.0).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A shape, and which of low, high, at and lasts it depends on."""

    shape: Shape
    reads: frozenset[str]


_ALL = frozenset({"low", "high", "at", "lasts"})
PATTERNS: Mapping[str, Pattern] = MappingProxyType(
    {
        "constant": Pattern(shape=_constant, reads=frozenset({"high"})),
        "diurnal": Pattern(shape=_diurnal, reads=_ALL - {"lasts"}),
        "spike": Pattern(shape=_spike, reads=_ALL),
        "ramp": Pattern(shape=_ramp, reads=_ALL),
        "timer": Pattern(shape=_timer, reads=_ALL),
    }
)


def demand_of(
    pattern: str,
    low: float,
    high: float,
    at: timedelta,
    lasts: timedelta,
    span: timedelta,
    rng: np.random.Generator,
    unit: DemandUnit = DemandUnit.REQUESTS,
    start: datetime = START,
) -> DemandSeries:
    """Demand per minute bin from `start` on over `span`, a part of a minute rounded up, as rates (concurrency: levels).
    `low` and `high` are units per second (levels).

    Example: spike, low 1, high 10, at 9h, lasts 15m: about 60 requests a minute, 600 from 9:00 to 9:15 of every day.
    """
    n = ceil(span / MINUTE)
    second: FloatArray = (start.timestamp() + np.arange(n, dtype=np.float64) * 60.0) % 86_400.0
    shape = PATTERNS[pattern].shape(second, at.total_seconds(), lasts.total_seconds())
    counts = rng.poisson(60.0 * (low + (high - low) * shape))
    return DemandSeries(unit=unit, start=start, step=MINUTE, values=counts / 60.0)
