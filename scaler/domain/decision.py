"""One decision, with its reasons."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Mode


class Reason(StrEnum):
    """Stable codes for metrics, events and dashboards."""

    UNCHANGED = "Unchanged"
    STALE_METRICS = "StaleMetrics"
    STALE_FORECAST = "StaleForecast"
    CLUSTER_UNKNOWN = "ClusterUnknown"
    REACTIVE_FLOOR = "ReactiveFloor"
    PANIC = "Panic"
    TRIGGER = "Trigger"
    ROLLOUT = "Rollout"
    SURPRISE = "Surprise"
    KEPT_WARM = "KeptWarm"
    PRE_WARMED = "PreWarmed"
    STABILIZED = "Stabilized"
    RATE_LIMITED = "RateLimited"
    OVERRIDE = "Override"
    BOUNDED = "Bounded"
    BUDGET = "Budget"
    QUOTA = "Quota"
    PAUSED = "Paused"


@dataclass(frozen=True, kw_only=True)
class GuardrailVerdict:
    """What one guardrail made of the order: recorded even when nothing changed. Counts are replicas; None: not known,
    which only a hold is while the cluster is silent."""

    guardrail: str
    before: int | None
    after: int | None
    reason_code: Reason
    reason: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True, kw_only=True)
class CapacityPlan:
    """Replicas needed per minute from now on, and what must be ordered now for the binding one.

    `needed` has one entry per minute ahead and may be empty when only the lead itself is known. `demand_at_binding` is
    in the series' unit. `due` is set for a backlog with a deadline: so much of it must be done by `binding_at`.
    """

    needed: tuple[int, ...]
    order_now: int
    keep: int
    binding_at: datetime
    demand_at_binding: float
    due: float | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One explained order. `plan` is None when there was too little knowledge to plan: then `final` holds `current`.

    While the cluster is silent `ready` and `starting` are None (not known), and `current` is the last order; where no
    order is known either, every count is None and whatever stands is kept.

    `recommended` is the order before stabilisation: what later turns stabilise over. `hold_scale_in_until` carries the
    hold of a trigger or threshold to the next turns.
    """

    id: str
    decided_at: datetime
    endpoint: EndpointId
    mode: Mode
    current: int | None
    ready: int | None
    starting: int | None
    proposed: int | None
    recommended: int | None
    final: int | None
    plan: CapacityPlan | None
    verdicts: tuple[GuardrailVerdict, ...]
    why_setting: str = ""
    hold_scale_in_until: datetime | None = None

    @property
    def binding(self) -> GuardrailVerdict | None:
        """The last guardrail that changed the order: the one to name first."""
        return next((verdict for verdict in reversed(self.verdicts) if verdict.changed), None)

    def held_for_lack_of_knowledge(self) -> bool:
        return self.plan is None

    def sentence(self) -> str:
        """The decision explained in one sentence."""
        move = "keep" if self.final == self.current else f"{self.current} ->"
        order = "what stands" if self.final is None else f"{self.final} replicas"
        seen = "not known how many" if self.ready is None else f"{self.ready} ready, {self.starting} starting"
        text = f"{self.endpoint}: {move} {order} ({seen})"
        if self.plan is not None:
            expected = f"demand of {self.plan.demand_at_binding:.3g} expected"
            if self.plan.due is not None:
                expected = f"a backlog of {self.plan.due:.3g} due"
            text += f": {expected} by {self.plan.binding_at:%H:%M:%S} UTC asks for {self.plan.order_now}"
        reasons = [verdict.reason for verdict in self.verdicts if verdict.reason_code is not Reason.UNCHANGED]
        return f"{text}; {'; '.join(reasons)}" if reasons else text


class ActuationOutcome(StrEnum):
    OBSERVED = "observed"
    RECOMMENDED = "recommended"
    UNCHANGED = "unchanged"
    ORDERED = "ordered"
    CONFLICT = "conflict"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Actuation:
    """What came of an order. `detail` says why it failed or was not carried out in full; empty otherwise. `asked` is
    what the target was asked for, which its own autoscaler may bound (None: as decided)."""

    outcome: ActuationOutcome
    detail: str = ""
    asked: int | None = None
