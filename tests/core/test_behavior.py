"""behavior has the HPA's semantics (Kubernetes horizontal controller, v2 behaviors)."""

import pytest

# ruff: noqa: E501  (a table reads better in one line a row)
from scaler.core.decide import decide
from scaler.domain.snapshot import PastTurn
from tests.builders import NOON, SECOND, a_policy, a_snapshot, some_replicas, some_signals


def turns(*rows):
    """(age in seconds, recommended, current, ordered), any order."""
    made = [
        PastTurn(decided_at=NOON - age * SECOND, recommended=recommended, current=current, ordered=ordered)
        for age, recommended, current, ordered in rows
    ]
    return tuple(sorted(made, key=lambda turn: turn.decided_at))


def rules(direction, *policies, window="0s", select="Max"):
    listed = [{"type": kind, "value": value, "period": period} for kind, value, period in policies]
    return a_policy({"behavior": {direction: {"stabilizationWindow": window, "policies": listed, "select": select}}})


@pytest.mark.parametrize(
    ("label", "policy", "current", "demand", "recent", "expected"),
    [
        ("the larger of +100 % and +4 by default", a_policy(), 3, 50, (), 7),
        ("doubling wins once there are many", a_policy(), 10, 50, (), 20),
        ("zero doubles to zero, so +4 it is", a_policy(), 0, 50, (), 4),
        ("Min takes the smaller", rules("scaleUp", ("Fraction", 1.0, "15s"), ("Replicas", 4, "15s"), select="Min"), 10, 50, (), 14),
        ("Disabled stays", rules("scaleUp", ("Replicas", 4, "15s"), select="Disabled"), 3, 50, (), 3),
        ("what this period added already counts", rules("scaleUp", ("Replicas", 4, "60s")), 5, 50, turns((30, 5, 2, 5)), 6),
        ("what is older than the period does not", rules("scaleUp", ("Replicas", 4, "60s")), 5, 50, turns((60, 5, 2, 5)), 9),
        ("the whole fleet may go at once by default", a_policy(), 50, 1, (), 1),
        ("ten per cent of 25 a minute, rounded down", rules("scaleDown", ("Fraction", 0.1, "60s")), 25, 1, (), 22),
        ("two a minute, of which one is spent", rules("scaleDown", ("Replicas", 2, "60s")), 9, 1, turns((30, 9, 10, 9)), 8),
        ("up stabilisation takes the lowest lately", rules("scaleUp", ("Replicas", 99, "15s"), window="60s"), 2, 9,
         turns((60, 5, 2, 2), (75, 3, 2, 2)), 5),
        ("down stabilisation takes the highest lately", rules("scaleDown", ("Fraction", 1.0, "15s"), window="300s"), 9, 2,
         turns((300, 7, 9, 9), (315, 8, 9, 9)), 7),
    ],
)  # fmt: skip
def test_behavior(label, policy, current, demand, recent, expected):
    snapshot = a_snapshot(policy, replicas=some_replicas(current), signals=some_signals(demand), recent=recent)
    assert decide(snapshot).final == expected, label
