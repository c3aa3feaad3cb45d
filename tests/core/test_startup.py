"""The start-up law follows the starts that were seen."""

from datetime import UTC, datetime, timedelta
from math import exp, log

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
    assert law.p50 < law.mean < law.p95 < timedelta(seconds=400)


def test_starts_that_last_longer_than_ever_raise_the_law_before_they_end() -> None:
    quick = starts(*([150] * 5))
    assert learned_startup(PRIOR, quick + running(600, 600, 600), NOW).p95 > 2 * learned_startup(PRIOR, quick, NOW).p95


def test_failed_starts_do_not_count() -> None:
    assert learned_startup(PRIOR, starts(5, 5, 5, failed=True), NOW) == PRIOR


def test_a_law_that_hardly_moved_stays_the_same_value() -> None:
    before = learned_startup(PRIOR, starts(*([200] * 20)), NOW)
    assert learned_startup(PRIOR, starts(*([200] * 20), 205), NOW, before) is before
    assert learned_startup(PRIOR, starts(*([400] * 60)), NOW, before) is not before
