"""The product on recorded demand: the real cycle in the simulated world, beside baselines and the clairvoyant.

The policy's mode does not matter here: orders are carried out. What is the same for every strategy stands in spans.py.
"""

import os
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from math import nan
from multiprocessing import get_context
from typing import Any

import numpy as np

from forecaster.series import FloatArray
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.errors import SettingsError, TraceError
from scaler.simulator.baselines.base import Baseline, Site, play
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.faults import Faults
from scaler.simulator.lane import Outcome, outcome_of
from scaler.simulator.oracle import Clairvoyant, clairvoyant
from scaler.simulator.own import MakeAdvisor, Played, Progress, compiled_orders, cycled, ordered
from scaler.simulator.spans import REACTIVE, ReplayRequest, Span, blind_steps, site_at, span_of, task_of

OWN = "headstart"
OWN_KNOB = (0.9, 0.97, 0.99, 0.997, 0.999)
"""The product's own knob on a frontier: the objective that it is promised to keep. On endpoints that go to zero the
price of a cold request decides instead: it is scaled by (1 - policy's objective) / (1 - value)."""

WORTH_A_PROCESS = timedelta(days=2)
"""A shorter test is played in about the time in which another process begins."""


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


def run_replay(
    request: ReplayRequest,
    make_advisor: MakeAdvisor,
    progress: Progress = lambda what, done, total: None,
    processes: int = 1,
    whole_cycle: bool = False,
) -> ReplayResult:
    """The request played from beginning to end. The same request gives the same result.

    With `processes` > 1 (`make_advisor` must be picklable then) endpoints are spread over processes, and of a few
    endpoints with a long test the parts. `whole_cycle` turns the cycle even where compiled turns give the same orders.
    Raises TraceError where the warm-up leaves nothing to test, SettingsError for an unknown baseline.
    """
    known = (REACTIVE, *BASELINES)
    unknown = [name for name in request.baselines if name not in known]
    if unknown:
        raise SettingsError(f"baseline {unknown[0]!r} is not known; allowed: {', '.join(known)}")
    if not request.traces:
        raise TraceError("the trace holds no endpoint; need at least one")
    names = sorted(request.traces)
    parted = len(names) < processes
    jobs = [(name, part) for name in names for part in (_parts(request, name) if parted else [request])]
    found: dict[EndpointId, list[EndpointResult]] = {name: [] for name in names}
    if processes > 1 and len(jobs) > 1:
        progress("", 0, len(jobs))
        run = partial(_endpoint, make_advisor, whole_cycle)
        # Fresh processes: a fork of one that has used OpenMP may hang.
        with ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn"), _one_thread) as pool:
            results = pool.map(run, *zip(*jobs, strict=True))
            for done, ((name, _), result) in enumerate(zip(jobs, results, strict=True), start=1):
                found[name].append(result)
                progress(str(name), done, len(jobs))
    else:
        for done, (name, part) in enumerate(jobs, start=1):
            inner = progress if len(jobs) == 1 else lambda what, done, total: None
            found[name].append(_endpoint(make_advisor, whole_cycle, name, part, inner))
            if len(jobs) > 1:
                progress(str(name), done, len(jobs))
    return ReplayResult(
        endpoints={name: _together(request, parts) for name, parts in found.items()},
        several=request.named or len(names) > 1,
        seed=request.seed,
        faults=request.faults,
    )


def _parts(request: ReplayRequest, name: EndpointId) -> list[ReplayRequest]:
    """What takes longest of one endpoint's replay apart, the longest first; a short one is not parted."""
    trace = request.traces[name]
    if (request.length or trace.end - trace.start - request.warmup) < WORTH_A_PROCESS:
        return [request]
    others = tuple(key for key in request.baselines if key != REACTIVE)
    parts = []
    if request.with_own:
        parts.append(replace(request, baselines=(), with_clairvoyant=False))
    if REACTIVE in request.baselines:
        parts.append(replace(request, baselines=(REACTIVE,), with_own=False, with_clairvoyant=False))
    if others or request.with_clairvoyant:
        parts.append(replace(request, baselines=others, with_own=False))
    return parts or [request]


def _together(request: ReplayRequest, parts: Sequence[EndpointResult]) -> EndpointResult:
    """One endpoint's result from those of its parts, in the order of the request."""
    outcomes = ChainMap(*(dict(part.outcomes) for part in parts))
    frontier = ChainMap(*(dict(part.frontier) for part in parts))
    keys = (OWN, *request.baselines)
    return replace(
        parts[0],
        outcomes={key: outcomes[key] for key in keys if key in outcomes},
        clairvoyant=parts[-1].clairvoyant,
        frontier={key: frontier[key] for key in (*keys[1:], OWN) if key in frontier},
    )


def _one_thread() -> None:
    """Each process computes on one thread: OpenMP threads of several processes wait for one another, many times longer
    than they compute. It reads this when it is loaded, with the first model."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _endpoint(
    make_advisor: MakeAdvisor,
    whole_cycle: bool,
    name: EndpointId,
    request: ReplayRequest,
    progress: Progress = lambda what, done, total: None,
) -> EndpointResult:
    span = span_of(request, name)
    site = site_at(span)
    outcomes: dict[str, Outcome] = {}
    own: Played | None = None
    if request.with_own:
        orders = None if whole_cycle else compiled_orders(request, span, make_advisor)
        own = ordered(span, orders) if orders is not None else cycled(request, span, make_advisor, OWN, progress)
        outcomes[OWN] = own.outcome
    blind = blind_steps(request.faults, span)
    frontier = {}
    for i, key in enumerate(request.baselines):
        progress(key, i, len(request.baselines))
        if key == REACTIVE:
            shadow = cycled(request, span, make_advisor, REACTIVE, progress)
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


def _played(baseline: Baseline, knob: float | None, span: Span, site: Site, blind: Callable[[int], bool]) -> Outcome:
    lane = span.lane()
    play(baseline.make(site, knob), lane, site, blind, span.bounds)
    return outcome_of(lane, is_rate=span.policy.spec.demand.unit.is_rate)


def _point(baseline: Baseline, knob: float, span: Span, site: Site, blind: Callable[[int], bool]) -> Point:
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
    outcome = _endpoint(make_advisor, whole_cycle, name, alone).outcomes[OWN]
    wait = spec.slo.queue_wait.total_seconds()
    return Point(knob=objective, replica_hours=outcome.replica_hours, slo_attainment=outcome.attainment(wait))
