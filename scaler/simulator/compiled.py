"""The replay of many settings at once, compiled.

The ordering rule is not written here: `scaler.core.rule`'s own functions are compiled as they stand. What is written
here is the order in which one turn of `scaler.core.decide` and its guardrails calls them, and one step of the simulated
lane; a test holds that orders equal those of the whole cycle in the simulated world.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from forecaster.kernels import kernel
from forecaster.series import FloatArray
from scaler.core import rule

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NOTHING = 1e-9
"""A queue below this is rounding of sums, not work."""


class Signals(NamedTuple):
    """What the rule reads at each step; row 0 is the first step of the block. Demand in units per second (or a level).

    arrivals (n,) work arriving in the step; now (n,), NaN: not known, so the turn holds; ahead (n_columns, n) demand
    one start-up time ahead; floors (n_guards, n) dip guards; peaks (n_peaks, n) the highest minute soon; keep, pre_warm
    (n,) idle advice; lowest, highest (n,) bounds; least (n,) replicas that triggers ask for; held (n,) whether one
    holds scale-in; panic (n,) demand that panic looks at.
    """

    arrivals: FloatArray
    now: FloatArray
    ahead: FloatArray
    floors: FloatArray
    peaks: FloatArray
    keep: BoolArray
    pre_warm: BoolArray
    lowest: IntArray
    highest: IntArray
    least: IntArray
    held: BoolArray
    panic: FloatArray


class Columns(NamedTuple):
    """Which rows of the signals each setting reads, and the share of a replica that it plans for; all (n_settings,)."""

    ahead: IntArray
    floor: IntArray
    peak: IntArray
    utilization: FloatArray


class Rules(NamedTuple):
    """What is the same for all settings. Times are in steps where they say so; `select_*`: 1 Max, 0 Min, -1 Disabled.

    `limits_*` are the behavior's policies: columns period steps, 1 for a fraction, value. `window_*` are the
    stabilisation windows in steps; `window_last` is the one down from a single replica. `is_rate`: 0 for a level, which
    has no backlog of its own. `queue_above` and `busy_above` are thresholds on what waits before each ready replica and
    on the share of its room in use, the lowest above 0 (infinite: none); `queue_any` and `busy_any`: there is one at 0,
    which asks for one more and not for the most. One that is exceeded holds scale-in for `hold_steps`. `least_unseen`
    replicas stand while demand is not known. `most`: the policy's own maximum, below which only an override's lies.
    """

    step_seconds: float
    capacity: float
    startup_steps: float
    lead_steps: int
    wait_steps: float
    panic_factor: float
    queue_above: float
    busy_above: float
    queue_any: bool
    busy_any: bool
    hold_steps: int
    is_rate: bool
    zero_allowed: bool
    least_unseen: int
    most: int
    limits_up: FloatArray
    select_up: int
    limits_down: FloatArray
    select_down: int
    window_up: int
    window_down: int
    window_last: int


class Outcomes(NamedTuple):
    """What came of each run, all (n_runs,) and added up: `cost` in replica-steps, `bad` work that waited too long,
    `starts` replicas ordered, those that were let go before they were ready included."""

    cost: FloatArray
    bad: FloatArray
    starts: FloatArray


def no_outcomes(n_runs: int) -> Outcomes:
    """Before the first step."""
    return Outcomes(np.zeros(n_runs), np.zeros(n_runs), np.zeros(n_runs))


class State(NamedTuple):
    """Where each run stands, changed in place. `starting[run, age]` replicas were ordered `age` steps ago.

    `history` (n_runs, look_back, 2): recommended and change of earlier turns, newest first (NaN: none yet).
    `waiting` (n_runs, m, 3): queue at the end, work, and room since, of the last steps whose wait is not yet known,
    newest first. `busy` is the share of the room that served in the last step; `hold` the steps for which a threshold
    still holds scale-in.
    """

    ready: IntArray
    starting: IntArray
    queue: FloatArray
    history: FloatArray
    waiting: FloatArray
    busy: FloatArray
    hold: IntArray


def new_state(n_runs: int, rules: Rules, ready: int = 0) -> State:
    """All runs with `ready` replicas, nothing starting and nothing waiting."""
    periods = np.concatenate([rules.limits_up[:, 0], rules.limits_down[:, 0]])
    look_back = max(rules.window_up, rules.window_down, rules.window_last, int(np.ceil(periods.max(initial=1.0))) - 1)
    history = np.zeros((n_runs, look_back, 2))
    history[:, :, 0] = np.nan
    return State(
        ready=np.full(n_runs, ready, dtype=np.int64),
        starting=np.zeros((n_runs, int(np.ceil(rules.startup_steps))), dtype=np.int64),
        queue=np.zeros(n_runs),
        history=history,
        waiting=np.zeros((n_runs, int(np.floor(rules.wait_steps)) + 1, 3)),
        busy=np.zeros(n_runs),
        hold=np.zeros(n_runs, dtype=np.int64),
    )


class Scratch(NamedTuple):
    """Room for one run at a time: in how many steps each replica is ready; what starts; its earlier turns."""

    in_steps: FloatArray
    starting: IntArray
    history: FloatArray


class Seen(NamedTuple):
    """What one turn reads of demand: now, one start-up time ahead, dip guard, highest minute soon, for panic."""

    now: float
    ahead: float
    floor: float
    peak: float
    panic: float


class Site(NamedTuple):
    """What serves, as the rules say; `usable` is the share of `capacity` that the setting plans for."""

    capacity: float
    usable: float
    step_seconds: float
    panic_factor: float


for _function in (
    rule.replicas_for,
    rule.backlog_after_startup,
    rule.demand_at_lead,
    rule.worth_keeping,
    rule.panic_floor,
    rule.threshold_floor,
    rule.grew,
    rule.highest_minute,
    rule.last_replica,
    rule.stabilize,
    rule.up_limit,
    rule.down_limit,
    rule.limit_step,
):
    register_jitable(_function)  # compiled where the kernels below call them; plain Python everywhere else


@kernel(rule, error_model="numpy")
def replay(
    signals: Signals,
    columns: Columns,
    plays: IntArray,
    rules: Rules,
    state: State,
    outcomes: Outcomes,
    orders: IntArray,
) -> None:
    """Every run through all steps; `state` moves on, and what came of them is added to `outcomes`.

    `plays` (n_runs,) is the setting that each run plays. That work waited longer than `wait_steps` is known
    `wait_steps` later, so some of it belongs to the steps before. `orders` (n_runs, n) gets the orders, unless it has
    no columns.
    """
    scratch = new_scratch(signals, state)
    for run in range(len(plays)):
        play_run(run, plays[run], signals, columns, rules, state, outcomes, orders, scratch)


@register_jitable
def new_scratch(signals: Signals, state: State) -> Scratch:
    """For runs through these signals from this state."""
    most = max(1, signals.highest.max() + state.ready.max() + state.starting.sum())
    starting = np.empty(state.starting.shape[1], dtype=np.int64)
    return Scratch(np.empty(most), starting, np.empty((state.history.shape[1], 2)))


@register_jitable
def play_run(
    run: int,
    setting: int,
    signals: Signals,
    columns: Columns,
    rules: Rules,
    state: State,
    outcomes: Outcomes,
    orders: IntArray,
    scratch: Scratch,
) -> None:
    """One run through all steps."""
    # Values instead of fields: tuples with arrays are costly to hand on, turn by turn.
    capacity, step_seconds, wait_steps = rules.capacity, rules.step_seconds, rules.wait_steps
    is_rate, zero_allowed, hold_steps = rules.is_rate, rules.zero_allowed, rules.hold_steps
    site = Site(capacity, capacity * columns.utilization[setting], step_seconds, rules.panic_factor)
    share_of_step = np.ceil(rules.startup_steps) - rules.startup_steps
    has_thresholds = min(rules.queue_above, rules.busy_above) < np.inf or rules.queue_any or rules.busy_any
    asks_busy = has_thresholds or zero_allowed
    ahead, floor = signals.ahead[columns.ahead[setting]], signals.floors[columns.floor[setting]]
    peak = signals.peaks[columns.peak[setting]]
    ready, queue, busy, hold = state.ready[run], state.queue[run], state.busy[run], state.hold[run]
    in_steps, starting, history = scratch
    starting[:], newest, history[:], latest = state.starting[run], 0, state.history[run], 0
    n_starting, waiting = starting.sum(), state.waiting[run]
    n_waiting = len(waiting)
    cost, bad, starts = outcomes.cost[run], outcomes.bad[run], outcomes.starts[run]
    writes_orders, look_back = orders.shape[1] > 0, len(history)
    for t in range(len(signals.now)):
        have = ready + n_starting
        recommended, order = have, have
        now = signals.now[t]
        if not np.isnan(now):
            backlog, at_lead = queue if is_rate else 0.0, 0.0
            if is_rate and (queue > 0.0 or now > ready * capacity):  # else it is 0: what serves never falls
                at_lead = _backlog_at_lead(now, rules, ready, starting, newest, queue, in_steps)
            seen = Seen(now, ahead[t], floor[t], peak[t], signals.panic[t])
            recommended = _needed(seen, site, have, ready, backlog, at_lead)
            if has_thresholds and ready > 0:
                needed = _thresholds(queue, busy, ready, rules, signals.highest[t])
                recommended = max(recommended, needed)
                hold = hold_steps if needed > 0 else hold
            if recommended == 0:
                asked, serving = now > 0.0 or queue > 0.0, busy > 0.0 and ready > 0
                none = rule.last_replica(0, have, asked, signals.keep[t] or serving, signals.pre_warm[t])
                recommended = none if zero_allowed else 1
            recommended = max(recommended, signals.least[t], have if signals.held[t] or hold > 0 else 0)
            order = recommended
            if recommended != have:
                order = _limited_order(recommended, have, rules, history, latest)
            order = min(max(order, signals.lowest[t]), signals.highest[t])
        else:
            order = max(order, rules.least_unseen, signals.lowest[t])
            # An override's: the policy's own lowers nothing while demand is unknown.
            if signals.highest[t] < rules.most:
                order = min(order, signals.highest[t])
            recommended = order
        hold = max(0, hold - 1)
        if look_back > 0:
            latest = latest - 1 if latest > 0 else look_back - 1
            history[latest, 0], history[latest, 1] = recommended, order - have
        if writes_orders:
            orders[run, t] = order
        if order > have:
            starting[newest] += order - have
            n_starting += order - have
            starts += order - have
        elif order < have:
            ready, n_starting = _let_go(ready, starting, newest, n_starting, order)
        cost += ready + n_starting
        room = ready * capacity * step_seconds
        if n_starting > 0:
            # The oldest entry becomes the newest: nothing is moved.
            newest = newest - 1 if newest > 0 else len(starting) - 1
            became = starting[newest]
            room += became * share_of_step * capacity * step_seconds
            ready += became
            n_starting -= became
            starting[newest] = 0
        asked_for = queue + signals.arrivals[t]
        left = asked_for - room
        queue = left if left > NOTHING else 0.0
        if asks_busy:
            busy = min(1.0, (asked_for - queue) / room) if room > 0.0 else 0.0
        if queue > 0.0:
            n_waiting = len(waiting) + 1
        if n_waiting > 0:  # else nothing waited in any of these steps, and nothing can be late
            bad += _late(waiting, room, wait_steps)
            waiting[0, 0], waiting[0, 1], waiting[0, 2] = queue, signals.arrivals[t], 0.0
            n_waiting -= 1
    _unroll(starting, newest, state.starting[run])
    _unroll(history, latest, state.history[run])
    state.ready[run], state.queue[run], state.busy[run], state.hold[run] = ready, queue, busy, hold
    outcomes.cost[run], outcomes.bad[run], outcomes.starts[run] = cost, bad, starts


@register_jitable
def _needed(seen: Seen, site: Site, have: int, ready: int, backlog: float, at_lead: float) -> int:
    """Replicas that demand asks for: one start-up time ahead, worth keeping until then, or for the present in panic."""
    demand = rule.demand_at_lead(seen.now, seen.ahead, seen.floor, at_lead, site.step_seconds)
    wanted = rule.replicas_for(demand, site.usable)
    present = seen.now + backlog / site.step_seconds
    keep = rule.worth_keeping(have, demand, seen.peak, present, site.usable)
    panic = rule.panic_floor(have, ready, seen.panic, site.panic_factor, site.capacity, site.usable)
    return max(wanted, keep, panic)


@register_jitable
def _unroll(ring: NDArray[Any], first: int, out: NDArray[Any]) -> None:
    """`out` is the ring from `first` on."""
    for k in range(len(ring)):
        out[k] = ring[(first + k) % len(ring)]


@register_jitable
def _backlog_at_lead(
    now: float, rules: Rules, ready: int, starting: IntArray, newest: int, queue: float, in_steps: FloatArray
) -> float:
    """What waits one start-up time from now. `starting[newest]` was ordered in this step, the entry after it one step
    before, and so on around."""
    k, n_ages = 0, len(starting)
    for age in range(n_ages - 1, -1, -1):
        for _ in range(starting[(newest + age) % n_ages]):
            in_steps[k] = rules.startup_steps - age
            k += 1
    return rule.backlog_after_startup(
        queue, now, rules.capacity, ready, in_steps[:k], rules.step_seconds, rules.lead_steps
    )


@register_jitable
def _thresholds(queue: float, busy: float, ready: int, rules: Rules, highest: int) -> int:
    """What the thresholds on the world's own signals ask for."""
    depth = queue / (ready if rules.is_rate else ready * rules.step_seconds)
    needed = max(
        rule.threshold_floor(depth, rules.queue_above, ready, highest),
        rule.threshold_floor(busy, rules.busy_above, ready, highest),
    )
    if rules.queue_any:
        needed = max(needed, rule.threshold_floor(depth, 0.0, ready, highest))
    if rules.busy_any:
        needed = max(needed, rule.threshold_floor(busy, 0.0, ready, highest))
    return needed


