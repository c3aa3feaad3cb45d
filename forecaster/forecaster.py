"""The door of this package for a service: fit an endpoint's history, forecast its next hours.

    forecaster = Forecaster(method="auto", calendar=DemandCalendar(timezone="Europe/Berlin", holidays_of="DE"))
    model = forecaster.fit("prod/chat-7b", history)
    forecast = forecaster.forecast(model, history, issued_at=now, horizon=timedelta(hours=24))

`fit` is the slow part (seconds for `auto` on weeks of history; nothing for simple methods) and is meant to run hourly
or daily; `forecast` is given the newest history each time. Models are kept by forecaster.store.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from forecaster.auto import Auto
from forecaster.calendar import DemandCalendar, IntArray
from forecaster.catalogue import method_named
from forecaster.errors import BadSeries, ShortHistory
from forecaster.forecast import DEFAULT_LEVELS, DemandForecast
from forecaster.methods.base import FittedMethod, Method
from forecaster.methods.global_residual import GlobalResidual
from forecaster.methods.registry import METHODS
from forecaster.methods.statistical import FittedStatistical, Statistical
from forecaster.panel import Panel
from forecaster.repair import repaired
from forecaster.series import DemandSeries, DemandUnit, FloatArray, require_utc

SHORTEST_HISTORY = timedelta(
    hours=24
)  # below it nothing but the present is trusted (the rule of AWS predictive scaling)
FALLBACK = "persistence"
NEW_ENDPOINT = timedelta(days=7)
"""With less than this seen, `auto` starts from the weights that the fleet taught ..."""
PRIOR_TRUST = 0.5
"""... half way from equal ones: a young endpoint rewards methods that need no history (docs/decisions/0011)."""
STATISTICAL_AT_ONCE = 32
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
    """Fits and forecasts endpoints by one method. Holds no state: what is learnt is in the FittedModel.

    `prior` are the weights of the members of `auto` for endpoints seen for less than NEW_ENDPOINT, as
    auto.fleet_prior gives them; () for equal ones.
    """

    method: str = "auto"
    calendar: DemandCalendar = field(default_factory=DemandCalendar)
    prior: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        method_named(self.method)

    def fit(self, endpoint_key: str, series: DemandSeries, previous: FittedModel | None = None) -> FittedModel:
        """Learn from the whole series, but for what looks like an outage or a broken signal (forecaster.repair). With
        less than SHORTEST_HISTORY seen, or too little for the method, the model is that of persistence and says so.
        `previous`, the last model of this endpoint, is what `auto` carries on (it fits its members anew once a day) and
        what a model across endpoints must be beaten by. Raises ShortHistory if not a single bin was seen."""
        if not np.any(np.isfinite(series.values)):
            raise ShortHistory(f"fit {endpoint_key}: have 0 seen of {len(series)} steps, need at least 1")
        panel = panel_of({endpoint_key: repaired(series).series}, self.calendar)
        if self.method == FALLBACK or _seen(series) < SHORTEST_HISTORY:
            return self._fallen_back(endpoint_key, series, panel)
        try:
            learnt = self._method_for(series).fit(panel, steps_learnt(panel), self._carried_on(previous))
        except ShortHistory:
            return self._fallen_back(endpoint_key, series, panel)
        return self._model(endpoint_key, series, self.method, learnt)

    def fit_together(
        self, series_by_key: Mapping[str, DemandSeries], previous: FittedModel | None = None
    ) -> list[FittedModel]:
        """The models of endpoints that are seen over the same span, fitted in one pass where the method can, else one
        after another; in the order of the mapping. `previous` is the last model across endpoints. Raises as `fit`
        does."""
        first = next(iter(series_by_key.values()))
        one_grid = all(on_same_grid(series, first) for series in series_by_key.values())
        enough = all(_seen(series) >= SHORTEST_HISTORY for series in series_by_key.values())
        learnt = None
        if self.at_once > 1 and one_grid and enough:
            learnt = self._learnt_together(series_by_key, previous)
        if learnt is None:
            return [self.fit(key, series) for key, series in series_by_key.items()]
        return [
            self._model(
                key, series, self.method, learnt.of_series(i) if isinstance(learnt, FittedStatistical) else learnt
            )
            for i, (key, series) in enumerate(series_by_key.items())
        ]

    @property
    def at_once(self) -> int:
        """How many endpoints are best fitted together: some by statsforecast's models, which share what they know of
        errors; all by a model that learns across endpoints; else each by itself."""
        method = method_named(self.method)
        if isinstance(method, GlobalResidual):
            return sys.maxsize
        return STATISTICAL_AT_ONCE if isinstance(method, Statistical) else 1

    def _learnt_together(
        self, series_by_key: Mapping[str, DemandSeries], previous: FittedModel | None
    ) -> FittedMethod | None:
        panel = panel_of({key: repaired(series).series for key, series in series_by_key.items()}, self.calendar)
        try:
            return method_named(self.method).fit(panel, steps_learnt(panel), self._carried_on(previous))
        except ShortHistory:
            return None

    def _carried_on(self, previous: FittedModel | None) -> FittedMethod | None:
        return previous.learnt if previous is not None and previous.method == self.method else None

    def _method_for(self, series: DemandSeries) -> Method:
        method = method_named(self.method)
        if isinstance(method, Auto) and self.prior and is_new(series):
            equal = (1.0 - PRIOR_TRUST) / len(self.prior)
            return replace(method, prior=tuple(PRIOR_TRUST * weight + equal for weight in self.prior))
        return method

    def _fallen_back(self, key: str, series: DemandSeries, panel: Panel) -> FittedModel:
        return self._model(key, series, FALLBACK, METHODS[FALLBACK].fit(panel, steps_learnt(panel)))

    def _model(self, key: str, series: DemandSeries, method: str, learnt: FittedMethod) -> FittedModel:
        return FittedModel(
            key=key,
            method=method,
            fell_back_from=self.method if method != self.method else "",
            unit=series.unit,
            step=series.step,
            fitted_until=series.end,
            calendar=self.calendar,
            data_digest=data_digest(series),
            learnt=learnt,
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
        and bins between its end and `issued_at` count as not seen, as does what looks broken. Raises ShortHistory if
        nothing was seen, BadSeries for another step or unit than the model's.
        """
        require_utc(issued_at, "forecast issued_at")
        if (series.step, series.unit) != (fitted.step, fitted.unit):
            raise BadSeries(
                f"forecast {fitted.key}: the model was fitted on {fitted.unit.value} in steps of {fitted.step}, "
                f"have {series.unit.value} in steps of {series.step}; fit it again"
            )
        known = _extended(repaired(series.until(issued_at)).series, issued_at)
        panel = panel_of({fitted.key: known}, fitted.calendar)
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


