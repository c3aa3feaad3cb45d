"""Seasonal or reactive, whichever is larger, in the manner of Alibaba's AHPA.

Source: Zhou et al., "AHPA: adaptive horizontal pod autoscaling systems on Alibaba Cloud Container Service for
Kubernetes" (AAAI 2023): a robust seasonal forecast at the start-up time ahead, floored by a reactive one. The
decomposition is replaced by the largest of the same five minutes one, two and seven days ago.
"""

from math import ceil, isnan

from scaler.simulator.baselines.base import UTILIZATION_VALUES, Baseline, Site, Situation
from scaler.simulator.baselines.hpa import Hpa

DAYS = (1, 2, 7)
WINDOW_SECONDS = 300.0


class Ahpa:
    def __init__(self, site: Site, utilization: float | None = None):
        self._target = utilization if utilization is not None else site.utilization
        self._reactive = Hpa(site, self._target)
        self._usable = site.capacity_per_second * self._target
        self._ahead = site.steps(site.startup_seconds)
        self._window = site.steps(WINDOW_SECONDS)

    def desired(self, now: Situation) -> int:
        known = [now.demand_days_ago(day, self._ahead, self._window) for day in DAYS]
        seasonal = max((demand for demand in known if not isnan(demand)), default=0.0)
        return max(self._reactive.desired(now), ceil(seasonal / self._usable - 1e-9))


BASELINE = Baseline(name="ahpa", make=Ahpa, knob="target utilization", knob_values=UTILIZATION_VALUES)
