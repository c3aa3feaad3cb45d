"""`headstart fit` and `forecast`: endpoints fitted where they are due, and each kept as soon as it is there."""

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from forecaster.auto import Auto
from forecaster.calendar import DemandCalendar
from forecaster.catalogue import method_named
from forecaster.errors import BadKey, BadSeries, ShortHistory, StoreError
from forecaster.fleet import FitJob, FitResult, Workers, fit_many
from forecaster.forecast import DemandForecast
from forecaster.forecaster import FittedModel, Forecaster, is_new
from forecaster.methods.base import Method
from forecaster.selection import OperatingPoint
from forecaster.series import DemandUnit
from forecaster.store import Card, ModelStore, check_key
from scaler.adapters.policies import load_policy
from scaler.app.dayahead import calendar_of
from scaler.app.histories import History
from scaler.domain.policy import Forecast
from scaler.errors import SettingsError

PROCESSES = "processes"
CARRIED_ON = ("auto", "global_residual")
AT_ONCE = 128
"""Endpoints whose kept models are in memory together: those of `auto` are megabytes each."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a backtest is made and judged. Without a policy: of requests, in UTC, by the pinball loss,
    `demand_per_replica` None."""

    method: Method
    unit: DemandUnit = DemandUnit.REQUESTS
    calendar: DemandCalendar | None = None
    demand_per_replica: float | None = None


def scoring_for(policy: Path | None, method: str | None) -> Scoring:
    """By the policy, if there is one: its unit, its calendar, its method unless another is named, and the pool weighed
    by what its replicas would have cost and missed at its risk (`auto`: at its objective). Raises UnknownMethod,
    PolicyError."""
    if policy is None:
        return Scoring(method=method_named(method or Forecast().method))
    found = load_policy(policy)
    spec = found.spec
    chosen = method_named(method or spec.forecast.method)
    risk = spec.slo.objective if spec.forecast.risk == "auto" else spec.forecast.risk
    if isinstance(chosen, Auto):
        point = OperatingPoint(level=risk, demand_per_replica=spec.capacity.per_replica)
        chosen = replace(chosen, operating=point)
    return Scoring(
        method=chosen,
        unit=spec.demand.unit,
        calendar=calendar_of(found),
        demand_per_replica=spec.capacity.per_replica,
    )


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """The cards of what was fitted and kept, how many endpoints needed nothing, and which could not be fitted or kept:
    why."""

    cards: tuple[Card, ...]
    unchanged: int
    problems: Mapping[str, str]


def fit_and_keep(
    histories: Mapping[str, History],
    store: ModelStore,
    method: str | None,
    engine: str,
    progress: Callable[[int, int], None],
) -> FitReport:
    """Fit every endpoint but those whose kept model is what would come of it, by the method that is named or else its
    history's own. New endpoints come last and start from the weights that the kept models teach. An endpoint whose
    demand was never seen, whose name no model can have, or whose model the store does not take, is a problem of its
    own. Raises SettingsError for an engine that is not installed."""
    workers = workers_of(engine)
    problems = {key: problem for key, history in histories.items() if (problem := _unfit(key, history))}
    fit = {key: _by_method(history, method) for key, history in histories.items() if key not in problems}
    due = {
        key: history
        for key, history in fit.items()
        if not store.is_current(key, Forecaster(method=history.method, calendar=history.calendar), history.series)
    }
    to_do = len(due) + len(problems)
    new = [key for key, history in due.items() if is_new(history.series)]
    known = [key for key in due if key not in set(new)]
    cards: list[Card] = []
    for phase in (known, new):
        prior = store.prior() if phase is new and new else ()
        for first in range(0, len(phase), AT_ONCE):
            jobs = [_job(key, due[key], prior, store) for key in phase[first : first + AT_ONCE]]
            with closing(fit_many(jobs, workers)) as results:
                for result in results:
                    _keep(result, store, cards, problems)
                    progress(len(cards) + len(problems), to_do)
    cards.sort(key=lambda card: str(card["key"]))
    return FitReport(cards=tuple(cards), unchanged=len(fit) - len(due), problems=problems)


def _keep(result: FitResult, store: ModelStore, cards: list[Card], problems: dict[str, str]) -> None:
    """The card of the model, which is kept now, or the problem is added: a disk that is full ends no fleet's fit."""
    if result.model is None:
        problems[result.key] = result.problem
        return
    try:
        cards.append(store.save(result.model, result.scores))
    except StoreError as error:
        problems[result.key] = str(error)


