"""llm-d's workload variant autoscaler: saturation of KV cache and queue, one step at a time, through an HPA.

Source: llm-d-incubation/workload-variant-autoscaler; defaults: loop 60 s, KV threshold 0.80, queue threshold 5, spare
KV trigger 0.10, spare queue trigger 3; the sample HPA stabilises over 240 s. KV use is the share of a replica's slots
in use.
"""

from math import isnan

from scaler.simulator.baselines.base import Baseline, Site, Situation
from scaler.simulator.baselines.window import HighestLately

LOOP_SECONDS = 60.0
KV_THRESHOLD, QUEUE_THRESHOLD = 0.80, 5.0
SPARE_KV, SPARE_QUEUE = 0.10, 3.0
STABILIZATION_SECONDS = 240.0


def saturation_step(kv: float, queue: float, replicas: int, threshold: float = KV_THRESHOLD) -> int:
    """+1, 0 or -1 replicas for a KV use and a queue length per replica, all replicas being equally loaded.

    Example: kv 0.75 leaves 0.05 < 0.10 spare: +1. kv 0.40 on 4: after removal 0.53, spare 0.27: -1. kv 0.65 on 2: after
    removal 1.3: 0.
    """
    if kv >= threshold or queue >= QUEUE_THRESHOLD:
        return 1
    if threshold - kv < SPARE_KV or QUEUE_THRESHOLD - queue < SPARE_QUEUE:
        return 1
    if replicas < 2:
        return 0
    kv, queue = kv * replicas / (replicas - 1), queue * replicas / (replicas - 1)
    return -1 if threshold - kv >= SPARE_KV and QUEUE_THRESHOLD - queue >= SPARE_QUEUE else 0


class Llmd:
    def __init__(self, site: Site, threshold: float | None = None):
        self._threshold = threshold if threshold is not None else KV_THRESHOLD
        self._loop = site.steps(LOOP_SECONDS)
        self._highest = HighestLately(site.steps(STABILIZATION_SECONDS))
        self._wanted: int | None = None

    def desired(self, now: Situation) -> int:
        if self._wanted is None:
            self._wanted = max(1, now.total)
        if now.step % self._loop == 0 and not now.blind:
            self._wanted = max(1, now.total + self._move(now))
        return max(1, self._highest.of(now.step, self._wanted))

    def _move(self, now: Situation) -> int:
        if now.ready == 0:
            return 0 if now.starting else 1
        load = now.scraped_load()
        if isnan(load):
            return 0
        kv = min(1.0, load / now.ready)
        move = saturation_step(kv, now.queue / now.ready, now.ready, self._threshold)
        # A variant with pending replicas gets no further one.
        return 0 if move > 0 and now.starting else move


THRESHOLDS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.33, 0.25)
BASELINE = Baseline(name="llmd", make=Llmd, knob="KV threshold", knob_values=THRESHOLDS)
