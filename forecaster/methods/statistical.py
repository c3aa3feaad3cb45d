"""Statistical models from statsforecast, at hourly resolution: the only module that knows that package.

An hour is as fine as they go: MSTL takes 0.2 s on 28 days of hours and minutes on the same days at 5 min. The hourly
path is brought down to the series' step by a temporal hierarchy (hourly level times the shape within the hour on the
last days, shrunk to flat) and bent to the present. Intervals of the models themselves are never used: quantiles come
from errors that the model made on the last two days when it had not seen them, pooled over the endpoints of the panel.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np

from forecaster.calendar import IntArray, season_is_enabled
from forecaster.errors import ShortHistory, StoreError
from forecaster.methods.base import Arrays, FittedMethod, non_crossing
from forecaster.methods.residual import quantiles_of, trailing_mean
from forecaster.panel import Panel
from forecaster.series import FloatArray

HOUR = timedelta(hours=1)
SHORTEST = timedelta(days=4)  # two days to learn from and two to see the errors on
PATH_HOURS = 72
HELD_OUT_HOURS = 48
SAMPLED_SERIES = (8, 64)  # the errors of a quarter of the endpoints, so many at least and at most, stand for all
LEAD_EDGES_HOURS = (2, 8)  # errors are kept apart for leads below 2 h, below 8 h, and above
SHAPE_DAYS = 7
SHAPE_SHRINKAGE_DAYS = 7.0
BEND_SECONDS = 3600.0
MODELS = ("seasonal_window_average", "theta", "mstl", "croston_sba", "tsb", "adida", "imapa")


@dataclass(frozen=True)
class Statistical:
    """One model; `name` is one of MODELS."""

    name: str

    def fit(self, panel: Panel, steps_ahead: IntArray, previous: FittedMethod | None = None) -> "FittedStatistical":
        """Raises ShortHistory below SHORTEST, or where a step does not divide the hour."""
        if panel.n_steps * panel.step < SHORTEST or HOUR % panel.step:
            raise ShortHistory(
                f"{self.name}: have {panel.n_steps} steps of {panel.step}, need {SHORTEST} of a divisor of 1 h"
            )
        hours, start_epoch = hourly(panel)
        path = hourly_path(hours, self.name, PATH_HOURS)
        least, most = SAMPLED_SERIES
        sampled = hours[:: max(len(hours) // min(max(len(hours) // 4, least), most), 1)]
        past = hourly_path(sampled[:, :-HELD_OUT_HOURS], self.name, HELD_OUT_HOURS)
        return FittedStatistical(
            start_epoch=start_epoch + hours.shape[1] * HOUR.total_seconds(),
            path=path,
            errors=_errors(sampled[:, -HELD_OUT_HOURS:], past),
        )

    def restore(self, arrays: Arrays) -> "FittedStatistical":
        try:
            return FittedStatistical(
                start_epoch=float(arrays["start_epoch"]), path=arrays["path"], errors=arrays["errors"]
            )
        except KeyError as error:
            raise StoreError(f"{self.name}: stored arrays lack {error}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedStatistical:
    """`path` (n_series, PATH_HOURS) from `start_epoch`; `errors` (3 lead ranges, n_errors) of sqrt(actual) -
    sqrt(point) in units of sqrt(typical), NaN padded."""

    start_epoch: float
    path: FloatArray
    errors: FloatArray

    def of_series(self, index: int) -> "FittedStatistical":
        """What was learnt of one of the series alone."""
        return replace(self, path=self.path[index : index + 1])

    def arrays(self) -> Arrays:
        return {"start_epoch": np.array(self.start_epoch), "path": self.path, "errors": self.errors}

    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        targets = origins[:, None] + steps_ahead
        points = self._at(panel, targets) * _within_hour(panel, origins, targets)
        points *= self._bend(panel, origins, steps_ahead)
        lead_hours = steps_ahead * panel.step_seconds / 3600.0
        table = quantiles_of(self.errors, levels)[np.searchsorted(LEAD_EDGES_HOURS, lead_hours, side="right")]
        unit = trailing_mean(panel, origins, panel.steps(timedelta(days=7)))[..., None] + 1.0 / panel.step_seconds
        root = np.sqrt(points / unit)[..., None] + table
        out = non_crossing(np.maximum(root, 0.0) ** 2 * unit[..., None])
        return np.where(np.isnan(points)[..., None], np.nan, out)

    def _at(self, panel: Panel, bins: IntArray) -> FloatArray:
        """The hourly path at those bins; beyond its end its last day goes on."""
        epochs = panel.start.timestamp() + bins * panel.step_seconds
        hour = np.floor((epochs - self.start_epoch) / 3600.0).astype(np.int64)
        n_hours = self.path.shape[1]
        hour = np.where(hour >= n_hours, n_hours - 24 + (hour - n_hours) % 24, np.maximum(hour, 0))
        return np.maximum(self.path[:, hour], 0.0)

    def _bend(self, panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
        """(seen in the last half hour / path now) ** exp(-lead / 1 h), clipped to a factor of two either way."""
        seen = trailing_mean(panel, origins, panel.steps(timedelta(minutes=30)))
        expected = self._at(panel, origins)
        steady = 0.05 * expected + 1.0 / panel.step_seconds
        rho = np.clip((seen + steady) / (expected + steady), 0.5, 2.0)
        rho = np.where(np.isnan(rho), 1.0, rho)
        fading = np.exp(-steps_ahead * panel.step_seconds / BEND_SECONDS)
        return np.asarray(rho[..., None] ** fading)


def hourly(panel: Panel) -> tuple[FloatArray, float]:
    """Hourly means (n_series, n_hours) of whole hours, gaps filled, and the epoch of the first.

    A gap takes the mean of its hour of the day, else of the series; a series never seen is NaN throughout.
    """
    per_hour = HOUR // panel.step
    skip = -(round(panel.start.timestamp() / panel.step_seconds)) % per_hour
    n_hours = (panel.n_steps - skip) // per_hour
    blocks = panel.values[:, skip : skip + n_hours * per_hour].reshape(panel.n_series, n_hours, per_hour)
    seen = ~np.isnan(blocks)
    n_seen = seen.sum(axis=2)
    means = np.where(n_seen > 0, np.where(seen, blocks, 0.0).sum(axis=2) / np.maximum(n_seen, 1), np.nan)
    of_day = np.arange(n_hours) % 24
    for slot in range(min(24, n_hours)):
        column = means[:, of_day == slot]
        known = np.isfinite(column)
        usual = np.where(known, column, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        usual = np.where(known.any(axis=1), usual, np.nan)
        means[:, of_day == slot] = np.where(known, column, usual[:, None])
    known = np.isfinite(means)
    overall = np.where(known, means, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    filled = np.where(known, means, np.where(known.any(axis=1), overall, np.nan)[:, None])
    return filled, panel.start.timestamp() + skip * panel.step_seconds


def hourly_path(hours: FloatArray, name: str, n_ahead: int) -> FloatArray:
    """The named model's point forecasts, (n_series, n_ahead), >= 0, from hourly values (n_series, n_hours). Unseen
    series give NaN."""
    from statsforecast import StatsForecast

    out = np.repeat(hours[:, -1:], n_ahead, axis=1)
    # A constant goes on; the models would divide by its spread of zero.
    seen = np.isfinite(hours).all(axis=1) & (hours.max(axis=1) > hours.min(axis=1))
    if not seen.any():
        return out
    model = _model(name, hours.shape[1])
    told = StatsForecast(models=[model], freq=1, n_jobs=1).forecast(df=_long_table(hours[seen]), h=n_ahead)
    values = told.sort_values(["unique_id", "ds"])[repr(model)].to_numpy(dtype=np.float64).reshape(-1, n_ahead)
    # A model that breaks down on an endpoint says nothing: the last day goes on.
    fallback = np.tile(hours[seen][:, -24:], (1, -(-n_ahead // 24)))[:, :n_ahead]
    out[seen] = np.maximum(np.where(np.isfinite(values), values, fallback), 0.0)
    return out


def _long_table(hours: FloatArray) -> Any:
    import pandas as pd

    n_series, n_hours = hours.shape
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(n_series), n_hours),
            "ds": np.tile(np.arange(n_hours), n_series),
            "y": hours.reshape(-1),
        }
    )


def _model(name: str, n_hours: int) -> Any:
    from statsforecast import models

    hours = timedelta(hours=1)
    seasons = [24]
    if season_is_enabled(n_hours, hours, timedelta(days=7)):
        seasons.append(168)
    if name == "seasonal_window_average":
        return models.SeasonalWindowAverage(season_length=seasons[-1], window_size=2)
    if name == "theta":
        return models.DynamicOptimizedTheta(season_length=24)
    if name == "mstl":
        return models.MSTL(season_length=seasons, trend_forecaster=models.AutoETS(model="ZZN"))
    if name == "tsb":
        return models.TSB(alpha_d=0.1, alpha_p=0.1)
    return {"croston_sba": models.CrostonSBA, "adida": models.ADIDA, "imapa": models.IMAPA}[name]()


def _errors(actual: FloatArray, points: FloatArray) -> FloatArray:
    """Held-out errors on the root scale by lead range, pooled over series, (3, n_errors), NaN padded."""
    unit = np.maximum(actual.mean(axis=1, keepdims=True), 1e-9)
    gaps = np.sqrt(actual / unit) - np.sqrt(points / unit)
    edges = (0, *LEAD_EDGES_HOURS, actual.shape[1])
    out = np.full((3, gaps.size), np.nan)
    for i in range(3):
        some = gaps[:, edges[i] : edges[i + 1]].reshape(-1)
        # The held-out path starts once: a short range has few errors of its own and borrows the next hours' too.
        if some.size < 12:
            some = gaps[:, :12].reshape(-1)
        out[i, : some.size] = some
    return out


def _within_hour(panel: Panel, origins: IntArray, targets: IntArray) -> FloatArray:
    """The target's share of its hour on the last days, relative to flat, shrunk to 1, (n_series, n_origins,
    n_ahead)."""
    per_hour = HOUR // panel.step
    if per_hour == 1:
        return np.ones((panel.n_series, *targets.shape))
    phase = (targets + round(panel.start.timestamp() / panel.step_seconds)) % per_hour
    own, flat = np.zeros((panel.n_series, *targets.shape)), np.zeros((panel.n_series, *targets.shape))
    totals = np.concatenate([np.zeros((panel.n_series, 1)), np.cumsum(np.nan_to_num(panel.values), axis=1)], axis=1)
    for lag in range(1, SHAPE_DAYS + 1):
        source = panel.days_before(targets, lag)
        begin = source - phase
        usable = (begin >= 0) & (begin + per_hour <= origins[:, None])
        at, first = np.clip(source, 0, panel.n_steps - 1), np.clip(begin, 0, panel.n_steps - per_hour)
        own += np.where(usable, np.nan_to_num(panel.values[:, at]), 0.0)
        flat += np.where(usable, (totals[:, first + per_hour] - totals[:, first]) / per_hour, 0.0)
    typical = flat / SHAPE_DAYS + 1.0 / panel.step_seconds
    return (own + SHAPE_SHRINKAGE_DAYS * typical) / (flat + SHAPE_SHRINKAGE_DAYS * typical)
