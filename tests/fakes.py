"""Small stand-ins for the world, for stories about the cycle: they remember, they fail when told to, nothing more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import nan

import numpy as np

from forecaster.series import DemandSeries, DemandUnit, FloatArray
from scaler.cycle import prior_profile
from scaler.domain.decision import Actuation, ActuationOutcome, Decision
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.record import DecisionRecord
from scaler.domain.replicas import CapacityProfile, ReplicaState
from scaler.domain.snapshot import ControlSignals, IdleAdvice, PastTurn
from scaler.errors import HeadstartError
from scaler.ports import Advice, Reading
from tests.builders import NOON, some_replicas

TURN = timedelta(seconds=15)


@dataclass
class FakeClock:
    """Stands still until it is told to move; counts how often it is read."""

    time: datetime = NOON
    n_reads: int = 0

    def now(self) -> datetime:
        self.n_reads += 1
        return self.time

    def advance(self, by: timedelta = TURN) -> None:
        self.time += by


@dataclass
class FakePolicies:
    policies: list[ScalingPolicy]
    error: HeadstartError | None = None

    def load(self) -> Sequence[ScalingPolicy]:
        if self.error:
            raise self.error
        return self.policies


@dataclass
class FakeSource:
    """Says `demand` (or by turns what is set as `lately`) for every endpoint, raises `error` when set, and has nothing
    to say of `silent` ones."""

    demand: float = 2.0
    lately: FloatArray | None = None
    error: HeadstartError | None = None
    silent: set[EndpointId] = field(default_factory=set)
    queue: float = 0.0
    in_flight: float = nan

    def read(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, Reading]:
        if self.error:
            raise self.error
        values = np.full(240, self.demand) if self.lately is None else self.lately
        recent = DemandSeries(unit=DemandUnit.REQUESTS, start=now - len(values) * TURN, step=TURN, values=values)
        reading = Reading(recent=recent, queue=self.queue, in_flight=self.in_flight, reactive={})
        return {policy.endpoint: reading for policy in policies if policy.endpoint not in self.silent}

    def problems(self) -> Mapping[EndpointId, str]:
        return {endpoint: f"nothing fresh of {endpoint}" for endpoint in self.silent}

    def history(
        self, policies: Sequence[ScalingPolicy], start: datetime, end: datetime, step: timedelta
    ) -> Mapping[EndpointId, DemandSeries]:
        if self.error:
            raise self.error
        n = (end - start) // step
        flat = DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=step, values=np.full(n, self.demand))
        return {policy.endpoint: flat for policy in policies if policy.endpoint not in self.silent}


@dataclass
class FakeTarget:
    """Replicas that are ready as soon as they are ordered."""

    states: dict[EndpointId, ReplicaState]
    error: HeadstartError | None = None
    order_error: HeadstartError | None = None
    orders: list[tuple[EndpointId, int]] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)

    def observe(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, ReplicaState]:
        if self.error:
            raise self.error
        return dict(self.states)

    def problems(self) -> Mapping[EndpointId, str]:
        return {}

    def order(self, policy: ScalingPolicy, replicas: int, seen: ReplicaState) -> Actuation:
        if self.order_error:
            raise self.order_error
        if replicas == seen.desired:
            return Actuation(outcome=ActuationOutcome.UNCHANGED)
        self.orders.append((policy.endpoint, replicas))
        self.states[policy.endpoint] = some_replicas(replicas)
        return Actuation(outcome=ActuationOutcome.ORDERED)

    def announce(self, policy: ScalingPolicy, decision: Decision) -> None:
        self.announced.append(decision.sentence())

    def startups(self, policies: Sequence[ScalingPolicy]) -> dict:
        return {}


@dataclass
class FakeAdvisor:
    """Plans for the demand it reads, with `idle` advice; `error` makes it fail."""

    error: Exception | None = None
    idle: IdleAdvice | None = None
    refitted: list[EndpointId] = field(default_factory=list)
    profiles: list[CapacityProfile] = field(default_factory=list)

    def refit(self, policy: ScalingPolicy, history: DemandSeries, profile: CapacityProfile, now: datetime) -> None:
        if self.error:
            raise self.error
        self.refitted.append(policy.endpoint)
        self.profiles.append(profile)

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        if self.error:
            raise self.error
        demand = float(reading.recent.values[-1])
        signals = ControlSignals(read_at=now, demand_now=demand, demand_ahead=demand, dip_floor=0.0, peak_soon=demand)
        return Advice(signals=signals, choice=None, idle=self.idle, profile=prior_profile(policy))


@dataclass
class MemoryLog:
    """A decision log that forgets with the process."""

    records: list[DecisionRecord] = field(default_factory=list)

    def append(self, records: Sequence[DecisionRecord]) -> None:
        self.records.extend(records)

    def recent_turns(self, endpoint: EndpointId, since: datetime) -> Sequence[PastTurn]:
        turns = [record.past_turn() for record in self.records if record.snapshot.endpoint == endpoint]
        return [turn for turn in turns if turn is not None and turn.decided_at >= since]

    def scale_in_held_until(self, endpoint: EndpointId, now: datetime) -> datetime | None:
        own = [one for one in self.records if one.snapshot.endpoint == endpoint and one.decision.decided_at <= now]
        return own[-1].decision.hold_scale_in_until if own else None