def _unfit(key: str, history: History) -> str:
    """Why the endpoint's model cannot be fitted and kept, whatever the method; "" if it can."""
    try:
        check_key(key)
    except BadKey as error:
        return str(error)
    return _unseen(history)


def _unseen(history: History) -> str:
    return "" if np.isfinite(history.series.values).any() else history.if_unseen


def _by_method(history: History, method: str | None) -> History:
    return history if method is None else replace(history, method=method)


def _job(key: str, history: History, prior: tuple[float, ...], store: ModelStore | None = None) -> FitJob:
    """With a store the job carries on the kept model where its method gains by that."""
    forecaster = Forecaster(method=history.method, calendar=history.calendar, prior=prior)
    previous = store.previous(key, forecaster) if store is not None and history.method in CARRIED_ON else None
    return FitJob(key=key, series=history.series, forecaster=forecaster, previous=previous)


@dataclass(frozen=True, kw_only=True)
class ForecastReport:
    """The forecasts by endpoint, and which endpoints could not be forecast: why."""

    forecasts: Mapping[str, DemandForecast]
    problems: Mapping[str, str]


def forecast_all(
    histories: Mapping[str, History],
    store: ModelStore,
    method: str | None,
    horizon: timedelta | None,
    progress: Callable[[int, int], None],
    *,
    stored: bool = False,
) -> ForecastReport:
    """Each endpoint's forecast from the end of its history on: by a model fitted now, by the method that is named or
    else its history's own, or by the kept one if `stored`. `horizon` None: as far as its history asks for."""
    problems = {key: problem for key, history in histories.items() if (problem := _unseen(history))}
    seen = {key: _by_method(history, method) for key, history in histories.items() if key not in problems}
    models = _kept(seen, store, problems) if stored else _fitted(seen, store.prior(), problems, progress)
    forecasts = {}
    for key, history in seen.items():
        if key not in models:
            continue
        span = history.horizon if horizon is None else horizon
        try:
            forecasts[key] = Forecaster().forecast(
                models[key], history.series, issued_at=history.series.end, horizon=span
            )
        except (BadSeries, ShortHistory) as error:
            problems[key] = str(error)
    return ForecastReport(forecasts=forecasts, problems=problems)


def _kept(histories: Mapping[str, History], store: ModelStore, problems: dict[str, str]) -> Mapping[str, FittedModel]:
    """The models that the store has for the calendars of the histories; the others' problems are added."""
    models = {}
    for key, history in histories.items():
        try:
            kept = store.load(key)
        except StoreError as error:
            problems[key] = str(error)
            continue
        if kept.calendar == history.calendar:
            models[key] = kept
        else:
            problems[key] = (
                f"the kept model is of another calendar: found {_said(kept.calendar)}, asked for "
                f"{_said(history.calendar)}; fit it again, or name the policy that it was fitted by"
            )
    return models


def _said(calendar: DemandCalendar) -> str:
    events = f"{len(calendar.events)} events"
    return f"{calendar.timezone}, holidays {calendar.holidays_of or 'of nowhere'}, {events}"


def _fitted(
    histories: Mapping[str, History],
    prior: tuple[float, ...],
    problems: dict[str, str],
    progress: Callable[[int, int], None],
) -> Mapping[str, FittedModel]:
    """Models fitted now; the problems of those that cannot be are added."""
    jobs = [_job(key, history, prior) for key, history in histories.items()]
    models = {}
    with closing(fit_many(jobs, workers_of(PROCESSES), with_scores=False)) as results:
        for done, result in enumerate(results, start=1):
            if result.model is None:
                problems[result.key] = result.problem
            else:
                models[result.key] = result.model
            progress(done, len(jobs))
    return models


def workers_of(engine: str) -> Workers:
    """All processors of this machine, or the cluster of an engine. Raises SettingsError where its extra is absent."""
    if engine == PROCESSES:
        return Workers(processes=os.cpu_count() or 1)
    if find_spec(engine) is None or find_spec("fugue") is None:
        raise SettingsError(f"--engine: {engine} is not installed: pip install 'headstart[{engine}]'")
    return Workers(engine=engine)
