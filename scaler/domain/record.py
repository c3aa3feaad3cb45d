"""One turn as one row: snapshot, decision, result. Replay, audit and the dashboard read the same rows."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from scaler.domain.decision import Actuation, ActuationOutcome, Decision
from scaler.domain.policy import Mode
from scaler.domain.snapshot import PastTurn, Snapshot

SCHEMA_VERSION = 1
"""Bump when a key changes its meaning or goes away; adding a key needs no bump."""


@dataclass(frozen=True, kw_only=True)
class DecisionRecord:
    snapshot: Snapshot
    decision: Decision
    actuation: Actuation
    schema_version: int = SCHEMA_VERSION

    def past_turn(self) -> PastTurn | None:
        """The turn as later turns look back on it: an order that was not written moved nothing. None: the turn knew of
        no replicas, so there is nothing to look back on."""
        decision = self.decision
        if decision.recommended is None or decision.current is None or decision.final is None:
            return None
        written = self.actuation.outcome in (ActuationOutcome.ORDERED, ActuationOutcome.UNCHANGED)
        asked = decision.final if self.actuation.asked is None else self.actuation.asked
        return PastTurn(
            decided_at=decision.decided_at,
            recommended=decision.recommended,
            current=decision.current,
            ordered=asked if written else decision.current,
            standing=None if self.snapshot.replicas is None else self.snapshot.replicas.standing,
            promoted=decision.mode is Mode.ENFORCE and self.snapshot.policy.spec.mode is Mode.OBSERVE,
        )

    def as_row(self) -> dict[str, Any]:
        """The record as plain JSON values: times ISO 8601, NaN and infinity null. The policy is left out."""
        snap, decision = self.snapshot, self.decision
        return {
            "schema_version": self.schema_version,
            "id": decision.id,
            "decided_at": decision.decided_at.isoformat(),
            "namespace": snap.endpoint.namespace,
            "name": snap.endpoint.name,
            "mode": decision.mode.value,
            "current": decision.current,
            "ready": decision.ready,
            "starting": decision.starting,
            "proposed": decision.proposed,
            "recommended": decision.recommended,
            "final": decision.final,
            "sentence": decision.sentence(),
            "why_setting": decision.why_setting,
            "plan": _plain(vars(decision.plan)) if decision.plan else None,
            "verdicts": [_plain(vars(verdict)) for verdict in decision.verdicts],
            "signals": _plain(vars(snap.signals)) if snap.signals else None,
            "queue": _plain(snap.queue),
            "in_flight": _plain(snap.in_flight),
            "reactive": _plain(dict(snap.reactive)),
            "spent_replica_hours": snap.spent_replica_hours,
            "setting": _plain(vars(snap.choice.setting)) if snap.choice else None,
            "idle": _plain(vars(snap.idle)) if snap.idle else None,
            "demand_per_replica": snap.profile.demand_per_replica,
            "startup_p95_seconds": snap.profile.startup.p95.total_seconds(),
            "hold_scale_in_until": decision.hold_scale_in_until.isoformat() if decision.hold_scale_in_until else None,
            "problem": snap.problem,
            "outcome": self.actuation.outcome.value,
            "detail": self.actuation.detail,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    return value
