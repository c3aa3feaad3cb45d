"""The clairvoyant: what knowing all arrivals beforehand would have cost, at the same objective.

Two numbers bracket the best that any scaler could have done. `lower_bound`: no schedule of whole or fractional replicas
whose attainment reaches the objective costs less. `feasible`: a schedule of whole replicas, played in the same world
with the same start-up time, that reaches it. Loading costs the clairvoyant too: a start is paid from its order.
"""

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forecaster.series import FloatArray
from scaler.simulator.lane import Lane, Outcome, outcome_of
from scaler.simulator.startups import StartupModel

if TYPE_CHECKING:
    from scaler.simulator.compiled_oracle import Terms

MOST_BLOCKS = 3600
"""HiGHS solves so many in about two seconds; longer spans are bounded on coarser blocks (5 days of two minutes
instead of one: 0.2 % looser)."""
BLOCK_SECONDS = 60.0
FEW_REPLICAS = 4
"""Up to so many replicas a bound on whole replicas beats the fluid one; beyond, it is looser and slower."""
BISECTIONS = 14
CLOSE_ENOUGH = 0.01
"""A schedule that leaves at most this share of the allowed misses unused ends the bisection."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One endpoint's test span as the clairvoyant sees it. `work` (n_steps,) units; `first` replicas stand at the
    start."""

    work: FloatArray
    step_seconds: float
    capacity_per_second: float
    startup: StartupModel
    queue_wait_seconds: float
    objective: float
    lowest: int
    highest: int
    first: int
    is_rate: bool = True

    @property
    def room(self) -> float:
        return self.capacity_per_second * self.step_seconds

    @property
    def allowed_bad(self) -> float:
        return (1.0 - self.objective) * float(self.work.sum())

    @property
    def start_seconds(self) -> float:
        """What a start costs at least: its loading. A random law may be as short as nothing."""
        law = self.startup
        return 0.0 if law.sigma > 0 else law.always_seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class Clairvoyant:
    """Replica hours; None where the objective cannot be reached within the bounds (or no path was found that does)."""

    lower_bound_replica_hours: float | None
    feasible_replica_hours: float | None
    outcome: Outcome | None


def clairvoyant(task: Task) -> Clairvoyant:
    """Both ends of the bracket. An endpoint without any demand costs its lower bound on replicas, nothing else."""
    bound = lower_bound_hours(task)
    outcome = feasible(task)
    hours = outcome.replica_hours if outcome is not None else None
    return Clairvoyant(lower_bound_replica_hours=bound, feasible_replica_hours=hours, outcome=outcome)


def lower_bound_hours(task: Task) -> float | None:
    """The larger of two valid bounds; None when no schedule within the bounds reaches the objective."""
    if task.work.sum() <= 0:
        return 0.0
    fluid = _fluid_bound_seconds(task)
    if fluid is None:
        return None
    return max(fluid, _whole_bound_seconds(task)) / 3600


def _fluid_bound_seconds(task: Task) -> float | None:
    """Linear programme over blocks of a minute or more (and no shorter than the allowed wait).

    min sum_t b n_t + S y_t  with  y_t >= n_t - n_(t-1),  s_t + r_(t-1) <= c b n_t,  s_t + r_t <= w_t,
    sum_t s_t + r_t >= A sum_t w_t,  0 <= n_t <= max; s_t, r_t: work of block t served in t, in t + 1.
    A good request of block t waits less than a block, so it is served in t or t + 1; means over a block vary no more
    than the counts themselves: every schedule that reaches the objective A is a point of this programme, at no higher
    cost.
    """
    # scipy.optimize takes half a second to import and only a replay needs it.
    from scipy.optimize import linprog
    from scipy.sparse import bmat, diags, eye, vstack

    work, block = _blocks(task)
    n = len(work)
    one, zero = eye(n, format="csr"), None
    shift = diags([np.ones(n - 1)], [-1], shape=(n, n), format="csr") if n > 1 else eye(n, format="csr") * 0.0
    matrix = bmat(
        [
            [one - shift, -one, zero, zero],
            [-task.capacity_per_second * block * one, zero, one, shift],
            [zero, zero, one, one],
        ],
        format="csr",
    )
    total = np.concatenate([np.zeros(2 * n), -np.ones(2 * n)])[None, :]
    first = np.zeros(n)
    first[0] = task.first
    limits = np.concatenate([first, np.zeros(n), work, [-task.objective * work.sum()]])
    cost = np.concatenate([np.full(n, block), np.full(n, task.start_seconds), np.zeros(2 * n)])
    bounds = np.zeros((4 * n, 2))
    bounds[:n, 1] = task.highest
    bounds[n:, 1] = np.inf
    solved = linprog(cost, A_ub=vstack([matrix, total]).tocsr(), b_ub=limits, bounds=bounds, method="highs-ipm")
    return float(solved.fun) if solved.status == 0 else None


