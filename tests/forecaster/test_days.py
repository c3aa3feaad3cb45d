"""Earlier days count by what their type was seen to tell, and are brought to where the present is."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from forecaster.calendar import DemandCalendar
from forecaster.methods.days import LEAST, SHARPNESS, UNLIKE_UNSEEN, days_from_here, unlike_day_counts
from forecaster.methods.daytype import same_day_type
from forecaster.methods.registry import METHODS
from forecaster.methods.weekday import same_weekday
from tests.forecaster.samples import a_panel

STEP = timedelta(minutes=30)
DAY = 48
LEVELS = np.array([0.1, 0.5, 0.9])
ASSUMED = UNLIKE_UNSEEN**-SHARPNESS


def days_of(levels, seed=0):
    """Whole days from a Monday on, each noise around its level."""
    rng = np.random.default_rng(seed)
    return np.concatenate([level * rng.uniform(0.8, 1.2, DAY) for level in levels])


OFFICE = [100.0] * 5 + [10.0] * 2
CLOCKWORK = [100.0] * 7


def counts_at(values, day, calendar=None):
    panel = a_panel(values, STEP)
    panel = panel if calendar is None else replace(panel, calendar=calendar)
    return unlike_day_counts(panel, np.array([day * DAY]))[0, 0]


@pytest.mark.parametrize(
    ("levels", "day", "least", "most"),
    [
        (OFFICE, 5, ASSUMED, ASSUMED),  # no weekend seen yet
        (OFFICE * 2, 12, LEAST, LEAST),
        (CLOCKWORK * 2, 12, 0.5, 1.0),
    ],
    ids=["before the first weekend", "an office", "no weekends"],
)
def test_a_day_of_the_other_type_counts_by_how_unlike_such_days_were(levels, day, least, most):
    assert least - 1e-9 <= counts_at(days_of(levels), day) <= most + 1e-9


def test_only_days_that_ended_before_the_origin_are_compared():
    values = days_of(OFFICE * 2)
    changed = values.copy()
    changed[8 * DAY :] = 1e6
    assert counts_at(changed, 8) == counts_at(values, 8)


def test_days_are_those_of_the_local_zone():
    # Ten hours ahead of UTC, the weekend begins and ends ten hours earlier.
    east = np.roll(days_of([100.0, 100.0, 100.0, 100.0, 100.0, 80.0, 80.0] * 2), -20)
    here, there = counts_at(east, 13), counts_at(east, 13, DemandCalendar(timezone="Australia/Brisbane"))
    assert there < here


def test_a_history_of_less_than_two_days_assumes():
    assert counts_at(days_of([5.0]), 1) == pytest.approx(ASSUMED)


@pytest.mark.parametrize(("today", "expected"), [(7, 100.0), (12, 10.0), (13, 10.0)], ids=["Mon", "Sat", "Sun"])
def test_a_day_follows_the_last_days_of_its_type(today, expected):
    panel = a_panel(np.repeat(OFFICE * 2, DAY), STEP)
    point = same_day_type(panel, np.array([today * DAY]), np.array([DAY // 2]))
    assert point[0, 0, 0] == pytest.approx(expected)


def test_without_a_day_of_the_type_it_is_the_day_before():
    panel = a_panel(np.repeat(OFFICE, DAY), STEP)
    assert same_day_type(panel, np.array([5 * DAY]), np.array([0]))[0, 0, 0] == pytest.approx(100.0)


def test_a_friday_is_half_what_the_last_fridays_brought_and_half_where_the_last_days_lead():
    friday, other = 400.0, 100.0
    panel = a_panel(np.repeat(([other] * 4 + [friday] + [other] * 2) * 2, DAY)[: 11 * DAY], STEP)
    noon_of_friday = np.array([DAY // 2])
    days = days_from_here(panel, np.array([11 * DAY]), noon_of_friday)[0, 0, 0]
    point = same_weekday(panel, np.array([11 * DAY]), noon_of_friday)[0, 0, 0]
    assert days < 0.7 * friday
    assert np.sqrt(point) == pytest.approx(0.5 * np.sqrt(friday) + 0.5 * np.sqrt(days))


def test_in_the_first_week_the_weekday_is_where_the_days_lead():
    panel = a_panel(days_of([100.0, 120.0, 90.0, 110.0]), STEP)
    asked = np.array([panel.n_steps]), np.array([0, DAY // 2])
    assert same_weekday(panel, *asked) == pytest.approx(days_from_here(panel, *asked))


def a_higher_present(n_days=6, factor=4.0):
    """Days alike, but for the last hours."""
    values = np.tile(np.linspace(20.0, 60.0, DAY), n_days)
    values[-4:] *= factor
    return a_panel(values, STEP)


def ahead(rule, panel, steps):
    return rule(panel, np.array([panel.n_steps]), np.array(steps))[0, 0]


def test_the_point_leads_from_where_the_present_is_back_to_the_earlier_days():
    panel = a_higher_present()
    usual = np.linspace(20.0, 60.0, DAY)
    near, far = ahead(days_from_here, panel, [0, 40])
    assert near / usual[0] > 5.0  # moved by as much on the root scale as the present lies above: from 20 to 115
    assert far / usual[40] < 1.6


def test_the_moved_sample_stays_higher_the_nearer_the_target():
    panel, method = a_higher_present(), METHODS["climate_moved"]
    steps = np.array([0, 20, 40])
    usual = METHODS["climate"].fit(panel, steps).quantiles(panel, np.array([panel.n_steps]), steps, LEVELS)[0, 0, :, 1]
    moved = method.fit(panel, steps).quantiles(panel, np.array([panel.n_steps]), steps, LEVELS)[0, 0, :, 1]
    lifted = np.sqrt(moved) - np.sqrt(usual)
    assert lifted[0] > lifted[1] > lifted[2] > 0.0


def test_the_last_hours_tell_of_what_is_near_and_the_last_days_of_what_is_far():
    values = np.where(np.arange(6 * DAY) < 6 * DAY - 8, 10.0, 90.0)  # high for the last four hours
    panel, steps = a_panel(values, STEP), np.array([1, DAY])
    near, far = METHODS["recent"].quantiles(panel, np.array([panel.n_steps]), steps, LEVELS)[0, 0]
    assert near[1] == pytest.approx(90.0)
    assert far[1] == pytest.approx(10.0)


def test_what_lies_beyond_the_last_days_is_no_sample():
    values = np.where(np.arange(6 * DAY) < 3 * DAY, 1e6, 10.0)
    panel = a_panel(values, STEP)
    said = METHODS["recent"].quantiles(panel, np.array([panel.n_steps]), np.array([DAY]), LEVELS)
    assert said == pytest.approx(10.0)
