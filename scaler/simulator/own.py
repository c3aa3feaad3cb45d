"""The product's own strategy, played on one endpoint or on those of a pool: the real cycle, or (one endpoint only)
compiled turns that give the same orders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import nan
from typing import Any

import numpy as np

from forecaster.series import DemandSeries, FloatArray
from scaler.core.allocation import QUOTA
from scaler.core.startup import learned_startup
from scaler.cycle import TURN, Cycle, look_back, prior_startup
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Mode, ScalingPolicy
from scaler.domain.record import DecisionRecord
from scaler.domain.replicas import CapacityProfile, ReplicaState, StartupLaw
from scaler.ports import Advice, Advisor, Reading
from scaler.simulator.faults import Faults
from scaler.simulator.groups import Group
from scaler.simulator.lane import Counts, Lane, Outcome, outcome_of
from scaler.simulator.spans import REACTIVE, ReplayRequest, Span
from scaler.simulator.sparse_turns import sparse_orders
from scaler.simulator.startups import StartupModel
from scaler.simulator.world import FixedPolicies, MemoryLog, SimulatedClock, SimulatedSource, SimulatedTarget, World

ENOUGH_STARTS = 10

Progress = Callable[[str, int, int], None]
"""Called with (what, steps done, steps in all) now and then."""
MakeAdvisor = Callable[[Mapping[EndpointId, DemandSeries], Faults, bool], Advisor]
"""(foreseen, faults, reactive only) to a fresh advisor. `foreseen` is all demand on the control grid, to prepare in
batches what it would compute turn by turn; row t of what it prepares may read what ended before t only."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """The product's own cycle, played."""

    outcome: Outcome
    decisions: Sequence[Mapping[str, Any]]
    ahead: FloatArray
    turned: str


def compiled_orders(
    request: ReplayRequest, span: Span, make_advisor: MakeAdvisor
) -> "np.typing.NDArray[np.int64] | None":
    """Orders without the cycle, where that is known to give the same; None where it is not."""
    law = span.startup
    plain = law == StartupModel(typical=span.policy.spec.startup.expected)
    if make_advisor is not own_advisor or request.faults.names or not plain or span.last < span.grid.n_steps:
        return None
    return sparse_orders(span.policy, span.demand, span.first, span.standing)


def ordered(span: Span, orders: "np.typing.NDArray[np.int64]") -> Played:
    """Known orders in the world. Without snapshots a row of `decisions` holds the order alone."""
    lane = span.lane()
    rows: list[Mapping[str, Any]] = []
    hour = round(3600 / span.grid.step_seconds)
    endpoint = span.policy.endpoint
    for k, order in enumerate(orders.tolist()):
        if order != lane.total or k % hour == 0:
            rows.append(
                {
                    "decided_at": span.grid.time(span.first + k).isoformat(),
                    "namespace": endpoint.namespace,
                    "name": endpoint.name,
                    "current": lane.total,
                    "ready": lane.ready,
                    "starting": len(lane.starting),
                    "final": order,
                }
            )
        lane.order(order)
        lane.advance()
    is_rate = span.policy.spec.demand.unit.is_rate
    ahead = np.full(len(orders), nan)
    return Played(outcome=outcome_of(lane, is_rate=is_rate), decisions=rows, ahead=ahead, turned="compiled")


def own_advisor(foreseen: Mapping[EndpointId, DemandSeries], faults: Faults, reactive_only: bool) -> Advisor:
    """The advisor that the service runs with, able to look ahead in batches."""
    from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor  # compiles when it is imported
    from scaler.simulator.selfreplay.spoil import Spoil

    spoil = Spoil(kind=faults.forecast, shift=faults.shift) if faults.forecast else None
    return SelfReplayAdvisor(TURN, foreseen, spoil, reactive_only)


def cycled(
    request: ReplayRequest, group: Group, make_advisor: MakeAdvisor, strategy: str, progress: Progress
) -> list[Played]:
    """The real cycle on all endpoints of the group, turn by turn, with a refit of each at the start and each
    `forecast.refit` after it; in the order of the group's spans."""
    tapes = [_Tape.of(span) for span in group.spans]
    policies = tuple(tape.policy for tape in tapes)
    lanes = group.lanes()
    world = _world(request, group, lanes)
    source = SimulatedSource(world, {policy.endpoint: policy.spec.demand.unit for policy in policies})
    target = SimulatedTarget(world)
    cycle = Cycle(
        clock=world.clock,
        policies=FixedPolicies(policies=policies),
        source=source,
        target=target,
        advisor=_EachItsOwn.made(make_advisor, source, policies, request.faults, strategy == REACTIVE),
        log=MemoryLog(look_back=max(look_back(policy) for policy in policies)),
        turn_length=world.grid.step,
        pools={} if group.gpus is None else {group.pool: group.gpus},
    )
    n = group.spans[0].last - world.first
    for k in range(n):
        for tape in tapes:
            if k % tape.refit_every == 0:
                tape.law = _learned(tape.policy, target, world.clock.now(), tape.law)
                cycle.refit((tape.policy,), {tape.policy.endpoint: tape.law})
                progress(strategy, k, n)
        for tape, record in zip(tapes, cycle.turn().records, strict=True):
            tape.write(k, record)
        world.advance()
    progress(strategy, n, n)
    return [tape.played(lane, in_pool=group.gpus is not None) for tape, lane in zip(tapes, lanes, strict=True)]