def _blocks(task: Task) -> tuple[FloatArray, float]:
    """Work per block and the block's length. The last block is filled up with nothing (its replicas are paid in full
    only where that costs less than the span itself: the programme is free to let them go)."""
    least = max(BLOCK_SECONDS, task.queue_wait_seconds)
    per_block = ceil(least / task.step_seconds - 1e-9)
    per_block *= ceil(len(task.work) / per_block / MOST_BLOCKS)
    padded = np.zeros(ceil(len(task.work) / per_block) * per_block)
    padded[: len(task.work)] = task.work
    return padded.reshape(-1, per_block).sum(axis=1), per_block * task.step_seconds


def _whole_bound_seconds(task: Task) -> float:
    """Lagrangian bound on whole replicas: max over prices of (least optimistic cost - price x allowed bad units).

    Weak duality makes every price's value a bound. Only for endpoints that a few replicas serve and a promised wait
    of at most one step; 0 otherwise.
    """
    from scaler.simulator.compiled_oracle import optimistic_value

    useful = min(task.highest, ceil(task.work.max() / task.room))
    if useful > FEW_REPLICAS or task.queue_wait_seconds > task.step_seconds:
        return 0.0
    low, high, best = np.log(1e-3), np.log(1e7), 0.0
    for _ in range(24):
        price = float(np.exp((low + high) / 2))
        terms = _terms(task, price, highest=useful, first=min(task.first, useful))
        value, bad = optimistic_value(task.work, terms)
        best = max(best, value - price * task.allowed_bad)
        low, high = (np.log(price), high) if bad > task.allowed_bad else (low, np.log(price))
    return best


def feasible(task: Task) -> Outcome | None:
    """The cheapest schedule found that reaches the objective when it is played in the world; None when none was found.

    For a price of one bad unit the dynamic programme gives a schedule; the price is bisected until the played schedule
    just reaches the objective. As whole replicas come in lumps, the last schedule that keeps the promise and the first
    that breaks it may lie far apart: then hours of the cheaper one are put into the other, the most saving ones first,
    as long as the promise is kept.
    """
    low, high = np.log(0.1), np.log(1e4)
    keeping: _Schedule | None = None
    breaking: _Schedule | None = None
    for attempt in range(BISECTIONS):
        worth = float(np.exp(high if attempt == 0 else (low + high) / 2))
        found = _schedule(task, path_at(task, worth / task.capacity_per_second))
        if found.keeps(task):
            if keeping is None or found.outcome.replica_hours < keeping.outcome.replica_hours:
                keeping = found
            high = np.log(worth)
            if found.spare(task) < CLOSE_ENOUGH:
                break
        elif attempt == 0:
            return None
        else:
            low, breaking = np.log(worth), found
    if keeping is None or breaking is None:
        return keeping.outcome if keeping else None
    return _mixed(task, keeping, breaking).outcome


@dataclass(frozen=True, kw_only=True, eq=False)
class _Schedule:
    """Ready replicas per step, and what came of playing them."""

    path: NDArray[np.int64]
    outcome: Outcome

    def keeps(self, task: Task) -> bool:
        return self.outcome.attainment(task.queue_wait_seconds) >= task.objective - 1e-12

    def spare(self, task: Task) -> float:
        """The share of the allowed misses that was not used."""
        return (self.outcome.attainment(task.queue_wait_seconds) - task.objective) / (1.0 - task.objective)

    def by_hour(self, task: Task) -> tuple[FloatArray, FloatArray]:
        """(replica-steps, late units) of each hour."""
        late = np.where(self.outcome.wait_seconds > task.queue_wait_seconds, self.outcome.demand, 0.0)
        standing = (self.outcome.ready + self.outcome.starting).astype(np.float64)
        starts = np.arange(0, len(late), _hour(task))
        return np.add.reduceat(standing, starts), np.add.reduceat(late, starts)


