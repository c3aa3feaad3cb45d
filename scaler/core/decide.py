"""One snapshot in, one explained decision out."""

from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil, isnan

import numpy as np

from scaler.core import rule
from scaler.core.batch import plan_backlog
from scaler.core.bounds import active_bounds
from scaler.core.guardrails.base import Case, verdict
from scaler.core.guardrails.bounds import within
from scaler.core.guardrails.hold import fired
from scaler.core.guardrails.reactive_floor import threshold_hold
from scaler.core.guardrails.registry import GUARDRAILS
from scaler.core.promotion import acting_mode
from scaler.domain.decision import CapacityPlan, Decision, GuardrailVerdict, Reason
from scaler.domain.policy import Workload
from scaler.domain.replicas import ReplicaState
from scaler.domain.setting import Setting, Source
from scaler.domain.snapshot import ControlSignals, Snapshot

FRESH_TURNS = 4
"""A reading older than this many turns (or than FRESH_FOR) is not the present."""
FRESH_FOR = timedelta(seconds=60)


def decide(snapshot: Snapshot) -> Decision:
    """The order for this turn, with the plan it came from and a verdict of every guardrail.

    Where demand or replicas are not known nothing is planned and `plan` is None: the order is what the target asks for.
    """
    if snapshot.replicas is None:
        return _held_blind(snapshot)
    stale = _why_stale(snapshot)
    if snapshot.signals is None or stale:
        return _hold(snapshot, snapshot.replicas, stale)
    return _planned(snapshot, snapshot.replicas, snapshot.signals)


def playing_setting(snapshot: Snapshot) -> Setting:
    """The setting that plays: the replayed choice, else demand now at the policy's target utilisation."""
    if snapshot.choice is not None:
        return snapshot.choice.setting
    target = snapshot.policy.spec.capacity.utilization.target
    return Setting(source=Source.REACTIVE, level=1.0, utilization_fraction=target)


def _planned(snapshot: Snapshot, replicas: ReplicaState, signals: ControlSignals) -> Decision:
    signals, freshness = _without_stale_forecast(snapshot, signals)
    usable = snapshot.profile.demand_per_replica * playing_setting(snapshot).utilization_fraction
    if snapshot.policy.spec.workload is Workload.BATCH:
        plan = plan_backlog(snapshot, replicas, usable)
    else:
        plan = _plan(snapshot, replicas, signals, usable)
    case = Case(
        snapshot=snapshot,
        replicas=replicas,
        signals=signals,
        plan=plan,
        bounds=active_bounds(snapshot.policy, snapshot.now),
        usable_per_replica=usable,
        hold_scale_in_until=_hold_scale_in_until(snapshot),
    )
    holds = [until for until in (case.hold_scale_in_until, threshold_hold(case)) if until is not None]
    case = replace(case, hold_scale_in_until=max(holds, default=None))
    proposed = max(plan.order_now, plan.keep)
    order, recommended = proposed, proposed
    verdicts = [*freshness]
    if proposed < case.current and not _is_fresh(snapshot, signals):
        order, why = case.current, "nothing is let go while the present is not known"
        verdicts.append(verdict("freshness", proposed, order, Reason.STALE_METRICS, why))
    for name, guardrail in GUARDRAILS.items():
        if name == "stabilization":
            recommended = order
        said = guardrail(case, order)
        verdicts.append(said)
        order = order if said.after is None else said.after
    return _decision(snapshot, replicas, proposed, recommended, order, plan, tuple(verdicts), case.hold_scale_in_until)


def _plan(snapshot: Snapshot, replicas: ReplicaState, signals: ControlSignals, usable: float) -> CapacityPlan:
    """What must be ordered now for one start-up time ahead, and what of the present is worth keeping."""
    profile, turn_seconds = snapshot.profile, snapshot.turn.total_seconds()
    is_rate = snapshot.policy.spec.demand.unit.is_rate
    # A level (concurrency) already counts who waits; a queue that is not known is left to the reactive floor.
    backlog = snapshot.queue if is_rate and not isnan(snapshot.queue) else 0.0
    lead_steps = max(1, ceil(profile.startup.p95 / snapshot.turn))
    at_lead = 0.0
    if is_rate:
        at_lead = rule.backlog_after_startup(
            backlog,
            signals.demand_now,
            profile.demand_per_replica,
            replicas.ready,
            _ready_in_steps(snapshot, replicas),
            turn_seconds,
            lead_steps,
        )
    demand = rule.demand_at_lead(signals.demand_now, signals.demand_ahead, signals.dip_floor, at_lead, turn_seconds)
    present = signals.demand_now + backlog / turn_seconds
    return CapacityPlan(
        needed=tuple(rule.replicas_for(demand, usable) for demand in signals.ahead),
        order_now=rule.replicas_for(demand, usable),
        keep=rule.worth_keeping(replicas.desired, demand, signals.peak_soon, present, usable),
        binding_at=snapshot.now + profile.startup.p95,
        demand_at_binding=demand,
    )


def _ready_in_steps(snapshot: Snapshot, replicas: ReplicaState) -> "np.typing.NDArray[np.float64]":
    """Turns until each starting replica is expected to serve, ascending. One that is late is expected next turn.

    No more than the ready ones lack: a rolling update starts replicas that take others' places and add nothing. Which
    these are cannot be told, so the ones that come last are counted.
    """
    expected = snapshot.profile.startup.p50
    adding = max(0, replicas.desired - replicas.ready)
    coming = replicas.starting[max(0, len(replicas.starting) - adding) :]
    left = [max((ordered_at + expected - snapshot.now) / snapshot.turn, 0.0) for ordered_at in coming]
    return np.array(sorted(left), dtype=np.float64)