@register_jitable
def _limited_order(recommended: int, have: int, rules: Rules, history: FloatArray, latest: int) -> int:
    """The recommendation after stabilisation and step limits. One of no change passes both."""
    low, high = recommended, recommended
    up = rules.window_up if recommended > have else 0
    down = (rules.window_down if have > 1 else rules.window_last) if recommended < have else 0
    for k in range(max(up, down)):
        turn = history[(latest + k) % len(history), 0]
        if np.isnan(turn):  # from here on there were no turns
            break
        low, high = min(low, int(turn)), max(high, int(turn))
    order = rule.stabilize(recommended, have, high, low)
    if order > have:
        return _limited(order, have, rules.limits_up, rules.select_up, history, latest, True)
    if order < have:
        return _limited(order, have, rules.limits_down, rules.select_down, history, latest, False)
    return order


@register_jitable
def _limited(order: int, have: int, limits: FloatArray, select: int, history: FloatArray, latest: int, up: bool) -> int:
    if select < 0:
        return have
    starts = np.empty(len(limits))
    for i in range(len(limits)):
        moved = 0.0
        for k in range(int(np.ceil(limits[i, 0])) - 1):
            moved += history[(latest + k) % len(history), 1]
        starts[i] = max(0.0, have - moved)
    if up:
        allowed = rule.up_limit(have, starts, limits[:, 1], limits[:, 2], select == 1)
    else:
        allowed = rule.down_limit(have, starts, limits[:, 1], limits[:, 2], select == 1)
    return rule.limit_step(order, have, allowed, allowed)


