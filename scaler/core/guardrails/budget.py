"""The day's budget: a cap that comes near slowly."""

from scaler.core.budget import affordable, limit_replica_hours
from scaler.core.guardrails.base import Case, unchanged, verdict
from scaler.domain.decision import GuardrailVerdict, Reason


def budget(case: Case, order: int) -> GuardrailVerdict:
    """No more than what is left of the day's budget pays for; the bounds' minimum stands whatever is left."""
    most = affordable(case.snapshot, case.bounds.min)
    if most is None:
        return unchanged("budget", order)
    spent, limit = case.snapshot.spent_replica_hours, limit_replica_hours(case.snapshot.policy)
    kept = ", with the minimum to midnight" if case.snapshot.policy.spec.replicas.min else ""
    why = (
        f"{spent:.1f} of the day's {limit:.1f} replica-hours are spent: what is left pays for {most} for an hour{kept}"
    )
    return verdict("budget", order, min(order, most), Reason.BUDGET, why)