def _hour(task: Task) -> int:
    return max(1, round(3600 / task.step_seconds))


def _schedule(task: Task, path: NDArray[np.int64]) -> _Schedule:
    return _Schedule(path=path, outcome=_played(task, path))


def _mixed(task: Task, keeping: _Schedule, breaking: _Schedule) -> _Schedule:
    """The cheapest that keeps the promise among `keeping` with the k best hours of `breaking` in it, k halved."""
    cost, late = keeping.by_hour(task)
    other_cost, other_late = breaking.by_hour(task)
    saved, missed = cost - other_cost, np.maximum(other_late - late, 1e-9)
    order = [int(hour) for hour in np.argsort(-saved / missed, kind="stable") if saved[hour] > 0]
    best, low, high = keeping, 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        chosen = np.zeros(len(cost), dtype=np.bool_)
        chosen[order[:middle]] = True
        swapped = np.repeat(chosen, _hour(task))[: len(task.work)]
        found = _schedule(task, np.where(swapped, breaking.path, keeping.path))
        if found.keeps(task):
            low = middle
            if found.outcome.replica_hours < best.outcome.replica_hours:
                best = found
        else:
            high = middle - 1
    return best


def path_at(task: Task, price: float) -> NDArray[np.int64]:
    """Ready replicas per control step of the cheapest schedule when a bad unit costs `price` replica-seconds."""
    from scaler.simulator.compiled_oracle import cheapest_path

    highest = min(task.highest, max(task.first, task.lowest, ceil(1.25 * task.work.max() / task.room) + 2))
    return np.asarray(cheapest_path(task.work, _terms(task, price, highest=highest, first=task.first)))


def _terms(task: Task, price: float, *, highest: int, first: int) -> "Terms":
    from scaler.simulator.compiled_oracle import Terms

    return Terms(
        room=task.room,
        step_seconds=task.step_seconds,
        start_cost=task.start_seconds,
        price=price,
        wait_room=task.capacity_per_second * task.queue_wait_seconds,
        lowest=task.lowest,
        highest=highest,
        first=first,
        lead_steps=_lead_steps(task),
    )


def _lead_steps(task: Task) -> int:
    return ceil(task.startup.always_seconds / task.step_seconds - 1e-9)


def _played(task: Task, ready: NDArray[np.int64]) -> Outcome:
    """The schedule in the world: each replica is ordered one start-up time before it is to be ready.

    A dip shorter than the start-up time never pays, so ordering the highest count of the next start-up time gives
    exactly the path.
    """
    lead = _lead_steps(task)
    ahead = np.concatenate([ready, np.full(lead, ready[-1])])
    orders = np.lib.stride_tricks.sliding_window_view(ahead, lead + 1).max(axis=1)
    lane = Lane(
        task.work,
        step_seconds=task.step_seconds,
        capacity_per_second=task.capacity_per_second,
        startup=task.startup,
        rng=np.random.Generator(np.random.PCG64(0)),
        ready=task.first,
    )
    if task.startup.always_same:
        _fast_forward(lane, orders)
    else:
        for count in orders.tolist():
            lane.order(count)
            lane.advance()
    return outcome_of(lane, is_rate=task.is_rate)


def _fast_forward(lane: Lane, orders: NDArray[np.int64]) -> None:
    """The lane at its end, all orders played: the same as order by order (held by a test), without the steps
    between."""
    from scaler.simulator.compiled_oracle import play_orders

    seconds = lane.startup.always_seconds
    played = play_orders(lane.work, orders, lane.capacity, lane.step_seconds, seconds, lane.ready)
    lane.rows[:], starting, lane.starts, lane.cancelled = played
    lane.step = len(orders)
    lane.starting = [(ready_at - seconds, ready_at) for ready_at in starting.tolist()]
    lane.ready, lane.queue = int(orders[-1]) - len(lane.starting), float(lane.rows[-1, 3])
