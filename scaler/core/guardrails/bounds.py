"""min..max of the policy and its active overrides, and the freeze."""

from scaler.core.bounds import ActiveBounds
from scaler.core.guardrails.base import Case, verdict
from scaler.domain.decision import GuardrailVerdict, Reason


def bounds(case: Case, order: int) -> GuardrailVerdict:
    """The order within the active bounds."""
    return within(case.bounds, order)


def within(active: ActiveBounds, order: int) -> GuardrailVerdict:
    """The verdict on an order, as it is clipped."""
    after = active.clip(order)
    names = ", ".join(active.names)
    code = Reason.OVERRIDE if names else Reason.BOUNDED
    reason = f"bounds are {active.min}..{active.max}" + (f" (active: {names})" if names else "")
    return verdict("bounds", order, after, code, reason)


def paused(case: Case, order: int) -> GuardrailVerdict:
    """A paused policy keeps what the target asks for, whatever else is said."""
    after = case.current if case.snapshot.policy.spec.safety.paused else order
    return verdict("paused", order, after, Reason.PAUSED, f"the policy is paused: {order} would have been ordered")
