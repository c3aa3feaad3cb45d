"""KEDA ScaledObject with a Prometheus trigger: 0 to 1 by itself, 1 to N by the HPA that it feeds.

Source: kedacore/keda pkg/scaling/executor; defaults: polling 30 s, cooldown 300 s, activation above 0, an empty answer
counts as 0 (ignoreNullValues).
"""

from math import isnan

from scaler.simulator.baselines.base import UTILIZATION_VALUES, Baseline, Site, Situation
from scaler.simulator.baselines.hpa import Hpa

POLLING_SECONDS = 30.0
COOLDOWN_SECONDS = 300.0


class Keda:
    def __init__(self, site: Site, utilization: float | None = None, cooldown_seconds: float = COOLDOWN_SECONDS):
        self._hpa = Hpa(site, utilization)
        self._lowest = site.lowest
        self._polling = site.steps(POLLING_SECONDS)
        self._cooldown_seconds = cooldown_seconds
        self._last_active = -1.0
        """Seconds since the start; active when it starts, as a fresh ScaledObject waits out its cooldown too."""

    def desired(self, now: Situation) -> int:
        answered = now.scraped_load()
        metric = 0.0 if isnan(answered) else answered
        if now.step % self._polling == 0:
            active = metric > 1e-9
            if active:
                self._last_active = now.now_seconds
            if now.total == 0:
                return max(self._lowest, 1) if active else 0
            if not active and self._lowest == 0 and self._last_active + self._cooldown_seconds < now.now_seconds:
                return 0
        return self._hpa.desired_for(now, metric) if now.total > 0 else 0


BASELINE = Baseline(name="keda", make=Keda, knob="target utilization", knob_values=UTILIZATION_VALUES)
