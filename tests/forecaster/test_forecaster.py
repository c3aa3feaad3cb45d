"""The door for a service: fit, forecast, fall back, store and load."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from forecaster.calendar import DemandCalendar, PlannedEvent
from forecaster.errors import BadSeries, ShortHistory, StoreError, UnknownMethod
from forecaster.fleet import forecast_day_by_minute
from forecaster.forecaster import Forecaster
from forecaster.store import ModelStore
from tests.disk import no_file_longer_than
from tests.forecaster.samples import MONDAY, a_panel, a_series, daily_counts

STEP = timedelta(minutes=10)
SERIES = a_series(daily_counts(5, STEP))
HOURS = timedelta(hours=3)


def test_a_forecast_begins_with_the_bin_in_progress_and_covers_the_horizon():
    forecaster = Forecaster(method="profile")
    model = forecaster.fit("prod/chat", SERIES)
    forecast = forecaster.forecast(model, SERIES, issued_at=SERIES.end + timedelta(minutes=4), horizon=HOURS)
    assert (forecast.start, len(forecast)) == (SERIES.end, 18)
    assert (forecast.method, forecast.fell_back_from) == ("profile", "")


def test_a_history_that_lags_behind_is_not_taken_for_the_present():
    forecaster = Forecaster(method="persistence")
    model = forecaster.fit("prod/chat", SERIES)
    forecast = forecaster.forecast(model, SERIES, issued_at=SERIES.end + timedelta(hours=2), horizon=HOURS)
    assert forecast.start == SERIES.end + timedelta(hours=2)


def test_bins_after_the_time_of_issue_are_not_read():
    forecaster = Forecaster(method="profile")
    issued_at = SERIES.end - timedelta(hours=5)
    model = forecaster.fit("prod/chat", SERIES.until(issued_at))
    told = [
        forecaster.forecast(model, series, issued_at=issued_at, horizon=HOURS).values
        for series in (SERIES, SERIES.until(issued_at))
    ]
    assert told[0].tobytes() == told[1].tobytes()


def test_a_young_endpoint_gets_persistence_and_the_forecast_says_so():
    young = SERIES.until(MONDAY + timedelta(hours=5))
    forecaster = Forecaster(method="auto")
    forecast = forecaster.forecast(forecaster.fit("prod/new", young), young, issued_at=young.end, horizon=HOURS)
    assert (forecast.method, forecast.fell_back_from) == ("persistence", "auto")


def test_three_bins_give_wide_quantiles():
    young = SERIES.until(MONDAY + 3 * STEP)
    forecaster = Forecaster(method="auto")
    values = forecaster.forecast(forecaster.fit("prod/new", young), young, issued_at=young.end, horizon=HOURS).values
    assert values[0, -1] > 3 * values[0, 1]


def test_nothing_seen_is_an_error_and_no_guess():
    with pytest.raises(ShortHistory):
        Forecaster().fit("prod/new", a_series(np.full(50, np.nan)))


def test_a_planned_event_is_neither_learnt_nor_forgotten():
    launch = PlannedEvent(name="launch", start=SERIES.end, end=SERIES.end + timedelta(hours=1), factor=3.0)
    plain = Forecaster(method="profile")
    planned = Forecaster(method="profile", calendar=DemandCalendar(events=(launch,)))
    told = [
        f.forecast(f.fit("prod/chat", SERIES), SERIES, issued_at=SERIES.end, horizon=HOURS).values
        for f in (plain, planned)
    ]
    np.testing.assert_allclose(told[1][:6], 3.0 * told[0][:6])
    np.testing.assert_allclose(told[1][6:], told[0][6:])


def test_a_history_in_other_steps_than_the_models_is_refused():
    forecaster = Forecaster(method="profile")
    coarse = SERIES.resampled(timedelta(hours=1))
    with pytest.raises(BadSeries, match="fit it again"):
        forecaster.forecast(forecaster.fit("prod/chat", SERIES), coarse, issued_at=coarse.end, horizon=HOURS)


def test_an_outage_is_not_learnt_as_a_season():
    """A dead hour yesterday at nine is no reason to expect one today."""
    whole = a_series(daily_counts(4, STEP, mean_per_bin=100))
    broken = whole.values.copy()
    broken[-144 + 54 : -144 + 60] = 0.0
    outage = replace(whole, values=broken)
    forecaster = Forecaster(method="seasonal_naive_day")
    told, after_outage = (
        forecaster.forecast(forecaster.fit("prod/chat", s), s, issued_at=s.end, horizon=timedelta(hours=12)).values
        for s in (whole, outage)
    )
    assert after_outage[54:60, 1].min() > 0.5 * told[54:60, 1].min() > 0


def test_an_unknown_method_is_refused_at_once():
    with pytest.raises(UnknownMethod, match="auto"):
        Forecaster(method="prophet")


def test_an_hourly_refit_of_auto_carries_its_ledger_on():
    forecaster = Forecaster(method="auto")
    earlier = SERIES.until(SERIES.end - timedelta(hours=2))
    first = forecaster.fit("prod/chat", earlier)
    second = forecaster.fit("prod/chat", SERIES, first)
    assert second.learnt.members is first.learnt.members
    assert len(second.learnt.ledger.made) == len(first.learnt.ledger.made) + 4


@pytest.mark.parametrize("method", ["auto", "profile", "mstl"])
def test_a_stored_model_forecasts_as_it_did(tmp_path, method):
    forecaster = Forecaster(method=method, calendar=DemandCalendar(timezone="Europe/Berlin"))
    model = forecaster.fit("prod/chat", SERIES)
    store = ModelStore(f"file://{tmp_path}")
    card = store.save(model, {"wql": 0.2})
    again = store.load("prod/chat")
    told = [forecaster.forecast(m, SERIES, issued_at=SERIES.end, horizon=HOURS).values for m in (model, again)]
    np.testing.assert_allclose(told[0], told[1], rtol=1e-5)
    assert store.keys() == ["prod/chat"]
    assert card["data_digest"] == again.data_digest
    assert json.loads((tmp_path / "prod/chat/card.json").read_text())["scores"] == {"wql": 0.2}
    assert not list(tmp_path.rglob("*.writing"))


def test_old_versions_are_pruned_and_the_newest_stays(tmp_path):
    store = ModelStore(str(tmp_path), keep_versions=2)
    forecaster = Forecaster(method="profile")
    for days in (2, 3, 4, 5):
        store.save(forecaster.fit("prod/chat", SERIES.until(MONDAY + timedelta(days=days))))
    assert len(store.versions("prod/chat")) == 2
    assert store.load("prod/chat").fitted_until == MONDAY + timedelta(days=5)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("last_write", [False, True], ids=["the arrays", "the newest card"])
def test_of_a_model_that_the_disk_has_no_room_for_nothing_remains(tmp_path, last_write):
    store, forecaster = ModelStore(str(tmp_path)), Forecaster(method="profile")
    store.save(forecaster.fit("prod/chat", SERIES.until(MONDAY + timedelta(days=4))))
    before = files_of(tmp_path / "prod" / "chat")
    if last_write:
        (tmp_path / "prod" / "chat" / "card.json.writing").mkdir()  # stands in the way
    with (
        no_file_longer_than(2**20 if last_write else 10),
        pytest.raises(StoreError, match=r"of prod/chat: .*make room"),
    ):
        store.save(forecaster.fit("prod/chat", SERIES))
    assert files_of(tmp_path / "prod" / "chat") == before
    assert store.load("prod/chat").fitted_until == MONDAY + timedelta(days=4)


def test_a_method_fitted_on_the_same_history_again_leaves_the_other_models_arrays_alone(tmp_path):
    store = ModelStore(str(tmp_path))
    cards = [store.save(Forecaster(method=method).fit("prod/chat", SERIES)) for method in ("auto", "mstl")]
    assert len({card["arrays"] for card in cards}) == 2
    assert len(store.versions("prod/chat")) == 2


def spoil_schema(folder):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"schema_version": 99}))


def spoil_arrays(folder):
    next(folder.glob("arrays-*")).write_bytes(b"something else")


def lose_arrays(folder):
    next(folder.glob("arrays-*")).unlink()


def spoil_card(folder):
    (folder / "card.json").write_text("{")


def empty_card(folder):
    (folder / "card.json").write_text('{"schema_version": 1}')


def spoil_field(folder):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"step_seconds": "x"}))


SPOILT = {
    "unknown schema": (spoil_schema, "schema version 99"),
    "damaged arrays": (spoil_arrays, "not those that its card names"),
    "lost arrays": (lose_arrays, "arrays .* cannot be read"),
    "no JSON": (spoil_card, "cannot be read"),
    "a card without fields": (empty_card, "damaged .version: found None"),
    "a field of another kind": (spoil_field, "step_seconds: found 'x'"),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_what_is_damaged_is_fitted_again_and_stops_no_other_endpoint(tmp_path, spoil, words):
    store, forecaster = ModelStore(str(tmp_path)), Forecaster(method="profile")
    for key in ("prod/chat", "prod/other"):
        store.save(forecaster.fit(key, SERIES))
    spoil(tmp_path / "prod" / "chat")
    assert not store.is_current("prod/chat", forecaster, SERIES)
    assert store.is_current("prod/other", forecaster, SERIES)
    assert store.prior() == ()
    assert "prod/other" in store.cards()[0]
    store.save(forecaster.fit("prod/chat", SERIES))
    assert store.is_current("prod/chat", forecaster, SERIES)


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_a_model_that_cannot_be_trusted_is_refused(tmp_path, spoil, words):
    store = ModelStore(str(tmp_path))
    store.save(Forecaster(method="profile").fit("prod/chat", SERIES))
    spoil(tmp_path / "prod" / "chat")
    with pytest.raises(StoreError, match=words):
        store.load("prod/chat")


@pytest.mark.parametrize("key", ["chat", "../etc/chat", "prod/..", "a/b/c", "prod/ch at"])
def test_keys_cannot_leave_the_store(tmp_path, key):
    model = replace(Forecaster(method="profile").fit("prod/chat", SERIES), key=key)
    with pytest.raises(StoreError, match="namespace/endpoint"):
        ModelStore(str(tmp_path)).save(model)


def test_an_absent_model_is_said_to_be_absent(tmp_path):
    with pytest.raises(StoreError, match="fit it first"):
        ModelStore(str(tmp_path)).load("prod/chat")


def test_a_day_by_the_minute_for_a_fleet():
    step = timedelta(minutes=5)
    counts = np.stack([daily_counts(9, step, seed=i) for i in range(3)])
    counts = np.vstack([counts, np.full(counts.shape[1], np.nan)])
    (block,) = forecast_day_by_minute(a_panel(counts, step), np.array([0.1, 0.5, 0.9]))
    assert block.shape == (4, 1440, 3)
    assert np.isnan(block[3]).all()
    actual = daily_counts(10, step, seed=1)[-288:]
    assert np.mean(actual <= block[1, ::5, 2]) == pytest.approx(0.9, abs=0.06)


def test_models_are_stored_under_the_end_of_their_history(tmp_path):
    card = ModelStore(str(tmp_path)).save(Forecaster(method="profile").fit("prod/chat", SERIES))
    assert card["version"].startswith("20260307T000000Z-")
    assert datetime.fromisoformat(card["fitted_until"]) == datetime(2026, 3, 7, tzinfo=UTC)
