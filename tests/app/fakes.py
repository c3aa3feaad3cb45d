"""Small stand-ins for the outside of a service: a world that is set by hand, and a clock that is moved by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from forecaster.series import DemandSeries, DemandUnit
from scaler.cycle import prior_profile
from scaler.domain.decision import Actuation, ActuationOutcome, Decision
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile, ReplicaState, StartupObservation
from scaler.domain.snapshot import ControlSignals
from scaler.errors import HeadstartError
from scaler.ports import Advice, Reading

MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
TURN = timedelta(seconds=15)


def a_policy(name: str = "chat", **spec: object) -> ScalingPolicy:
    """Enforced, two replicas a second each, unless said otherwise."""
    document = {"mode": "Enforce", "capacity": {"perReplica": 2.0}, "replicas": {"min": 1, "max": 10}, **spec}
    return ScalingPolicy.model_validate(
        {
            "apiVersion": "headstart.dev/v1alpha1",
            "kind": "InferenceScalingPolicy",
            "metadata": {"name": name, "namespace": "prod"},
            "spec": document,
        }
    )


@dataclass
class FakeClock:
    time: datetime = MORNING

    def now(self) -> datetime:
        return self.time

    def move(self, span: timedelta = TURN) -> None:
        self.time += span


@dataclass
class FakePolicies:
    policies: Sequence[ScalingPolicy]
    error: HeadstartError | None = None

    def load(self) -> Sequence[ScalingPolicy]:
        if self.error is not None:
            raise self.error
        return self.policies


@dataclass
class FakeSource:
    """Answers `demand` per second for every endpoint, or what it was told to fail with."""

    demand: float = 4.0
    queue: float = 0.0
    error: HeadstartError | None = None
    silent: bool = False

    def history(
        self, policies: Sequence[ScalingPolicy], start: datetime, end: datetime, step: timedelta
    ) -> Mapping[EndpointId, DemandSeries]:
        if self.error is not None:
            raise self.error
        n_steps = min((end - start) // step, 5760)
        values = np.full(n_steps, np.nan if self.silent else self.demand)
        series = DemandSeries(unit=DemandUnit.REQUESTS, start=end - n_steps * step, step=step, values=values)
        return {policy.endpoint: series for policy in policies}

    def read(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, Reading]:
        if self.error is not None:
            raise self.error
        if self.silent:
            return {}
        recent = self.history(policies, now - timedelta(hours=1), now, TURN)
        return {endpoint: Reading(recent=series, queue=self.queue, reactive={}) for endpoint, series in recent.items()}

    def problems(self) -> Mapping[EndpointId, str]:
        return {}


@dataclass
class FakeTarget:
    """A cluster that obeys at once; `error` makes it silent, `refuse` makes orders end in that outcome."""

    replicas: dict[EndpointId, int] = field(default_factory=dict)
    revisions: tuple[str, ...] = ()
    error: HeadstartError | None = None
    refuse: ActuationOutcome | None = None
    announced: list[Decision] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)

    def observe(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, ReplicaState]:
        if self.error is not None:
            raise self.error
        return {
            policy.endpoint: ReplicaState(ready=count, desired=count, revisions=self.revisions)
            for policy in policies
            for count in [self.replicas.setdefault(policy.endpoint, 2)]
        }

    def problems(self) -> Mapping[EndpointId, str]:
        return {}

    def order(self, policy: ScalingPolicy, replicas: int, seen: ReplicaState) -> Actuation:
        if self.refuse is not None:
            return Actuation(outcome=self.refuse, detail="refused")
        if replicas == seen.desired:
            return Actuation(outcome=ActuationOutcome.UNCHANGED)
        self.replicas[policy.endpoint] = replicas
        self.orders.append(replicas)
        return Actuation(outcome=ActuationOutcome.ORDERED)

    def announce(self, policy: ScalingPolicy, decision: Decision) -> None:
        self.announced.append(decision)

    def startups(self, policies: Sequence[ScalingPolicy]) -> Mapping[EndpointId, Sequence[StartupObservation]]:
        return {}


@dataclass
class PlainAdvisor:
    """Demand ahead is demand now."""

    refits: list[str] = field(default_factory=list)
    profile: CapacityProfile | None = None

    def refit(self, policy: ScalingPolicy, history: DemandSeries, profile: CapacityProfile, now: datetime) -> None:
        self.refits.append(str(policy.endpoint))
        self.profile = profile

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        demand = float(reading.recent.values[-4:].mean())
        signals = ControlSignals(
            read_at=reading.recent.end, demand_now=demand, demand_ahead=demand, dip_floor=0.0, peak_soon=demand
        )
        return Advice(signals=signals, choice=None, idle=None, profile=self.profile or prior_profile(policy))
