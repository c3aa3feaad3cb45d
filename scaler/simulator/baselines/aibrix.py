"""AIBrix' PodAutoscaler (APA), with and without the guard against counting on replicas that still start.

Source: vllm-project/aibrix pkg/controller/podautoscaler; defaults: tolerance 0.1 up and down, at most twice up and
half down, scale-down cooldown 300 s. Without the guard the current count includes starting pods while the use is
measured on ready ones, so that a burst doubles and doubles again (2, 4, 8, 16) until the first ones serve.
"""

from functools import partial
from math import ceil, floor, isnan

from scaler.simulator.baselines.base import UTILIZATION_VALUES, Baseline, Site, Situation

TOLERANCE = 0.1
MAX_UP, MAX_DOWN = 2.0, 2.0
DOWN_COOLDOWN_SECONDS = 300.0


def apa(current: int, use_per_pod: float, target: float) -> int:
    """Example: 4 pods at 30 of target 10 (r = 3): min(12, 8) = 8. At 5 (r = 0.5): max(2, 2) = 2. At 10.5: 4."""
    ratio = use_per_pod / target
    if ratio > 1.0 + TOLERANCE:
        return min(ceil(current * ratio - 1e-9), ceil(MAX_UP * current))
    if ratio < 1.0 - TOLERANCE:
        return max(ceil(current * ratio - 1e-9), floor(current / MAX_DOWN))
    return current


class Aibrix:
    def __init__(self, site: Site, utilization: float | None = None, *, guarded: bool = True):
        self._target = utilization if utilization is not None else site.utilization
        self._guarded = guarded
        self._last_move_seconds = -DOWN_COOLDOWN_SECONDS

    def desired(self, now: Situation) -> int:
        load = now.scraped_load()
        if isnan(load):
            return now.total
        if now.ready == 0:
            return max(1, now.total)
        current = now.ready if self._guarded else now.total
        wanted = max(1, apa(current, load / now.ready, self._target))
        if self._guarded and wanted >= now.ready:
            wanted = max(wanted, now.total)
        if wanted < now.total and now.now_seconds - self._last_move_seconds < DOWN_COOLDOWN_SECONDS:
            return now.total
        if wanted != now.total:
            self._last_move_seconds = now.now_seconds
        return wanted


BASELINE = Baseline(name="aibrix", make=Aibrix, knob="target utilization", knob_values=UTILIZATION_VALUES)
UNGUARDED = Baseline(
    name="aibrix-unguarded",
    make=partial(Aibrix, guarded=False),
    knob="target utilization",
    knob_values=UTILIZATION_VALUES,
)
