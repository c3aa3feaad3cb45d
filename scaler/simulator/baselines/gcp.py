"""Google Cloud predictive autoscaling: the larger of the reactive count and the forecast one initialization period
ahead.

Source: the Compute Engine documentation: at least 3 days of history, daily and weekly patterns, a stabilisation
period of 10 min (the peak of the last 10 min rules scale-in). The forecast model is not published: here the mean of
the same five minutes of the days known, the same weekday counting twice.
"""

from math import ceil, isnan

from scaler.simulator.baselines.base import UTILIZATION_VALUES, Baseline, Site, Situation
from scaler.simulator.baselines.hpa import Hpa

STABILIZATION_SECONDS = 600.0
FEWEST_DAYS, MOST_DAYS = 3, 14
WINDOW_SECONDS = 300.0


class Gcp:
    def __init__(self, site: Site, utilization: float | None = None):
        self._target = utilization if utilization is not None else site.utilization
        self._reactive = Hpa(site, self._target, STABILIZATION_SECONDS)
        self._usable = site.capacity_per_second * self._target
        self._ahead = site.steps(site.startup_seconds)
        self._window = site.steps(WINDOW_SECONDS)
        self._day = site.steps(86_400.0)

    def desired(self, now: Situation) -> int:
        return max(self._reactive.desired(now), self._predicted(now))

    def _predicted(self, now: Situation) -> int:
        days = min(len(now.work) // self._day, MOST_DAYS)
        if days < FEWEST_DAYS:
            return 0
        total = weight = 0.0
        for day in range(1, days + 1):
            demand = now.demand_days_ago(day, self._ahead, self._window)
            if not isnan(demand):
                share = 2.0 if day % 7 == 0 else 1.0
                total, weight = total + share * demand, weight + share
        return ceil(total / weight / self._usable - 1e-9) if weight else 0


BASELINE = Baseline(name="gcp", make=Gcp, knob="target utilization", knob_values=UTILIZATION_VALUES)
