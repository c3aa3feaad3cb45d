"""A backtest says what would have been forecast from what was known then."""

import io
from datetime import timedelta

import numpy as np
import pytest

from forecaster.backtest import backtest
from forecaster.calendar import DemandCalendar, PlannedEvent
from forecaster.catalogue import ALL_METHODS
from forecaster.errors import BadSeries, ShortHistory, UnknownMethod
from forecaster.forecaster import panel_of
from forecaster.repair import repaired
from tests.forecaster.samples import MONDAY, a_series, daily_counts

STEP = timedelta(minutes=30)
LEADS = [timedelta(minutes=30), timedelta(hours=6)]
COUNTS = daily_counts(4, STEP)


def run(counts=COUNTS, method="seasonal_naive_day", **changes):
    asked = {"leads": LEADS, "warmup": timedelta(days=3), "method": method} | changes
    return backtest({"chat": a_series(counts, STEP)}, **asked)


def csv_of(result, **options):
    file = io.StringIO()
    result.write_csv(file, **options)
    return file.getvalue()


def test_origins_go_from_the_end_of_the_warm_up_to_the_end_of_the_trace():
    result = run()
    assert result.origins[0] * STEP == timedelta(days=3)
    assert result.origins[-1] == len(COUNTS)
    assert np.isnan(result.actual[0, -1]).all()


def test_a_lead_beyond_the_history_is_told_with_what_that_must_be_longer_than():
    day = timedelta(days=1)
    result = run(leads=[STEP, day - STEP, day, 2 * day])  # four days, of which three warm up
    assert result.unscored == {day: 4 * day, 2 * day: 5 * day}


def test_rows_count_demand_per_bin_at_the_target():
    result = run(method="persistence")
    key, origin, target, lead, _ = next(result.rows())
    assert (key, origin, target, lead) == (
        "chat",
        int((MONDAY + timedelta(days=3)).timestamp()),
        int((MONDAY + timedelta(days=3, minutes=30)).timestamp()),
        1800,
    )
    assert result.actual[0, 0, 0] * STEP.total_seconds() == pytest.approx(COUNTS[3 * 48 + 1])


def test_the_file_has_the_promised_columns():
    lines = csv_of(run()).splitlines()
    assert lines[0] == "origin,target,lead_seconds,q0.1,q0.5,q0.8,q0.9,q0.95,q0.99"
    assert len(lines) == 1 + 49 * 2
    assert csv_of(run(), with_endpoint=True).splitlines()[0].startswith("endpoint,origin,")


@pytest.mark.parametrize("method", ["profile", "auto"])
def test_the_same_trace_twice_gives_the_same_bytes(method):
    assert csv_of(run(method=method)) == csv_of(run(method=method))


@pytest.mark.parametrize("method", ["profile", "auto"])
def test_changing_the_trace_after_an_origin_changes_nothing_issued_until_then(method):
    changed = COUNTS.copy()
    origin = 3 * 48 + 20
    changed[origin:] = 500.0
    before, after = run(method=method), run(changed, method=method)
    issued = before.origins <= origin
    assert before.quantiles[:, issued].tobytes() == after.quantiles[:, issued].tobytes()


def test_scores_are_plain_numbers_per_endpoint_and_lead():
    scores = run().scores(demand_per_replica=0.01)
    assert scores["unit"] == "demand per second"
    lead = scores["endpoints"]["chat"]["21600s"]
    assert 0 < lead["wql"] < 1
    assert lead["n_scored"] == 36
    assert set(lead["coverage"]["0.9"]) == {"below", "at_most", "deviation", "band"}
    assert lead["decision_loss"]["0.9"]["replica_hours"] > 0


def test_bins_that_were_not_seen_are_not_scored():
    counts = COUNTS.copy()
    counts[3 * 48 + 5 : 3 * 48 + 15] = np.nan
    assert run(counts).scores()["endpoints"]["chat"]["1800s"]["n_scored"] == 47 - 10