def panel_of(series_by_key: Mapping[str, DemandSeries], calendar: DemandCalendar) -> Panel:
    """The series as methods see them: planned events taken out, so that they are not learnt as a season."""
    panel = Panel.of(series_by_key, replace(calendar, events=()))
    if not calendar.events:
        return panel
    return replace(panel, values=panel.values / calendar.factors(panel.start, panel.step, panel.n_steps))


def is_new(series: DemandSeries) -> bool:
    """Whether less than NEW_ENDPOINT was seen."""
    return _seen(series) < NEW_ENDPOINT


def on_same_grid(one: DemandSeries, other: DemandSeries) -> bool:
    """Whether both cover the same bins."""
    return (one.start, one.step, len(one)) == (other.start, other.step, len(other))


def _extended(series: DemandSeries, when: datetime) -> DemandSeries:
    """The series with unseen bins added up to the one in progress at `when`."""
    n_missing = (when - series.end) // series.step
    if n_missing <= 0:
        return series
    values = np.concatenate([series.values, np.full(n_missing, np.nan)])
    return DemandSeries(unit=series.unit, start=series.start, step=series.step, values=values)


def _seen(series: DemandSeries) -> timedelta:
    return int(np.isfinite(series.values).sum()) * series.step


def steps_learnt(panel: Panel) -> IntArray:
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