@register_jitable
def _let_go(ready: int, starting: IntArray, newest: int, n_starting: int, order: int) -> tuple[int, int]:
    """Starting replicas go first, the newest first; then ready ones."""
    surplus = ready + n_starting - order
    for age in range(len(starting)):
        at = (newest + age) % len(starting)
        gone = min(surplus, starting[at])
        starting[at] -= gone
        n_starting -= gone
        surplus -= gone
    return ready - surplus, n_starting


@register_jitable
def _late(waiting: FloatArray, room: float, wait_steps: float) -> float:
    """Work of the step whose wait is known now, if it was too long; then the rows move on by one step with `room`.

    A step is late when what queued at its end is more than what could be served within the wait after it.
    """
    oldest = len(waiting) - 1
    part = (wait_steps - oldest) * room
    late = waiting[oldest, 1] if waiting[oldest, 0] > waiting[oldest, 2] + part + NOTHING else 0.0
    for k in range(oldest, 0, -1):
        waiting[k, 0], waiting[k, 1] = waiting[k - 1, 0], waiting[k - 1, 1]
        waiting[k, 2] = waiting[k - 1, 2] + room
    return late


@kernel()
def medians_of_minutes(minutes: FloatArray, first: int, last: int, stride: int, count: int) -> FloatArray:
    """For each row first..last-1 the median of `count` values of `minutes`, `stride` apart, up to the row itself.

    NaN values are left out; NaN where fewer than half were seen.
    """
    out = np.empty(last - first)
    sample = np.empty(count)
    for row in range(first, last):
        n = 0
        for k in range(count):
            at = row - k * stride
            if at >= 0 and not np.isnan(minutes[at]):
                sample[n] = minutes[at]
                n += 1
        out[row - first] = np.median(sample[:n]) if 2 * n >= count else np.nan
    return out


