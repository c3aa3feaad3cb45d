"""A day's budget: counted by local days, spent no further than it goes, the last of it slowly."""

from datetime import UTC, datetime, timedelta

import pytest

from scaler.core.budget import affordable, limit_replica_hours, midnight, spent
from scaler.core.decide import decide
from scaler.domain.decision import Reason
from tests.builders import NOON, a_policy, a_snapshot, some_replicas, some_signals

HOUR = timedelta(hours=1)


def policy_of(budget, **spec):
    target = {"gpusPerReplica": 2, "costPerReplicaHour": 2.5}
    return a_policy({"budget": budget, "target": target, "capacity": {"perReplica": 1.0}} | spec)


@pytest.mark.parametrize(
    ("budget", "hours"),
    [
        ({}, float("inf")),
        ({"gpuHoursPerDay": 48}, 24.0),
        ({"costPerDay": 50}, 20.0),
        ({"gpuHoursPerDay": 48, "costPerDay": 50}, 20.0),
    ],
)
def test_the_tighter_limit_holds(budget, hours):
    assert limit_replica_hours(policy_of(budget)) == hours


@pytest.mark.parametrize(
    ("what", "hours_to_midnight", "spent_hours", "least", "expected"),
    [
        ("plenty", 12.0, 0.0, 0, 24),
        ("an hour of it", 12.0, 14.0, 0, 10),
        ("the minimum of the rest is kept back", 3.0, 14.0, 1, 8),
        ("less than that is left: the minimum stands", 12.0, 20.0, 1, 1),
        ("overspent", 12.0, 30.0, 2, 2),
        ("half an hour before midnight as at any time", 0.5, 14.0, 0, 10),
    ],
)
def test_what_is_left_pays_for_an_order_for_an_hour(what, hours_to_midnight, spent_hours, least, expected):
    now = NOON.replace(hour=0) + (24 - hours_to_midnight) * HOUR
    policy = policy_of({"gpuHoursPerDay": 48}, replicas={"min": least, "max": 100})
    snapshot = a_snapshot(policy, now=now, spent_replica_hours=spent_hours)
    assert affordable(snapshot, least) == expected, what


def test_without_a_budget_there_is_nothing_to_say():
    assert affordable(a_snapshot(policy_of({})), 0) is None


def test_hours_are_counted_from_what_stood_and_begin_anew_at_midnight():
    policy, noon = policy_of({"gpuHoursPerDay": 48}), NOON.replace(hour=12)
    spend = spent(None, policy, noon, 3)
    for hours, standing, expected in ((1, 5, 3.0), (3, None, 13.0), (4, 2, 18.0), (13, 2, 2.0)):
        spend = spent(spend, policy, noon + hours * HOUR, standing)
        assert spend.replica_hours == pytest.approx(expected)


@pytest.mark.parametrize(
    ("now", "began"),
    [
        (datetime(2026, 3, 29, 12, tzinfo=UTC), datetime(2026, 3, 28, 23, tzinfo=UTC)),
        (datetime(2026, 3, 29, 22, 30, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)),
        (datetime(2026, 10, 25, 22, 30, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)),
    ],
)
def test_a_day_is_the_local_one_through_summer_time(now, began):
    policy = policy_of({"gpuHoursPerDay": 48}, forecast={"calendar": {"timezone": "Europe/Berlin"}})
    assert midnight(policy, now) == began


def decided(spent_hours, standing=10, **spec):
    policy = policy_of({"gpuHoursPerDay": 48}, replicas={"min": 1, "max": 40}, **spec)
    signals = some_signals(20.0)
    return decide(
        a_snapshot(policy, replicas=some_replicas(standing), signals=signals, spent_replica_hours=spent_hours, now=NOON)
    )


def test_an_order_beyond_the_budget_is_cut_and_says_why():
    decision = decided(spent_hours=8.0)
    assert decision.final == 5  # 24 - 8 are left at noon, and the minimum takes 11 of the hours after the next
    (verdict,) = [one for one in decision.verdicts if one.guardrail == "budget"]
    assert (verdict.changed, verdict.reason_code) == (True, Reason.BUDGET)
    assert "8.0 of the day's 24.0 replica-hours are spent" in decision.sentence()


def test_the_minimum_and_what_people_say_of_now_stand_whatever_is_left():
    launch = {"name": "launch", "cron": "0 0 * * *", "duration": "24h", "min": 6}
    assert decided(spent_hours=100.0).final == 1
    assert decided(spent_hours=100.0, overrides=[launch]).final == 6


def test_the_minimum_of_an_override_is_kept_back_for_its_own_hours_only():
    """A floor raised for an hour takes an hour of the budget, not the rest of the day; one that comes later counts."""
    now = {"name": "launch", "cron": "0 12 * * *", "duration": "1h", "min": 10}
    later = {"name": "launch", "cron": "0 20 * * *", "duration": "1h", "min": 10}
    assert decided(spent_hours=0.0, overrides=[now]).final == 13  # 24 - 11 for the hours after the next
    assert decided(spent_hours=0.0, overrides=[later]).final == 4  # one of these takes 10
