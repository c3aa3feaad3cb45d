"""Kubernetes HorizontalPodAutoscaler v2 on an External AverageValue metric, as LLM endpoints run it.

Source: kubernetes/pkg/controller/podautoscaler (replica_calculator.go, horizontal.go), autoscaling/v2 defaults: sync
15 s, tolerance 0.1, scale-down stabilisation 300 s, scale up by max(+4 pods, +100 %) per 15 s, down by 100 % per 15 s.
"""

from collections import deque
from math import ceil, isnan

from scaler.simulator.baselines.base import UTILIZATION_VALUES, Baseline, Site, Situation
from scaler.simulator.baselines.window import HighestLately

TOLERANCE = 0.1
DOWN_WINDOW_SECONDS = 300.0
PERIOD_SECONDS = 15.0


def average_value(total: float, target: float, current: int) -> int:
    """External AverageValue: the replicas that bring total / replicas to the target; `current` within 10 % of it.

    Example: 30 requests in flight, target 10, 2 replicas: ratio 1.5, 3. With 21: ratio 1.05, stays 2.
    """
    if current > 0 and abs(1.0 - total / (target * current)) <= TOLERANCE:
        return current
    return ceil(total / target - 1e-9)


class Hpa:
    """The metric is in-flight requests (running and queued) in replicas' worth; `utilization` of one is the target."""

    def __init__(self, site: Site, utilization: float | None = None, down_window_seconds: float = DOWN_WINDOW_SECONDS):
        self._target = utilization if utilization is not None else site.utilization
        self._lowest, self._highest = max(1, site.lowest), site.highest
        self._period = site.steps(PERIOD_SECONDS)
        self._highest_lately = HighestLately(site.steps(down_window_seconds))
        self._history: deque[int] = deque(maxlen=self._period)

    def desired(self, now: Situation) -> int:
        return self.desired_for(now, now.scraped_load())

    def desired_for(self, now: Situation, metric: float) -> int:
        """What it wants for this value of its metric; NaN: no answer."""
        current = now.total
        if current == 0:
            return self._lowest if self._lowest > 0 else 0
        wanted = current if isnan(metric) else average_value(metric, self._target, current)
        wanted = min(max(wanted, self._lowest), self._highest)
        return self._limited(self._highest_lately.of(now.step, wanted), current)

    def _limited(self, wanted: int, current: int) -> int:
        self._history.append(current)
        at_start = self._history[0]
        return min(wanted, max(at_start + 4, ceil(at_start * 2.0), current))


BASELINE = Baseline(name="hpa", make=Hpa, knob="target utilization", knob_values=UTILIZATION_VALUES)
