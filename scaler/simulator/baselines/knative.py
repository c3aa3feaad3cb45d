"""Knative Pod Autoscaler (KPA).

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go; defaults: stable window 60 s, panic window 6 s (here one
control step, the finest the world shows), panic at 200 %, target 70 % of containerConcurrency, up at most 1000 times,
down at most to half, scale to zero after a stable window without traffic plus 30 s of grace.
"""

from math import ceil, floor, isnan

from scaler.simulator.baselines.base import UTILIZATION_VALUES, Baseline, Site, Situation

UTILIZATION = 0.7
STABLE_SECONDS = 60.0
PANIC_THRESHOLD = 2.0
MAX_UP = 1000.0
GRACE_SECONDS = 30.0


class Knative:
    """Concurrency in replicas' worth; the activator holds the first requests, so it sees them without a scrape's
    delay."""

    def __init__(self, site: Site, utilization: float | None = None):
        self._target = utilization if utilization is not None else UTILIZATION
        self._window = site.steps(STABLE_SECONDS)
        self._panic_until = -1.0
        self._panic_at: float | None = None
        self._highest_in_panic = 0
        self._idle_since: float | None = None

    def desired(self, now: Situation) -> int:
        stable_load, panic_load = now.mean_load(self._window), now.mean_load(1)
        if isnan(stable_load):
            return now.total
        ready = max(1, now.ready)
        up, down = ceil(MAX_UP * ready), floor(now.ready / 2)
        for_stable = ceil(stable_load / self._target - 1e-9)
        for_panic = ceil(panic_load / self._target - 1e-9)
        stable = min(max(for_stable, down), up)
        panic = min(max(for_panic, down), up)
        wanted = self._with_panic(stable, panic, for_panic / ready >= PANIC_THRESHOLD, now.now_seconds)
        return self._with_grace(wanted, for_stable, now)

    def _with_panic(self, stable: int, panic: int, over: bool, now_seconds: float) -> int:
        if over:
            if self._panic_at is None:
                self._highest_in_panic = 0
            self._panic_at = now_seconds
        elif self._panic_at is not None and self._panic_at + STABLE_SECONDS < now_seconds:
            self._panic_at = None
        if self._panic_at is None:
            return stable
        self._highest_in_panic = max(self._highest_in_panic, stable, panic)
        return self._highest_in_panic

    def _with_grace(self, wanted: int, for_stable: int, now: Situation) -> int:
        """To zero only after the grace: until then the last one stays."""
        if for_stable > 0 or wanted > 0:
            self._idle_since = None
            return max(wanted, 1) if now.total > 0 or wanted > 0 else 0
        if self._idle_since is None:
            self._idle_since = now.now_seconds
        if now.now_seconds - self._idle_since >= GRACE_SECONDS:
            return 0
        return min(now.total, 1)


BASELINE = Baseline(name="knative", make=Knative, knob="target utilization", knob_values=UTILIZATION_VALUES)
