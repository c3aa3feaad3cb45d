"""From Observe to Enforce on evidence.

A policy that observes and names a gate (`safety.promote`) acts as soon as replaying the endpoint's own past has shown,
over at least `after`, that the playing setting costs and misses no more than the shadow reactive policy. From then on
it stays acting: when the gate stops holding, the choice bars forecast settings (`Choice.demoted`) and the reactive
plan goes on acting, because an endpoint that nobody scales any more is worse than one that is scaled reactively. A
policy that a person takes back from Enforce to Observe was not promoted: it observes.
"""

from datetime import timedelta

from scaler.domain.policy import Mode
from scaler.domain.setting import Choice
from scaler.domain.snapshot import Snapshot


def gate_holds(choice: Choice | None, after: timedelta, objective: float) -> bool:
    """True when the replayed evidence is long enough and the playing setting is no worse than the shadow reactive one.

    No worse: not dearer, and either within the objective's budget of bad requests or missing no more than the shadow.
    """
    if choice is None or choice.replayed is None or choice.shadow is None or choice.demoted:
        return False
    own, shadow = choice.replayed, choice.shadow
    serves = own.bad_fraction <= max(1.0 - objective, shadow.bad_fraction)
    return choice.replayed_for >= after and own.replica_hours <= shadow.replica_hours and serves


def acting_mode(snapshot: Snapshot) -> Mode:
    """The mode this turn acts in: the policy's own, or Enforce once an observing policy's gate has held."""
    spec = snapshot.policy.spec
    if spec.mode is not Mode.OBSERVE or spec.safety.promote is None:
        return spec.mode
    promoted = bool(snapshot.recent) and snapshot.recent[-1].promoted
    holds = gate_holds(snapshot.choice, spec.safety.promote.after, spec.slo.objective)
    return Mode.ENFORCE if promoted or holds else Mode.OBSERVE
