"""A fleet of four endpoints on generated traffic in the simulated world, with a plain HPA beside each on the same
requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any

import numpy as np

from forecaster.series import DemandUnit, FloatArray
from scaler.app.demo.traffic import generate
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.simulator.arrivals import StepDemand, StepGrid
from scaler.simulator.baselines.base import Situation, Strategy, before, one_step, site_of
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.lane import Lane
from scaler.simulator.startups import StartupModel
from scaler.simulator.world import FixedPolicies, SimulatedClock, SimulatedSource, SimulatedTarget, World, rng_for

TURN = timedelta(seconds=15)
HISTORY = timedelta(days=15)
AHEAD = timedelta(days=40)
STARTUP_SPREAD = 0.2
SEED = 7


def _document(name: str, namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    common = {
        "mode": "Enforce",
        "forecast": {"history": "7d", "refit": "1h", "method": "profile"},
        "startup": {"expected": "150s"},
        "demand": {"unit": "requests", "preset": "vllm"},
    }
    return {
        "apiVersion": "headstart.dev/v1alpha1",
        "kind": "InferenceScalingPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**common, **spec},
    }


FLEET: Mapping[str, dict[str, Any]] = {
    "chat": _document(
        "chat-7b",
        "prod",
        {
            "target": {"gpusPerReplica": 1, "costPerReplicaHour": 2.5, "pool": "a100"},
            "capacity": {"perReplica": 0.4, "maxConcurrency": 8, "learn": False},
            "replicas": {"min": 1, "max": 24},
        },
    ),
    "code": _document(
        "code-13b",
        "prod",
        {
            "target": {"gpusPerReplica": 2, "costPerReplicaHour": 5.0, "pool": "a100"},
            "capacity": {"perReplica": 0.15, "maxConcurrency": 6, "learn": False},
            "replicas": {"min": 0, "max": 12},
            "scaleToZero": {"enabled": True, "coldRequestCost": 0.05, "minIdle": "10m"},
        },
    ),
    "image": _document(
        "image-xl",
        "prod",
        {
            "target": {"gpusPerReplica": 1, "costPerReplicaHour": 2.5, "pool": "l40s"},
            "capacity": {"perReplica": 0.35, "maxConcurrency": 4, "learn": False},
            "replicas": {"min": 1, "max": 20},
        },
    ),
    "rerank": _document(
        "rerank-beta",
        "lab",
        {
            "target": {"gpusPerReplica": 1, "costPerReplicaHour": 1.2, "pool": "l40s"},
            "capacity": {"perReplica": 0.5, "maxConcurrency": 8, "learn": False},
            "replicas": {"min": 0, "max": 4},
            "scaleToZero": {"enabled": True, "coldRequestCost": 0.02, "minIdle": "5m"},
        },
    ),
}
"""Kind of traffic -> the policy of the endpoint that has it."""


@dataclass(kw_only=True)
class Score:
    """What one way of scaling has cost and served since the start."""

    replica_hours: float = 0.0
    requests: float = 0.0
    good: float = 0.0

    def step(self, lane: Lane, queue_wait_seconds: float) -> None:
        """Add the step that has just passed: its requests are good if the queue it left drains within the promise."""
        _, starting, ready, queue, room = lane.rows[lane.step - 1].tolist()
        work = float(lane.work[lane.step - 1])
        self.replica_hours += (ready + starting) * lane.step_seconds / 3600
        self.requests += work
        if queue == 0 or (room > 0 and queue / room * lane.step_seconds <= queue_wait_seconds):
            self.good += work


@dataclass(kw_only=True)
class _Rival:
    """A plain HPA on the same requests."""

    lane: Lane
    strategy: Strategy
    situation: Situation

    def step(self) -> None:
        one_step(self.strategy, self.lane, self.situation)


@dataclass(kw_only=True)
class Demo:
    """The simulated side of the demonstration: ports for the cycle, a step after each turn, and the score."""

    world: World
    policies: FixedPolicies
    source: SimulatedSource
    target: SimulatedTarget
    own: Score = field(default_factory=Score)
    hpa: Score = field(default_factory=Score)
    _rivals: Mapping[EndpointId, _Rival]

    @property
    def over(self) -> bool:
        """The generated traffic has come to its end: the world stands still."""
        return self.world.clock.time >= self.world.grid.end

    def step(self) -> None:
        """One control step passes for both sides."""
        if self.over:
            return
        self.world.advance()
        for policy in self.policies.load():
            wait = policy.spec.slo.queue_wait.total_seconds()
            rival = self._rivals[policy.endpoint]
            rival.step()
            self.own.step(self.world.lanes[policy.endpoint], wait)
            self.hpa.step(rival.lane, wait)

    def status(self) -> dict[str, Any]:
        """What the page shows of it, beside the service's own status."""
        hours = self.world.lanes[self.policies.policies[0].endpoint].now_seconds / 3600
        return {
            "demo": True,
            "comparison": {
                "hours": round(hours, 3),
                "replica_hours": round(self.own.replica_hours, 3),
                "hpa_replica_hours": round(self.hpa.replica_hours, 3),
                "good_share": _share(self.own),
                "hpa_good_share": _share(self.hpa),
            },
        }


