"""Fixed keep-alive, as serverless platforms do it: replicas for what is in flight, each kept for a while after its
use."""

from collections import deque
from math import ceil

from scaler.simulator.baselines.base import Baseline, Site, Situation

KEEP_SECONDS = 600.0


class KeepAlive:
    """The idle clock runs from the last arrival. Nothing of a forecast; the load is seen at the next step."""

    def __init__(self, site: Site, keep_seconds: float | None = None):
        self._keep = keep_seconds if keep_seconds is not None else KEEP_SECONDS
        self._needs: deque[tuple[float, int]] = deque()
        """(second, need) that may still be the highest of the window, highest first."""
        self._step_seconds = site.step_seconds
        recent = site.history[max(0, len(site.history) - site.steps(self._keep)) :].tolist()
        for age, work in zip(range(len(recent), 0, -1), recent, strict=True):
            self._note(-age * site.step_seconds, ceil(work / site.per_step - 1e-9))

    def desired(self, now: Situation) -> int:
        if now.blind:
            return now.total
        # The load's step ended now; its arrivals are taken to be at its start.
        self._note(now.now_seconds - self._step_seconds, ceil(now.load[-1] - 1e-9) if now.load else 0)
        while self._needs and self._needs[0][0] <= now.now_seconds - self._keep:
            self._needs.popleft()
        return self._needs[0][1] if self._needs else 0

    def _note(self, second: float, need: int) -> None:
        if need <= 0:
            return
        while self._needs and self._needs[-1][1] <= need:
            self._needs.pop()
        self._needs.append((second, need))


SECONDS = (15.0, 30.0, 60.0, 120.0, 180.0, 300.0, 450.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0)
BASELINE = Baseline(name="keepalive", make=KeepAlive, knob="keep-alive in seconds", knob_values=SECONDS)
