"""The product on recorded demand: the real cycle in the simulated world, beside baselines and the clairvoyant.

What is the same for every strategy: arrivals inside their bins, start-up times, the world's rules (lane.py), and the
state at the start of the test span: ceil(demand of the minute before / capacity) replicas stand ready, nothing waits,
nothing starts. The warm-up before it is history only. The policy's mode does not matter here: orders are carried out.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from math import ceil, nan
from multiprocessing import get_context
from typing import Any

import numpy as np

from forecaster.series import DemandSeries, FloatArray
from scaler.core.startup import learned_startup
from scaler.cycle import TURN, Cycle, look_back, prior_startup
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Mode, ScalingPolicy
from scaler.domain.replicas import StartupLaw
from scaler.errors import SettingsError, TraceError
from scaler.ports import Advisor
from scaler.simulator.arrivals import StepDemand, StepGrid, covering_grid, spread
from scaler.simulator.baselines.base import Baseline, Site, play, site_of
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.faults import Faults
from scaler.simulator.lane import Lane, Outcome, outcome_of
from scaler.simulator.oracle import Clairvoyant, Task, clairvoyant
from scaler.simulator.sparse_turns import sparse_orders
from scaler.simulator.startups import StartupModel
from scaler.simulator.world import (
    FixedPolicies,
    MemoryLog,
    SimulatedClock,
    SimulatedSource,
    SimulatedTarget,
    World,
    rng_for,
)

OWN = "headstart"
REACTIVE = "reactive"
"""The shadow reactive policy of the endpoint: the same cycle, the same choice by replay, no forecast."""
ENOUGH_STARTS = 10
DEFAULT_BASELINES = (REACTIVE, "hpa", "keda", "knative", "static", "keepalive")

OWN_KNOB = (0.9, 0.97, 0.99, 0.997, 0.999)
"""The product's own knob on a frontier: the objective that it is promised to keep. On endpoints that go to zero the
price of a cold request decides instead: it is scaled by (1 - policy's objective) / (1 - value)."""

Progress = Callable[[str, int, int], None]
"""Called with (what, steps done, steps in all) now and then."""
MakeAdvisor = Callable[[Mapping[EndpointId, DemandSeries], Faults, bool], Advisor]
"""(foreseen, faults, reactive only) to a fresh advisor. `foreseen` is all demand on the control grid, to prepare in
batches what it would compute turn by turn; row t of what it prepares may read what ended before t only."""


@dataclass(frozen=True, kw_only=True)
class ReplayRequest:
    """What to replay. `warmup` counts from the start of the trace; `length` None: to its end. `startup` None: as the
    policy expects, always the same."""

    policies: Mapping[EndpointId, ScalingPolicy]
    traces: Mapping[EndpointId, DemandSeries]
    warmup: timedelta
    seed: int = 0
    baselines: tuple[str, ...] = DEFAULT_BASELINES
    length: timedelta | None = None
    startup: StartupModel | None = None
    faults: Faults = field(default_factory=Faults)
    frontier: bool = False
    named: bool = False
    """The trace names its endpoints, so that files and summary do too, even if it holds one only."""
    with_own: bool = True
    with_clairvoyant: bool = True


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting of a knob: what it cost and what share it served in time."""

    knob: float
    replica_hours: float
    slo_attainment: float


@dataclass(frozen=True, kw_only=True, eq=False)
class EndpointResult:
    """Everything one endpoint's replay gave. `outcomes` begins with the product's own strategy. `decisions` are the
    turns that changed the order and the first of each hour, as rows. `ahead` (n_steps,) is the demand per second that
    each turn planned for (NaN: it planned nothing). `turned` says how the own strategy was played: "cycle", or
    "compiled" (sparse_turns.py: the same orders, without the explanations)."""

    policy: ScalingPolicy
    start: datetime
    outcomes: Mapping[str, Outcome]
    clairvoyant: Clairvoyant | None
    decisions: Sequence[Mapping[str, Any]]
    ahead: FloatArray
    turned: str
    frontier: Mapping[str, Sequence[Point]]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayResult:
    """`endpoints` in the order of their names; `several` is whether the trace names its endpoints."""

    endpoints: Mapping[EndpointId, EndpointResult]
    several: bool
    seed: int
    faults: Faults


@dataclass(frozen=True, kw_only=True, eq=False)
class _Span:
    """One endpoint's demand on the control grid, and which part of it is the test."""

    policy: ScalingPolicy
    demand: StepDemand
    first: int
    last: int
    startup: StartupModel
    seed: int
    rolling_updates: tuple[timedelta, ...] = ()

    @property
    def grid(self) -> StepGrid:
        return self.demand.grid

    @cached_property
    def work(self) -> FloatArray:
        """Demand of the test: one array that all strategies' outcomes share."""
        work: FloatArray = self.demand.work[self.first : self.last].copy()
        work.setflags(write=False)
        return work

    @property
    def standing(self) -> int:
        """Replicas that stand at the start of the test: as many as the minute before asks for."""
        n = max(1, round(60 / self.grid.step_seconds))
        minute = self.demand.work[max(0, self.first - n) : self.first].mean() if self.first else 0.0
        spec = self.policy.spec
        wanted = ceil(minute / (spec.capacity.per_replica * self.grid.step_seconds) - 1e-9)
        return min(max(wanted, spec.replicas.min), spec.replicas.max)

    def lane(self) -> Lane:
        return Lane(
            self.work,
            step_seconds=self.grid.step_seconds,
            capacity_per_second=self.policy.spec.capacity.per_replica,
            startup=self.startup,
            rng=rng_for(self.seed, self.policy.endpoint),
            ready=self.standing,
            rolling_updates=[after.total_seconds() for after in self.rolling_updates],
        )


def run_replay(
    request: ReplayRequest,
    make_advisor: MakeAdvisor,
    progress: Progress = lambda what, done, total: None,
    processes: int = 1,
    whole_cycle: bool = False,
) -> ReplayResult:
    """The request played from beginning to end. The same request gives the same result.

    With several endpoints and `processes` > 1 (`make_advisor` must be picklable then) endpoints are spread over
    processes. `whole_cycle` turns the cycle even where compiled turns give the same orders.
    Raises TraceError where the warm-up leaves nothing to test, SettingsError for an unknown baseline.
    """
    known = (REACTIVE, *BASELINES)
    unknown = [name for name in request.baselines if name not in known]
    if unknown:
        raise SettingsError(f"baseline {unknown[0]!r} is not known; allowed: {', '.join(known)}")
    if not request.traces:
        raise TraceError("the trace holds no endpoint; need at least one")
    names = sorted(request.traces)
    run = partial(_endpoint, request, make_advisor, whole_cycle)
    results = {}
    if processes > 1 and len(names) > 1:
        # Fresh processes: a fork of one that has used OpenMP may hang.
        with ProcessPoolExecutor(min(processes, len(names)), get_context("spawn")) as pool:
            for done, (name, result) in enumerate(zip(names, pool.map(run, names), strict=True), start=1):
                results[name] = result
                progress(str(name), done, len(names))
    else:
        for done, name in enumerate(names, start=1):
            inner = progress if len(names) == 1 else lambda what, done, total: None
            results[name] = _endpoint(request, make_advisor, whole_cycle, name, inner)
            if len(names) > 1:
                progress(str(name), done, len(names))
    return ReplayResult(
        endpoints=results, several=request.named or len(names) > 1, seed=request.seed, faults=request.faults
    )


def _endpoint(
    request: ReplayRequest,
    make_advisor: MakeAdvisor,
    whole_cycle: bool,
    name: EndpointId,
    progress: Progress = lambda what, done, total: None,
) -> EndpointResult:
    span = _span(request, name)
    site = _site(span)
    outcomes: dict[str, Outcome] = {}
    own: _Played | None = None
    if request.with_own:
        orders = None if whole_cycle else _compiled_orders(request, span, make_advisor)
        own = _ordered(span, orders) if orders is not None else _cycled(request, span, make_advisor, OWN, progress)
        outcomes[OWN] = own.outcome
    blind = _blind(request.faults, span)
    frontier = {}
    for i, key in enumerate(request.baselines):
        progress(key, i, len(request.baselines))
        if key == REACTIVE:
            shadow = _cycled(request, span, make_advisor, REACTIVE, progress)
            outcomes[key] = shadow.outcome
            continue
        baseline = BASELINES[key]
        outcomes[key] = _played(baseline, None, span, site, blind)
        if request.frontier:
            frontier[key] = [_point(baseline, knob, span, site, blind) for knob in baseline.knob_values]
    if request.frontier and request.with_own:
        frontier[OWN] = [_own_point(request, make_advisor, whole_cycle, name, value) for value in OWN_KNOB]
    best = None
    if request.with_clairvoyant:
        progress("clairvoyant", 0, 1)
        best = clairvoyant(task_of(span))
        progress("clairvoyant", 1, 1)
    return EndpointResult(
        policy=span.policy,
        start=span.grid.time(span.first),
        outcomes=outcomes,
        clairvoyant=best,
        decisions=own.decisions if own else (),
        ahead=own.ahead if own else np.full(span.last - span.first, nan),
        turned=own.turned if own else "",
        frontier=frontier,
    )


def _span(request: ReplayRequest, name: EndpointId) -> _Span:
    series, policy = request.traces[name], request.policies[name]
    begin = series.start + request.warmup
    end = series.end if request.length is None else min(series.end, begin + request.length)
    grid = covering_grid(series.start, end, TURN)
    first = grid.index(begin)
    if first >= grid.n_steps:
        covered, asked = ((span.total_seconds() / 3600) for span in (series.end - series.start, request.warmup))
        raise TraceError(
            f"{name}: the trace covers {covered:.1f} h and the warm-up takes {asked:.1f} h; "
            "need a warm-up that ends before the trace does"
        )
    kept = series.until(end)
    model = request.startup or StartupModel(typical=policy.spec.startup.expected)
    return _Span(
        policy=policy,
        demand=spread(kept, grid, request.seed, str(name)),
        first=first,
        last=grid.n_steps,
        startup=request.faults.startup(model),
        seed=request.seed,
        rolling_updates=request.faults.rolling_updates,
    )


def _site(span: _Span) -> Site:
    return site_of(
        span.policy,
        span.demand.work[: span.first],
        span.grid.step_seconds,
        span.grid.time(span.first).timestamp(),
    )


def _blind(faults: Faults, span: _Span) -> Callable[[int], bool]:
    start = span.grid.time(span.first)
    outages = faults.outages_from(start)
    return lambda step: any(outage.covers(start + step * span.grid.step) for outage in outages)


def _played(baseline: Baseline, knob: float | None, span: _Span, site: Site, blind: Callable[[int], bool]) -> Outcome:
    lane = span.lane()
    play(baseline.make(site, knob), lane, site, blind)
    return outcome_of(lane, is_rate=span.policy.spec.demand.unit.is_rate)


def _point(baseline: Baseline, knob: float, span: _Span, site: Site, blind: Callable[[int], bool]) -> Point:
    outcome = _played(baseline, knob, span, site, blind)
    wait = span.policy.spec.slo.queue_wait.total_seconds()
    return Point(knob=knob, replica_hours=outcome.replica_hours, slo_attainment=outcome.attainment(wait))


def _own_point(
    request: ReplayRequest, make_advisor: MakeAdvisor, whole_cycle: bool, name: EndpointId, objective: float
) -> Point:
    """The product with another objective, held against the same promised wait."""
    policy = request.policies[name]
    spec = policy.spec
    scale = (1.0 - spec.slo.objective) / (1.0 - objective)
    changed = spec.model_copy(
        update={
            "slo": spec.slo.model_copy(update={"objective": objective}),
            "scale_to_zero": spec.scale_to_zero.model_copy(
                update={"cold_request_cost": scale * spec.scale_to_zero.cold_request_cost}
            ),
        }
    )
    alone = replace(
        request,
        policies={name: policy.model_copy(update={"spec": changed})},
        traces={name: request.traces[name]},
        baselines=(),
        frontier=False,
        with_clairvoyant=False,
    )
    outcome = _endpoint(alone, make_advisor, whole_cycle, name).outcomes[OWN]
    wait = spec.slo.queue_wait.total_seconds()
    return Point(knob=objective, replica_hours=outcome.replica_hours, slo_attainment=outcome.attainment(wait))


def tuned_in_hindsight(request: ReplayRequest, name: EndpointId, baseline: str) -> Point | None:
    """The cheapest value of the baseline's knob that keeps the objective on this very span; None where none does.

    What no user can have: a knob set after the fact. Values go from cheapest to most careful, so they are halved; the
    last ones around the answer are all tried, as attainment need not be monotone there.
    """
    span = _span(request, name)
    site, blind = _site(span), _blind(request.faults, span)
    chosen, objective = BASELINES[baseline], span.policy.spec.slo.objective
    values = chosen.knob_values
    tried: dict[int, Point] = {}

    def keeps(i: int) -> bool:
        if i not in tried:
            tried[i] = _point(chosen, values[i], span, site, blind)
        return tried[i].slo_attainment >= objective

    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle + 1, high)
    for i in range(max(0, low - 1), min(len(values), low + 2)):
        keeps(i)
    keeping = [point for point in tried.values() if point.slo_attainment >= objective]
    return min(keeping, key=lambda point: point.replica_hours, default=None)


