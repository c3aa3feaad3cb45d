"""The gate from Observe to Enforce."""

from datetime import timedelta

import pytest

from scaler.core.decide import decide
from scaler.domain.policy import Mode
from scaler.domain.setting import Choice, ReplayedCost, Setting, Source
from scaler.domain.snapshot import PastTurn
from tests.builders import NOON, SECOND, a_policy, a_snapshot

GATED = a_policy({"mode": "Observe", "safety": {"promote": {"after": "3d"}}})


def evidence(hours, bad_fraction, days=3.0, demoted=""):
    lead = Setting(source=Source.LEAD_MODEL, level=0.9)
    reactive = Setting(source=Source.REACTIVE, level=1.3)
    own = ReplayedCost(setting=lead, replica_hours=hours, bad_fraction=bad_fraction, days=3.0)
    shadow = ReplayedCost(setting=reactive, replica_hours=100.0, bad_fraction=0.008, days=3.0)
    seen = timedelta(days=days)
    return Choice(setting=lead, chosen_at=NOON, replayed=own, shadow=shadow, replayed_for=seen, demoted=demoted)


@pytest.mark.parametrize(
    ("label", "choice", "mode"),
    [
        ("nothing replayed", None, Mode.OBSERVE),
        ("cheaper and within the objective", evidence(80, 0.01), Mode.ENFORCE),
        ("two days are not three", evidence(80, 0.01, days=2.0), Mode.OBSERVE),
        ("dearer", evidence(101, 0.001), Mode.OBSERVE),
        ("misses more than both", evidence(80, 0.011), Mode.OBSERVE),
        ("barred", evidence(80, 0.01, demoted="lost trust"), Mode.OBSERVE),
    ],
)
def test_the_gate(label, choice, mode):
    assert decide(a_snapshot(GATED, choice=choice)).mode is mode, label


def test_who_was_promoted_stays_acting_when_the_evidence_turns():
    before = PastTurn(decided_at=NOON - 15 * SECOND, recommended=2, current=2, ordered=2, promoted=True)
    assert decide(a_snapshot(GATED, choice=evidence(101, 0.02), recent=(before,))).mode is Mode.ENFORCE


def test_who_was_taken_back_from_enforce_observes_although_a_gate_is_named():
    before = PastTurn(decided_at=NOON - 15 * SECOND, recommended=2, current=2, ordered=2)
    assert decide(a_snapshot(GATED, choice=evidence(101, 0.02), recent=(before,))).mode is Mode.OBSERVE


def test_without_a_gate_observe_stays_observe():
    assert decide(a_snapshot(a_policy({"mode": "Observe"}), choice=evidence(80, 0.01))).mode is Mode.OBSERVE
