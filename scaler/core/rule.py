"""The ordering rule, once: plain functions on numbers and arrays.

`decide` calls them for one step; the fast replay compiles these same functions and calls them for many. They therefore
keep to what a compiler for numerical Python understands: scalars, arrays, loops.

Source: the replay-chosen rule, measured on recorded busy endpoints (docs/decisions/0008-choose-by-replaying.md).
"""

from math import ceil, floor, inf, nan, sqrt

import numpy as np

from forecaster.series import FloatArray

SLACK_REPLICAS = 0.45
"""A need of 4.45 replicas is served by 4: the queue wait that the SLO allows absorbs the rest."""
KEEP_SLACK_REPLICAS = 0.15
"""Five that stand are kept down to a need of 4.15: one bound for both ways would order and let go at every crossing."""
AUTO_WINDOW_STARTUPS = 0.5
"""scaleDown.stabilizationWindow: auto, in start-up times: a lower order must have stood for so long."""
FIRST_REPLICA_SLACK = 0.05
"""The first replica has no queue to lean on: nobody is served before it is ready."""
CHANCE = 4.0
"""Standard deviations that a Poisson count is looked at for growth: thousands of times a day, by many endpoints."""
ROUNDING = 1e-6
"""A signal above its threshold by less is rounding of sums, not load."""
PEAK_WINDOW_MINUTES = 4
PEAK_LEVEL = 0.9
DIP_FRACTION = 0.25
"""Demand below this share of its recent median is taken for a broken signal or a pause that comes back in full."""
DIP_RETURN_FACTOR = 1.05


def backlog_after_startup(
    backlog: float,
    demand_per_second: float,
    capacity_per_second: float,
    ready: int,
    ready_in_steps: FloatArray,
    step_seconds: float,
    lead_steps: int,
) -> float:
    """Requests still waiting one start-up time from now if demand stays as it is and nothing more is ordered.

    `ready_in_steps` (n_starting,) ascending: steps until each starting replica serves. Fluid: a step adds
    (demand - capacity) * step_seconds, never below 0. Example: backlog 100, demand 10/s, two ready replicas of 4/s, one
    more in 2 steps of 15 s: 100 -> 130 -> 160 -> 130.
    """
    serving = ready
    arrived = 0
    for step in range(lead_steps):
        while arrived < len(ready_in_steps) and ready_in_steps[arrived] <= step:
            serving += 1
            arrived += 1
        backlog = max(0.0, backlog + (demand_per_second - serving * capacity_per_second) * step_seconds)
    return backlog


def replicas_for(demand_per_second: float, usable_per_replica: float, slack: float = SLACK_REPLICAS) -> int:
    """The smallest count that carries the demand, less the slack: a need of 4.4 takes 4, of 0.4 one, of 0.05 none."""
    need = demand_per_second / usable_per_replica
    if need <= FIRST_REPLICA_SLACK:
        return 0
    return max(1, ceil(need - slack))


def demand_at_lead(
    demand_now: float, demand_ahead: float, dip_floor: float, backlog_at_lead: float, drain_seconds: float
) -> float:
    """Demand that must be served one start-up time from now: the highest of the three, plus draining the queue."""
    return max(demand_now, max(demand_ahead, dip_floor)) + backlog_at_lead / drain_seconds


def worth_keeping(have: int, demand: float, peak_soon: float, present: float, usable_per_replica: float) -> int:
    """How many of `have` are not let go, with less slack than an order has: what the `demand` that is ordered for, the
    next minutes or the present need.

    Example: five stand for a need of 4.2: an order would be for 4, but all five are kept; at 4.1 one goes.
    """
    return min(have, replicas_for(max(demand, max(peak_soon, present)), usable_per_replica, KEEP_SLACK_REPLICAS))


def up_limit(
    current: int, period_starts: FloatArray, is_fraction: FloatArray, values: FloatArray, take_max: bool
) -> int:
    """The most replicas that the scale-up policies allow now (Kubernetes HPA v2,
    calculateScaleUpLimitWithScalingRules).

    One entry per policy: `period_starts` is the replica count when its period began. Never below `current`, and a
    fraction of none bars no first replica (which the HPA leaves to others). Example: 10 replicas a period ago, +100 %
    and +4, the larger: 20.
    """
    best = -1.0
    for i in range(len(period_starts)):
        start = period_starts[i]
        allowed = max(1.0, ceil(start * (1.0 + values[i]))) if is_fraction[i] > 0 else start + values[i]
        if best < 0 or (take_max and allowed > best) or (not take_max and allowed < best):
            best = allowed
    return max(current, int(best)) if best >= 0 else current


