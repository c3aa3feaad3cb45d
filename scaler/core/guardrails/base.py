"""The contract of a guardrail."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from scaler.core.bounds import ActiveBounds
from scaler.domain.decision import CapacityPlan, GuardrailVerdict, Reason
from scaler.domain.replicas import ReplicaState
from scaler.domain.snapshot import ControlSignals, Snapshot


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a guardrail looks at: a snapshot in which replicas and demand are known, and what was planned from it.

    `usable_per_replica` is demand one replica is planned for. `hold_scale_in_until` is None or later than now.
    """

    snapshot: Snapshot
    replicas: ReplicaState
    signals: ControlSignals
    plan: CapacityPlan
    bounds: ActiveBounds
    usable_per_replica: float
    hold_scale_in_until: datetime | None = None

    @property
    def current(self) -> int:
        return self.replicas.desired


Guardrail = Callable[[Case, int], GuardrailVerdict]
"""Pure: a case and the order so far in, a verdict with the order after it out."""


@lru_cache(maxsize=4096)  # most verdicts are this one
def unchanged(guardrail: str, order: int) -> GuardrailVerdict:
    """The verdict of a guardrail that had nothing to say."""
    return GuardrailVerdict(
        guardrail=guardrail, before=order, after=order, reason_code=Reason.UNCHANGED, reason="nothing to change"
    )


def verdict(guardrail: str, before: int, after: int, code: Reason, reason: str) -> GuardrailVerdict:
    """A verdict with a reason; `unchanged` when the order stays what it was."""
    if before == after:
        return unchanged(guardrail, before)
    return GuardrailVerdict(guardrail=guardrail, before=before, after=after, reason_code=code, reason=reason)
