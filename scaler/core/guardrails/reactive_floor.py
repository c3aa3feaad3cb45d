"""What is happening now: thresholds and panic. They only ever raise the order."""

from datetime import datetime
from math import ceil

import numpy as np

from scaler.core import rule
from scaler.core.guardrails.base import Case, verdict
from scaler.domain.decision import GuardrailVerdict, Reason
from scaler.domain.policy import Panic, Threshold, Workload


def thresholds(case: Case, order: int) -> GuardrailVerdict:
    """At least as many replicas as bring every known signal below its threshold, counted from the ready ones."""
    floor_replicas, why = order, ""
    for threshold in case.snapshot.policy.spec.reactive.thresholds:
        needed = _needed(case, threshold)
        if needed > floor_replicas:
            value = case.snapshot.reactive[threshold.signal]
            floor_replicas, why = needed, f"{threshold.signal} {value:.3g} per replica is above {threshold.above:g}"
    return verdict("thresholds", order, floor_replicas, Reason.REACTIVE_FLOOR, why)


def threshold_hold(case: Case) -> datetime | None:
    """Until when a signal above its threshold holds scale-in: one start-up time, so that a replica that was ordered for
    it is not let go again before it served. None: no signal is, or the policy names a scale-in window of its own.
    """
    spec = case.snapshot.policy.spec
    if spec.behavior.scale_down.stabilization_window != "auto":
        return None
    above = any(_needed(case, threshold) > 0 for threshold in spec.reactive.thresholds)
    return case.snapshot.now + case.snapshot.profile.startup.p50 if above else None


def _needed(case: Case, threshold: Threshold) -> int:
    value = case.snapshot.reactive.get(threshold.signal, np.nan)
    return rule.threshold_floor(value, threshold.above, case.replicas.ready, case.bounds.max)


def panic(case: Case, order: int) -> GuardrailVerdict:
    """While demand is `factor` times what is ready carries: no scale-in, and the present is ordered."""
    if case.snapshot.policy.spec.workload is Workload.BATCH:
        return verdict("panic", order, order, Reason.UNCHANGED, "")  # nobody waits for the present to be served
    policy = case.snapshot.policy.spec.reactive.panic
    minutes, demand = minutes_of(policy), case.signals.demand_now
    if minutes > 1:
        demand = rule.highest_minute(np.array(case.snapshot.demand_lately[-minutes:], dtype=np.float64), demand)
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


def minutes_of(policy: Panic) -> int:
    """Its window in whole minutes."""
    return max(1, ceil(policy.window.total_seconds() / 60))
