"""Generated traffic of kinds that inference endpoints see. The same name, seed and day give the same requests.

A day is drawn by itself, so a history may be as long as one likes and a longer one only adds days. No recorded trace is
in it: levels, shapes and burst laws are made up, of the sizes that public traces of inference endpoints have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from zlib import crc32

import numpy as np

from forecaster.series import DemandSeries, DemandUnit, FloatArray

MINUTES_PER_DAY = 1440
Intensity = Callable[[int, np.random.Generator], FloatArray]
"""(weekday, generator of that day) -> expected requests in each minute, shape (1440,)."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of endpoint: what it is like in words, and its expected requests a minute."""

    describe: str
    intensity: Intensity


def _bump(hours: FloatArray, centre: float, width: float) -> FloatArray:
    """A peak of height 1 at the hour `centre`, wrapped round midnight."""
    away = (hours - centre + 12.0) % 24.0 - 12.0
    return np.asarray(np.exp(-0.5 * (away / width) ** 2))


def _hours() -> FloatArray:
    return np.arange(MINUTES_PER_DAY) / 60.0


def _wander(rng: np.random.Generator, memory_minutes: float, spread: float) -> FloatArray:
    """A slowly wandering factor with mean about 1: the exponential of an autoregressive walk of standard deviation
    `spread`."""
    keep = float(np.exp(-1.0 / memory_minutes))
    noise = rng.standard_normal(MINUTES_PER_DAY) * spread * np.sqrt(1.0 - keep**2)
    walk = np.empty(MINUTES_PER_DAY)
    level = rng.standard_normal() * spread
    for minute in range(MINUTES_PER_DAY):
        level = keep * level + noise[minute]
        walk[minute] = level
    return np.asarray(np.exp(walk - 0.5 * spread**2))


def _diurnal(weekday: int, rng: np.random.Generator) -> FloatArray:
    hours = _hours()
    shape = 0.16 + 0.75 * _bump(hours, 10.5, 2.2) + 0.9 * _bump(hours, 15.0, 2.6) + 0.45 * _bump(hours, 20.5, 1.8)
    weekend = 0.55 if weekday >= 5 else 1.0
    return 150.0 * weekend * shape * float(np.exp(0.06 * rng.standard_normal())) * _wander(rng, 45.0, 0.10)


def _office(weekday: int, rng: np.random.Generator) -> FloatArray:
    hours = _hours()
    open_ = 1.0 / (1.0 + np.exp(-(hours - 7.6) * 4.0)) * 1.0 / (1.0 + np.exp((hours - 18.2) * 3.0))
    lunch = 1.0 - 0.35 * _bump(hours, 12.4, 0.5)
    level = 0.0 if weekday >= 5 else 42.0
    busy = level * open_ * lunch * np.exp(0.08 * rng.standard_normal()) * _wander(rng, 30.0, 0.18)
    return np.where(busy < 0.3, 0.0, busy)


def _bursty(weekday: int, rng: np.random.Generator) -> FloatArray:
    """Calm with bursts that begin at random, rise within a minute or two and fade over ten to forty."""
    hours = _hours()
    base = 14.0 * (0.5 + 0.8 * _bump(hours, 14.0, 5.0)) * _wander(rng, 60.0, 0.15)
    for _ in range(rng.poisson(7.0)):
        begins = int(rng.integers(MINUTES_PER_DAY))
        height, fade = 25.0 * (1.0 + rng.pareto(2.6)), rng.uniform(10.0, 40.0)
        since = np.arange(MINUTES_PER_DAY) - begins
        base = base + np.where(
            since >= 0, min(height, 260.0) * np.exp(-since / fade) * np.minimum((since + 1) / 2, 1), 0.0
        )
    return base


def _sparse(weekday: int, rng: np.random.Generator) -> FloatArray:
    """Idle most of the time; sessions of a few minutes, more of them in the afternoon, and a timer at 06:30."""
    hours = _hours()
    expected = np.zeros(MINUTES_PER_DAY)
    likely = 0.15 + _bump(hours, 15.0, 3.5)
    starts = rng.choice(MINUTES_PER_DAY, size=rng.poisson(9.0 if weekday < 5 else 4.0), p=likely / likely.sum())
    for start in starts:
        expected[start : start + int(rng.integers(3, 14))] += rng.uniform(0.5, 2.5)
    expected[390:396] += 4.0
    return expected


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "chat": Kind(describe="a busy chat: two peaks a day, calmer weekends", intensity=_diurnal),
        "code": Kind(describe="office hours: idle nights and weekends", intensity=_office),
        "image": Kind(describe="bursty: calm with sudden bursts", intensity=_bursty),
        "rerank": Kind(describe="sparse: idle most of the time, one timer", intensity=_sparse),
    }
)


def generate(
    kind: str, *, seed: int, start: datetime, days: int, step: timedelta = timedelta(minutes=1)
) -> DemandSeries:
    """`days` whole days of requests from the midnight `start` on (UTC), on a grid of `step` (1 min or a part of it).

    Whole requests: Poisson around the kind's expected rate.
    """
    per_minute, rest = divmod(timedelta(minutes=1), step)
    if rest or start != _midnight(start):
        raise ValueError(f"traffic: need a midnight UTC and a step that divides a minute, have {start} and {step}")
    counts = [_day(kind, seed, start + day * timedelta(days=1), per_minute) for day in range(days)]
    values = np.concatenate(counts) / step.total_seconds()
    return DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=step, values=values)


def _day(kind: str, seed: int, midnight: datetime, per_minute: int) -> FloatArray:
    rng = np.random.Generator(np.random.PCG64([seed, crc32(kind.encode()), int(midnight.timestamp()) // 86400]))
    expected = KINDS[kind].intensity(midnight.weekday(), rng)
    return rng.poisson(np.repeat(expected / per_minute, per_minute)).astype(np.float64)


def _midnight(when: datetime) -> datetime:
    return when.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
