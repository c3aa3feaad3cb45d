"""The lead-time model: one row equals many, nothing looks ahead, any unit, no pickle."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from forecaster.calendar import DemandCalendar
from forecaster.lead import LEVELS, LeadModel, _as_arrays, fit_lead_model, with_tail
from forecaster.leadfeatures import OF_FREE_DAYS, DemandTape, lead_features, trailing_max, typical_demand
from forecaster.methods.learners import BoostedTrees

STEP, LEAD, DAY = 15.0, 10, 5760


def some_demand(n: int, seed: int = 1, unseen: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = 2.0 + 1.5 * np.sin(2 * np.pi * np.arange(n) / DAY)
    level[(np.arange(n) % 900) < 120] = 0.0
    values = rng.poisson(level * STEP) / STEP
    if unseen:
        values[700:760] = np.nan
    return values


@pytest.fixture(scope="module")
def model() -> LeadModel:
    fitted = fit_lead_model([DemandTape(some_demand(DAY), 0.0, STEP)], LEAD, 240.0)
    assert fitted is not None
    return fitted


def test_one_row_equals_the_same_row_among_many(model: LeadModel) -> None:
    values = some_demand(2 * DAY)
    quantiles, soon = model.predict(DemandTape(values, 0.0, STEP), 690, 7_000)
    for row in (690, 701, 730, 761, 2_000, 6_999):
        alone = DemandTape(np.empty(0), 0.0, STEP)
        for part in np.array_split(values[:row], 7):
            alone.append(part)
        one, one_soon = model.predict(alone, row, row + 1)
        np.testing.assert_array_equal(one[0], quantiles[row - 690])
        np.testing.assert_array_equal(one_soon[0], soon[row - 690])


def test_what_comes_later_changes_no_row() -> None:
    values = some_demand(DAY)
    changed = values.copy()
    changed[3_000:] = 99.0
    before = lead_features(DemandTape(values, 0.0, STEP), 2_900, 3_001, LEAD)
    after = lead_features(DemandTape(changed, 0.0, STEP), 2_900, 3_001, LEAD)
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("factor", [1e-2, 1e3])
def test_features_do_not_depend_on_the_unit(factor: float) -> None:
    values = some_demand(DAY)
    own = np.delete(lead_features(DemandTape(values, 0.0, STEP), 1_000, 3_000, LEAD), 1, axis=1)
    scaled = np.delete(lead_features(DemandTape(values * factor, 0.0, STEP), 1_000, 3_000, LEAD), 1, axis=1)
    np.testing.assert_allclose(own, scaled, atol=2e-2)


def test_quantiles_are_ordered_finite_and_not_negative(model: LeadModel) -> None:
    quantiles, soon = model.predict(DemandTape(some_demand(DAY, 2, unseen=False), 0.0, STEP), 10, DAY)
    assert quantiles.shape == (DAY - 10, len(LEVELS))
    assert np.all(np.diff(quantiles, axis=1) >= 0)
    assert np.all(np.isfinite(quantiles)) and np.all(quantiles >= 0) and np.all(soon >= 0)


def test_stored_as_arrays_it_gives_the_same_numbers(model: LeadModel) -> None:
    arrays = model.to_arrays()
    assert all(array.dtype != object for array in arrays.values())
    again = LeadModel.from_arrays(arrays)
    tape = DemandTape(some_demand(DAY), 0.0, STEP)
    np.testing.assert_array_equal(model.predict(tape, 900, 1_000)[0], again.predict(tape, 900, 1_000)[0])


def test_trees_as_arrays_give_what_the_library_predicts() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(2_000, 6))
    features[rng.random(features.shape) < 0.1] = np.nan
    target = np.nan_to_num(features[:, 0]) * 2 + rng.normal(size=2_000)
    fitted = HistGradientBoostingRegressor(loss="quantile", quantile=0.9, max_iter=20, random_state=0)
    fitted.fit(features, target)
    np.testing.assert_array_equal(_as_arrays(fitted).predict(features), fitted.predict(features))


def test_two_endpoints_of_different_size_train_one_model() -> None:
    tapes = [DemandTape(some_demand(DAY) * factor, 0.0, STEP) for factor in (0.05, 200.0)]
    model = fit_lead_model(tapes, LEAD, 240.0)
    assert model is not None
    for tape in tapes:
        quantiles, _ = model.predict(tape, 4_000, 5_000)
        actual = tape.mean(np.arange(4_000, 5_000) + LEAD + 4, 4)
        assert 0.75 < np.mean(actual <= quantiles[:, LEVELS.index(0.9)]) <= 1.0


def on_the_wall_clock(start: datetime, n_days: int) -> np.ndarray:
    """Demand that is one more than the hour in Berlin, on a grid of five minutes."""
    zone, step = ZoneInfo("Europe/Berlin"), timedelta(minutes=5)
    return np.array([1.0 + (start + k * step).astimezone(zone).hour for k in range(n_days * 288)])


@pytest.mark.parametrize(
    ("what", "sunday"),
    [
        ("a day of 23 hours", datetime(2026, 3, 29, tzinfo=UTC)),
        ("a day of 25 hours", datetime(2026, 10, 25, tzinfo=UTC)),
    ],
)
def test_earlier_days_are_read_at_the_same_local_time(what: str, sunday: datetime) -> None:
    start = sunday - timedelta(days=9)
    values = on_the_wall_clock(start, 18)
    local, utc = (
        DemandTape(values, start.timestamp(), 300.0, DemandCalendar(timezone=zone)) for zone in ("Europe/Berlin", "UTC")
    )
    noon = np.array([(9 + day) * 288 + 11 * 12 + 6 for day in range(8)])  # half an hour within an hour in Berlin
    for tape, n_wrong in ((local, 0), (utc, 1 + 2 + 7)):
        rows = np.concatenate([lead_features(tape, row, row + 1, 0) for row in noon])
        seen = rows[:, [-9, -6, -3]] ** 2 * typical_demand(tape, noon)[:, None]  # one, two and seven days earlier
        assert np.sum(~np.isclose(seen, values[noon][:, None])) == n_wrong


NEW_YEAR = datetime(2025, 12, 31, 12, tzinfo=UTC)  # a Wednesday; the day after is free, in Berlin from 23:00 on


def a_row(when: datetime, calendar: DemandCalendar) -> np.ndarray:
    return lead_features(DemandTape(np.ones(1), when.timestamp(), 60.0, calendar), 0, 1, 0)[0]


def test_the_time_of_day_is_local_time() -> None:
    berlin = a_row(NEW_YEAR, DemandCalendar(timezone="Europe/Berlin"))
    an_hour_later = a_row(NEW_YEAR + timedelta(hours=1), DemandCalendar())
    np.testing.assert_array_equal(berlin, an_hour_later)
    assert not np.array_equal(berlin, a_row(NEW_YEAR, DemandCalendar()))


@pytest.mark.parametrize(
    ("what", "when", "holidays", "free", "like_1_2_7_days_ago"),
    [
        ("a working day like those before", datetime(2026, 3, 4, 12, tzinfo=UTC), "DE", False, (True, True, True)),
        ("a Monday is not like the Sunday", datetime(2026, 3, 2, 12, tzinfo=UTC), "DE", False, (False, False, True)),
        ("a Sunday is like the Saturday", datetime(2026, 3, 1, 12, tzinfo=UTC), "DE", True, (True, False, True)),
        ("a holiday is free", NEW_YEAR + timedelta(days=1), "DE", True, (False, False, True)),  # like Christmas Day
        ("where it is none it is not", NEW_YEAR + timedelta(days=1), "", False, (True, True, True)),
        ("a holiday begins at local midnight", NEW_YEAR + timedelta(hours=11), "DE", True, (False, False, True)),
    ],
)
def test_rows_know_free_days_and_which_earlier_days_are_of_the_same_type(
    what: str, when: datetime, holidays: str, free: bool, like_1_2_7_days_ago: tuple[bool, ...]
) -> None:
    row = a_row(when, DemandCalendar(timezone="Europe/Berlin", holidays_of=holidays))
    assert row[-10] == free
    assert tuple(row[[-7, -4, -1]]) == like_1_2_7_days_ago


@pytest.mark.parametrize(("n_days", "learns"), [(13, False), (15, True)])
def test_free_days_are_learnt_once_two_weeks_are_known(n_days: int, learns: bool) -> None:
    """Demand of which nothing else tells whether it comes: at noon on working days, off and on by chance before."""
    rng, step = np.random.default_rng(0), 300.0
    bins = np.arange(n_days * 288)
    working = (bins // 288 + 3) % 7 < 5
    values = np.where(working & (bins % 288 >= 144), 9.0, rng.choice([1.0, 9.0], len(bins)))
    model = fit_lead_model([DemandTape(values, 0.0, step)], 1, 600.0)
    assert model is not None
    used = {int(column) for forest in model.forests for column in np.unique(forest.feature)}
    assert bool(used & set(OF_FREE_DAYS)) == learns


def test_too_little_history_gives_no_model() -> None:
    assert fit_lead_model([DemandTape(some_demand(1_000), 0.0, STEP)], LEAD, 240.0) is None


def test_the_tail_beyond_the_fitted_levels_is_exponential() -> None:
    fitted = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    tail = with_tail(fitted)[0]
    slope = 1.0 / (np.log(100) - np.log(500)) * -1
    assert tail[LEVELS.index(0.9995)] == pytest.approx(5.0 + slope * np.log(20))


def test_trailing_max_is_the_highest_of_the_window() -> None:
    values = np.array([3.0, np.nan, 1.0, 2.0, 0.0])
    assert trailing_max(values, 3).tolist() == [3.0, 3.0, 3.0, 2.0, 2.0]


def test_fits_that_share_their_bins_give_the_trees_of_fits_that_do_not() -> None:
    rng = np.random.default_rng(0)
    features, size = rng.normal(size=(2_000, 4)), {"max_iter": 3, "max_leaf_nodes": 7}
    features[rng.random(features.shape) < 0.05] = np.nan
    shared = BoostedTrees(features, **size)
    for level in (0.5, 0.9):
        target = np.nan_to_num(features[:, 0]) + level * rng.normal(size=2_000)
        alone = HistGradientBoostingRegressor(
            loss="quantile", quantile=level, early_stopping=False, random_state=0, **size
        ).fit(features, target)
        assert np.array_equal(shared.fit(target, level).predict(features), alone.predict(features))
