"""The product's own strategy, played on one endpoint: the real cycle, or compiled turns that give the same orders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan
from typing import Any

import numpy as np

from forecaster.series import DemandSeries, FloatArray
from scaler.core.startup import learned_startup
from scaler.cycle import TURN, Cycle, look_back, prior_startup
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Mode, ScalingPolicy
from scaler.domain.replicas import StartupLaw
from scaler.ports import Advisor
from scaler.simulator.faults import Faults
from scaler.simulator.lane import Outcome, outcome_of
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


def cycled(request: ReplayRequest, span: Span, make_advisor: MakeAdvisor, strategy: str, progress: Progress) -> Played:
    """The real cycle, turn by turn, with a refit at the start and each `forecast.refit` after it."""
    policy = _enforced(span.policy)
    endpoint, grid = policy.endpoint, span.grid
    start = grid.time(span.first)
    clock = SimulatedClock(time=start)
    lane = span.lane()
    world = World(
        clock=clock,
        grid=grid,
        first=span.first,
        demand={endpoint: span.demand},
        lanes={endpoint: lane},
        outages=request.faults.outages_from(start),
    )
    unit = policy.spec.demand.unit
    source = SimulatedSource(world, {endpoint: unit})
    foreseen = {endpoint: source.everything(endpoint)}
    target = SimulatedTarget(world)
    law = prior_startup(policy)
    cycle = Cycle(
        clock=clock,
        policies=FixedPolicies(policies=(policy,)),
        source=source,
        target=target,
        advisor=make_advisor(foreseen, request.faults, strategy == REACTIVE),
        log=MemoryLog(look_back=look_back(policy)),
        turn_length=grid.step,
    )
    every = max(1, round(policy.spec.forecast.refit / grid.step))
    kept: list[Mapping[str, Any]] = []
    n = span.last - span.first
    ahead = np.full(n, nan)
    for k in range(n):
        if k % every == 0:
            law = _learned(policy, target, clock.now(), law)
            cycle.refit((policy,), {endpoint: law})
            progress(strategy, k, n)
        record = cycle.turn().records[0]
        decision = record.decision
        if decision.plan is not None:
            ahead[k] = decision.plan.demand_at_binding
        if decision.final != decision.current or k % round(3600 / grid.step_seconds) == 0:
            kept.append(record.as_row())
        world.advance()
    progress(strategy, n, n)
    return Played(outcome=outcome_of(lane, is_rate=unit.is_rate), decisions=kept, ahead=ahead, turned="cycle")


def _learned(policy: ScalingPolicy, target: SimulatedTarget, now: datetime, before: StartupLaw) -> StartupLaw:
    """The start-up law as the service would learn it, once enough starts were seen to say more than the policy."""
    seen = target.startups((policy,))[policy.endpoint]
    if not policy.spec.startup.learn or sum(1 for start in seen if start.ready_at is not None) < ENOUGH_STARTS:
        return before
    return learned_startup(prior_startup(policy), seen, now, before)


def _enforced(policy: ScalingPolicy) -> ScalingPolicy:
    """The policy as if it were trusted: orders are carried out, nothing promotes or demotes it."""
    safety = policy.spec.safety.model_copy(update={"promote": None})
    return policy.model_copy(update={"spec": policy.spec.model_copy(update={"mode": Mode.ENFORCE, "safety": safety})})