def _world(request: ReplayRequest, group: Group, lanes: Sequence[Lane]) -> World:
    """The lanes of the group's spans at the start of the test."""
    any_span = group.spans[0]
    endpoints = [span.policy.endpoint for span in group.spans]
    start = any_span.grid.time(any_span.first)
    return World(
        clock=SimulatedClock(time=start),
        grid=any_span.grid,
        first=any_span.first,
        demand=dict(zip(endpoints, (span.demand for span in group.spans), strict=True)),
        lanes=dict(zip(endpoints, lanes, strict=True)),
        outages=request.faults.outages_from(start),
        pool=group.scheduler(lanes),
    )


@dataclass(frozen=True)
class _EachItsOwn:
    """Advisors that learn nothing from one another, as one."""

    advisors: Mapping[EndpointId, Advisor]

    @staticmethod
    def made(
        make_advisor: MakeAdvisor,
        source: SimulatedSource,
        policies: Sequence[ScalingPolicy],
        faults: Faults,
        reactive_only: bool,
    ) -> "_EachItsOwn":
        endpoints = [policy.endpoint for policy in policies]
        return _EachItsOwn(
            {one: make_advisor({one: source.everything(one)}, faults, reactive_only) for one in endpoints}
        )

    def refit(self, policy: ScalingPolicy, history: DemandSeries, profile: CapacityProfile, now: datetime) -> None:
        self.advisors[policy.endpoint].refit(policy, history, profile, now)

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        return self.advisors[policy.endpoint].advise(policy, reading, replicas, now)


@dataclass(kw_only=True, eq=False)
class _Tape:
    """What is kept of one endpoint's turns, and the start-up law that it has come to."""

    policy: ScalingPolicy
    law: StartupLaw
    refit_every: int
    turns_an_hour: int
    ahead: FloatArray
    asked: Counts
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    is_cut: bool = False

    @staticmethod
    def of(span: Span) -> "_Tape":
        policy, n = _enforced(span.policy), span.last - span.first
        return _Tape(
            policy=policy,
            law=prior_startup(policy),
            refit_every=max(1, round(policy.spec.forecast.refit / span.grid.step)),
            turns_an_hour=round(3600 / span.grid.step_seconds),
            ahead=np.full(n, nan),
            asked=np.zeros(n, dtype=np.int32),
        )

    def write(self, k: int, record: DecisionRecord) -> None:
        """Turn k is kept; as a row too if it changed the order, if a pool began or ceased to cut it, or if an hour
        begins with it."""
        decision = record.decision
        if decision.plan is not None:
            self.ahead[k] = decision.plan.demand_at_binding
        asked = next((one.before for one in decision.verdicts if one.guardrail == QUOTA), decision.final)
        self.asked[k] = asked or 0
        was_cut, self.is_cut = self.is_cut, asked != decision.final
        if decision.final != decision.current or self.is_cut != was_cut or k % self.turns_an_hour == 0:
            self.rows.append(record.as_row())

    def played(self, lane: Lane, *, in_pool: bool) -> Played:
        """With the outcome of the lane that has come to its end."""
        is_rate = self.policy.spec.demand.unit.is_rate
        outcome = outcome_of(lane, is_rate=is_rate, asked=self.asked if in_pool else None)
        return Played(outcome=outcome, decisions=self.rows, ahead=self.ahead, turned="cycle")


def _learned(policy: ScalingPolicy, target: SimulatedTarget, now: datetime, before: StartupLaw) -> StartupLaw:
    """The start-up law as the service would learn it, once enough starts were seen to say more than the policy."""
    seen = target.startups((policy,))[policy.endpoint]
    if not policy.spec.startup.learn or sum(1 for start in seen if start.ready_at is not None) < ENOUGH_STARTS:
        return before
    return learned_startup(prior_startup(policy), seen, now, before)


def _enforced(policy: ScalingPolicy) -> ScalingPolicy:
    """The policy as if it were trusted: orders are carried out, nothing promotes or demotes it. Its target is its own,
    also where several endpoints are played under one policy that names one."""
    spec = policy.spec
    safety = spec.safety.model_copy(update={"promote": None})
    target = spec.target.model_copy(update={"name": policy.metadata.name})
    enforced = spec.model_copy(update={"mode": Mode.ENFORCE, "safety": safety, "target": target})
    return policy.model_copy(update={"spec": enforced})
