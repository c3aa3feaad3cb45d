"""A diurnal day for the end-to-end test: idle for an hour and a half at night, then a steep ramp; each day alike."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

STEP = timedelta(minutes=1)
IDLE = (timedelta(hours=3, minutes=30), timedelta(hours=5))
"""Nobody asks from 03:30 to 05:00."""
RAMP = (timedelta(hours=6), timedelta(hours=6, minutes=40))
"""Demand goes from a trickle to its peak."""
PEAK_PER_SECOND = 20.0
_SHAPE = {  # hour of day -> requests per second, straight lines between
    0.0: 1.0,
    3.48: 1.0,
    3.5: 0.0,
    5.0: 0.0,
    5.02: 1.0,
    6.0: 1.0,
    6.667: PEAK_PER_SECOND,
    19.0: PEAK_PER_SECOND,
    21.0: 2.0,
    23.0: 1.0,
    24.0: 1.0,
}
_NOISE = 0.03


def diurnal(start: datetime, days: int, *, seed: int = 0) -> tuple[list[datetime], np.ndarray]:
    """Starts of the minutes, and requests per second in each. `start` is a midnight."""
    minutes = np.arange(days * 24 * 60)
    rate = np.interp(minutes % 1440 / 60.0, list(_SHAPE), list(_SHAPE.values()))
    noise = np.random.default_rng(seed).lognormal(0.0, _NOISE, len(minutes))
    return [start + STEP * int(minute) for minute in minutes], rate * noise


def write_trace(path: Path, starts: list[datetime], per_second: np.ndarray) -> None:
    """As `headstart replay` reads it: requests per bin."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "requests"])
        for at, rate in zip(starts, per_second, strict=True):
            rows.writerow([int(at.timestamp()), round(float(rate) * STEP.total_seconds())])


def read_trace(path: Path) -> tuple[datetime, np.ndarray]:
    """Start of the first bin, and requests per second in each minute."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    per_second = np.array([float(row["requests"]) for row in rows]) / STEP.total_seconds()
    return datetime.fromtimestamp(int(rows[0]["timestamp"]), UTC), per_second
