"""How fast the order may move: the HPA v2 scaling policies."""

from datetime import timedelta

import numpy as np

from forecaster.series import FloatArray
from scaler.core import rule
from scaler.core.guardrails.base import Case, unchanged, verdict
from scaler.domain.decision import GuardrailVerdict, Reason
from scaler.domain.policy import ScalingRules


def step_limits(case: Case, order: int) -> GuardrailVerdict:
    """The order moved no further than `behavior` allows from what stood when each policy's period began."""
    if order == case.current:
        return unchanged("step-limits", order)
    rules = (
        case.snapshot.policy.spec.behavior.scale_up
        if order > case.current
        else case.snapshot.policy.spec.behavior.scale_down
    )
    if rules.select == "Disabled":
        return verdict("step-limits", order, case.current, Reason.RATE_LIMITED, "the policy disables this direction")
    is_fraction, values = rates(rules)
    starts = np.array([_period_start(case, limit.period) for limit in rules.policies], dtype=np.float64)
    limit = rule.up_limit if order > case.current else rule.down_limit
    allowed = limit(case.current, starts, is_fraction, values, rules.select == "Max")
    limited = rule.limit_step(order, case.current, allowed, allowed)
    return verdict("step-limits", order, limited, Reason.RATE_LIMITED, f"behavior allows {allowed} for now")


def rates(rules: ScalingRules) -> tuple[FloatArray, FloatArray]:
    """(1 where a policy is a fraction, its value), one entry per policy."""
    is_fraction = np.array([1.0 if limit.type == "Fraction" else 0.0 for limit in rules.policies])
    return is_fraction, np.array([limit.value for limit in rules.policies])


def _period_start(case: Case, period: timedelta) -> int:
    """Replicas when the period began: what stands less what our own turns since then changed (HPA v2)."""
    since = case.snapshot.now - period
    moved = sum(turn.ordered - turn.current for turn in case.snapshot.recent if turn.decided_at > since)
    return max(0, case.current - moved)
