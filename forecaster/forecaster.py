"""The door of this package for a service: fit an endpoint's history, forecast its next hours.

    forecaster = Forecaster(method="auto", calendar=DemandCalendar(timezone="Europe/Berlin", holidays_of="DE"))
    model = forecaster.fit("prod/chat-7b", history)
    forecast = forecaster.forecast(model, history, issued_at=now, horizon=timedelta(hours=24))

`fit` is the slow part (a second or so for `auto`; nothing for simple methods) and is meant to run hourly or daily;
`forecast` takes milliseconds and is given the newest history each time. models are kept by forecaster.store.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from forecaster.calendar import DemandCalendar, IntArray
from forecaster.catalogue import method_named
from forecaster.errors import ShortHistory
from forecaster.forecast import DEFAULT_LEVELS, DemandForecast
from forecaster.methods.base import FittedMethod
from forecaster.methods.registry import METHODS
from forecaster.panel import Panel
from forecaster.series import DemandSeries, DemandUnit, FloatArray, require_utc

SHORTEST_HISTORY = timedelta(
    hours=24
)  # below it nothing but the present is trusted (the rule of AWS predictive scaling)
FALLBACK = "persistence"
# Learnt at these leads; a path is interpolated between them where a method does not say more.
LEADS_SECONDS = (60, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, 64_800, 86_400)
FEW_BINS = 30  # with fewer bins seen, errors of persistence say little and a guess widens them


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedModel:
    """What was learnt of one endpoint. `fell_back_from` is the method asked for if it could not be used, else ""."""

    key: str
    method: str
    fell_back_from: str
    unit: DemandUnit
    step: timedelta
    fitted_until: datetime
    calendar: DemandCalendar
    data_digest: str
    learnt: FittedMethod


@dataclass(frozen=True, kw_only=True)
class Forecaster:
    """Fits and forecasts endpoints by one method. Holds no state: what is learnt is in the FittedModel."""

    method: str = "auto"
    calendar: DemandCalendar = field(default_factory=DemandCalendar)

    def __post_init__(self) -> None:
        method_named(self.method)

    def fit(self, endpoint_key: str, series: DemandSeries, previous: FittedModel | None = None) -> FittedModel:
        """Learn from the whole series. With less than SHORTEST_HISTORY seen, or too little for the method, the model is
        that of persistence and says so. `previous`, the last model of this endpoint, saves work: `auto` then only
        carries its ledger on, and fits its members anew once a day. Raises ShortHistory if not a single bin was
        seen."""
        if not np.any(np.isfinite(series.values)):
            raise ShortHistory(f"fit {endpoint_key}: have 0 seen of {len(series)} steps, need at least 1")
        panel = _panel(endpoint_key, series, self.calendar)
        name = self.method
        learnt: FittedMethod | None = None
        before = previous.learnt if previous is not None and previous.method == name else None
        if name != FALLBACK and _seen(series) < SHORTEST_HISTORY:
            name = FALLBACK
        try:
            learnt = method_named(name).fit(panel, _steps_learnt(panel), before)
        except ShortHistory:
            name = FALLBACK
        return FittedModel(
            key=endpoint_key,
            method=name,
            fell_back_from=self.method if name != self.method else "",
            unit=series.unit,
            step=series.step,
            fitted_until=series.end,
            calendar=self.calendar,
            data_digest=data_digest(series),
            learnt=learnt or METHODS[FALLBACK].fit(panel, _steps_learnt(panel)),
        )

    def forecast(
        self,
        fitted: FittedModel,
        series: DemandSeries,
        *,
        issued_at: datetime,
        horizon: timedelta,
        levels: Sequence[float] = DEFAULT_LEVELS,
    ) -> DemandForecast:
        """Quantiles for the bins from the one in progress at `issued_at` to `horizon` later, from bins ended by then.

        The series is the newest history on the grid that the model was fitted on; it may begin later than at the fit,
        and bins between its end and `issued_at` count as not seen. Raises ShortHistory if nothing was seen.
        """
        require_utc(issued_at, "forecast issued_at")
        known = _extended(series.until(issued_at), issued_at)
        panel = _panel(fitted.key, known, fitted.calendar)
        level_array = np.asarray(levels, dtype=np.float64)
        steps_ahead = np.arange(max(-(-horizon // series.step), 1), dtype=np.int64)
        values = _next_path(fitted.learnt, panel, steps_ahead, level_array)
        method, fell_back_from = fitted.method, fitted.fell_back_from
        if not np.all(np.isfinite(values)):
            raise ShortHistory(
                f"forecast {fitted.key}: nothing seen in {len(known)} steps before {issued_at}, need at least 1"
            )
        if method == FALLBACK and np.isfinite(known.values).sum() < FEW_BINS:
            values = _widened(values, known, level_array)
        start = known.end
        if fitted.calendar.events:
            values = values * fitted.calendar.factors(start, series.step, len(values))[:, None]
        return DemandForecast(
            issued_at=issued_at,
            start=start,
            step=series.step,
            quantile_levels=level_array,
            values=np.maximum.accumulate(np.maximum(values, 0.0), axis=1),
            method=method,
            fell_back_from=fell_back_from,
        )


def data_digest(series: DemandSeries) -> str:
    """SHA-256 of what was learnt from: the same history gives the same digest."""
    head = f"{series.unit.value} {series.start.isoformat()} {series.step_seconds} ".encode()
    return hashlib.sha256(head + series.values.tobytes()).hexdigest()


def _panel(key: str, series: DemandSeries, calendar: DemandCalendar) -> Panel:
    """The series as methods see it: planned events taken out, so that they are not learnt as a season."""
    values = series.values
    if calendar.events:
        values = values / calendar.factors(series.start, series.step, len(series))
    plain = replace(calendar, events=())
    return Panel(keys=(key,), start=series.start, step=series.step, values=values[None, :], calendar=plain)


def _extended(series: DemandSeries, when: datetime) -> DemandSeries:
    """The series with unseen bins added up to the one in progress at `when`."""
    n_missing = (when - series.end) // series.step
    if n_missing <= 0:
        return series
    values = np.concatenate([series.values, np.full(n_missing, np.nan)])
    return DemandSeries(unit=series.unit, start=series.start, step=series.step, values=values)


def _seen(series: DemandSeries) -> timedelta:
    return int(np.isfinite(series.values).sum()) * series.step


def _steps_learnt(panel: Panel) -> IntArray:
    return np.unique([max(round(seconds / panel.step_seconds), 0) for seconds in LEADS_SECONDS]).astype(np.int64)


def _next_path(learnt: FittedMethod, panel: Panel, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
    return np.asarray(learnt.quantiles(panel, np.array([panel.n_steps]), steps_ahead, levels)[0, 0])


def _widened(values: FloatArray, series: DemandSeries, levels: FloatArray) -> FloatArray:
    """With a handful of bins: at least a log-normal around what was seen, whose spread (a factor of three for one
    standard deviation with a single bin) falls with the number of bins."""
    from statistics import NormalDist

    seen = series.values[np.isfinite(series.values)]
    middle = max(float(seen.mean()), 0.5 / series.step_seconds)
    spread = 1.1 / np.sqrt(1.0 + len(seen) / 5.0)
    guess = np.array([middle * np.exp(spread * NormalDist().inv_cdf(float(level))) for level in levels])
    return np.asarray(np.where(levels > 0.5, np.maximum(values, guess), np.minimum(values, guess)))
