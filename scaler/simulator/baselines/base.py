"""What every baseline is told, and how it is played in the simulated world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forecaster.series import DemandUnit, FloatArray
from scaler.domain.policy import ScalingPolicy
from scaler.simulator.lane import Lane
from scaler.simulator.pool import GpuPool

SCRAPE_STEPS = 1
"""Metrics reach a scaler one scrape (15 s) late ..."""
RATE_WINDOW_STEPS = 4
"""... as means over a minute: a signal is 45 s old on average, within the 30 to 75 s seen in practice."""
DEFAULT_SERVICE_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """One endpoint as a baseline knows it before it starts. `history` is work per step up to the start of the test."""

    lowest: int
    highest: int
    capacity_per_second: float
    utilization: float
    service_seconds: float
    startup_seconds: float
    queue_wait_seconds: float
    step_seconds: float
    start_epoch_seconds: float
    history: FloatArray

    @property
    def per_step(self) -> float:
        """Units that one replica serves in a step."""
        return self.capacity_per_second * self.step_seconds

    def steps(self, seconds: float) -> int:
        return max(1, round(seconds / self.step_seconds))


def site_of(policy: ScalingPolicy, history: FloatArray, step_seconds: float, start_epoch_seconds: float) -> Site:
    """The baseline's view of a policy. One request holds a replica's slot for maxConcurrency / perReplica seconds
    (Little), which turns a queue into replicas; tokens and concurrency have no request size here: 15 s."""
    spec = policy.spec
    service = DEFAULT_SERVICE_SECONDS
    if spec.demand.unit is DemandUnit.REQUESTS:
        service = spec.capacity.max_concurrency / spec.capacity.per_replica
    return Site(
        lowest=spec.replicas.min,
        highest=spec.replicas.max,
        capacity_per_second=spec.capacity.per_replica,
        utilization=spec.capacity.utilization.target,
        service_seconds=service,
        startup_seconds=spec.startup.expected.total_seconds(),
        queue_wait_seconds=spec.slo.queue_wait.total_seconds(),
        step_seconds=step_seconds,
        start_epoch_seconds=start_epoch_seconds,
        history=history,
    )


@dataclass(slots=True)
class Situation:
    """What a scaler may see at the start of a step. `load` of a step is what was in service plus what queued at its
    end, in replicas' worth (the in-flight requests over what one replica holds); `work` is what arrived, units per
    step.

    Both lists begin with the history and end with the last finished step. `blind`: the metrics source answers nothing.
    `lowest` and `highest` are the policy's bounds of the moment, overrides included.
    """

    site: Site
    ready: int = 0
    starting: int = 0
    queue: float = 0.0
    step: int = 0
    blind: bool = False
    lowest: int = 0
    highest: int = 0
    work: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    _work_sums: list[float] = field(default_factory=lambda: [0.0])
    _load_sums: list[float] = field(default_factory=lambda: [0.0])

    @property
    def total(self) -> int:
        return self.ready + self.starting

    @property
    def now_seconds(self) -> float:
        """Since the start of the test."""
        return self.step * self.site.step_seconds

    def push(self, work: float, load: float) -> None:
        self.work.append(work)
        self.load.append(load)
        self._work_sums.append(self._work_sums[-1] + work)
        self._load_sums.append(self._load_sums[-1] + load)

    def mean_load(self, n_steps: int, delay_steps: int = 0) -> float:
        """Mean load of the `n_steps` that ended `delay_steps` ago or before; NaN when nothing is known."""
        return nan if self.blind else _mean(self._load_sums, n_steps, delay_steps)

    def demand_days_ago(self, days: int, ahead_steps: int, n_steps: int) -> float:
        """Mean arrivals per second over the `n_steps` that begin `ahead_steps` from now, as they were `days` days
        before; NaN where that was before the history."""
        first = len(self.work) + ahead_steps - days * self.site.steps(86_400.0)
        last = min(first + n_steps, len(self.work))
        if first < 0 or last <= first:
            return nan
        return (self._work_sums[last] - self._work_sums[first]) / ((last - first) * self.site.step_seconds)

    def scraped_load(self) -> float:
        """Load as a scraped, rated metric shows it."""
        return self.mean_load(RATE_WINDOW_STEPS, SCRAPE_STEPS)


def _mean(sums: Sequence[float], n_steps: int, delay_steps: int) -> float:
    last = len(sums) - 1 - delay_steps
    first = max(0, last - n_steps)
    return (sums[last] - sums[first]) / (last - first) if last > first else nan


class Strategy(Protocol):
    """One scaler on one endpoint, told each control step what it may see."""

    def desired(self, now: Situation) -> int:
        """How many replicas it wants; the caller keeps them within the policy's bounds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """How to make a strategy, and its one aggressiveness knob.

    `make(site, knob)` gives a fresh strategy; knob None means the default of the system as people run it. `knob_values`
    go from cheapest to most careful; `knob` names what they are.
    """

    name: str
    make: Callable[[Site, float | None], Strategy]
    knob: str
    knob_values: tuple[float, ...]


Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The lowest and the highest count that is allowed at each step."""


