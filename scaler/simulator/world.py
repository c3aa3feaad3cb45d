"""The simulated world behind the ports: it moves only when told.

One control step is a turn of the cycle, then `advance()`: the order is given at the start of the step from what had
ended by then. Nothing here knows about forecasts; nothing in the cycle knows that this is no cluster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import nan

import numpy as np

from forecaster.series import DemandSeries, DemandUnit, FloatArray
from scaler.domain.decision import Actuation, ActuationOutcome, Decision
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.record import DecisionRecord
from scaler.domain.replicas import ReplicaState, StartupObservation
from scaler.domain.snapshot import PastTurn
from scaler.errors import SourceUnavailable, TargetNotFound
from scaler.ports import Reading
from scaler.simulator.arrivals import StepDemand, StepGrid
from scaler.simulator.lane import Lane
from scaler.simulator.pool import GpuPool

QUEUE_DEPTH, CACHE_USAGE, IN_FLIGHT = "queue_depth", "kv_cache_usage", "in_flight"
"""The signals for thresholds that this world has, per ready replica: requests that wait (not known where demand is in
tokens: of these a trace says how many came, not in how many requests they wait), the share of its room that served in
the last step, and that share of its slots."""
RECENT = timedelta(hours=24)
"""How far back one reading of the present reaches."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """The metrics source answers nothing within [start, end); what happened meanwhile stays unseen."""

    start: datetime
    end: datetime

    def covers(self, when: datetime) -> bool:
        return self.start <= when < self.end


@dataclass(kw_only=True)
class SimulatedClock:
    """Time of the world. It stands still until `move`."""

    time: datetime

    def now(self) -> datetime:
        return self.time

    def move(self, span: timedelta) -> None:
        self.time += span


@dataclass(kw_only=True)
class World:
    """Lanes that share one clock. `demand` covers history and test; each lane's work is the test's part of it."""

    clock: SimulatedClock
    grid: StepGrid
    first: int
    """The grid's step at which the lanes begin."""
    demand: Mapping[EndpointId, StepDemand]
    lanes: Mapping[EndpointId, Lane]
    outages: Sequence[Outage] = ()
    pool: GpuPool | None = None
    """What the lanes draw their GPUs from. None: there are enough."""

    @property
    def step(self) -> int:
        """The grid's step that begins now."""
        return self.grid.index(self.clock.time)

    def advance(self) -> None:
        """What was ordered is placed in the pool, and one control step passes in every lane."""
        if self.pool is not None:
            self.pool.place()
        for lane in self.lanes.values():
            lane.advance()
        self.clock.move(self.grid.step)


def counts_requests(unit: DemandUnit) -> bool:
    """Whether this world knows in how many requests the work waits, which is what QUEUE_DEPTH counts."""
    return unit is not DemandUnit.TOKENS


