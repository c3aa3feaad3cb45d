"""The clairvoyant's dynamic programmes, compiled. Plain loops over arrays; the meaning is in oracle.py."""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from forecaster.kernels import kernel
from forecaster.series import FloatArray

IntArray = NDArray[np.int64]

GOLDEN = 0.6180339887498949
MOST_LEVELS, FEWEST_LEVELS, STATES = 256, 32, 5000
"""Levels of the queue: fewer where replicas are many and one of them matters less."""
LONG_LEVELS = 20
RATIO = 1.3
GIVEN_UP = 20.0
NOTHING = 1e-9
"""A queue below this is rounding of sums, not work."""


class Terms(NamedTuple):
    """What a schedule may do, and what it pays in replica-seconds.

    A ready replica serves `room` units in a step and `wait_room` within the promised wait. A start costs `start_cost`,
    a bad unit `price`. Counts are within lowest..highest; `first` stand at the start, and no more can be ready within
    the first `lead_steps`.
    """

    room: float
    step_seconds: float
    start_cost: float
    price: float
    wait_room: float
    lowest: int
    highest: int
    first: int
    lead_steps: int


@kernel(error_model="numpy")
def cheapest_path(work: FloatArray, terms: Terms) -> IntArray:
    """Ready replicas per step, shape (n_steps,), that minimise replica-seconds + start_cost per start + price per bad
    unit.

    V_t(q, n) over queues q and replicas n: from (q, m) to n costs start_cost (n - m)^+ (prefix minima make the choice
    of m linear in n), then n * step_seconds, then price * the work of the step before if the queue that it left
    exceeds what n serve in time, n * wait_room. Within the first `lead_steps` no more than `first` can be ready.
    Queues are kept on a grid: evenly up to what the highest count may leave waiting, rounded up so that nothing is
    ever served for free; beyond, where all is late anyway, in ratios. States that a shorter queue beats at no higher
    cost are skipped.
    """
    n_steps, width = len(work), terms.highest + 1
    # Arrays by names of their own: in tuples they are costly to look at, state by state.
    levels, even, top, n_even = _grid(terms)
    cost, node, reached = _unreached(len(levels), width)
    cost_after, node_after, reached_after = _unreached(len(levels), width)
    cost[0, terms.first], node[0, terms.first], reached[0] = 0.0, 0, True
    # Every state that was reached is a node that knows the one before it: a small share of all states.
    parent = np.full(64 * n_steps + 1, -1, dtype=np.int64)
    replicas = np.zeros(64 * n_steps + 1, dtype=np.int16)
    n_nodes = 1
    from_cost, from_count = np.empty(width), np.empty(width, dtype=np.int64)
    shorter = np.empty(width)
    for t in range(n_steps):
        shorter[:] = np.inf
        # Rounding in ratios goes up and down evenly over time, so that slow drains of a long queue show.
        dither = (t * GOLDEN) % 1.0
        most = terms.first if t < terms.lead_steps else terms.highest
        late_cost = terms.price * work[t - 1] if t > 0 else 0.0
        for i in range(len(levels)):
            if not reached[i]:
                continue
            queue, to_serve = levels[i], levels[i] + work[t]
            # Without a premium on queues that never end, letting all be late would undercut any price.
            premium = GIVEN_UP if i > n_even + 4 else 1.0
            _cheapest_change(cost, i, terms.start_cost, from_cost, from_count)
            for n in range(min(terms.lowest, most), most + 1):
                if from_cost[n] >= shorter[n]:
                    continue
                shorter[n] = from_cost[n]
                paid = from_cost[n] + n * terms.step_seconds
                if queue > n * terms.wait_room + NOTHING:
                    paid += late_cost * premium
                j = _level_of(to_serve - n * terms.room, even, top, n_even, dither)
                if paid < cost_after[j, n]:
                    cost_after[j, n], reached_after[j] = paid, True
                    if node_after[j, n] < 0:
                        if n_nodes == len(parent):
                            parent, replicas = _twice_as_long(parent), _twice_as_long(replicas)
                        node_after[j, n] = n_nodes
                        n_nodes += 1
                    parent[node_after[j, n]], replicas[node_after[j, n]] = node[i, from_count[n]], n
            cost[i, :], node[i, :], reached[i] = np.inf, -1, False
        cost, cost_after = cost_after, cost
        node, node_after = node_after, node
        reached, reached_after = reached_after, reached
    path: IntArray = _path_to(_cheapest_node(cost, node), parent, replicas, n_steps)
    return path


