"""Many endpoints: fitted together or apart, here or on a cluster, it is the same."""

import importlib.util
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pytest

from forecaster.backtest import backtest
from forecaster.calendar import DemandCalendar
from forecaster.errors import ShortHistory
from forecaster.fleet import FitJob, Workers, _mapped, backtest_many, fit_many
from forecaster.forecaster import Forecaster
from forecaster.methods.registry import METHODS
from forecaster.store import ModelStore
from tests.forecaster.samples import MONDAY, a_series, daily_counts

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
HISTORIES = {f"prod/e{i}": a_series(daily_counts(9, HOUR, seed=i), HOUR) for i in range(4)}


def jobs(method: str, histories=HISTORIES) -> list[FitJob]:
    return [FitJob(key=key, series=one, forecaster=Forecaster(method=method)) for key, one in histories.items()]


def day_of(model, series):
    return Forecaster().forecast(model, series, issued_at=series.end, horizon=DAY).values


def days_of(results, histories=HISTORIES):
    """By key: results come in any order."""
    ordered = sorted(results, key=lambda result: (result.model.method, result.key))
    return np.stack([day_of(result.model, histories[result.key]) for result in ordered])


def test_endpoints_fitted_together_have_the_path_that_each_has_alone():
    together = list(fit_many(jobs("imapa"), Workers(), with_scores=False))
    alone = [Forecaster(method="imapa").fit(key, one) for key, one in HISTORIES.items()]
    assert [result.key for result in together] == list(HISTORIES)
    for result, own in zip(together, alone, strict=True):
        np.testing.assert_allclose(result.model.learnt.path, own.learnt.path)
        assert result.model.data_digest == own.data_digest


def test_a_model_across_endpoints_is_fitted_once_for_all_of_them():
    few = {key: HISTORIES[key].since(MONDAY + 6 * DAY) for key in ("prod/e0", "prod/e1")}
    one, other = fit_many(jobs("global_residual", few), Workers(), with_scores=False)
    assert one.model.learnt is other.model.learnt
    assert (one.model.data_digest, one.model.key) != (other.model.data_digest, other.model.key)


def test_a_young_and_an_unseen_endpoint_spoil_nothing():
    unseen = a_series(np.full(9 * 24, np.nan), HOUR)
    young = a_series(np.where(np.arange(9 * 24) < 200, np.nan, 5.0), HOUR)
    found = list(fit_many(jobs("imapa", {**HISTORIES, "prod/unseen": unseen, "prod/young": young}), Workers()))
    assert [result.model is None for result in found] == [False] * 4 + [True, False]
    assert "0 seen" in found[4].problem
    assert (found[5].model.method, found[5].model.fell_back_from) == ("persistence", "imapa")
    assert [result.model.method for result in found[:4]] == ["imapa"] * 4


def test_processes_give_what_one_gives():
    here = days_of(fit_many(jobs("profile"), Workers(), with_scores=False))
    shared = days_of(fit_many(jobs("profile"), Workers(processes=2), with_scores=False))
    np.testing.assert_array_equal(shared, here)


class Sleep(NamedTuple):
    seconds: float

    def run(self) -> float:
        time.sleep(self.seconds)
        return self.seconds


def test_work_that_is_broken_off_ends_at_once():
    began = time.monotonic()
    with closing(_mapped([Sleep(0.01), *[Sleep(240.0)] * 8], Workers(processes=2))) as found:
        assert next(found) == 0.01
    assert time.monotonic() - began < 120.0  # half of one such piece of work: the start of processes is in it


def test_nothing_to_do_is_nothing_done():
    assert list(fit_many([], Workers(processes=2))) == []


def test_an_endpoint_is_backtested_as_if_it_were_alone():
    how = {"leads": [HOUR], "warmup": 6 * DAY, "every": HOUR, "method": METHODS["profile"]}
    late = {**HISTORIES, "prod/late": a_series(daily_counts(4, HOUR, seed=9), HOUR, start=MONDAY + 5 * DAY)}
    many = backtest_many(late, Workers(processes=2), **how)
    alone = backtest({"prod/e2": HISTORIES["prod/e2"]}, **how)
    assert many.keys == tuple(late)
    np.testing.assert_array_equal(many.origins, alone.origins)
    np.testing.assert_array_equal(many.quantiles[2], alone.quantiles[0])


def test_an_endpoint_that_was_never_seen_is_left_out_and_where_none_was_that_is_said():
    how = {"leads": [HOUR], "warmup": 6 * DAY, "every": HOUR, "method": METHODS["profile"]}
    unseen = {"prod/unseen": a_series(np.full(9 * 24, np.nan), HOUR)}
    many = backtest_many({**HISTORIES, **unseen}, Workers(), **how)
    assert {key for key, *_, values in many.rows() if np.isfinite(values).all()} == set(HISTORIES)
    with pytest.raises(ShortHistory, match="no demand was seen after the warm-up of 144 h"):
        backtest_many(unseen, Workers(), **how)


def test_a_model_across_endpoints_sees_all_of_them():
    how = {"leads": [HOUR], "warmup": 8 * DAY, "every": 20 * HOUR, "method": METHODS["global_residual"]}
    two = {key: HISTORIES[key] for key in ("prod/e0", "prod/e1")}
    many = backtest_many(two, Workers(processes=2), **how)
    np.testing.assert_array_equal(many.quantiles, backtest(two, **how).quantiles)


