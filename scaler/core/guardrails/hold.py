"""Scale-in that waits: a trigger's hold, a rollout, then the HPA's stabilisation windows."""

from datetime import timedelta
from math import ceil

import numpy as np

from forecaster.series import DemandUnit
from scaler.core import rule
from scaler.core.guardrails.base import Case, verdict
from scaler.domain.decision import GuardrailVerdict, Reason
from scaler.domain.fields import LONGEST_WINDOW
from scaler.domain.policy import ScalingRules, Trigger
from scaler.domain.snapshot import Snapshot


def fired(trigger: Trigger, snapshot: Snapshot) -> bool:
    """True when demand grew by the trigger's factor within its window, and by more than chance explains.

    Minutes not seen (NaN) do not fire.
    """
    window = snapshot.demand_lately[-(minutes_of(trigger) + 1) :]
    requests = requests_in_unit(snapshot.policy.spec.demand.unit)
    return rule.grew(np.array(window, dtype=np.float64), trigger.when.growth, requests)


def requests_in_unit(unit: DemandUnit) -> float:
    """Requests that a minute at demand 1 stands for; 0 where demand counts no requests."""
    return 60.0 if unit is DemandUnit.REQUESTS else 0.0


def minutes_of(trigger: Trigger) -> int:
    """Its window in whole minutes; the present one comes on top."""
    return max(1, ceil(trigger.when.within.total_seconds() / 60))


def triggers(case: Case, order: int) -> GuardrailVerdict:
    """At least what the triggers that fire ask for, and no scale-in while one of them or a threshold holds it."""
    floor_replicas, why = order, ""
    for trigger in case.snapshot.policy.spec.triggers:
        if trigger.then.at_least_replicas > floor_replicas and fired(trigger, case.snapshot):
            floor_replicas, why = trigger.then.at_least_replicas, f"trigger {trigger.name} fired"
    if case.hold_scale_in_until is not None and floor_replicas < case.current:
        floor_replicas = case.current
        why = f"a trigger or threshold holds scale-in until {case.hold_scale_in_until:%H:%M:%S} UTC"
    return verdict("triggers", order, floor_replicas, Reason.TRIGGER, why)


def rollout(case: Case, order: int) -> GuardrailVerdict:
    """No scale-in while replicas of two versions stand, unless the policy allows it."""
    holds = case.replicas.rolling_out and case.snapshot.policy.spec.rollout.hold_scale_in_during_rollout
    kept = max(order, case.current) if holds else order
    return verdict("rollout", order, kept, Reason.ROLLOUT, "replicas of two versions stand: scale-in waits")


def stabilization(case: Case, order: int) -> GuardrailVerdict:
    """HPA v2 stabilisation over earlier recommendations."""
    behavior = case.snapshot.policy.spec.behavior
    down = scale_in_window(behavior.scale_down, case.snapshot.profile.startup.p50, case.current)
    lowest = min([order, *_recommended_within(case, behavior.scale_up.stabilization_window)])
    highest = max([order, *_recommended_within(case, down)])
    stable = rule.stabilize(order, case.current, highest, lowest)
    why = f"recommendations of the stabilisation window lie between {lowest} and {highest}"
    return verdict("stabilization", order, stable, Reason.STABILIZED, why)


def scale_in_window(rules: ScalingRules, startup: timedelta, current: int) -> timedelta:
    """For how long a lower recommendation must have stood while `current` replicas stand. `auto` is a share of the
    start-up time, at most LONGEST_WINDOW, and none for the last replica: how long that one idles is the idle advice's
    to say."""
    if isinstance(rules.stabilization_window, timedelta):
        return rules.stabilization_window
    return min(rule.AUTO_WINDOW_STARTUPS * startup, LONGEST_WINDOW) if current > 1 else timedelta(0)


def _recommended_within(case: Case, window: object) -> list[int]:
    if not isinstance(window, timedelta) or not window:
        return []
    since = case.snapshot.now - window
    return [turn.recommended for turn in case.snapshot.recent if turn.decided_at >= since]
