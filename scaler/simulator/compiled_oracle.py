"""The clairvoyant's dynamic programmes, compiled. Plain loops over arrays; the meaning is in oracle.py."""

import numba
import numpy as np

from forecaster.series import FloatArray

GOLDEN = 0.6180339887498949
MOST_LEVELS, FEWEST_LEVELS, STATES = 256, 32, 5000
"""Levels of the queue: fewer where replicas are many and one of them matters less."""
LONG_LEVELS = 20
RATIO = 1.3
GIVEN_UP = 20.0


@numba.njit(cache=True)
def cheapest_path(
    work: FloatArray,
    room: float,
    step_seconds: float,
    start_cost: float,
    price: float,
    wait_room: float,
    lowest: int,
    highest: int,
    first: int,
    lead_steps: int,
) -> np.ndarray:
    """Ready replicas per step, shape (n_steps,), that minimise replica-seconds + start_cost per start + price per bad
    unit.

    V_t(q, n) over queues q and replicas n: from (q, m) to n costs start_cost (n - m)^+ (prefix minima make the choice
    of m linear in n), then n * step_seconds, then price * the work of the step before if the queue that it left
    exceeds what n serve in time, n * wait_room. Within the first `lead_steps` no more than `first` can be ready.
    Queues are kept on a grid: evenly up to what the highest count may leave waiting, rounded up so that nothing is
    ever served for free; beyond, where all is late anyway, in ratios. States that a shorter queue beats at no higher
    cost are skipped.
    """
    n_steps, width = len(work), highest + 1
    fine_top = max(highest * wait_room, room)
    n_fine = min(MOST_LEVELS, max(FEWEST_LEVELS, STATES // width))
    fine = fine_top / n_fine
    n_levels = n_fine + LONG_LEVELS
    grid = np.empty(n_levels)
    for i in range(n_levels):
        grid[i] = i * fine if i <= n_fine else grid[i - 1] * RATIO
    best = np.full((n_levels, width), np.inf)
    after = np.full((n_levels, width), np.inf)
    reached = np.zeros(n_levels, dtype=np.bool_)
    reached_after = np.zeros(n_levels, dtype=np.bool_)
    best[0, first] = 0.0
    reached[0] = True
    # Every state that was reached is a node that knows the one before it: a small share of all states.
    parent = np.full(64 * n_steps + 1, -1, dtype=np.int64)
    replicas = np.zeros(64 * n_steps + 1, dtype=np.int16)
    n_nodes = 1
    node = np.full((n_levels, width), -1, dtype=np.int64)
    node_after = np.full((n_levels, width), -1, dtype=np.int64)
    node[0, first] = 0
    low_value = np.empty(width)
    low_count = np.empty(width, dtype=np.int64)
    shorter = np.empty(width)
    for t in range(n_steps):
        shorter[:] = np.inf
        # Rounding in ratios goes up and down evenly over time, so that slow drains of a long queue show.
        dither = (t * GOLDEN) % 1.0
        most = first if t < lead_steps else highest
        for i in range(n_levels):
            if not reached[i]:
                continue
            value, count = np.inf, 0
            for n in range(width):
                value += start_cost
                if best[i, n] < value:
                    value, count = best[i, n], n
                low_value[n], low_count[n] = value, count
            value, count = np.inf, 0
            for n in range(width - 1, -1, -1):
                if best[i, n] < value:
                    value, count = best[i, n], n
                if value < low_value[n]:
                    low_value[n], low_count[n] = value, count
            for n in range(min(lowest, most), most + 1):
                if low_value[n] >= shorter[n]:
                    continue
                shorter[n] = low_value[n]
                left = grid[i] + work[t] - n * room
                cost = low_value[n] + n * step_seconds
                if t > 0 and work[t - 1] > 0.0 and grid[i] > n * wait_room + 1e-9:
                    # Without a premium on queues that never end, letting all be late would undercut any price.
                    cost += price * work[t - 1] * (GIVEN_UP if i > n_fine + 4 else 1.0)
                j = 0
                if left > 1e-9:
                    if left <= fine_top:
                        j = int(np.ceil(left / fine - 1e-9))
                    else:
                        j = n_fine + int(np.log(left / fine_top) / np.log(RATIO) + dither)
                        j = min(j, n_levels - 1)
                if cost < after[j, n]:
                    after[j, n] = cost
                    reached_after[j] = True
                    if node_after[j, n] < 0:
                        if n_nodes == len(parent):
                            parent = np.concatenate((parent, np.empty_like(parent)))
                            replicas = np.concatenate((replicas, np.empty_like(replicas)))
                        node_after[j, n] = n_nodes
                        n_nodes += 1
                    parent[node_after[j, n]] = node[i, low_count[n]]
                    replicas[node_after[j, n]] = n
            best[i, :] = np.inf
            node[i, :] = -1
            reached[i] = False
        best, after = after, best
        node, node_after = node_after, node
        reached, reached_after = reached_after, reached
    path = np.zeros(n_steps, dtype=np.int64)
    last, value = -1, np.inf
    for i in range(n_levels):
        for n in range(width):
            if best[i, n] < value:
                last, value = node[i, n], best[i, n]
    for t in range(n_steps - 1, -1, -1):
        path[t] = replicas[last]
        last = parent[last]
    return path


@numba.njit(cache=True)
def play_orders(
    work: FloatArray, orders: np.ndarray, capacity: float, step_seconds: float, startup_seconds: float, ready: int
) -> tuple[FloatArray, FloatArray, int]:
    """(rows, ready times of what still starts, starts): what Lane makes of these orders when every start takes the
    same.

    `rows` has Lane.rows' columns. A test holds that both agree.
    """
    n = len(work)
    rows = np.zeros((n, 5))
    starting = np.zeros(max(1, int(orders.max())))
    n_starting, starts, queue = 0, 0, 0.0
    for t in range(n):
        now, end = t * step_seconds, (t + 1) * step_seconds
        total = ready + n_starting
        if orders[t] > total:
            for _ in range(orders[t] - total):
                starting[n_starting] = now + startup_seconds
                n_starting += 1
            starts += orders[t] - total
        elif orders[t] < total:
            n_starting = max(0, n_starting - (total - orders[t]))
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
    return rows, starting[:n_starting].copy(), starts


@numba.njit(cache=True)
def optimistic_value(
    work: FloatArray, room: float, step_seconds: float, start_cost: float, price: float, highest: int, first: int
) -> tuple[float, float]:
    """(least cost, bad units at it) when the work of a step is served by its own and the next step's whole rooms.

    A programme over pairs (m, n) of neighbouring steps with whole replicas; every bad unit costs `price`. Capacity is
    credited twice, so this is never more than what any schedule of whole replicas costs.
    """
    width = highest + 1
    best = np.full(width, np.inf)
    bads = np.zeros(width)
    for n in range(width):
        best[n] = n * step_seconds + start_cost * max(0, n - first)
    for t in range(1, len(work)):
        after = np.full(width, np.inf)
        after_bads = np.zeros(width)
        for n in range(width):
            for m in range(width):
                bad = work[t - 1] - (m + n) * room
                if bad < 0.0:
                    bad = 0.0
                cost = best[m] + start_cost * max(0, n - m) + price * bad + n * step_seconds
                if cost < after[n]:
                    after[n] = cost
                    after_bads[n] = bads[m] + bad
        best, bads = after, after_bads
    n = int(np.argmin(best))
    return best[n], bads[n]