class SimulatedSource:
    """Demand as a metrics server would show it: what had ended by now, NaN where nothing was seen."""

    def __init__(self, world: World, units: Mapping[EndpointId, DemandUnit]) -> None:
        self._world = world
        self._shown = {
            endpoint: DemandSeries(
                unit=units[endpoint], start=world.grid.start, step=world.grid.step, values=self._with_outages(demand)
            )
            for endpoint, demand in world.demand.items()
        }
        self._recent_steps = RECENT // world.grid.step

    def _with_outages(self, demand: StepDemand) -> FloatArray:
        values, grid = demand.values(), self._world.grid
        for outage in self._world.outages:
            values[max(0, grid.index(outage.start)) : max(0, grid.index(outage.end))] = nan
        return values

    def everything(self, endpoint: EndpointId) -> DemandSeries:
        """All demand that is ever shown, the future included: for what is prepared in batches."""
        return self._shown[endpoint]

    def history(
        self, policies: Sequence[ScalingPolicy], start: datetime, end: datetime, step: timedelta
    ) -> Mapping[EndpointId, DemandSeries]:
        self._answer()
        grid = self._world.grid
        first = max(0, grid.index(start))
        last = min(self._world.step, max(first, (end - grid.start) // grid.step))
        return {
            policy.endpoint: self._shown[policy.endpoint].part(first, last).resampled(step)
            for policy in policies
            if policy.endpoint in self._shown
        }

    def read(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, Reading]:
        self._answer()
        step = self._world.step
        return {policy.endpoint: self._reading(policy, step) for policy in policies if policy.endpoint in self._shown}

    def problems(self) -> Mapping[EndpointId, str]:
        return {}

    def _answer(self) -> None:
        if any(outage.covers(self._world.clock.time) for outage in self._world.outages):
            raise SourceUnavailable("metrics: no answer (simulated outage)")

    def _reading(self, policy: ScalingPolicy, step: int) -> Reading:
        lane = self._world.lanes[policy.endpoint]
        recent = self._shown[policy.endpoint].part(max(0, step - self._recent_steps), step)
        busy = busy_fraction(lane)
        slots = policy.spec.capacity.max_concurrency
        unit_seconds = 1.0 if policy.spec.demand.unit.is_rate else lane.step_seconds
        queue = lane.queue / unit_seconds
        waiting = queue if counts_requests(policy.spec.demand.unit) else nan
        return Reading(
            recent=recent,
            queue=queue,
            in_flight=busy * lane.ready * slots,
            reactive={
                QUEUE_DEPTH: waiting / lane.ready if lane.ready else nan,
                CACHE_USAGE: busy if lane.ready else nan,
                IN_FLIGHT: busy * slots if lane.ready else nan,
            },
        )


def busy_fraction(lane: Lane) -> float:
    """Share of the last step's room that served; 0 when there was none."""
    if lane.step == 0:
        return 0.0
    room = lane.rows[lane.step - 1, 4]
    return min(1.0, lane.served(lane.step - 1) / room) if room > 0 else 0.0


class SimulatedTarget:
    """The cluster's side of the lanes. Orders are obeyed at once; every answer is exact."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._epoch = world.grid.time(world.first)

    def observe(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, ReplicaState]:
        return {
            policy.endpoint: self._state(self._world.lanes[policy.endpoint])
            for policy in policies
            if policy.endpoint in self._world.lanes
        }

    def problems(self) -> Mapping[EndpointId, str]:
        return {}

    def order(self, policy: ScalingPolicy, replicas: int, seen: ReplicaState) -> Actuation:
        lane = self._world.lanes.get(policy.endpoint)
        if lane is None:
            raise TargetNotFound(f"{policy.endpoint}: no such endpoint in this world")
        if seen.version != str(lane.step):
            return Actuation(outcome=ActuationOutcome.CONFLICT, detail=f"seen at step {seen.version}, now {lane.step}")
        if replicas == lane.total:
            return Actuation(outcome=ActuationOutcome.UNCHANGED)
        lane.order(replicas)
        return Actuation(outcome=ActuationOutcome.ORDERED)

    def announce(self, policy: ScalingPolicy, decision: Decision) -> None:
        """Nobody watches events here."""

    def startups(self, policies: Sequence[ScalingPolicy]) -> Mapping[EndpointId, Sequence[StartupObservation]]:
        return {policy.endpoint: self._startups(self._world.lanes[policy.endpoint]) for policy in policies}

    def _startups(self, lane: Lane) -> Sequence[StartupObservation]:
        finished = [
            StartupObservation(ordered_at=self._time(ordered), ready_at=self._time(ready))
            for ordered, ready in lane.finished[-200:]
        ]
        return finished + [StartupObservation(ordered_at=ordered) for ordered in self._starting(lane)]

    def _starting(self, lane: Lane) -> list[datetime]:
        """When each replica that is not ready was ordered, pending ones and a rolling update's own among them."""
        coming = [*lane.starting, *([lane.replacement] if lane.replacement is not None else [])]
        return [self._time(ordered) for ordered in (*(ordered for ordered, _ in coming), *lane.pending)]

    def _state(self, lane: Lane) -> ReplicaState:
        return ReplicaState(
            ready=lane.ready,
            starting=tuple(self._starting(lane)),
            unschedulable=len(lane.pending),
            desired=lane.total,
            version=str(lane.step),
            rolling_out=lane.outdated > 0,
        )

    def _time(self, seconds: float) -> datetime:
        return self._epoch + timedelta(seconds=seconds)


@dataclass(kw_only=True)
class MemoryLog:
    """Decisions of this run, kept as far back as turns look."""

    look_back: timedelta
    turns: dict[EndpointId, list[PastTurn]] = field(default_factory=dict)
    held: dict[EndpointId, datetime | None] = field(default_factory=dict)

    def append(self, records: Sequence[DecisionRecord]) -> None:
        for record in records:
            decision = record.decision
            self.held[decision.endpoint] = decision.hold_scale_in_until
            turn = record.past_turn()
            if turn is None or decision.final is None:
                continue
            turns = self.turns.setdefault(decision.endpoint, [])
            turns.append(replace(turn, ordered=decision.final))  # in this world every order is carried out
            while turns[0].decided_at < decision.decided_at - self.look_back:
                turns.pop(0)

    def recent_turns(self, endpoint: EndpointId, since: datetime) -> Sequence[PastTurn]:
        return [turn for turn in self.turns.get(endpoint, ()) if turn.decided_at >= since]

    def scale_in_held_until(self, endpoint: EndpointId, now: datetime) -> datetime | None:
        return self.held.get(endpoint)


@dataclass(frozen=True, kw_only=True)
class FixedPolicies:
    """Policies that do not change during a run."""

    policies: tuple[ScalingPolicy, ...]

    def load(self) -> Sequence[ScalingPolicy]:
        return self.policies


def rng_for(seed: int, endpoint: EndpointId) -> np.random.Generator:
    """The generator of one endpoint's starts: the same for every strategy."""
    return np.random.Generator(np.random.PCG64([seed, *str(endpoint).encode()]))
