"""What is replayed: a request, and one endpoint's part of it.

What is the same for every strategy: arrivals inside their bins, start-up times, the world's rules (lane.py), and the
state at the start of the test span: ceil(demand of the minute before / capacity) replicas stand ready, nothing waits,
nothing starts. The warm-up before it is history only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from math import ceil

import numpy as np

from forecaster.series import DemandSeries, FloatArray
from scaler.core.bounds import bounds_of
from scaler.cycle import TURN
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.errors import TraceError
from scaler.simulator.arrivals import StepDemand, StepGrid, covering_grid, spread
from scaler.simulator.baselines.base import Bounds, Site, site_of
from scaler.simulator.faults import Faults
from scaler.simulator.lane import Lane
from scaler.simulator.oracle import Task
from scaler.simulator.startups import StartupModel
from scaler.simulator.world import rng_for

REACTIVE = "reactive"
"""The shadow reactive policy of the endpoint: the same cycle, the same choice by replay, no forecast."""
DEFAULT_BASELINES = (REACTIVE, "hpa", "keda", "knative", "static", "keepalive")


@dataclass(frozen=True, kw_only=True)
class ReplayRequest:
    """What to replay. `warmup` counts from the start of the trace; `length` None: to its end, else the trace must hold
    it. `startup` None: as the policy expects, always the same."""

    policies: Mapping[EndpointId, ScalingPolicy]
    traces: Mapping[EndpointId, DemandSeries]
    warmup: timedelta
    seed: int = 0
    baselines: tuple[str, ...] = DEFAULT_BASELINES
    length: timedelta | None = None
    startup: StartupModel | None = None
    faults: Faults = field(default_factory=Faults)
    frontier: bool = False
    pools: Mapping[str, int] = field(default_factory=dict)
    """GPUs of each pool; the endpoints that draw from one are played together. Others are not limited."""
    named: bool = False
    """The trace names its endpoints, so that files and summary do too, even if it holds one only."""
    with_own: bool = True
    with_clairvoyant: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Span:
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

    @cached_property
    def bounds(self) -> Bounds:
        """Of the policy at each step of the test, overrides included."""
        return bounds_of(self.policy, [self.grid.time(k) for k in range(self.first, self.last)])

    @property
    def standing(self) -> int:
        """Replicas that stand at the start of the test: as many as the minute before asks for."""
        n = max(1, round(60 / self.grid.step_seconds))
        minute = self.demand.work[max(0, self.first - n) : self.first].mean() if self.first else 0.0
        spec = self.policy.spec
        wanted = ceil(minute / (spec.capacity.per_replica * self.grid.step_seconds) - 1e-9)
        return min(max(wanted, spec.replicas.min), spec.replicas.max)

    def lane(self) -> Lane:
        return self.lane_with(self.standing)

    def lane_with(self, ready: int, *, in_pool: bool = False) -> Lane:
        """As `lane`, with so many replicas at the start; `in_pool`: what is ordered is pending until it is placed."""
        return Lane(
            self.work,
            step_seconds=self.grid.step_seconds,
            capacity_per_second=self.policy.spec.capacity.per_replica,
            startup=self.startup,
            rng=rng_for(self.seed, self.policy.endpoint),
            ready=ready,
            rolling_updates=[after.total_seconds() for after in self.rolling_updates],
            in_pool=in_pool,
        )


def span_of(request: ReplayRequest, name: EndpointId) -> Span:
    series, policy = request.traces[name], request.policies[name]
    begin = series.start + request.warmup
    end = series.end if request.length is None else min(series.end, begin + request.length)
    if request.length is not None and begin + request.length - series.end >= series.step:
        raise TraceError(
            f"{name}: the trace ends {max(series.end - begin, timedelta(0)) / timedelta(days=1):.4g} d after the "
            f"warm-up, asked for are {request.length / timedelta(days=1):.4g} d; need fewer days or a longer trace"
        )
    grid = covering_grid(series.start, end, TURN)
    first = grid.index(begin)
    if first >= grid.n_steps:
        covered, asked = ((span.total_seconds() / 3600) for span in (series.end - series.start, request.warmup))
        raise TraceError(
            f"{name}: the trace covers {covered:.1f} h and the warm-up takes {asked:.1f} h; "
            "need a warm-up that ends before the trace does"
        )
    request.faults.check_within(end - begin)
    kept = series.until(end)
    if not np.isfinite(kept.values[request.warmup // series.step :]).any():
        raise TraceError(
            f"{name}: no demand was seen from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, every bin is "
            "missing; need a test span in which some was"
        )
    model = request.startup or StartupModel(typical=policy.spec.startup.expected)
    return Span(
        policy=policy,
        demand=spread(kept, grid, request.seed, str(name)),
        first=first,
        last=grid.n_steps,
        startup=request.faults.startup(model),
        seed=request.seed,
        rolling_updates=request.faults.rolling_updates,
    )


def site_at(span: Span) -> Site:
    return site_of(
        span.policy,
        span.demand.work[: span.first],
        span.grid.step_seconds,
        span.grid.time(span.first).timestamp(),
    )


def blind_steps(faults: Faults, span: Span) -> Callable[[int], bool]:
    start = span.grid.time(span.first)
    outages = faults.outages_from(start)
    return lambda step: any(outage.covers(start + step * span.grid.step) for outage in outages)


def task_of(span: Span) -> Task:
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
