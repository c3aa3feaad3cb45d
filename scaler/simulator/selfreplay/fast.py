"""From policies and base rows to the compiled replay."""

from datetime import timedelta
from math import ceil, inf

import numpy as np

from forecaster.leadfeatures import trailing_max
from forecaster.series import FloatArray
from scaler.core.guardrails import hold, reactive_floor
from scaler.domain.policy import ScalingPolicy, ScalingRules, Threshold
from scaler.domain.replicas import CapacityProfile
from scaler.simulator.compiled import BoolArray, IntArray, Rules, highest_minutes, rows_that_grew
from scaler.simulator.world import CACHE_USAGE, IN_FLIGHT, QUEUE_DEPTH, counts_requests

SELECT = {"Max": 1, "Min": 0, "Disabled": -1}


def rules_of(policy: ScalingPolicy, profile: CapacityProfile, step: timedelta) -> Rules:
    """What the replay of every setting of this policy shares."""
    behavior = policy.spec.behavior
    return Rules(
        step_seconds=step.total_seconds(),
        capacity=profile.demand_per_replica,
        startup_steps=profile.startup.p50 / step,
        lead_steps=max(1, ceil(profile.startup.p95 / step)),
        wait_steps=policy.spec.slo.queue_wait / step,
        panic_factor=policy.spec.reactive.panic.factor,
        queue_above=_lowest_threshold(policy, QUEUE_DEPTH),
        busy_above=_busy_threshold(policy),
        queue_any=_any_at_zero(policy, QUEUE_DEPTH),
        busy_any=_any_at_zero(policy, CACHE_USAGE, IN_FLIGHT),
        hold_steps=ceil(profile.startup.p50 / step) if behavior.scale_down.stabilization_window == "auto" else 0,
        is_rate=policy.spec.demand.unit.is_rate,
        zero_allowed=policy.spec.scale_to_zero.enabled,
        least_unseen=1 if policy.spec.safety.missing_metrics == "Floor" else 0,
        most=policy.spec.replicas.max,
        limits_up=_limits(behavior.scale_up, step),
        select_up=SELECT[behavior.scale_up.select],
        limits_down=_limits(behavior.scale_down, step),
        select_down=SELECT[behavior.scale_down.select],
        window_up=_window(behavior.scale_up, step),
        window_down=hold.scale_in_window(behavior.scale_down, profile.startup.p50, 2) // step,
        window_last=hold.scale_in_window(behavior.scale_down, profile.startup.p50, 1) // step,
    )


def _lowest_threshold(policy: ScalingPolicy, signal: str) -> float:
    """Of several above 0 on one signal the lowest asks for the most; infinite: none."""
    return min((one.above for one in _known(policy) if one.signal == signal and one.above > 0), default=inf)


def _any_at_zero(policy: ScalingPolicy, *signals: str) -> bool:
    return any(one.above == 0 and one.signal in signals for one in _known(policy))


def _known(policy: ScalingPolicy) -> list[Threshold]:
    """The thresholds whose signals the simulated world knows."""
    knows_depth = counts_requests(policy.spec.demand.unit)
    return [one for one in policy.spec.reactive.thresholds if knows_depth or one.signal != QUEUE_DEPTH]


def _busy_threshold(policy: ScalingPolicy) -> float:
    """On the share of a replica that is in use: cache and in-flight requests are in step with it in this world."""
    slots = policy.spec.capacity.max_concurrency
    return min(_lowest_threshold(policy, CACHE_USAGE), _lowest_threshold(policy, IN_FLIGHT) / slots)


def _limits(rules: ScalingRules, step: timedelta) -> FloatArray:
    rows = [[limit.period / step, float(limit.type == "Fraction"), limit.value] for limit in rules.policies]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 3)


def _window(rules: ScalingRules, step: timedelta) -> int:
    window = rules.stabilization_window
    return int(window // step) if isinstance(window, timedelta) else 0


def triggers_of(
    policy: ScalingPolicy, values: FloatArray, first: int, last: int, step: timedelta
) -> tuple[IntArray, BoolArray]:
    """(replicas that the triggers ask for, whether one holds scale-in) at the rows first..last-1, from the bins of
    demand before each."""
    n, per_minute = last - first, bins_per_minute(step)
    least, held = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    requests = hold.requests_in_unit(policy.spec.demand.unit)
    for trigger in policy.spec.triggers:
        lasts = max(1, ceil(trigger.then.hold_scale_in_for / step))
        begin = max(0, first - lasts + 1)
        minutes, growth = hold.minutes_of(trigger), trigger.when.growth
        fired = rows_that_grew(values, begin, last, per_minute, minutes, growth, requests)
        least = np.maximum(least, fired[first - begin :] * trigger.then.at_least_replicas)
        if trigger.then.hold_scale_in_for:
            held |= trailing_max(fired.astype(np.float64), lasts)[first - begin :] > 0
    return least, held


def panic_demand(
    policy: ScalingPolicy, now: FloatArray, values: FloatArray, first: int, last: int, step: timedelta
) -> FloatArray:
    """The demand that panic looks at in the rows first..last-1: demand `now`, or a higher minute of its window."""
    minutes = reactive_floor.minutes_of(policy.spec.reactive.panic)
    if minutes == 1:
        return now
    highest: FloatArray = highest_minutes(values, first, last, bins_per_minute(step), minutes)
    return np.maximum(now, highest)


def bins_per_minute(step: timedelta) -> int:
    return max(1, round(timedelta(minutes=1) / step))
