"""NVIDIA Dynamo's SLA planner: a predictive loop every 180 s sets the floor, a reactive loop moves by one above it.

Source: ai-dynamo/dynamo components/planner; defaults: adjustment interval 180 s, load loop 5 s (here each control
step), one interval ahead, sensitivity 0.80, at least one engine. The latency that the load loop compares with the
promise is the wait in the queue. A single-interval horizon hides start-ups longer than it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, inf

from scaler.simulator.baselines.base import UTILIZATION_VALUES, Baseline, Site, Situation
from scaler.simulator.baselines.predictors import arima, constant, kalman

INTERVAL_SECONDS = 180.0
SENSITIVITY = 0.80


class Dynamo:
    """`utilization` scales the engine's rate at the SLA, the planner's only margin (default 1: the profiled rate)."""

    def __init__(
        self, site: Site, utilization: float | None = None, *, predict: Callable[[Sequence[float]], float] = constant
    ):
        self._site, self._predict = site, predict
        self._per_replica = site.capacity_per_second * (utilization if utilization is not None else 1.0)
        self._interval = site.steps(INTERVAL_SECONDS)
        n = len(site.history) // self._interval * self._interval
        blocks = site.history[len(site.history) - n :].reshape(-1, self._interval).sum(axis=1).tolist()
        self._counts = [count for i, count in enumerate(blocks) if count > 0 or any(blocks[:i])][-200:]
        self._floor = self._planned()

    def desired(self, now: Situation) -> int:
        if now.blind:
            return now.total
        if now.step and now.step % self._interval == 0:
            count = sum(now.work[-self._interval :])
            if self._counts or count > 0:
                self._counts.append(count)
            self._floor = self._planned()
        return max(self._by_load(now), self._floor, 1)

    def _planned(self) -> int:
        if not self._counts:
            return 1
        return ceil(self._predict(self._counts) / INTERVAL_SECONDS / self._per_replica - 1e-9)

    def _by_load(self, now: Situation) -> int:
        """One up when the wait breaks the promise, one down when it is well within; nothing while replicas start."""
        if now.starting:
            return now.total
        rate = now.ready * self._site.capacity_per_second
        wait = now.queue / rate if rate > 0 else (inf if now.queue > 0 else 0.0)
        if wait > self._site.queue_wait_seconds:
            return now.total + 1
        return now.total - 1 if wait < SENSITIVITY * self._site.queue_wait_seconds else now.total


def _baseline(name: str, predict: Callable[[Sequence[float]], float]) -> Baseline:
    make = partial(Dynamo, predict=predict)
    return Baseline(name=name, make=make, knob="share of the profiled rate", knob_values=UTILIZATION_VALUES)


CONSTANT = _baseline("dynamo-constant", constant)
ARIMA = _baseline("dynamo-arima", arima)
KALMAN = _baseline("dynamo-kalman", kalman)
