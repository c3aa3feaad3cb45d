"""`headstart fit`: what is due is fitted, what is kept is left, one that fails stops no other."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from forecaster.calendar import DemandCalendar
from forecaster.series import DemandSeries, DemandUnit
from forecaster.store import ModelStore
from scaler.app import fitting
from scaler.app.fitting import fit_and_keep, forecast_all, workers_of
from scaler.app.histories import History
from scaler.errors import SettingsError
from tests.disk import no_file_longer_than

START, STEP = datetime(2026, 3, 2, tzinfo=UTC), timedelta(minutes=30)


def histories(n: int) -> Mapping[str, History]:
    counts = np.random.default_rng(0).poisson(20.0, (n, 5 * 48))
    series = [DemandSeries(unit=DemandUnit.REQUESTS, start=START, step=STEP, values=row / 1800.0) for row in counts]
    return {f"prod/e{i}": History(series=one, calendar=DemandCalendar()) for i, one in enumerate(series)}


def nothing_said(done: int, in_all: int) -> None:
    pass


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting.os, "cpu_count", lambda: 1)


@pytest.mark.usefixtures("one_process")
def test_a_run_that_was_broken_off_goes_on_where_it_stopped() -> None:
    store = ModelStore("memory://broken-off")

    def breaks_off(done: int, in_all: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_and_keep(histories(4), store, "profile", "processes", breaks_off)
    assert store.keys() == ["prod/e0", "prod/e1"]
    report = fit_and_keep(histories(4), store, "profile", "processes", nothing_said)
    assert [card["key"] for card in report.cards] == ["prod/e2", "prod/e3"]
    assert report.unchanged == 2
    assert fit_and_keep(histories(4), store, "profile", "processes", nothing_said).unchanged == 4


UNSEEN = History(
    series=DemandSeries(unit=DemandUnit.REQUESTS, start=START, step=STEP, values=np.full(96, np.nan)),
    calendar=DemandCalendar(),
    if_unseen="told of no demand",
)


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize(
    ("key", "history", "words"),
    [
        ("prod/unseen", UNSEEN, "told of no demand"),
        ("prod/b c", histories(1)["prod/e0"], "need namespace/endpoint"),
    ],
    ids=["demand never seen", "a name that no model can have"],
)
def test_an_endpoint_that_cannot_be_fitted_is_named_and_the_others_are_kept(
    key: str, history: History, words: str
) -> None:
    store = ModelStore(f"memory://some-fail-{len(key)}")
    report = fit_and_keep({key: history, **histories(2)}, store, "profile", "processes", nothing_said)
    assert [card["key"] for card in report.cards] == ["prod/e0", "prod/e1"]
    assert list(report.problems) == [key]
    assert words in report.problems[key]


@pytest.mark.usefixtures("one_process")
def test_a_store_that_refuses_one_endpoints_model_keeps_those_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "prod" / "e0" / "card.json.writing").mkdir(parents=True)  # stands in the way
    report = fit_and_keep(histories(3), ModelStore(str(tmp_path)), "profile", "processes", nothing_said)
    assert [card["key"] for card in report.cards] == ["prod/e1", "prod/e2"]
    assert list(report.problems) == ["prod/e0"]
    assert "could not write the model of prod/e0" in report.problems["prod/e0"]


@pytest.mark.usefixtures("one_process")
def test_a_full_disk_is_told_of_every_endpoint(tmp_path: Path) -> None:
    with no_file_longer_than(10):
        report = fit_and_keep(histories(3), ModelStore(str(tmp_path)), "profile", "processes", nothing_said)
    assert (report.cards, list(report.problems)) == ((), ["prod/e0", "prod/e1", "prod/e2"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("stored", [False, True], ids=["fitted now", "kept"])
def test_an_endpoint_that_cannot_be_forecast_is_named_and_the_others_are_forecast(stored: bool) -> None:
    store = ModelStore(f"memory://some-forecast-{stored}")
    fit_and_keep(histories(2), store, "profile", "processes", nothing_said)
    some = {"prod/unseen": UNSEEN, **histories(2)}
    report = forecast_all(some, store, None if stored else "profile", None, nothing_said, stored=stored)
    assert list(report.forecasts) == ["prod/e0", "prod/e1"]
    assert report.problems == {"prod/unseen": "told of no demand"}


@pytest.mark.usefixtures("one_process")
def test_a_kept_model_of_another_calendar_is_not_taken_for_the_one_that_was_asked_for() -> None:
    store, kept = ModelStore("memory://other-calendar"), histories(1)
    fit_and_keep(kept, store, "profile", "processes", nothing_said)
    asked = {key: replace(one, calendar=DemandCalendar(timezone="Asia/Tokyo")) for key, one in kept.items()}
    report = forecast_all(asked, store, None, None, nothing_said, stored=True)
    assert not report.forecasts
    assert "found UTC" in report.problems["prod/e0"]
    assert "asked for Asia/Tokyo" in report.problems["prod/e0"]


@pytest.mark.usefixtures("one_process")
def test_each_endpoint_has_its_own_method_and_horizon_unless_another_is_named() -> None:
    own = {
        key: replace(history, method=method, horizon=timedelta(hours=2))
        for (key, history), method in zip(histories(2).items(), ("persistence", "profile"), strict=True)
    }
    store = ModelStore("memory://own-method")
    report = fit_and_keep(own, store, None, "processes", nothing_said)
    assert [card["method"] for card in report.cards] == ["persistence", "profile"]
    made = forecast_all(own, store, None, None, nothing_said).forecasts
    assert [(one.method, len(one)) for one in made.values()] == [("persistence", 4), ("profile", 4)]
    named = forecast_all(own, store, "climate", timedelta(hours=6), nothing_said).forecasts
    assert [(one.method, len(one)) for one in named.values()] == [("climate", 12), ("climate", 12)]


def test_an_engine_that_is_not_installed_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"headstart\[ray\]"):
        workers_of("ray")