def play(
    strategy: Strategy,
    lane: Lane,
    site: Site,
    blind: Callable[[int], bool] = lambda step: False,
    bounds: Bounds | None = None,
) -> None:
    """Let the strategy order at the start of every step until the lane's end. `blind(step)`: metrics are out. `bounds`
    None: those of the site, at every step."""
    play_together([Player(strategy=strategy, lane=lane, site=site, bounds=bounds)], blind)


@dataclass(frozen=True, kw_only=True)
class Player:
    """A strategy on one lane. `bounds` None: those of the site, at every step."""

    strategy: Strategy
    lane: Lane
    site: Site
    bounds: Bounds | None = None


def play_together(players: Sequence[Player], blind: Callable[[int], bool], pool: GpuPool | None = None) -> None:
    """As `play`, for lanes over the same time that draw from one pool: everyone orders, then what fits is placed. None:
    there are GPUs enough."""
    situations = [before(player.site) for player in players]
    for step in range(len(players[0].lane.work)):
        for player, now in zip(players, situations, strict=True):
            now.blind = blind(step)
            if player.bounds is not None:
                now.lowest, now.highest = int(player.bounds[0][step]), int(player.bounds[1][step])
            order(player.strategy, player.lane, now)
        if pool is not None:
            pool.place()
        for player, now in zip(players, situations, strict=True):
            pass_step(player.lane, now)


def before(site: Site) -> Situation:
    """The situation at the end of the site's history: all of it was in service."""
    now = Situation(site=site, lowest=site.lowest, highest=site.highest)
    for work in site.history.tolist():
        now.push(work, work / site.per_step)
    return now


def one_step(strategy: Strategy, lane: Lane, now: Situation) -> None:
    """The strategy orders within the policy's bounds, and one step passes in its lane."""
    order(strategy, lane, now)
    pass_step(lane, now)


def order(strategy: Strategy, lane: Lane, now: Situation) -> None:
    """The strategy orders within the policy's bounds. What it ordered and has no GPUs yet is starting to it."""
    now.step, now.ready, now.starting, now.queue = lane.step, lane.ready, lane.total - lane.ready, lane.queue
    lane.order(min(max(strategy.desired(now), now.lowest), now.highest))


def pass_step(lane: Lane, now: Situation) -> None:
    """One step passes in the lane, and the situation shows it."""
    site, step = now.site, lane.step
    lane.advance()
    slot = site.capacity_per_second * site.service_seconds
    now.push(float(lane.work[step]), lane.served(step) / site.per_step + lane.queue / slot)


UTILIZATION_VALUES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.33, 0.25, 0.2)
"""The knob that most scalers have: the share of a replica that is planned for."""
