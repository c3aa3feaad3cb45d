"""behavior has the HPA's semantics (Kubernetes horizontal controller, v2 behaviors)."""

import numpy as np
import pytest

# ruff: noqa: E501  (a table reads better in one line a row)
from scaler.core.decide import decide
from scaler.domain.snapshot import IdleAdvice, PastTurn
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
        ("a fraction of none bars no first replica", rules("scaleUp", ("Fraction", 1.0, "15s")), 0, 50, (), 1),
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
        ("auto takes the highest of half a start-up time", a_policy(), 9, 2, turns((75, 7, 9, 9), (90, 8, 9, 9)), 7),
    ],
)  # fmt: skip
def test_behavior(label, policy, current, demand, recent, expected):
    snapshot = a_snapshot(policy, replicas=some_replicas(current), signals=some_signals(demand), recent=recent)
    assert decide(snapshot).final == expected, label


def test_auto_leaves_the_last_replica_to_the_idle_advice():
    policy = a_policy({"scaleToZero": {"enabled": True, "minIdle": "0s"}})
    gone = IdleAdvice(last_arrival=NOON - 3600 * SECOND, keep=False, pre_warm=False, reason="idle until morning")
    last = {"replicas": some_replicas(1), "signals": some_signals(0.0), "recent": turns((15, 1, 1, 1))}
    assert decide(a_snapshot(policy, idle=gone, **last)).final == 0


def test_noise_within_the_dead_band_and_shorter_than_the_window_never_moves_the_order():
    rng = np.random.default_rng(3)
    recent: tuple[PastTurn, ...] = ()
    for _ in range(200):
        # Between the bound below which one of five goes (4.15) and the one above which a sixth comes (5.45).
        demand = rng.uniform(4.16, 5.44)
        decision = decide(
            a_snapshot(replicas=some_replicas(5), signals=some_signals(4.16, ahead=demand), recent=recent)
        )
        assert decision.final == 5
        recent = turns((15, decision.recommended, 5, 5))


def test_a_lower_order_that_stood_for_half_a_start_up_time_is_followed():
    stood = turns(*((15 * k, 3, 5, 5) for k in range(1, 6)))
    assert decide(a_snapshot(replicas=some_replicas(5), signals=some_signals(3), recent=stood)).final == 3
    fresh = turns((15, 3, 5, 5), (30, 5, 5, 5))
    assert decide(a_snapshot(replicas=some_replicas(5), signals=some_signals(3), recent=fresh)).final == 5
