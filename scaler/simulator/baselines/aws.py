"""AWS predictive scaling (ForecastAndScale) over target tracking.

Source: the EC2 Auto Scaling documentation: at least 24 h and at most 14 days of history; hourly forecasts, refreshed
every 6 h; capacity for an hour stands SchedulingBufferTime (300 s) before it; predictive scaling never scales in;
target tracking does the rest. The forecast model is not published: here the mean of the same hour's peak minute over
the days known.
"""

from math import ceil

import numpy as np

from scaler.simulator.baselines.base import UTILIZATION_VALUES, Baseline, Site, Situation
from scaler.simulator.baselines.hpa import Hpa

BUFFER_SECONDS = 300.0
REFRESH_SECONDS = 6 * 3600.0
MOST_DAYS = 14


class Aws:
    def __init__(self, site: Site, utilization: float | None = None):
        self._site = site
        self._target = utilization if utilization is not None else site.utilization
        self._reactive = Hpa(site, self._target)
        self._by_hour: dict[int, float] = {}
        """Peak demand per second expected in each hour of the day; empty before a day is known."""

    def desired(self, now: Situation) -> int:
        if now.step % self._site.steps(REFRESH_SECONDS) == 0:
            self._by_hour = self._forecast(now)
        return max(self._reactive.desired(now), self._scheduled(now.now_seconds))

    def _scheduled(self, now_seconds: float) -> int:
        """Capacity for this hour, and for the next one once its buffer has begun."""
        hours = {self._hour(now_seconds), self._hour(now_seconds + BUFFER_SECONDS)}
        peak = max(self._by_hour.get(hour, 0.0) for hour in hours)
        return ceil(peak / (self._site.capacity_per_second * self._target) - 1e-9)

    def _hour(self, now_seconds: float) -> int:
        return int((self._site.start_epoch_seconds + now_seconds) // 3600) % 24

    def _forecast(self, now: Situation) -> dict[int, float]:
        site = self._site
        day, minute = site.steps(86_400.0), site.steps(60.0)
        if len(now.work) < day:
            return {}
        past = np.array(now.work[-MOST_DAYS * day :])
        past = past[len(past) % minute :].reshape(-1, minute).mean(axis=1) / site.step_seconds
        end = site.start_epoch_seconds + now.now_seconds
        starts = end - 60.0 * np.arange(len(past), 0, -1)
        absolute = (starts // 3600).astype(np.int64)
        peaks = {int(hour): float(past[absolute == hour].max()) for hour in np.unique(absolute)}
        same: dict[int, list[float]] = {}
        for hour, peak in peaks.items():
            same.setdefault(hour % 24, []).append(peak)
        return {hour: float(np.mean(values)) for hour, values in same.items()}


BASELINE = Baseline(name="aws", make=Aws, knob="target utilization", knob_values=UTILIZATION_VALUES)
