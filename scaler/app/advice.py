"""The advisors of a fleet: one each endpoint, refitted beside the turns."""

import copy
import threading
from collections.abc import Callable
from datetime import datetime

from forecaster.series import DemandSeries
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile, ReplicaState
from scaler.errors import TemporaryError
from scaler.ports import Advice, Advisor, Reading


class FleetAdvisor:
    """Implements ports.Advisor. A refit works on a copy that takes its place when it is done: no turn waits for it.

    A refit that is asked for while the service stops is refused, so that a stop waits for one endpoint at most.
    """

    def __init__(self, make: Callable[[], Advisor], stopping: threading.Event) -> None:
        self._make = make
        self._stopping = stopping
        self._lock = threading.Lock()
        self._advisors: dict[EndpointId, Advisor] = {}

    def refit(self, policy: ScalingPolicy, history: DemandSeries, profile: CapacityProfile, now: datetime) -> None:
        if self._stopping.is_set():
            raise TemporaryError(f"{policy.endpoint}: not refitted, the service stops")
        with self._lock:
            present = self._advisors.get(policy.endpoint)
            refitted = copy.deepcopy(present) if present is not None else self._make()
        refitted.refit(policy, history, profile, now)
        with self._lock:
            self._advisors[policy.endpoint] = refitted

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        with self._lock:
            if policy.endpoint not in self._advisors:
                self._advisors[policy.endpoint] = self._make()
            return self._advisors[policy.endpoint].advise(policy, reading, replicas, now)