@kernel(rule, error_model="numpy")
def rows_that_grew(
    values: FloatArray, first: int, last: int, per_minute: int, minutes: int, factor: float, requests_in_unit: float
) -> BoolArray:
    """For each row first..last-1 whether demand grew by the factor within the full minutes before it: rule.grew.

    `values` are bins, `per_minute` of them a minute; a minute before the first bin was not seen.
    """
    out = np.empty(last - first, dtype=np.bool_)
    window = np.empty(minutes + 1)
    for row in range(first, last):
        _fill_minutes(window, values, row, per_minute)
        out[row - first] = rule.grew(window, factor, requests_in_unit)
    return out


@kernel(rule, error_model="numpy")
def highest_minutes(values: FloatArray, first: int, last: int, per_minute: int, minutes: int) -> FloatArray:
    """For each row first..last-1 the highest of the full minutes before it, as `rows_that_grew`; -inf: none seen."""
    out = np.empty(last - first)
    window = np.empty(minutes)
    for row in range(first, last):
        _fill_minutes(window, values, row, per_minute)
        out[row - first] = rule.highest_minute(window, -np.inf)
    return out


@register_jitable
def _fill_minutes(window: FloatArray, values: FloatArray, row: int, per_minute: int) -> None:
    """The means of the last full minutes before `row`, oldest first."""
    for k in range(len(window)):
        begin = row - (len(window) - k) * per_minute
        window[k] = values[begin : begin + per_minute].sum() / per_minute if begin >= 0 else np.nan
