"""`headstart fit`: what is due is fitted, what is kept is left, one that fails stops no other."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from forecaster.calendar import DemandCalendar
from forecaster.series import DemandSeries, DemandUnit
from forecaster.store import ModelStore
from scaler.app import fitting
from scaler.app.fitting import fit_and_keep, workers_of
from scaler.app.histories import History
from scaler.errors import SettingsError

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


@pytest.mark.usefixtures("one_process")
def test_an_endpoint_that_cannot_be_fitted_is_named_and_the_others_are_kept() -> None:
    some = dict(histories(2))
    unseen = DemandSeries(unit=DemandUnit.REQUESTS, start=START, step=STEP, values=np.full(96, np.nan))
    some["prod/unseen"] = History(series=unseen, calendar=DemandCalendar())
    report = fit_and_keep(some, ModelStore("memory://some-fail"), "profile", "processes", nothing_said)
    assert len(report.cards) == 2
    assert list(report.problems) == ["prod/unseen"]


def test_an_engine_that_is_not_installed_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"headstart\[ray\]"):
        workers_of("ray")
