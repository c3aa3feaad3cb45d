"""Capacity follows what replicas were seen to carry, and only where that says something."""

from dataclasses import replace
from datetime import timedelta
from math import exp, log, nan

import hypothesis
import hypothesis.strategies as st
import pytest

from scaler.core.capacity import MOST_FACTOR, CapacityObservation, learned_capacity
from scaler.domain.policy import Latency, Slo
from scaler.domain.replicas import CapacityProfile, StartupLaw
from tests.builders import MINUTE, NOON, SECOND

LAW = StartupLaw(p50=150 * SECOND, p95=200 * SECOND, mean=160 * SECOND)
PRIOR = CapacityProfile(demand_per_replica=2.5, max_concurrency=16, startup=LAW)
SLO = Slo(queue_wait=10 * SECOND, latency=Latency(percentile=0.95, below=2 * SECOND))
MISSED, MET, CLOSE = 3.0, 0.5, 1.5


def minutes(n: int = 1, until: timedelta = timedelta(0), **more: object) -> list[CapacityObservation]:
    """`n` minutes alike, the last one at noon less `until`; two replicas."""
    values: dict[str, object] = {
        "demand": 4.0,
        "ready_replicas": 2,
        "latency_seconds": MET,
        "in_flight": 8.0,
        "queue": 0.0,
    }
    return [
        CapacityObservation(at=NOON - until - i * MINUTE, **{**values, **more})  # type: ignore[arg-type]
        for i in reversed(range(n))
    ]


MOVES = {
    # label: (what was seen for a minute, the capacity after it)
    "idle": ({"demand": 0.0, "latency_seconds": MISSED}, 2.5),
    "demand unknown": ({"demand": nan, "latency_seconds": MISSED}, 2.5),
    "nothing ready": ({"ready_replicas": 0, "latency_seconds": MISSED}, 2.5),
    "kept up below capacity": ({"demand": 4.0}, 2.5),
    "missed when hardly used": ({"demand": 3.0, "latency_seconds": MISSED}, 2.5),
    "missed when busy": ({"demand": 4.0, "latency_seconds": MISSED}, exp(log(2.5) + 0.1 * log(2.0 / 2.5))),
    "waited when busy": ({"demand": 4.0, "queue": 60.0}, exp(log(2.5) + 0.1 * log(2.0 / 2.5))),
    "no slot free though hardly used": ({"demand": 2.0, "in_flight": 31.0}, exp(log(2.5) + 0.1 * log(1.0 / 2.5))),
    "missed beyond capacity": ({"demand": 8.0, "latency_seconds": MISSED}, 2.5),
    "carried more": ({"demand": 6.0}, exp(log(2.5) + 0.03 * log(3.0 / 2.5))),
    "carried more, but only just": ({"demand": 6.0, "latency_seconds": CLOSE}, 2.5),
    "carried more into a queue": ({"demand": 6.0, "queue": 40.0}, 2.5),
    "carried more, no slot free": ({"demand": 6.0, "in_flight": 32.0}, 2.5),
    "carried more, nothing known of waits": ({"demand": 6.0, "latency_seconds": nan, "queue": nan}, 2.5),
    "carried more, in flight not known": ({"demand": 6.0, "in_flight": nan}, exp(log(2.5) + 0.03 * log(3.0 / 2.5))),
}


@pytest.mark.parametrize("label", MOVES)
def test_one_minute_moves_capacity_as_far_as_it_is_evidence(label: str) -> None:
    seen, expected = MOVES[label]
    assert learned_capacity(PRIOR, SLO, minutes(**seen), NOON).demand_per_replica == pytest.approx(expected)


def test_without_evidence_the_profile_is_the_policys() -> None:
    assert learned_capacity(PRIOR, SLO, [], NOON) is PRIOR
    assert learned_capacity(PRIOR, SLO, minutes(600), NOON) is PRIOR


def test_steady_misses_bring_capacity_to_what_was_carried_when_they_happened() -> None:
    profile = learned_capacity(PRIOR, SLO, minutes(50, latency_seconds=MISSED), NOON)
    assert profile.demand_per_replica == pytest.approx(2.003, abs=0.001)
    assert "50 too slow" in profile.measured_how
    assert profile.measured_at == NOON
    assert profile.startup == LAW


def test_after_misses_it_comes_back_when_more_is_carried_again() -> None:
    slow = minutes(50, until=timedelta(hours=10), latency_seconds=MISSED)
    fine = minutes(300, demand=5.0)
    assert learned_capacity(PRIOR, SLO, slow + fine, NOON).demand_per_replica == pytest.approx(2.5, rel=0.01)


def test_a_new_version_starts_from_the_policy_again() -> None:
    slow = minutes(50, until=timedelta(hours=2), latency_seconds=MISSED, version="v1")
    assert learned_capacity(PRIOR, SLO, slow + minutes(version="v2"), NOON) is PRIOR
    assert learned_capacity(PRIOR, SLO, slow, NOON) is not PRIOR


def test_minutes_older_than_a_week_and_of_the_future_do_not_count() -> None:
    old = minutes(50, until=timedelta(days=8), latency_seconds=MISSED)
    future = minutes(1, until=-MINUTE, latency_seconds=MISSED)
    assert learned_capacity(PRIOR, SLO, old + future, NOON) is PRIOR


def test_a_profile_that_hardly_moved_stays_the_same_value() -> None:
    before = learned_capacity(PRIOR, SLO, minutes(50, latency_seconds=MISSED), NOON)
    assert learned_capacity(PRIOR, SLO, minutes(60, latency_seconds=MISSED), NOON, before) is before
    assert learned_capacity(PRIOR, SLO, minutes(5, latency_seconds=MISSED), NOON, before) is not before
    other_law = replace(PRIOR, startup=replace(LAW, p95=300 * SECOND))
    assert learned_capacity(other_law, SLO, minutes(60, latency_seconds=MISSED), NOON, before) is not before


LEVEL = st.one_of(st.just(nan), st.floats(0, 1e4))
SEEN = st.lists(
    st.builds(
        CapacityObservation,
        at=st.integers(0, 20_000).map(lambda m: NOON - m * MINUTE),
        demand=LEVEL,
        ready_replicas=st.integers(0, 50),
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
    capacity = learned_capacity(PRIOR, SLO, seen, NOON).demand_per_replica
    rounding = 1 + 1e-9
    assert capacity / PRIOR.demand_per_replica * rounding >= 1 / MOST_FACTOR
    assert capacity / PRIOR.demand_per_replica <= MOST_FACTOR * rounding
    assert learned_capacity(PRIOR, SLO, seen[::-1], NOON).demand_per_replica == capacity


@hypothesis.given(seen=SEEN)
@hypothesis.settings(max_examples=30, deadline=None)
def test_one_more_miss_never_raises_capacity(seen: list[CapacityObservation]) -> None:
    last = replace(minutes(latency_seconds=MISSED)[0], version="a", at=NOON + SECOND)
    seen = [replace(one, version="a") for one in seen]
    later = NOON + 2 * SECOND
    before = learned_capacity(PRIOR, SLO, seen, later).demand_per_replica
    assert learned_capacity(PRIOR, SLO, [*seen, last], later).demand_per_replica <= before * (1 + 1e-12)