def down_limit(
    current: int, period_starts: FloatArray, is_fraction: FloatArray, values: FloatArray, take_max: bool
) -> int:
    """The fewest replicas that the scale-down policies allow now (HPA v2, calculateScaleDownLimitWithBehaviors).

    `take_max` picks the policy that allows the greatest change. Never above `current`, never below 0.
    """
    best = -1.0
    for i in range(len(period_starts)):
        if is_fraction[i] > 0:
            allowed = float(floor(period_starts[i] * (1.0 - values[i])))
        else:
            allowed = max(0.0, period_starts[i] - values[i])
        if best < 0 or (take_max and allowed < best) or (not take_max and allowed > best):
            best = allowed
    return min(current, int(best)) if best >= 0 else current


def limit_step(wanted: int, current: int, highest: int, lowest: int) -> int:
    """`wanted`, moved from `current` no further than the limits allow."""
    if wanted > current:
        return min(wanted, highest)
    return max(wanted, lowest)


def stabilize(wanted: int, current: int, highest_lately: int, lowest_lately: int) -> int:
    """HPA v2 stabilisation: up to no more than the lowest recent recommendation, down to no less than the highest.

    The two extremes are over the up window and the down window and include `wanted` itself.
    """
    if wanted > current:
        return max(current, min(wanted, lowest_lately))
    return min(current, max(wanted, highest_lately))


def dip_floor(demand_now: float, median_lately: float) -> float:
    """What to plan for when demand fell below a quarter of its recent median: 1.05 times that median; else 0."""
    if np.isnan(median_lately) or demand_now >= DIP_FRACTION * median_lately:
        return 0.0
    return DIP_RETURN_FACTOR * median_lately


def panic_floor(
    current: int,
    ready: int,
    demand_now: float,
    panic_factor: float,
    capacity_per_second: float,
    usable_per_replica: float,
) -> int:
    """What panic asks for: nothing is let go, and the present is ordered; 0 when there is no panic.

    Panic: demand is more than `panic_factor` times what the ready replicas carry (after Knative's panic mode). With
    none ready any demand is panic.
    """
    if demand_now <= panic_factor * ready * capacity_per_second:
        return 0
    return max(current, replicas_for(demand_now, usable_per_replica))


def threshold_floor(value: float, above: float, ready: int, most: int) -> int:
    """Replicas that bring a signal of `value` per ready replica below its threshold; 0 where it is (or is not known).

    Counted from the ready ones and not from the ordered ones: starting replicas do not relieve a signal yet, and
    counting them doubles the order every turn until they are ready. `most`: no more than the bounds allow anyway, as a
    threshold close to zero asks for numbers beyond counting. Example: 12 waiting at each of 2, above 5: ceil(24 / 5).
    """
    if not value > above + ROUNDING:
        return 0
    if above == 0:
        return ready + 1
    return max(1, ceil(min(ready * value / above, most) - ROUNDING))


def grew(minutes: FloatArray, factor: float, requests_in_unit: float) -> bool:
    """True when the last of these minutes of demand is `factor` times the least before it; NaN (not seen) is left out.

    `requests_in_unit` is how many requests one unit of a minute's demand stands for (0: not known). Where it is known,
    growth that counting noise explains is none: it must be CHANCE times the root of the last minute's requests.
    Example: 10, NaN, 8, 24 grew threefold; 8 requests and then 24 may be chance, 80 and 240 are not.
    """
    least, last = inf, nan
    for value in minutes:
        if not np.isnan(value):
            if not np.isnan(last):
                least = min(least, last)
            last = value
    if not (last > 0 and least < inf and last >= factor * least):
        return False
    return bool((last - least) * requests_in_unit >= CHANCE * sqrt(last * requests_in_unit))


def highest_minute(minutes: FloatArray, demand_now: float) -> float:
    """The highest of demand now and these minutes of it; NaN (not seen) is left out."""
    highest = demand_now
    for value in minutes:
        if value > highest:
            highest = value
    return highest


def last_replica(wanted: int, current: int, asked_for_now: bool, keep: bool, pre_warm: bool) -> int:
    """0 or 1 for an order that the plan would take to zero; `wanted` when it is more.

    `asked_for_now`: somebody waits or asks, so one must come. `keep` and `pre_warm` are the idle advice for one that
    stands and for none.
    """
    if wanted > 0:
        return wanted
    if asked_for_now:
        return 1
    return 1 if (keep if current > 0 else pre_warm) else 0
