"""The start-up law follows the starts that were seen."""

from datetime import UTC, datetime, timedelta
from math import exp, log

import hypothesis
import hypothesis.strategies
import pytest

from scaler.core.startup import learned_startup
from scaler.domain.replicas import StartupLaw, StartupObservation

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
EXPECTED = timedelta(seconds=150)
PRIOR = StartupLaw(p50=EXPECTED, p95=EXPECTED, mean=EXPECTED)


def starts(*seconds: float, failed: bool = False) -> list[StartupObservation]:
    begun = NOW - timedelta(hours=1)
    return [StartupObservation(ordered_at=begun, ready_at=begun + timedelta(seconds=s), failed=failed) for s in seconds]


def running(*seconds: float) -> list[StartupObservation]:
    return [StartupObservation(ordered_at=NOW - timedelta(seconds=s)) for s in seconds]


def test_without_any_start_the_policy_is_believed() -> None:
    assert learned_startup(PRIOR, [], NOW) == PRIOR


def test_a_start_that_has_only_begun_says_nothing() -> None:
    assert learned_startup(PRIOR, running(30, 60), NOW) == PRIOR


def test_three_starts_weigh_as_much_as_the_policy() -> None:
    """exp((3 ln 150 + 3 ln 300) / 6) = 212 s."""
    law = learned_startup(PRIOR, starts(300, 300, 300), NOW)
    assert law.p50.total_seconds() == pytest.approx(exp((log(150) + log(300)) / 2), rel=1e-6)
    assert law.n_observed == 3


def test_many_starts_outweigh_the_policy() -> None:
    law = learned_startup(PRIOR, starts(*([280, 300, 320] * 40)), NOW)
    assert law.p50.total_seconds() == pytest.approx(300, rel=0.03)
    assert law.mean.total_seconds() == pytest.approx(300, rel=0.03)
    assert law.p50 < law.p95 < timedelta(seconds=400)


def test_starts_that_last_longer_than_ever_raise_the_law_before_they_end() -> None:
    quick = starts(*([150] * 5))
    assert learned_startup(PRIOR, quick + running(600, 600, 600), NOW).p95 > 2 * learned_startup(PRIOR, quick, NOW).p95


def test_how_long_a_failed_start_lasted_says_nothing_about_good_ones() -> None:
    assert learned_startup(PRIOR, starts(*([150] * 50)) + starts(5, failed=True), NOW).p50.total_seconds() > 140


def test_one_failure_in_ten_means_that_one_order_in_ten_takes_a_second_start() -> None:
    """Ready after one start: 90 %, after two: 99 %. The .95 quantile lies in the second."""
    steady = starts(*([100] * 180))
    without = learned_startup(PRIOR, steady, NOW)
    law = learned_startup(PRIOR, steady + starts(*([20] * 20), failed=True), NOW)
    assert law.p50.total_seconds() == pytest.approx(100, rel=0.05)
    assert 190 < law.p95.total_seconds() < 230
    assert law.mean > without.mean
    assert "20 failed" in law.learned_how


def test_a_single_failure_hardly_moves_the_law() -> None:
    steady = starts(*([100] * 30))
    law = learned_startup(PRIOR, steady + starts(20, failed=True), NOW)
    assert law.p95 < 1.2 * learned_startup(PRIOR, steady, NOW).p95


def test_cold_nodes_are_a_second_hump_that_the_quantile_sees() -> None:
    """93 % warm starts of a minute, 7 % cold ones of five: one log-normal through both would say about two minutes."""
    law = learned_startup(PRIOR, starts(*([60] * 93 + [300] * 7)), NOW)
    assert law.p50.total_seconds() == pytest.approx(62, rel=0.1)
    assert law.p95.total_seconds() == pytest.approx(300, rel=0.05)
    assert law.mean.total_seconds() == pytest.approx(0.93 * 60 + 0.07 * 300, rel=0.1)


def test_running_starts_count_as_at_least_as_long_as_they_have_lasted() -> None:
    """Of 100 starts 90 ended after a minute; ten still run after ten: the .95 quantile is not a minute."""
    law = learned_startup(PRIOR, starts(*([60] * 90)) + running(*([600] * 10)), NOW)
    assert law.p95.total_seconds() > 120
    assert law.p50.total_seconds() == pytest.approx(62, rel=0.1)


SECONDS = hypothesis.strategies.floats(1.0, 5000.0)


@hypothesis.given(
    finished=hypothesis.strategies.lists(SECONDS, max_size=40),
    pending=hypothesis.strategies.lists(SECONDS, max_size=10),
    failed=hypothesis.strategies.lists(SECONDS, max_size=10),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_whatever_was_seen_the_law_is_ordered_and_between_policy_and_evidence(
    finished: list[float], pending: list[float], failed: list[float]
) -> None:
    seen = starts(*finished) + running(*pending) + starts(*failed, failed=True)
    law = learned_startup(PRIOR, seen, NOW)
    assert timedelta(0) < law.p50 <= law.p95
    assert law.mean > timedelta(0)
    assert law == learned_startup(PRIOR, list(reversed(seen)), NOW)
    if not pending and not failed:
        assert law.p50.total_seconds() <= 1.35 * max([150.0, *finished])
        assert law.p50.total_seconds() >= min([150.0, *finished]) / 1.35


@hypothesis.given(
    finished=hypothesis.strategies.lists(SECONDS, min_size=1, max_size=40),
    n_failed=hypothesis.strategies.integers(1, 20),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_failures_never_shorten_the_way_to_ready(finished: list[float], n_failed: int) -> None:
    good = starts(*finished)
    with_failures = learned_startup(PRIOR, good + starts(*([9.0] * n_failed), failed=True), NOW)
    without = learned_startup(PRIOR, good, NOW)
    assert with_failures.p50 >= without.p50
    assert with_failures.p95 >= without.p95
    assert with_failures.mean >= without.mean


def test_a_law_that_hardly_moved_stays_the_same_value() -> None:
    before = learned_startup(PRIOR, starts(*([200] * 20)), NOW)
    assert learned_startup(PRIOR, starts(*([200] * 20), 205), NOW, before) is before
    assert learned_startup(PRIOR, starts(*([400] * 60)), NOW, before) is not before
