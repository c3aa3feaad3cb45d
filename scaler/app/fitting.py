"""`headstart fit` and `forecast`: endpoints fitted where they are due, and each kept as soon as it is there."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from forecaster.auto import Auto
from forecaster.calendar import DemandCalendar
from forecaster.catalogue import method_named
from forecaster.errors import ShortHistory
from forecaster.fleet import FitJob, Workers, fit_many
from forecaster.forecast import DemandForecast
from forecaster.forecaster import Forecaster, is_new
from forecaster.methods.base import Method
from forecaster.selection import OperatingPoint
from forecaster.store import Card, ModelStore
from scaler.adapters.policies import load_policy
from scaler.app.dayahead import calendar_of
from scaler.app.histories import History
from scaler.errors import SettingsError

PROCESSES = "processes"
CARRIED_ON = ("auto", "global_residual")
AT_ONCE = 128
"""Endpoints whose kept models are in memory together: those of `auto` are megabytes each."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a backtest is made and judged. Without a policy: in UTC, by the pinball loss, `demand_per_replica` None."""

    method: Method
    calendar: DemandCalendar | None = None
    demand_per_replica: float | None = None


def scoring_for(policy: Path | None, method: str) -> Scoring:
    """By the policy, if there is one: its calendar, and the pool weighed by what its replicas would have cost and
    missed at its risk (`auto`: at its objective). Raises UnknownMethod, PolicyError."""
    chosen = method_named(method)
    if policy is None:
        return Scoring(method=chosen)
    found = load_policy(policy)
    spec = found.spec
    risk = spec.slo.objective if spec.forecast.risk == "auto" else spec.forecast.risk
    if isinstance(chosen, Auto):
        point = OperatingPoint(level=risk, demand_per_replica=spec.capacity.per_replica)
        chosen = replace(chosen, operating=point)
    return Scoring(method=chosen, calendar=calendar_of(found), demand_per_replica=spec.capacity.per_replica)


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """The cards of what was fitted and kept, how many endpoints needed nothing, and which could not be fitted: why."""

    cards: tuple[Card, ...]
    unchanged: int
    problems: Mapping[str, str]


def fit_and_keep(
    histories: Mapping[str, History],
    store: ModelStore,
    method: str,
    engine: str,
    progress: Callable[[int, int], None],
) -> FitReport:
    """Fit every endpoint but those whose kept model is what would come of it. New endpoints come last and start from
    the weights that the kept models teach. Raises SettingsError for an engine that is not installed, StoreError where
    a model cannot be kept."""
    workers = workers_of(engine)
    due = {
        key: history
        for key, history in histories.items()
        if not store.is_current(key, Forecaster(method=method, calendar=history.calendar), history.series)
    }
    new = [key for key, history in due.items() if is_new(history.series)]
    known = [key for key in due if key not in set(new)]
    cards: list[Card] = []
    problems: dict[str, str] = {}
    for phase in (known, new):
        prior = store.prior() if phase is new and new else ()
        for first in range(0, len(phase), AT_ONCE):
            jobs = [_job(key, due[key], method, prior, store) for key in phase[first : first + AT_ONCE]]
            for result in fit_many(jobs, workers):
                if result.model is None:
                    problems[result.key] = result.problem
                else:
                    cards.append(store.save(result.model, result.scores))
                progress(len(cards) + len(problems), len(due))
    cards.sort(key=lambda card: str(card["key"]))
    return FitReport(cards=tuple(cards), unchanged=len(histories) - len(due), problems=problems)


def _job(key: str, history: History, method: str, prior: tuple[float, ...], store: ModelStore | None = None) -> FitJob:
    """With a store the job carries on the kept model where its method gains by that."""
    forecaster = Forecaster(method=method, calendar=history.calendar, prior=prior)
    previous = store.previous(key, forecaster) if store is not None and method in CARRIED_ON else None
    return FitJob(key=key, series=history.series, forecaster=forecaster, previous=previous)


def forecast_all(
    histories: Mapping[str, History],
    store: ModelStore,
    method: str | None,
    horizon: timedelta,
    progress: Callable[[int, int], None],
) -> dict[str, DemandForecast]:
    """Each endpoint's forecast from the end of its history on: by a model fitted now, or by the kept one where no
    method is named. Raises the ForecasterError of the first endpoint that cannot be forecast."""
    if method is None:
        models = {key: store.load(key) for key in histories}
    else:
        prior = store.prior()
        jobs = [_job(key, history, method, prior) for key, history in histories.items()]
        models = {}
        for result in fit_many(jobs, workers_of(PROCESSES), with_scores=False):
            if result.model is None:
                raise ShortHistory(result.problem)
            models[result.key] = result.model
            progress(len(models), len(jobs))
    return {
        key: Forecaster().forecast(models[key], history.series, issued_at=history.series.end, horizon=horizon)
        for key, history in histories.items()
    }


def workers_of(engine: str) -> Workers:
    """All processors of this machine, or the cluster of an engine. Raises SettingsError where its extra is absent."""
    if engine == PROCESSES:
        return Workers(processes=os.cpu_count() or 1)
    if find_spec(engine) is None or find_spec("fugue") is None:
        raise SettingsError(f"--engine: {engine} is not installed: pip install 'headstart[{engine}]'")
    return Workers(engine=engine)
