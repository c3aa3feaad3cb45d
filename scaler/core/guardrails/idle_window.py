"""The last replica: kept warm, let go, or ordered again before the next arrival."""

from scaler.core import rule
from scaler.core.guardrails.base import Case, verdict
from scaler.domain.decision import GuardrailVerdict, Reason
from scaler.domain.policy import Workload


def idle_window(case: Case, order: int) -> GuardrailVerdict:
    """0 only where the policy allows zero, nobody asks or is known to be served still, minIdle has passed, and the
    next-arrival law agrees.

    Without a law the last replica stays: not knowing when the next request comes is no reason to let go.
    """
    snapshot, policy = case.snapshot, case.snapshot.policy.spec.scale_to_zero
    if order > 0:
        return verdict("idle-window", order, order, Reason.UNCHANGED, "")
    if not policy.enabled:
        return verdict("idle-window", order, 1, Reason.KEPT_WARM, "scale to zero is not enabled")
    serving = snapshot.in_flight > 0  # not known (NaN) is left to what else is known, as the queue is
    why_serving = f"{snapshot.in_flight:.3g} in flight: the last replica stays until they are served"
    if snapshot.policy.spec.workload is Workload.BATCH:
        # A backlog may wait: the plan says when not. What was begun is finished.
        last = rule.last_replica(order, case.current, asked_for_now=False, keep=serving, pre_warm=False)
        return verdict("idle-window", order, last, Reason.KEPT_WARM, why_serving)
    asked_for_now = case.signals.demand_now > 0 or snapshot.queue > 0
    idle = snapshot.idle
    if idle is None:
        keep, pre_warm, why = True, False, "no law of the next arrival yet"
    else:
        lately = idle.last_arrival is not None and snapshot.now - idle.last_arrival < policy.min_idle
        keep, pre_warm = lately or idle.keep or serving, policy.pre_warm and idle.pre_warm
        why = "the last request is less than minIdle ago" if lately else idle.reason
        if serving and case.current > 0 and not (lately or idle.keep):
            why = why_serving
    last = rule.last_replica(order, case.current, asked_for_now, keep, pre_warm)
    if asked_for_now:
        why = "requests are coming in"
    code = Reason.KEPT_WARM if case.current > 0 else Reason.PRE_WARMED
    return verdict("idle-window", order, last, code, why)