def test_several_endpoints_go_in_one_run_with_progress():
    seen = []
    result = backtest(
        {"a": a_series(COUNTS, STEP), "b": a_series(2 * COUNTS, STEP)},
        leads=LEADS,
        warmup=timedelta(days=2),
        method="profile",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert result.quantiles.shape[:3] == (2, 97, 2)
    assert seen[-1] == (97, 97)


TEN = timedelta(minutes=10)


def busy(n_days=6):
    return daily_counts(n_days, TEN, mean_per_bin=100)


def with_outage():
    counts = busy()
    counts[5 * 144 + 40 : 5 * 144 + 46] = 0
    return counts


EVENT = PlannedEvent(
    name="launch", start=MONDAY + timedelta(days=5), end=MONDAY + timedelta(days=5, hours=9), factor=4.0
)


@pytest.mark.parametrize("method", ["seasonal_naive_day", "profile", "auto"])
@pytest.mark.parametrize(
    ("counts", "calendar"),
    [(with_outage(), DemandCalendar()), (busy(), DemandCalendar(events=(EVENT,)))],
    ids=["an outage", "a planned event"],
)
def test_a_backtest_issues_what_the_door_for_services_would_have(method, counts, calendar):
    series = a_series(counts, TEN)
    result = backtest(
        {"chat": series},
        leads=[TEN, timedelta(hours=5)],
        warmup=timedelta(days=5),
        every=timedelta(hours=3),
        method=method,
        calendar=calendar,
    )
    learnt = ALL_METHODS[method].fit(seen_by(5 * 144, series, calendar), result.steps_ahead)
    for i, origin in enumerate(map(int, result.origins[:-1])):
        known = seen_by(origin, series, calendar)
        told = learnt.quantiles(known, np.array([origin]), result.steps_ahead, result.levels)[0, 0]
        factors = calendar.factors(MONDAY, TEN, 7 * 144)[origin + result.steps_ahead]
        np.testing.assert_allclose(result.quantiles[0, i], told * factors[:, None], err_msg=str(origin))


def seen_by(origin, series, calendar):
    """The history as Forecaster.forecast hands it to a method."""
    return panel_of({"chat": repaired(series.part(0, origin)).series}, calendar)


def test_what_came_in_an_outage_is_scored_as_it_was_seen():
    quiet = run_ten(with_outage())
    assert np.nanmin(quiet.actual) == 0.0
    np.testing.assert_array_equal(quiet.history[0], a_series(with_outage(), TEN).values)


def test_an_outage_changes_nothing_that_was_issued_before_it_could_be_told():
    plain, broken = run_ten(busy()), run_ten(with_outage())
    issued = plain.origins <= 5 * 144 + 40
    assert plain.quantiles[:, issued].tobytes() == broken.quantiles[:, issued].tobytes()


def run_ten(counts):
    return backtest({"chat": a_series(counts, TEN)}, leads=[TEN], warmup=timedelta(days=5), method="profile")


@pytest.mark.parametrize(
    ("minutes", "leads", "every"),
    [(5, [5, 60, 360], 30), (7, [7, 63, 364], 28), (10, [10, 60, 360], 30), (60, [60, 360], 60), (2880, [2880], 2880)],
)
def test_without_being_told_leads_and_origins_are_as_the_step_allows(minutes, leads, every):
    step = timedelta(minutes=minutes)
    series = a_series(np.full(round(timedelta(days=20) / step), 50.0), step)
    result = backtest({"chat": series}, warmup=timedelta(days=16), method="persistence")
    assert result.lead_seconds == [60 * lead for lead in leads]
    assert int(result.origins[1] - result.origins[0]) * minutes == every
    assert result.scores()["endpoints"]["chat"][f"{60 * leads[0]}s"]["n_scored"] > 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"warmup": timedelta(days=9)}, ShortHistory),
        ({"leads": [timedelta(minutes=7)]}, BadSeries),
        ({"leads": []}, BadSeries),
        ({"leads": [STEP, STEP]}, BadSeries),
        ({"leads": [timedelta(days=400)]}, BadSeries),
        ({"leads": [timedelta(days=2)]}, ShortHistory),
        ({"warmup": timedelta(days=4)}, ShortHistory),
        ({"every": timedelta(minutes=45)}, BadSeries),
        ({"method": "prophet"}, UnknownMethod),
    ],
    ids=[
        "warm-up beyond the trace",
        "lead off the grid",
        "no lead",
        "a lead twice",
        "a lead beyond a week",
        "no target within the trace",
        "warm-up equal to the trace",
        "origins off the grid",
        "unknown method",
    ],
)
def test_what_cannot_be_run_is_refused(changes, error):
    with pytest.raises(error):
        run(**changes)
