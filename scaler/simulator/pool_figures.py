"""What a pool's GPUs were used for in a replay, from the outcomes of its endpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaler.simulator.lane import Outcome
from scaler.simulator.replay import EndpointResult


@dataclass(frozen=True, kw_only=True, eq=False)
class GpuUse:
    """GPUs at each step, over some endpoints, under one strategy: what they asked for, what their replicas had, and
    whether one of them had less than it asked for."""

    asked: NDArray[np.int64]
    granted: NDArray[np.int64]
    is_cut: NDArray[np.bool_]
    step_seconds: float

    @property
    def asked_gpu_hours(self) -> float:
        return self._hours(self.asked)

    @property
    def granted_gpu_hours(self) -> float:
        return self._hours(self.granted)

    @property
    def most_gpus_asked(self) -> int:
        return int(self.asked.max())

    @property
    def cut_hours(self) -> float:
        return self._hours(self.is_cut)

    def _hours(self, steps: NDArray[Any]) -> float:
        return round(float(steps.sum()) * self.step_seconds / 3600, 6)


def gpu_use(members: Sequence[tuple[EndpointResult, Outcome]]) -> GpuUse:
    """Over these endpoints together. One that was played without a pool asked for what it had."""
    asked, granted, is_cut = [], [], []
    for found, outcome in members:
        each, had = found.policy.spec.target.gpus_per_replica, outcome.ready.astype(np.int64) + outcome.starting
        wanted = had if outcome.asked is None else outcome.asked
        asked.append(wanted * each)
        granted.append(had * each)
        is_cut.append(wanted > had)
    return GpuUse(
        asked=np.sum(asked, axis=0),
        granted=np.sum(granted, axis=0),
        is_cut=np.any(is_cut, axis=0),
        step_seconds=members[0][1].step_seconds,
    )


def clairvoyant_use(found: Sequence[EndpointResult]) -> GpuUse | None:
    """What the clairvoyant's paths take together, each of an endpoint by itself: it knows of no pool. None where one
    has no path."""
    paths = [(one, one.clairvoyant.outcome) for one in found if one.clairvoyant is not None]
    known = [(one, path) for one, path in paths if path is not None]
    return gpu_use(known) if len(known) == len(found) else None


def pool_figures(found: Sequence[EndpointResult]) -> dict[str, dict[str, float | None]]:
    """Per strategy, over the endpoints of a pool; `granted_gpu_hours` is what their `gpu_hours` add up to. For the
    clairvoyant, which knows of no pool, `granted_gpu_hours` and `cut_hours` are null."""
    rows: dict[str, dict[str, float | None]] = {}
    for strategy in found[0].outcomes:
        use = gpu_use([(one, one.outcomes[strategy]) for one in found])
        rows[strategy] = {
            "asked_gpu_hours": use.asked_gpu_hours,
            "granted_gpu_hours": use.granted_gpu_hours,
            "most_gpus_asked": use.most_gpus_asked,
            "cut_hours": use.cut_hours,
        }
    best = clairvoyant_use(found)
    rows["clairvoyant"] = {
        "asked_gpu_hours": best.asked_gpu_hours if best else None,
        "granted_gpu_hours": None,
        "most_gpus_asked": best.most_gpus_asked if best else None,
        "cut_hours": None,
    }
    return rows
