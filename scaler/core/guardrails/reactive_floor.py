"""What is happening now: thresholds and panic. They only ever raise the order."""

from math import ceil

import numpy as np

from scaler.core import rule
from scaler.core.guardrails.base import Case, verdict
from scaler.domain.decision import GuardrailVerdict, Reason
from scaler.domain.policy import Threshold


def thresholds(case: Case, order: int) -> GuardrailVerdict:
    """At least as many replicas as bring every known signal below its threshold, counted from the ready ones.

    From the ready ones and not from the ordered ones: starting replicas do not relieve a signal yet, and counting them
    doubles the order every turn until they are ready.
    """
    floor_replicas, why = order, ""
    for threshold in case.snapshot.policy.spec.reactive.thresholds:
        needed = _needed(case, threshold)
        if needed > floor_replicas:
            value = case.snapshot.reactive[threshold.signal]
            floor_replicas, why = needed, f"{threshold.signal} {value:.3g} per replica is above {threshold.above:g}"
    return verdict("thresholds", order, floor_replicas, Reason.REACTIVE_FLOOR, why)


def _needed(case: Case, threshold: Threshold) -> int:
    value = case.snapshot.reactive.get(threshold.signal, np.nan)
    if not value > threshold.above:  # NaN: not known, so it asks for nothing
        return 0
    if threshold.above == 0:
        return case.replicas.ready + 1
    # No more than the bounds allow anyway: a threshold close to zero asks for numbers beyond counting.
    return max(1, ceil(min(case.replicas.ready * value / threshold.above, case.bounds.max)))


def panic(case: Case, order: int) -> GuardrailVerdict:
    """While demand is `factor` times what is ready carries: no scale-in, and the present is ordered."""
    policy = case.snapshot.policy.spec.reactive.panic
    minutes = max(1, ceil(policy.window.total_seconds() / 60))
    demand = case.signals.demand_now
    lately = [value for value in case.snapshot.demand_lately[-minutes:] if value > demand] if minutes > 1 else []
    demand = max([demand, *lately])
    floor_replicas = rule.panic_floor(
        case.current,
        case.replicas.ready,
        demand,
        policy.factor,
        case.snapshot.profile.demand_per_replica,
        case.usable_per_replica,
    )
    why = f"demand {demand:.3g} is over {policy.factor:g} x what {case.replicas.ready} ready replicas carry"
    return verdict("panic", order, max(order, floor_replicas), Reason.PANIC, why)
