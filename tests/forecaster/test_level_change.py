"""A new level is noticed within the hour, told beside the plain forecast, and believed by its record."""

from datetime import timedelta

import numpy as np
import pytest

from forecaster.auto import Auto
from forecaster.ledger import bins_of
from forecaster.levelchange import WIDER, WIDER_REACH_HOURS, believing, level_change, wider_above
from forecaster.selection import vincentised
from tests.forecaster.samples import a_panel, daily_counts

STEP = timedelta(minutes=10)
DAY = 144
MEMBERS = ("persistence", "moving_mean", "seasonal_naive_day", "climate_bent")
LEVELS = np.array([0.1, 0.5, 0.8, 0.9, 0.95, 0.99])
SIX_HOURS = np.array([36])


def counts(n_days=6, seed=0):
    return daily_counts(n_days, STEP, mean_per_bin=200.0, seed=seed)


def scaled(values, first, last, factor):
    out = values.copy()
    out[first:last] *= factor
    return out


@pytest.mark.parametrize(
    ("what", "factor", "found"),
    [
        ("nothing", 1.0, 1.0),
        ("a busier day", 1.4, 1.0),
        ("three times as much", 3.0, 3.0),
        ("a third", 1 / 3, 1 / 3),
        ("nearly nothing", 0.001, 0.1),
    ],
)
def test_only_a_plain_change_is_one_and_its_factor_is_measured(what, factor, found):
    shifted = 4 * DAY + 50
    panel = a_panel(scaled(counts(), shifted, None, factor), STEP)
    factors, since = level_change(panel, np.array([shifted + 9]))
    assert factors[0, 0] == pytest.approx(found, rel=0.15), what
    assert since[0, 0] == (shifted + 9 if found == 1.0 else shifted)


def test_a_change_of_half_an_hour_is_not_one_yet_and_a_day_later_it_is_the_level():
    shifted = 4 * DAY + 51
    panel = a_panel(scaled(counts(), shifted, None, 3.0), STEP)
    factors, _ = level_change(panel, shifted + np.array([3, 6, DAY + 30]))
    assert factors[0] == pytest.approx([1.0, 3.0, 1.0], rel=0.15)


def test_a_change_is_kept_through_a_quiet_half_hour_and_its_beginning_stays_where_it_was():
    shifted = 4 * DAY + 51
    values = scaled(scaled(counts(), shifted, None, 3.0), shifted + 12, shifted + 15, 1 / 3)
    factors, since = level_change(a_panel(values, STEP), shifted + np.array([12, 15, 18, 30]))
    assert since[0].tolist() == [shifted] * 4
    assert factors[0] == pytest.approx([3.0, 2.6, 2.7, 2.8], rel=0.1)


def test_a_change_that_went_back_is_forgotten_within_two_hours():
    shifted = 4 * DAY + 51
    values = scaled(counts(), shifted, shifted + 12, 3.0)
    factors, _ = level_change(a_panel(values, STEP), shifted + np.array([12, 24]))
    assert factors[0] == pytest.approx([3.0, 1.0], rel=0.1)


def test_where_days_differ_by_as_much_anyway_nothing_has_changed():
    jumpy = np.random.default_rng(1).lognormal(0.0, 1.0, 6 * DAY // 3).repeat(3) * 200
    panel = a_panel(scaled(jumpy, 4 * DAY + 51, None, 3.0), STEP)
    factors, _ = level_change(panel, np.arange(4 * DAY + 57, 4 * DAY + 80))
    assert np.all(factors == 1.0)


def test_an_unseen_past_says_nothing_of_a_change():
    values = counts()
    values[: 4 * DAY] = np.nan
    factors, since = level_change(a_panel(scaled(values, 4 * DAY + 51, None, 3.0), STEP), np.array([4 * DAY + 60]))
    assert (factors[0, 0], since[0, 0]) == (1.0, 4 * DAY + 60)


def test_hours_after_a_threefold_shift_the_forecast_for_tonight_has_shifted_too():
    shifted = 4 * DAY + 30
    origin = shifted + 12
    fitted = Auto().fit(a_panel(counts(), STEP).until(4 * DAY), SIX_HOURS)
    usual, after_shift = (
        fitted.quantiles(a_panel(values, STEP).until(origin), np.array([origin]), SIX_HOURS, LEVELS)[0, 0, 0]
        for values in (counts(), scaled(counts(), shifted, None, 3.0))
    )
    assert after_shift[1:] == pytest.approx(3 * usual[1:], rel=0.35)


@pytest.mark.parametrize(
    ("what", "weekday", "factor", "monday_is_told"),
    [
        ("a fall on Saturday", 5, 1 / 3, False),
        ("a rise on Saturday", 5, 3.0, True),
        ("a fall on a Wednesday", 2, 1 / 3, True),
    ],
)
def test_demand_that_fell_on_a_free_day_is_expected_back_on_the_working_day(what, weekday, factor, monday_is_told):
    fell = 7 * DAY + weekday * DAY + 60  # the samples begin on a Monday
    origin = fell + 12
    leads = np.array([36, (7 - weekday) * DAY])
    panel = a_panel(scaled(counts(15), fell, None, factor), STEP).until(origin)
    fitted = Auto(members=MEMBERS).fit(panel.until(7 * DAY), leads)
    told = np.isfinite(fitted._told(panel, np.array([origin]), leads)[0, 0, :, 0])
    assert told.tolist() == [True, monday_is_told], what


def test_a_level_that_never_lasted_is_believed_less_each_time():
    values = counts(9)
    bursts = [d * DAY + 40 for d in (4, 5, 6, 7)]
    for first in bursts:
        values = scaled(values, first, first + 9, 3.0)
    panel = a_panel(values, STEP)
    lead = np.array([6, 36])
    fitted = Auto(members=MEMBERS).fit(panel.until(4 * DAY), lead)
    origins = np.array([first + 8 for first in bursts])
    ledger = fitted.ledger_until(panel, int(origins.max()) + 1)
    plain = vincentised(ledger.quantiles, fitted._weights(panel, ledger, bins_of(panel, ledger)[0]))
    trust = fitted._trust_in_told(panel, ledger, plain, origins)[0, :, 1]
    assert trust[-1] < trust[0] / 2


def test_what_is_told_counts_by_its_trust_and_only_where_something_is_told():
    plain, told = np.array([10.0, 10.0]), np.array([30.0, np.nan])
    assert believing(plain, told, np.array([0.75, 0.75])).tolist() == [25.0, 10.0]


def test_where_demand_has_changed_the_upper_margin_is_wider_the_more_the_nearer_and_the_rest_stays():
    quantiles = np.broadcast_to(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), (1, 2, 2, 6))
    hours = np.array([0.0, WIDER_REACH_HOURS])
    usual, changed = wider_above(quantiles, LEVELS, np.array([[False, True]]), hours)[0]
    assert np.array_equal(usual, quantiles[0, 0])
    assert np.array_equal(changed[:, :2], quantiles[0, 1, :, :2])
    stretched_by = (changed[:, 2:] - 2.0) / (quantiles[0, 1, :, 2:] - 2.0)
    assert stretched_by == pytest.approx(1.0 + WIDER * np.exp([[0.0], [-1.0]]) * np.ones(4))
