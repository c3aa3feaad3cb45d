"""Capacity follows what replicas were seen to carry, and only where that says something."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import exp, log, nan

import hypothesis
import hypothesis.strategies as st
import pytest

from scaler.core.capacity import MOST_FACTOR, CapacityObservation, LearnedCapacity, advance, profile_of
from scaler.domain.policy import Latency, Slo
from scaler.domain.replicas import CapacityProfile, StartupLaw
from tests.builders import MINUTE, NOON, SECOND

LAW = StartupLaw(p50=150 * SECOND, p95=200 * SECOND, mean=160 * SECOND)
PRIOR = CapacityProfile(demand_per_replica=2.5, max_concurrency=16, startup=LAW)
SLO = Slo(queue_wait=10 * SECOND, latency=Latency(percentile=0.95, below=2 * SECOND))
MISSED, MET, CLOSE = 3.0, 0.5, 1.5
TYPICAL: dict[str, object] = {
    "demand": 4.0,
    "ready_replicas": 2,
    "latency_seconds": MET,
    "in_flight": 8.0,
    "queue": 0.0,
}


def a_minute(at: datetime = NOON, **more: object) -> CapacityObservation:
    return CapacityObservation(at=at, **{**TYPICAL, **more})  # type: ignore[arg-type]


def minutes(n: int, until: timedelta = timedelta(0), **more: object) -> list[CapacityObservation]:
    """The first of `n` + 1 alike only says how things stood before; the last is at noon less `until`."""
    return [a_minute(NOON - until - i * MINUTE, **more) for i in reversed(range(n + 1))]


def learned_capacity(
    prior: CapacityProfile,
    slo: Slo,
    seen: Sequence[CapacityObservation],
    previous: CapacityProfile | None = None,
) -> CapacityProfile:
    """The profile after these minutes, in the order of time."""
    state: LearnedCapacity | None = None
    for one in sorted(seen, key=lambda one: one.at):
        state = advance(state, one, prior, slo)
    return profile_of(state, prior, previous)


def down_to(carried: float) -> float:
    return exp(log(2.5) + 0.1 * log(carried / 2.5))


def up_to(carried: float) -> float:
    return exp(log(2.5) + 0.03 * log(carried / 2.5))


MOVES = {
    # label: (the minute, what was different a minute before, capacity after it); two replicas, thought to carry 5
    "idle": ({"demand": 0.0, "latency_seconds": MISSED}, {}, 2.5),
    "demand unknown": ({"demand": nan, "latency_seconds": MISSED}, {}, 2.5),
    "nothing ready": ({"ready_replicas": 0, "latency_seconds": MISSED}, {"ready_replicas": 0}, 2.5),
    "replicas changed": ({"latency_seconds": MISSED}, {"ready_replicas": 1}, 2.5),
    "kept up below capacity": ({}, {}, 2.5),
    "missed when hardly used": ({"demand": 3.0, "latency_seconds": MISSED}, {}, 2.5),
    "missed when busy": ({"latency_seconds": MISSED}, {}, down_to(2.0)),
    "missed when busy, queue unknown": ({"latency_seconds": MISSED, "queue": nan}, {"queue": nan}, down_to(2.0)),
    "steady queue, never idle": ({"queue": 60.0}, {"queue": 60.0}, down_to(2.0)),
    "queue grows though asked for less": ({"queue": 120.0}, {"queue": 60.0}, down_to(1.5)),
    "drains a backlog at full speed": ({"queue": 60.0}, {"queue": 120.0}, 2.5),
    "drains a backlog, latency missed": ({"queue": 60.0, "latency_seconds": MISSED}, {"queue": 120.0}, 2.5),
    "drains a backlog too slowly": ({"queue": 60.0}, {"queue": 72.0}, down_to(2.1)),
    "no slot free though hardly used": ({"demand": 2.0, "in_flight": 31.0}, {}, down_to(1.0)),
    "asked for more than it carries": ({"demand": 8.0, "queue": 180.0, "latency_seconds": MISSED}, {}, 2.5),
    "carried more": ({"demand": 6.0}, {}, up_to(3.0)),
    "carried more, but only just": ({"demand": 6.0, "latency_seconds": CLOSE}, {}, 2.5),
    "took more into a queue": ({"demand": 6.0, "queue": 60.0}, {}, 2.5),
    "carried more, no slot free": ({"demand": 6.0, "in_flight": 32.0}, {}, 2.5),
    "carried more, waits unknown": ({"demand": 6.0, "latency_seconds": nan, "queue": nan}, {}, 2.5),
    "carried more, in flight unknown": ({"demand": 6.0, "in_flight": nan}, {}, up_to(3.0)),
    "queue unknown before": ({"queue": 60.0}, {"queue": nan}, 2.5),
}


@pytest.mark.parametrize("label", MOVES)
def test_one_minute_moves_capacity_as_far_as_it_is_evidence(label: str) -> None:
    minute, before, expected = MOVES[label]
    seen = [a_minute(NOON - MINUTE, **before), a_minute(**minute)]
    assert learned_capacity(PRIOR, SLO, seen).demand_per_replica == pytest.approx(expected)


def test_without_evidence_the_profile_is_the_policys() -> None:
    assert learned_capacity(PRIOR, SLO, []) is PRIOR
    assert learned_capacity(PRIOR, SLO, minutes(600)) is PRIOR


def test_steady_misses_bring_capacity_to_what_was_carried_when_they_happened() -> None:
    profile = learned_capacity(PRIOR, SLO, minutes(50, latency_seconds=MISSED))
    assert profile.demand_per_replica == pytest.approx(2.003, abs=0.001)
    assert "50 too slow" in profile.measured_how
    assert profile.measured_at == NOON
    assert profile.startup == LAW


def test_after_misses_it_comes_back_when_more_is_carried_again() -> None:
    slow = minutes(50, until=timedelta(hours=10), latency_seconds=MISSED)
    fine = minutes(300, demand=5.0)
    assert learned_capacity(PRIOR, SLO, slow + fine).demand_per_replica == pytest.approx(2.5, rel=0.01)


def test_replicas_that_carry_just_what_was_thought_are_never_found_slow_or_fast() -> None:
    """A day of ramps, shortages and backlogs in a fluid queue whose replicas carry exactly 2.5 a second."""
    queue, seen = 0.0, []
    for i in range(1440):
        demand = 10.0 + 6.0 * ((i // 60) % 3) - 4.0 * ((i // 200) % 2)
        ready = 6 if i % 300 > 20 else 4
        queue = max(0.0, queue + 60 * (demand - ready * 2.5))
        latency = 0.5 + queue / (ready * 2.5)
        seen.append(
            a_minute(
                NOON - (1440 - i) * MINUTE, demand=demand, ready_replicas=ready, queue=queue, latency_seconds=latency
            )
        )
    assert max(one.queue for one in seen) > 1000
    assert learned_capacity(PRIOR, SLO, seen) is PRIOR


def test_where_the_queue_is_unknown_misses_right_after_a_shortage_do_not_count() -> None:
    unknown = {"queue": nan}
    shortage = minutes(2, until=5 * MINUTE, demand=9.0, latency_seconds=MISSED, **unknown)
    assert learned_capacity(PRIOR, SLO, shortage + minutes(3, latency_seconds=MISSED, **unknown)) is PRIOR
    later = minutes(3, until=-20 * MINUTE, latency_seconds=MISSED, **unknown)
    assert learned_capacity(PRIOR, SLO, shortage + later).demand_per_replica < 2.5


def test_a_new_version_starts_from_the_policy_again() -> None:
    slow = minutes(50, until=timedelta(hours=2), latency_seconds=MISSED, version="v1")
    assert learned_capacity(PRIOR, SLO, slow + minutes(1, version="v2")) is PRIOR
    assert learned_capacity(PRIOR, SLO, slow) is not PRIOR


def test_what_was_learned_more_than_a_week_ago_does_not_count() -> None:
    old = minutes(50, until=timedelta(days=8), latency_seconds=MISSED)
    assert learned_capacity(PRIOR, SLO, old + minutes(0, latency_seconds=MISSED)) is PRIOR


def test_another_revision_starts_from_the_policy_again_and_an_unknown_one_changes_nothing() -> None:
    slow = minutes(50, until=timedelta(hours=2), latency_seconds=MISSED, revision="7c9")
    at_zero = minutes(1, until=timedelta(hours=1), ready_replicas=0)
    assert learned_capacity(PRIOR, SLO, slow + minutes(1, revision="d41")) is PRIOR
    again = minutes(1, revision="7c9")
    after = learned_capacity(PRIOR, SLO, slow + at_zero + again)
    assert after.demand_per_replica == learned_capacity(PRIOR, SLO, slow).demand_per_replica < 2.5


def test_a_profile_that_hardly_moved_stays_the_same_value() -> None:
    before = learned_capacity(PRIOR, SLO, minutes(50, latency_seconds=MISSED))
    assert learned_capacity(PRIOR, SLO, minutes(60, latency_seconds=MISSED), before) is before
    assert learned_capacity(PRIOR, SLO, minutes(5, latency_seconds=MISSED), before) is not before
    other_law = replace(PRIOR, startup=replace(LAW, p95=300 * SECOND))
    assert learned_capacity(other_law, SLO, minutes(60, latency_seconds=MISSED), before) is not before


LEVEL = st.one_of(st.just(nan), st.floats(0, 1e4))
SEEN = st.lists(
    st.builds(
        CapacityObservation,
        at=st.integers(0, 20_000).map(lambda m: NOON - m * MINUTE),
        demand=LEVEL,
        ready_replicas=st.integers(0, 5),
        in_flight=LEVEL,
        queue=LEVEL,
        latency_seconds=LEVEL,
        version=st.sampled_from(["a", "b"]),
    ),
    max_size=60,
    unique_by=lambda one: one.at,
)


@hypothesis.given(seen=SEEN)
@hypothesis.settings(max_examples=40, deadline=None)
def test_whatever_was_seen_capacity_stays_near_the_policy_and_order_does_not_matter(
    seen: list[CapacityObservation],
) -> None:
    capacity = learned_capacity(PRIOR, SLO, seen).demand_per_replica
    rounding = 1 + 1e-9
    assert capacity / PRIOR.demand_per_replica * rounding >= 1 / MOST_FACTOR
    assert capacity / PRIOR.demand_per_replica <= MOST_FACTOR * rounding
    assert learned_capacity(PRIOR, SLO, seen[::-1]).demand_per_replica == capacity


@hypothesis.given(seen=SEEN)
@hypothesis.settings(max_examples=30, deadline=None)
def test_one_more_miss_never_raises_capacity(seen: list[CapacityObservation]) -> None:
    seen = [replace(one, version="a") for one in seen]
    last = a_minute(NOON + SECOND, latency_seconds=MISSED, version="a")
    before = learned_capacity(PRIOR, SLO, seen).demand_per_replica
    assert learned_capacity(PRIOR, SLO, [*seen, last]).demand_per_replica <= before * (1 + 1e-12)


OFF_BACKLOG = {
    # label: (the minute, what was different a minute before, capacity after it); two replicas, thought to carry 5
    "drains as thought": ({"demand": 0.0, "queue": 700.0}, {"queue": 1000.0}, 2.5),
    "drains slower": ({"demand": 0.0, "queue": 760.0}, {"queue": 1000.0}, down_to(2.0)),
    "drains faster": ({"demand": 0.0, "queue": 640.0}, {"queue": 1000.0}, up_to(3.0)),
    "some came meanwhile": ({"demand": 1.0, "queue": 820.0}, {"queue": 1000.0}, down_to(2.0)),
    "hours of backlog are no miss": ({"demand": 5.0, "queue": 9e4, "latency_seconds": MISSED}, {"queue": 9e4}, 2.5),
    "too little to keep all busy": ({"demand": 0.0, "queue": 260.0}, {"queue": 500.0}, 2.5),
    "a burst that the rate does not show yet": ({"demand": 0.0, "queue": 2000.0}, {"queue": 1000.0}, 2.5),
    "the backlog is not known": ({"demand": 4.0, "queue": nan}, {"queue": 1000.0}, 2.5),
    "one more became ready": ({"demand": 0.0, "queue": 700.0, "ready_replicas": 3}, {"queue": 1000.0}, 2.5),
}


@pytest.mark.parametrize(("minute", "before", "capacity"), OFF_BACKLOG.values(), ids=OFF_BACKLOG)
def test_off_a_backlog_replicas_show_what_they_carry_while_it_lasts(
    minute: dict[str, object], before: dict[str, object], capacity: float
) -> None:
    first = advance(None, a_minute(NOON - MINUTE, **{**minute, "ready_replicas": 2, **before}), PRIOR, SLO, True)
    after = advance(first, a_minute(**minute), PRIOR, SLO, True)
    assert after.per_replica == pytest.approx(capacity)