def _without_stale_forecast(
    snapshot: Snapshot, signals: ControlSignals
) -> tuple[ControlSignals, list[GuardrailVerdict]]:
    """The signals as they are, or with the shadow reactive policy's demand in place of a forecast that is too old."""
    issued_at, limit = signals.forecast_issued_at, snapshot.policy.spec.safety.max_forecast_age
    if issued_at is None or snapshot.now - issued_at <= limit or isnan(signals.baseline_ahead):
        return signals, []
    reactive = ControlSignals(
        read_at=signals.read_at,
        demand_now=signals.demand_now,
        demand_ahead=signals.baseline_ahead,
        dip_floor=signals.dip_floor,
        peak_soon=max(signals.peak_soon, signals.demand_now),
    )
    reason = f"the forecast is from {issued_at:%H:%M:%S} UTC, older than maxForecastAge: planned from demand now"
    usable = snapshot.profile.demand_per_replica * playing_setting(snapshot).utilization_fraction
    before = rule.replicas_for(signals.demand_ahead, usable)
    after = rule.replicas_for(signals.baseline_ahead, usable)
    return reactive, [
        GuardrailVerdict(
            guardrail="freshness", before=before, after=after, reason_code=Reason.STALE_FORECAST, reason=reason
        )
    ]


def _why_stale(snapshot: Snapshot) -> str:
    """Why the reading cannot be planned from; "" when it can."""
    signals, is_batch = snapshot.signals, snapshot.policy.spec.workload is Workload.BATCH
    # Of a backlog that is known, arrivals tell only how long it has waited: not seen, it is taken for older.
    if signals is None or (not is_batch and (isnan(signals.demand_now) or isnan(signals.demand_ahead))):
        return snapshot.problem or "demand is not known"
    if is_batch and isnan(snapshot.queue):
        return snapshot.problem or "the backlog is not known: nothing fresh of the preset's queue"
    if _is_fresh(snapshot, signals):
        return ""
    age, safety = snapshot.now - signals.read_at, snapshot.policy.spec.safety
    if safety.missing_metrics == "LastGood" and age <= safety.max_forecast_age:
        return ""
    return snapshot.problem or f"the last reading of demand is {age.total_seconds():.0f} s old"


def _is_fresh(snapshot: Snapshot, signals: ControlSignals) -> bool:
    return snapshot.now - signals.read_at <= max(FRESH_FOR, FRESH_TURNS * snapshot.turn)


def _held_blind(snapshot: Snapshot) -> Decision:
    """Keep what stands. All that is known of it while the cluster is silent is the last order, if there was one."""
    order = snapshot.recent[-1].ordered if snapshot.recent else None
    held = GuardrailVerdict(
        guardrail="freshness",
        before=order,
        after=order,
        reason_code=Reason.CLUSTER_UNKNOWN,
        reason=f"held: {snapshot.problem or 'the cluster did not answer'}",
    )
    return _decision(snapshot, None, order, order, order, None, (held,), _hold_scale_in_until(snapshot))


def _hold(snapshot: Snapshot, replicas: ReplicaState, why: str) -> Decision:
    """Keep what the target asks for; missingMetrics: Floor keeps at least one replica standing as well. The minimum and
    active overrides hold all the same: they are a person's word for just such an hour."""
    kept, safety = replicas.desired, snapshot.policy.spec.safety
    if safety.missing_metrics == "Floor" and not safety.paused:
        kept = max(kept, 1)
    held = GuardrailVerdict(
        guardrail="freshness",
        before=replicas.desired,
        after=kept,
        reason_code=Reason.STALE_METRICS,
        reason=f"held: {why}",
    )
    hold_until = _hold_scale_in_until(snapshot)
    if safety.paused:
        return _decision(snapshot, replicas, replicas.desired, kept, kept, None, (held,), hold_until)
    active = active_bounds(snapshot.policy, snapshot.now)
    if active.max >= snapshot.policy.spec.replicas.max:
        # Only an override lowers what stands while demand is unknown.
        active = replace(active, max=max(active.max, kept))
    order, verdicts = active.clip(kept), (held, within(active, kept))
    return _decision(snapshot, replicas, replicas.desired, order, order, None, verdicts, hold_until)


def _hold_scale_in_until(snapshot: Snapshot) -> datetime | None:
    """The latest hold of the triggers that fire now and of one that fired before; None when none lasts."""
    ends = [
        snapshot.now + trigger.then.hold_scale_in_for
        for trigger in snapshot.policy.spec.triggers
        if trigger.then.hold_scale_in_for and fired(trigger, snapshot)
    ]
    if snapshot.held_in_until is not None and snapshot.held_in_until > snapshot.now:
        ends.append(snapshot.held_in_until)
    return max(ends, default=None)


def _decision(
    snapshot: Snapshot,
    replicas: ReplicaState | None,
    proposed: int | None,
    recommended: int | None,
    final: int | None,
    plan: CapacityPlan | None,
    verdicts: tuple[GuardrailVerdict, ...],
    hold_until: datetime | None,
) -> Decision:
    return Decision(
        id=f"{snapshot.endpoint}@{snapshot.now.isoformat()}",
        decided_at=snapshot.now,
        endpoint=snapshot.endpoint,
        mode=acting_mode(snapshot),
        current=final if replicas is None else replicas.desired,
        ready=None if replicas is None else replicas.ready,
        starting=None if replicas is None else len(replicas.starting),
        proposed=proposed,
        recommended=recommended,
        final=final,
        plan=plan,
        verdicts=verdicts,
        why_setting=snapshot.choice.why() if snapshot.choice is not None else "",
        hold_scale_in_until=hold_until,
    )