@kernel(error_model="numpy")
def _grid(terms: Terms) -> tuple[FloatArray, float, float, int]:
    """Queues that are told apart: levels (n_levels,) up from 0, evenly by a width up to the top, which is level number
    n_even, in ratios beyond: (levels, width, top, n_even)."""
    top = max(terms.highest * terms.wait_room, terms.room)
    n_even = min(MOST_LEVELS, max(FEWEST_LEVELS, STATES // (terms.highest + 1)))
    width = top / n_even
    levels = np.empty(n_even + LONG_LEVELS)
    for i in range(len(levels)):
        levels[i] = i * width if i <= n_even else levels[i - 1] * RATIO
    return levels, width, top, n_even


@numba.njit(inline="always")  # a call takes longer than the work
def _level_of(queue: float, width: float, top: float, n_even: int, dither: float) -> int:
    """The level of the grid that stands for the queue; `dither` in [0, 1) says whether ratios are rounded up or
    down."""
    if queue <= NOTHING:
        return 0
    if queue <= top:
        return int(np.ceil(queue / width - NOTHING))
    return min(n_even + int(np.log(queue / top) / np.log(RATIO) + dither), n_even + LONG_LEVELS - 1)


@kernel()
def _unreached(n_levels: int, width: int) -> tuple[FloatArray, IntArray, NDArray[np.bool_]]:
    """States of a step, queue level by replicas (n_levels, width): the least cost of getting there (inf: no way), the
    node that it was reached by (-1: none), and by level whether any was."""
    return (
        np.full((n_levels, width), np.inf),
        np.full((n_levels, width), -1, dtype=np.int64),
        np.zeros(n_levels, dtype=np.bool_),
    )


@numba.njit(inline="always")  # as `_level_of`
def _cheapest_change(cost: FloatArray, i: int, start_cost: float, from_cost: FloatArray, from_count: IntArray) -> None:
    """For each count n, all (width,): the least cost of having n by starting or letting go, and the count before."""
    value, count = np.inf, 0
    for n in range(len(from_cost)):
        value += start_cost
        if cost[i, n] < value:
            value, count = cost[i, n], n
        from_cost[n], from_count[n] = value, count
    value, count = np.inf, 0
    for n in range(len(from_cost) - 1, -1, -1):
        if cost[i, n] < value:
            value, count = cost[i, n], n
        if value < from_cost[n]:
            from_cost[n], from_count[n] = value, count


@kernel()
def _twice_as_long(values: np.ndarray) -> np.ndarray:
    return np.concatenate((values, np.empty_like(values)))


@kernel()
def _cheapest_node(cost: FloatArray, node: IntArray) -> int:
    last, value = -1, np.inf
    for i in range(cost.shape[0]):
        for n in range(cost.shape[1]):
            if cost[i, n] < value:
                last, value = node[i, n], cost[i, n]
    return last


@kernel()
def _path_to(node: int, parent: IntArray, replicas: np.ndarray, n_steps: int) -> IntArray:
    """The replicas of each step on the way to a node of the last one, (n_steps,)."""
    path = np.zeros(n_steps, dtype=np.int64)
    for t in range(n_steps - 1, -1, -1):
        path[t] = replicas[node]
        node = parent[node]
    return path


@kernel()
def play_orders(
    work: FloatArray, orders: np.ndarray, capacity: float, step_seconds: float, startup_seconds: float, ready: int
) -> tuple[FloatArray, FloatArray, int, int]:
    """(rows, ready times of what still starts, starts, starts let go before they were ready): what Lane makes of these
    orders when every start takes the same.

    `rows` has Lane.rows' columns. A test holds that both agree.
    """
    n = len(work)
    rows = np.zeros((n, 5))
    starting = np.zeros(max(1, int(orders.max())))
    n_starting, starts, cancelled, queue = 0, 0, 0, 0.0
    for t in range(n):
        now, end = t * step_seconds, (t + 1) * step_seconds
        total = ready + n_starting
        if orders[t] > total:
            for _ in range(orders[t] - total):
                starting[n_starting] = now + startup_seconds
                n_starting += 1
            starts += orders[t] - total
        elif orders[t] < total:
            kept = max(0, n_starting - (total - orders[t]))
            cancelled += n_starting - kept
            n_starting = kept
            ready = min(ready, orders[t])
        room = ready * capacity * step_seconds
        desired, became = ready + n_starting, 0
        while became < n_starting and starting[became] < end - 1e-9:
            room += max(0.0, end - starting[became]) * capacity
            became += 1
        left = queue + work[t] - room
        queue = left if left > 1e-9 else 0.0
        rows[t, 0], rows[t, 1], rows[t, 2] = desired, n_starting - became, ready + became
        rows[t, 3], rows[t, 4] = queue, room
        while became < n_starting and starting[became] <= end + 1e-9:
            became += 1
        for i in range(became, n_starting):
            starting[i - became] = starting[i]
        ready, n_starting = ready + became, n_starting - became
    return rows, starting[:n_starting].copy(), starts, cancelled


@kernel()
def optimistic_value(work: FloatArray, terms: Terms) -> tuple[float, float]:
    """(least cost, bad units at it) when the work of a step is served by its own and the next step's whole rooms.

    A programme over pairs (m, n) of neighbouring steps with whole replicas; every bad unit costs `price`. Capacity is
    credited twice, so this is never more than what any schedule of whole replicas costs.
    """
    width, room, step_seconds, start_cost = terms.highest + 1, terms.room, terms.step_seconds, terms.start_cost
    best = np.full(width, np.inf)
    bads = np.zeros(width)
    for n in range(width):
        best[n] = n * step_seconds + start_cost * max(0, n - terms.first)
    for t in range(1, len(work)):
        after = np.full(width, np.inf)
        after_bads = np.zeros(width)
        for n in range(width):
            for m in range(width):
                bad = work[t - 1] - (m + n) * room
                if bad < 0.0:
                    bad = 0.0
                cost = best[m] + start_cost * max(0, n - m) + terms.price * bad + n * step_seconds
                if cost < after[n]:
                    after[n] = cost
                    after_bads[n] = bads[m] + bad
        best, bads = after, after_bads
    n = int(np.argmin(best))
    return best[n], bads[n]
