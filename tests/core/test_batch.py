"""A backlog with a deadline: what waits longest decides, what can wait does, and nothing is forecast."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.core.batch import RESERVE_FRACTION, most_urgent
from scaler.core.decide import decide
from scaler.domain.decision import Reason
from tests.builders import a_policy, a_snapshot, some_replicas, some_signals

HOUR = 3600.0
STARTS_IN = 150.0
BATCH = {
    "workload": "Batch",
    "slo": {"queueWait": "1h"},
    "capacity": {"perReplica": 1.0, "utilization": {"target": 1.0}},
    "startup": {"expected": "150s"},
    "replicas": {"min": 0, "max": 50},
    "scaleToZero": {"enabled": True},
}
PLANNED = (1 - RESERVE_FRACTION) * HOUR - STARTS_IN


@pytest.mark.parametrize(
    ("what", "backlog", "arrived", "expected"),
    [
        ("nothing waits", 0.0, [100.0] * 5, (0.0, 600.0, False)),
        ("all of it came just now", 600.0, [600.0], (600.0, 600.0, False)),
        ("the newest are most", 600.0, [100.0] * 5, (600.0, 600.0, False)),
        ("the oldest ask for most", 600.0, [500.0, 0, 0, 0, 0, 0, 0, 0, 100.0], (500.0, 120.0, False)),
        ("older than anything seen", 600.0, [0.0] * 8, (600.0, 120.0, False)),
        ("not seen is taken for old", 600.0, [float("nan")] * 8, (600.0, 120.0, False)),
        ("late", 600.0, [0.0] * 11, (600.0, 30.0, True)),
    ],
)
def test_the_part_of_a_backlog_that_asks_for_most(what, backlog, arrived, expected):
    urgent = most_urgent(backlog, np.array(arrived), deadline_seconds=600.0, least_seconds=30.0)
    assert (urgent.requests, urgent.seconds_left, urgent.is_late) == expected, what


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60), st.floats(0, 1))
def test_a_steady_speed_of_what_is_most_urgent_finishes_everything_in_time(arrived, share):
    backlog = share * sum(arrived)
    urgent = most_urgent(backlog, np.array(arrived), deadline_seconds=HOUR, least_seconds=60.0)
    for age in range(len(arrived) + 1):
        older = backlog - sum(arrived[len(arrived) - age :])
        assert older <= urgent.per_second * max(HOUR - 60.0 * age, 60.0) + 1e-6


def decided(backlog, arrived=(), standing=0, **spec):
    """`arrived` are requests a minute, the newest last."""
    minutes = tuple(count / 60.0 for count in arrived)
    return decide(
        a_snapshot(
            a_policy(BATCH | spec),
            replicas=some_replicas(standing),
            signals=some_signals(minutes[-1] if minutes else 0.0),
            queue=backlog,
            demand_lately=minutes,
        )
    )


@pytest.mark.parametrize(
    ("what", "backlog", "arrived", "standing", "expected"),
    [
        ("nothing waits: nothing stands", 0.0, [0.0] * 60, 0, 0),
        ("little can wait", 0.4 * PLANNED, [0.4 * PLANNED], 0, 0),
        ("half an hour's work for one is begun", 0.6 * PLANNED, [0.6 * PLANNED], 0, 1),
        ("a bit more than one's is left to one", 1.1 * PLANNED, [1.1 * PLANNED], 1, 1),
        ("three at once", 2.9 * PLANNED, [2.9 * PLANNED], 0, 3),
        ("one request whose time is up", 1.0, [1.0, *[0.0] * 59], 0, 1),
        ("those that stand go on while they have work", 1000.0, [1000.0], 4, 4),
        ("and are let go when it runs out", 200.0, [200.0], 4, 2),
        ("and all of them at the end", 0.0, [0.0] * 60, 4, 0),
    ],
)
def test_orders_for_a_backlog(what, backlog, arrived, standing, expected):
    assert decided(backlog, arrived, standing).final == expected, what


def test_demand_far_above_what_is_ready_is_no_panic_and_says_what_is_due():
    decision = decided(PLANNED, [PLANNED], standing=1)
    assert decision.final == 1
    assert "a backlog of 3.09e+03 due by" in decision.sentence()


def test_zero_must_be_allowed_here_too():
    assert decided(0.0, [0.0] * 60, standing=1, scaleToZero={"enabled": False}).final == 1


def test_the_last_of_a_backlog_is_finished_before_the_last_replica_goes():
    done = {"replicas": some_replicas(4), "signals": some_signals(0.0), "queue": 0.0}
    finishing = decide(a_snapshot(a_policy(BATCH), in_flight=2.0, **done))
    assert finishing.final == 1 and "2 in flight" in finishing.sentence()
    assert decide(a_snapshot(a_policy(BATCH), in_flight=0.0, **done)).final == 0


def test_a_backlog_that_is_not_known_is_held():
    decision = decided(float("nan"), [60.0] * 60, standing=3)
    assert (decision.final, decision.plan) == (3, None)
    assert decision.verdicts[0].reason_code is Reason.STALE_METRICS
    assert "the backlog is not known" in decision.sentence()


def test_arrivals_that_are_not_seen_only_make_a_backlog_older():
    unseen = float("nan")
    assert decided(0.4 * PLANNED, [0.4 * PLANNED, unseen]).final == 0
    assert decided(0.4 * PLANNED, [unseen] * 60).final > 0


def test_the_deadline_says_how_far_back_arrivals_are_looked_at():
    short = decided(3000.0, [3000.0, *[0.0] * 20], slo={"queueWait": "30m"})
    long = decided(3000.0, [3000.0, *[0.0] * 20], slo={"queueWait": "3h"})
    assert (short.final, long.final) == (4, 0)
    assert short.plan.binding_at < long.plan.binding_at + timedelta(hours=1)
