"""Choosing by replay: the cheapest setting that keeps the budget, with caution and memory."""

from math import isclose

import numpy as np

from scaler.simulator.selfreplay.choice import PRIOR_HOURS, Budget, ReplayedSums, choose, pooled

CHEAP, MIDDLE, DEAR = 0, 1, 2
MEMBERS = np.arange(3)
UNIT = 10.0
FREE = np.zeros(3)
"""Nobody started a replica."""


def replayed(hours: int, bad: tuple[float, float, float], objective: float = 0.99) -> ReplayedSums:
    """Every hour 1000 units arrive; the settings cost 100, 130 and 300 and miss `bad` units."""
    sums = ReplayedSums(3)
    for _ in range(hours):
        sums.add(np.array([100.0, 130.0, 300.0]), np.array(bad), 1000.0, 1.0, 1.0 - objective, FREE)
    return sums


def chosen(sums: ReplayedSums, budget: Budget) -> int:
    return choose(sums, budget, MEMBERS, UNIT)[0]


def test_the_cheapest_setting_that_keeps_the_promise_plays() -> None:
    assert chosen(replayed(48, (100.0, 4.0, 0.0)), Budget(0.99)) == MIDDLE


def test_a_cheap_setting_that_keeps_it_beats_a_dear_one() -> None:
    assert chosen(replayed(48, (5.0, 4.0, 0.0)), Budget(0.99)) == CHEAP


def test_of_two_settings_that_cost_and_miss_the_same_the_calmer_one_plays() -> None:
    sums = ReplayedSums(2)
    for _ in range(48):
        sums.add(np.array([100.0, 100.0]), np.array([4.0, 4.0]), 1000.0, 1.0, 0.01, toll=np.array([20.0, 5.0]))
    assert choose(sums, Budget(0.99), np.arange(2), UNIT)[0] == 1


def test_the_price_of_starts_is_no_part_of_what_a_setting_is_said_to_have_cost() -> None:
    sums = ReplayedSums(1)
    sums.add(np.array([100.0]), np.zeros(1), 1000.0, 1.0, 0.01, toll=np.array([20.0]))
    assert sums.raw_cost[0] == 100.0


def test_a_stricter_promise_plays_more_cautiously() -> None:
    sums = replayed(48, (100.0, 4.0, 0.0), 0.999)
    assert chosen(sums, Budget(0.999)) == DEAR


def test_an_overspent_budget_is_paid_back() -> None:
    budget = Budget(0.99)
    budget.spend(24_000.0, 2_000.0, 24.0)
    assert budget.bad_fraction() < 0.01
    fresh = Budget(0.99)
    fresh.spend(24_000.0, 0.0, 24.0)
    assert fresh.bad_fraction() > 0.01


def test_a_strict_promise_plans_for_half_of_its_budget() -> None:
    assert isclose(Budget(0.999).bad_fraction(), 0.001 * 0.1**0.4)
    assert isclose(Budget(0.99).bad_fraction(), 0.01)


def test_what_no_setting_could_serve_does_not_count() -> None:
    hopeless = replayed(48, (500.0, 404.0, 400.0))
    assert np.allclose(hopeless.bad.sum(axis=0)[DEAR], 0.0)
    assert chosen(hopeless, Budget(0.99)) == MIDDLE


def test_a_tenfold_day_counts_as_one_day() -> None:
    sums = ReplayedSums(2)
    for factor in (1.0, 10.0):
        for _ in range(24):
            sums.add(np.array([factor, 2.0 * factor]), np.zeros(2), 100.0 * factor, 1.0, 0.01, np.zeros(2))
    share = sums.arrived.sum()
    assert share < 80.0  # 48 hours, of which the older count less; a raw sum would be dominated by the second day


def test_a_new_endpoint_begins_with_what_the_fleet_has_shown_in_units_of_its_own_size() -> None:
    """The fleet serves 10 units a step with one replica, the newcomer 20: half the replicas for the same work."""
    prior = pooled([(replayed(48, (5.0, 4.0, 0.0)), UNIT), (replayed(24, (5.0, 4.0, 0.0)), UNIT)])
    assert prior is not None
    newcomer = ReplayedSums(3)
    newcomer.start_from(prior, 2 * UNIT)
    assert isclose(newcomer.arrived.sum(), PRIOR_HOURS)
    assert np.allclose(newcomer.cost.sum(axis=0), PRIOR_HOURS * np.array([100.0, 130.0, 300.0]) / 1000.0 / 2)
    assert newcomer.hours == 0.0
    assert chosen(newcomer, Budget(0.99)) == CHEAP


def test_a_fleet_of_none_teaches_nothing() -> None:
    assert pooled([]) is None


def test_what_an_endpoint_shows_itself_soon_outweighs_the_fleet() -> None:
    prior = pooled([(replayed(96, (5.0, 4.0, 0.0)), UNIT)])
    assert prior is not None
    newcomer = ReplayedSums(3)
    newcomer.start_from(prior, UNIT)
    for _ in range(24):
        newcomer.add(np.array([100.0, 130.0, 300.0]), np.array([100.0, 4.0, 0.0]), 1000.0, 1.0, 0.01, FREE)
    assert chosen(newcomer, Budget(0.99)) == MIDDLE


def test_the_hours_that_are_said_are_those_that_the_forgetting_sums_amount_to() -> None:
    """Two days of one replica are 35 of its hours."""
    sums, nothing = ReplayedSums(1), np.zeros(1)
    for _ in range(48):
        sums.add(np.array([240.0]), nothing, 1.0, 1.0, 0.01, nothing)
    assert isclose(sums.remembered_hours, 35.0, abs_tol=0.1)
    assert isclose(sums.raw_cost[0] / 240, sums.remembered_hours, rel_tol=0.01)
