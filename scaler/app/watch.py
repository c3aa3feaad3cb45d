"""An advisor that shows what passes through it: the board and the metrics see each day-ahead forecast."""

import threading
from collections.abc import Callable
from datetime import datetime

from forecaster.forecast import DemandForecast
from forecaster.series import DemandSeries
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import ReplicaState, StartupLaw
from scaler.errors import TemporaryError
from scaler.ports import Advice, Advisor, Reading

Seen = Callable[[EndpointId, DemandForecast, Advice], None]
Past = Callable[[EndpointId, DemandSeries], None]


PATIENCE_SECONDS = 2.0


class WatchedAdvisor:
    """Delegates, one call an endpoint at a time: the refits run beside the turns.

    A turn waits PATIENCE_SECONDS for a refit of its endpoint and then goes by the last advice. A refit that is asked for
    while the service stops is refused, so that a stop waits for one endpoint at most.
    """

    def __init__(self, inner: Advisor, seen: Seen, past: Past, stopping: threading.Event) -> None:
        self._inner = inner
        self._seen = seen
        self._past = past
        self._stopping = stopping
        self._shown: dict[EndpointId, datetime] = {}
        self._locks: dict[EndpointId, threading.Lock] = {}

    def refit(self, policy: ScalingPolicy, history: DemandSeries, startup: StartupLaw, now: datetime) -> None:
        if self._stopping.is_set():
            raise TemporaryError(f"{policy.endpoint}: not refitted, the service stops")
        self._past(policy.endpoint, history)
        with self._locks.setdefault(policy.endpoint, threading.Lock()):
            self._inner.refit(policy, history, startup, now)

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        lock = self._locks.setdefault(policy.endpoint, threading.Lock())
        if not lock.acquire(timeout=PATIENCE_SECONDS):
            raise TemporaryError(f"{policy.endpoint}: its models are being fitted")
        try:
            advice = self._inner.advise(policy, reading, replicas, now)
        finally:
            lock.release()
        forecast = advice.forecast
        if forecast is not None and self._shown.get(policy.endpoint) != forecast.issued_at:
            self._shown[policy.endpoint] = forecast.issued_at
            self._seen(policy.endpoint, forecast, advice)
        return advice