def task_of(span: _Span) -> Task:
    """The clairvoyant's task on the same span, with the same start."""
    spec = span.policy.spec
    return Task(
        work=span.work,
        step_seconds=span.grid.step_seconds,
        capacity_per_second=spec.capacity.per_replica,
        startup=span.startup,
        queue_wait_seconds=spec.slo.queue_wait.total_seconds(),
        objective=spec.slo.objective,
        lowest=spec.replicas.min,
        highest=spec.replicas.max,
        first=span.standing,
        is_rate=spec.demand.unit.is_rate,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Played:
    """The product's own cycle, played."""

    outcome: Outcome
    decisions: Sequence[Mapping[str, Any]]
    ahead: FloatArray
    turned: str


def _compiled_orders(
    request: ReplayRequest, span: _Span, make_advisor: MakeAdvisor
) -> "np.typing.NDArray[np.int64] | None":
    """Orders without the cycle, where that is known to give the same; None where it is not."""
    law = span.startup
    plain = law == StartupModel(typical=span.policy.spec.startup.expected)
    if make_advisor is not own_advisor or request.faults.names or not plain or span.last < span.grid.n_steps:
        return None
    return sparse_orders(span.policy, span.demand, span.first, span.standing)


def _ordered(span: _Span, orders: "np.typing.NDArray[np.int64]") -> _Played:
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
    return _Played(outcome=outcome_of(lane, is_rate=is_rate), decisions=rows, ahead=ahead, turned="compiled")


def own_advisor(foreseen: Mapping[EndpointId, DemandSeries], faults: Faults, reactive_only: bool) -> Advisor:
    """The advisor that the service runs with, able to look ahead in batches."""
    from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor  # compiles when it is imported
    from scaler.simulator.selfreplay.spoil import Spoil

    spoil = Spoil(kind=faults.forecast, shift=faults.shift) if faults.forecast else None
    return SelfReplayAdvisor(TURN, foreseen, spoil, reactive_only)


def _cycled(
    request: ReplayRequest, span: _Span, make_advisor: MakeAdvisor, strategy: str, progress: Progress
) -> _Played:
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
    return _Played(outcome=outcome_of(lane, is_rate=unit.is_rate), decisions=kept, ahead=ahead, turned="cycle")


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
