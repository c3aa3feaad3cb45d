"""Demand left the forecast's band in a way chance does not explain: nothing is let go until it is understood."""

from scaler.core.guardrails.base import Case, verdict
from scaler.domain.decision import GuardrailVerdict, Reason


def surprise(case: Case, order: int) -> GuardrailVerdict:
    """No scale-in while the playing forecast is surprised."""
    choice = case.snapshot.choice
    kept = max(order, case.current) if choice is not None and choice.surprised else order
    return verdict("surprise", order, kept, Reason.SURPRISE, "demand left the forecast's band: scale-in waits")