def build_demo(now: datetime, last_turn: datetime | None = None) -> Demo:
    """A world with HISTORY before its present: 06:00 UTC of the day of `now` or, where that is later, the step after
    the last turn of an earlier run. The same requests come on the same day, whichever run meets them."""
    present = now.replace(hour=6, minute=0, second=0, microsecond=0)
    if last_turn is not None and last_turn >= present:
        present += ((last_turn - present) // TURN + 1) * TURN
    midnight = present.replace(hour=0, minute=0, second=0)
    start = midnight - HISTORY
    grid = StepGrid(start=start, step=TURN, n_steps=(HISTORY + AHEAD) // TURN)
    first = grid.index(present)
    policies = {kind: ScalingPolicy.model_validate(document) for kind, document in FLEET.items()}
    demand, lanes, rivals = {}, {}, {}
    for kind, policy in policies.items():
        work = generate(kind, seed=SEED, start=start, days=grid.n_steps * TURN // timedelta(days=1), step=TURN).counts()
        demand[policy.endpoint] = StepDemand(grid=grid, work=work, seen=np.ones(len(work), dtype=bool))
        lanes[policy.endpoint] = _lane(policy, work, first)
        rivals[policy.endpoint] = _rival(policy, work, first, present)
    world = World(clock=SimulatedClock(time=present), grid=grid, first=first, demand=demand, lanes=lanes)
    return Demo(
        world=world,
        policies=FixedPolicies(policies=tuple(policies.values())),
        source=SimulatedSource(world, {policy.endpoint: DemandUnit.REQUESTS for policy in policies.values()}),
        target=SimulatedTarget(world),
        _rivals=rivals,
    )


def _lane(policy: ScalingPolicy, work: FloatArray, first: int) -> Lane:
    spec = policy.spec
    lately = float(work[first - 4 : first].mean()) / TURN.total_seconds()
    needed = ceil(lately / (spec.capacity.per_replica * spec.capacity.utilization.target))
    return Lane(
        work[first:],
        step_seconds=TURN.total_seconds(),
        capacity_per_second=spec.capacity.per_replica,
        startup=StartupModel(typical=spec.startup.expected, sigma=STARTUP_SPREAD),
        rng=rng_for(SEED, policy.endpoint),
        ready=min(max(needed, spec.replicas.min), spec.replicas.max),
    )


def _rival(policy: ScalingPolicy, work: FloatArray, first: int, present: datetime) -> _Rival:
    site = site_of(policy, work[max(0, first - 240) : first], TURN.total_seconds(), present.timestamp())
    return _Rival(lane=_lane(policy, work, first), strategy=BASELINES["hpa"].make(site, None), situation=before(site))


def _share(score: Score) -> float:
    return round(score.good / score.requests, 5) if score.requests else 1.0