def test_scores_are_those_of_a_day_that_the_method_had_not_seen():
    shifted = HISTORIES["prod/e0"].values.copy()
    shifted[-24:] *= 3.0
    changed = {"prod/e0": replace(HISTORIES["prod/e0"], values=shifted)}
    usual, after_shift = (
        next(iter(fit_many(jobs("seasonal_naive_day", some), Workers()))) for some in (HISTORIES, changed)
    )
    assert usual.scores["3600s"]["coverage"]["0.9"]["at_most"] > 0.7
    assert after_shift.scores["21600s"]["coverage"]["0.9"]["at_most"] < 0.5
    assert after_shift.scores["3600s"]["wql"] > 2 * usual.scores["3600s"]["wql"]


@pytest.mark.parametrize("method", ["moving_mean", "auto"])
def test_a_card_scores_what_was_told_before_an_outage_was_known_for_one(method):
    step = timedelta(minutes=30)
    counts = daily_counts(5, step, mean_per_bin=60)
    counts[-20:-16] = 0.0  # two hours, eight hours before the end: not learnt, but nobody knew then
    usual, outage = (
        next(iter(fit_many(jobs(method, {"prod/chat": a_series(some, step)}), Workers()))).scores["3600s"]
        for some in (daily_counts(5, step, mean_per_bin=60), counts)
    )
    assert outage["n_scored"] == usual["n_scored"]
    assert outage["wql"] > 1.1 * usual["wql"]


def test_bins_of_two_days_are_fitted_scored_and_forecast():
    step = 2 * DAY
    history = {"prod/slow": a_series(daily_counts(120, step, mean_per_bin=900), step)}
    (found,) = fit_many(jobs("profile", history), Workers())
    assert found.scores
    told = Forecaster().forecast(found.model, history["prod/slow"], issued_at=history["prod/slow"].end, horizon=DAY)
    assert np.isfinite(told.values).all()


def test_the_card_of_auto_has_weights_scores_and_coverage_by_lead():
    step = timedelta(minutes=30)
    history = {"prod/chat": a_series(daily_counts(5, step), step)}
    (found,) = fit_many(jobs("auto", history), Workers())
    card = ModelStore("memory://cards").save(found.model, found.scores)
    for lead in ("3600s", "21600s"):
        assert sum(card["leads"][lead]["weights"].values()) == pytest.approx(1.0, abs=0.01)
        assert card["scores"][lead]["n_scored"] > 50
        assert {"below", "at_most", "deviation", "band"} == set(card["scores"][lead]["coverage"]["0.95"])


def test_a_model_is_current_until_history_method_calendar_or_code_change(monkeypatch):
    store, series, forecaster = ModelStore("memory://current"), HISTORIES["prod/e1"], Forecaster(method="profile")
    assert not store.is_current("prod/e1", forecaster, series)
    store.save(forecaster.fit("prod/e1", series))
    assert store.is_current("prod/e1", forecaster, series)
    assert store.previous("prod/e1", forecaster) is not None
    assert not store.is_current("prod/e1", forecaster, series.until(MONDAY + 8 * DAY))
    for other in (Forecaster(method="climate"), replace(forecaster, calendar=DemandCalendar(timezone="Asia/Tokyo"))):
        assert not store.is_current("prod/e1", other, series)
        assert store.previous("prod/e1", other) is None
    monkeypatch.setattr("forecaster.store.code_version", lambda: "0.0.1+00000000")
    assert not store.is_current("prod/e1", forecaster, series)


def test_a_new_endpoint_starts_from_what_the_kept_models_weigh():
    store = ModelStore("memory://prior")
    assert store.prior() == ()
    store.save(Forecaster(method="auto").fit("prod/old", HISTORIES["prod/e0"]))
    prior = store.prior()
    young, old = HISTORIES["prod/e1"].since(MONDAY + 6 * DAY), HISTORIES["prod/e1"]
    forecaster = Forecaster(method="auto", prior=prior)
    assert sum(prior) == pytest.approx(1.0, abs=0.01)
    half_way = 0.5 * np.array(prior) + 0.5 / len(prior)
    assert forecaster.fit("prod/new", young).learnt.method.prior == pytest.approx(half_way)
    assert forecaster.fit("prod/known", old).learnt.method.prior == ()
    store.save(forecaster.fit("prod/new", young))
    assert store.load("prod/new").learnt.method.prior == pytest.approx(half_way)


def dask_cluster():
    from dask.distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
    return Client(cluster), cluster


@pytest.mark.filterwarnings("ignore")  # of the clusters' own libraries, about their own internals
@pytest.mark.timeout(280)
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_local_cluster_gives_what_one_process_gives(engine):
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"the extra is not installed: pip install 'headstart[{engine}]'")
    both = [*jobs("imapa"), *jobs("profile")]
    alone = days_of(fit_many(both, Workers(), with_scores=False))
    if engine == "dask":
        client, cluster = dask_cluster()
        with cluster, client:
            shared = days_of(fit_many(both, Workers(engine="dask"), with_scores=False))
    else:
        import ray

        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
        try:
            shared = days_of(fit_many(both, Workers(engine="ray"), with_scores=False))
        finally:
            ray.shutdown()
    np.testing.assert_allclose(shared, alone)
