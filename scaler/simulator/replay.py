"""The product on recorded demand: the real cycle in the simulated world, beside baselines and the clairvoyant.

The policy's mode does not matter here: orders are carried out. What is the same for every strategy stands in spans.py.
"""

import os
from collections import ChainMap
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
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
from scaler.simulator.baselines.base import Baseline, Player, play_together
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.faults import Faults
from scaler.simulator.groups import Group, Members, group_of, members_of
from scaler.simulator.lane import Outcome, outcome_of
from scaler.simulator.oracle import Clairvoyant, clairvoyant
from scaler.simulator.own import MakeAdvisor, Played, Progress, compiled_orders, cycled, ordered
from scaler.simulator.spans import REACTIVE, ReplayRequest, blind_steps, site_at, task_of

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


@dataclass(frozen=True, kw_only=True)
class PoolMembers:
    """Endpoints that were played together on the GPUs of a pool."""

    gpus: int
    endpoints: tuple[EndpointId, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayResult:
    """`endpoints` in the order of their names; `several` is whether the trace names its endpoints. `pools` are those
    that the request named."""

    endpoints: Mapping[EndpointId, EndpointResult]
    several: bool
    seed: int
    faults: Faults
    pools: Mapping[str, PoolMembers] = field(default_factory=dict)


def run_replay(
    request: ReplayRequest,
    make_advisor: MakeAdvisor,
    progress: Progress = lambda what, done, total: None,
    processes: int = 1,
    whole_cycle: bool = False,
) -> ReplayResult:
    """The request played from beginning to end. The same request gives the same result.

    The endpoints of a pool are played together, the others each by itself. With `processes` > 1 (`make_advisor` must be
    picklable then) these are spread over processes, and of a few with a long test the parts. `whole_cycle` turns the
    cycle even where compiled turns give the same orders. Raises TraceError where the warm-up leaves nothing to test,
    SettingsError for an unknown baseline and for a pool that cannot be played.
    """
    known = (REACTIVE, *BASELINES)
    unknown = [name for name in request.baselines if name not in known]
    if unknown:
        raise SettingsError(f"baseline {unknown[0]!r} is not known; allowed: {', '.join(known)}")
    if not request.traces:
        raise TraceError("the trace holds no endpoint; need at least one")
    groups = members_of(request)
    jobs = [job for members in groups for job in _jobs(request, members, parted=len(groups) < processes)]
    found: dict[EndpointId, list[EndpointResult]] = {name: [] for name in sorted(request.traces)}
    run = partial(_job, make_advisor, whole_cycle)
    if processes > 1 and len(jobs) > 1:
        progress("", 0, len(jobs))
        # Fresh processes: a fork of one that has used OpenMP may hang.
        with ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn"), _one_thread) as pool:
            results = pool.map(run, jobs)
            for done, (job, result) in enumerate(zip(jobs, results, strict=True), start=1):
                _add(found, result)
                progress(str(job.members), done, len(jobs))
    else:
        for done, job in enumerate(jobs, start=1):
            _add(found, run(job, progress) if len(jobs) == 1 else run(job))
            if len(jobs) > 1:
                progress(str(job.members), done, len(jobs))
    return ReplayResult(
        endpoints={name: _together(request, parts) for name, parts in found.items()},
        several=request.named or len(found) > 1,
        seed=request.seed,
        faults=request.faults,
        pools={one.pool: PoolMembers(gpus=request.pools[one.pool], endpoints=one.names) for one in groups if one.pool},
    )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What one process plays at a time."""

    members: Members
    request: ReplayRequest


def _add(found: Mapping[EndpointId, list[EndpointResult]], result: Mapping[EndpointId, EndpointResult]) -> None:
    for name, part in result.items():
        found[name].append(part)


def _jobs(request: ReplayRequest, members: Members, parted: bool) -> list[_Job]:
    """What takes longest of a replay apart, the longest first; a short one is not parted."""
    traces = [request.traces[name] for name in members.names]
    length = sum(((request.length or one.end - one.start - request.warmup) for one in traces), timedelta(0))
    if not parted or length < WORTH_A_PROCESS:
        return [_Job(members=members, request=request)]
    others = tuple(key for key in request.baselines if key != REACTIVE)
    parts = []
    if request.with_own:
        parts.append(replace(request, baselines=(), with_clairvoyant=False))
    if REACTIVE in request.baselines:
        parts.append(replace(request, baselines=(REACTIVE,), with_own=False, with_clairvoyant=False))
    if others or request.with_clairvoyant:
        parts.append(replace(request, baselines=others, with_own=False))
    return [_Job(members=members, request=part) for part in parts or [request]]


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


def _job(
    make_advisor: MakeAdvisor,
    whole_cycle: bool,
    job: _Job,
    progress: Progress = lambda what, done, total: None,
) -> Mapping[EndpointId, EndpointResult]:
    """Every strategy of the job's request, on all its endpoints."""
    request, group = job.request, group_of(job.request, job.members)
    outcomes: dict[str, list[Outcome]] = {}
    frontier: dict[str, list[list[Point]]] = {}
    own: list[Played] = []
    if request.with_own:
        own = _own(request, group, make_advisor, whole_cycle, progress)
        outcomes[OWN] = [played.outcome for played in own]
    for i, key in enumerate(request.baselines):
        progress(key, i, len(request.baselines))
        if key == REACTIVE:
            shadows = cycled(request, group, make_advisor, REACTIVE, progress)
            outcomes[key] = [shadow.outcome for shadow in shadows]
            continue
        baseline = BASELINES[key]
        outcomes[key] = _played(request, group, baseline, None)
        if request.frontier:
            frontier[key] = [
                _points(group, knob, _played(request, group, baseline, knob)) for knob in baseline.knob_values
            ]
    if request.frontier and request.with_own:
        frontier[OWN] = [_own_points(job, group, make_advisor, whole_cycle, value) for value in OWN_KNOB]
    best = _clairvoyants(group, progress) if request.with_clairvoyant else [None] * len(group.spans)
    return {
        name: EndpointResult(
            policy=span.policy,
            start=span.grid.time(span.first),
            outcomes={key: each[i] for key, each in outcomes.items()},
            clairvoyant=best[i],
            decisions=own[i].decisions if own else (),
            ahead=own[i].ahead if own else np.full(span.last - span.first, nan),
            turned=own[i].turned if own else "",
            frontier={key: [points[i] for points in curve] for key, curve in frontier.items()},
        )
        for i, (name, span) in enumerate(zip(job.members.names, group.spans, strict=True))
    }


def _own(
    request: ReplayRequest, group: Group, make_advisor: MakeAdvisor, whole_cycle: bool, progress: Progress
) -> list[Played]:
    if group.gpus is None and not whole_cycle:
        span = group.spans[0]
        orders = compiled_orders(request, span, make_advisor)
        if orders is not None:
            return [ordered(span, orders)]
    return cycled(request, group, make_advisor, OWN, progress)


def _played(request: ReplayRequest, group: Group, baseline: Baseline, knob: float | None) -> list[Outcome]:
    lanes, blind = group.lanes(), blind_steps(request.faults, group.spans[0])
    sites = [site_at(span) for span in group.spans]
    players = [
        Player(strategy=baseline.make(site, knob), lane=lane, site=site, bounds=span.bounds)
        for span, site, lane in zip(group.spans, sites, lanes, strict=True)
    ]
    play_together(players, blind, group.scheduler(lanes))
    return [
        outcome_of(
            lane,
            is_rate=span.policy.spec.demand.unit.is_rate,
            asked=lane.rows[:, 0].astype(np.int32) if group.gpus is not None else None,
        )
        for span, lane in zip(group.spans, lanes, strict=True)
    ]


def _clairvoyants(group: Group, progress: Progress) -> list[Clairvoyant | None]:
    """Each by itself: it knows of no pool."""
    found: list[Clairvoyant | None] = []
    for span in group.spans:
        progress("clairvoyant", len(found), len(group.spans))
        found.append(clairvoyant(task_of(span)))
    progress("clairvoyant", len(found), len(group.spans))
    return found


def _points(group: Group, knob: float, outcomes: Sequence[Outcome]) -> list[Point]:
    waits = [span.policy.spec.slo.queue_wait.total_seconds() for span in group.spans]
    return [
        Point(knob=knob, replica_hours=outcome.replica_hours, slo_attainment=outcome.attainment(wait))
        for outcome, wait in zip(outcomes, waits, strict=True)
    ]


def _own_points(job: _Job, group: Group, make_advisor: MakeAdvisor, whole_cycle: bool, objective: float) -> list[Point]:
    """The product with another objective, held against the same promised wait."""
    alone = replace(
        job.request,
        policies={name: _promising(job.request.policies[name], objective) for name in job.members.names},
        baselines=(),
        frontier=False,
        with_clairvoyant=False,
    )
    played = _job(make_advisor, whole_cycle, replace(job, request=alone))
    return _points(group, objective, [found.outcomes[OWN] for found in played.values()])


def _promising(policy: ScalingPolicy, objective: float) -> ScalingPolicy:
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
    return policy.model_copy(update={"spec": changed})
