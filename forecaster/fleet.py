"""Thousands of endpoints: a day ahead for all of them in one pass, and fits shared among processes or a cluster.

Vectorised methods need none of this: they take a panel of any number of series. `fit_many` is for methods that learn
each endpoint by itself; `statistical_pool` for the models of statsforecast, on this machine or on Ray or Dask.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import IntArray
from forecaster.forecaster import FittedModel, Forecaster, data_digest
from forecaster.methods.residual import quantiles_of
from forecaster.methods.statistical import MODELS, hourly, hourly_paths
from forecaster.panel import Panel
from forecaster.series import DemandSeries, FloatArray

DAY = timedelta(days=1)
SERIES_AT_ONCE = 500
DAY_LAGS, DAY_WEIGHTS = (1, 2, 3, 7), (1.0, 0.7, 0.5, 1.0)
GROWTH_TRUST = 0.5
ERROR_DAYS = 5
ERROR_SLOTS = timedelta(minutes=30)
CHANGE_STRIDES = 400  # changes are measured from so many past moments

Progress = Callable[[int, int], None]
"""Called with (endpoints done, endpoints in all)."""


def forecast_day_by_minute(panel: Panel, levels: FloatArray) -> Iterator[NDArray[np.float32]]:
    """The next 24 hours of every endpoint at one minute, in blocks (n_some, 1440, n_levels) in the panel's order.

    Level times shape as in methods/profile.py, without its bending to the last half hour: the mean of the last days
    and the day a week ago at the same local time, each rescaled half way to the present daily level. Quantiles are
    those of the errors that the same rule made on the last ERROR_DAYS days, in units of the square root of demand, as
    wide for every lead. Steps longer than a minute are held (a rate per second does not change by that). NaN for
    unseen endpoints.
    """
    n_steps = round(DAY / panel.step)
    minutes = np.minimum(np.arange(1440) * 60.0 // panel.step_seconds, n_steps - 1).astype(np.int64)
    per_step = 1440 // n_steps if 1440 % n_steps == 0 else 0
    for first in range(0, panel.n_series, SERIES_AT_ONCE):
        values = panel.values[first : first + SERIES_AT_ONCE].astype(np.float32)
        quantiles = _day_quantiles(panel, values, levels)
        yield np.repeat(quantiles, per_step, axis=1) if per_step else quantiles[:, minutes]


def _day_quantiles(panel: Panel, values: NDArray[np.float32], levels: FloatArray) -> NDArray[np.float32]:
    """Quantiles of the next day on the panel's grid, (n_some, n_steps_a_day, n_levels)."""
    n_steps, end = round(DAY / panel.step), panel.n_steps
    stride = panel.steps(ERROR_SLOTS)
    sums = np.cumsum(np.nan_to_num(values), axis=1, dtype=np.float64)
    unit = (sums[:, -1:] / max(end, 1) + 1.0 / panel.step_seconds).astype(np.float32)
    points = _day_points(panel, values, sums, end, np.arange(end, end + n_steps, dtype=np.int64))
    errors = []
    for day in range(1, ERROR_DAYS + 1):
        begin = end - day * n_steps
        if begin < n_steps:
            break
        bins = np.arange(begin, begin + n_steps, stride, dtype=np.int64)
        told = _day_points(panel, values, sums, begin, bins)
        errors.append((values[:, bins] - told) / np.sqrt(told + unit))
    if not errors:
        errors = [np.zeros((len(values), 1), dtype=np.float32)]
    table = quantiles_of(np.concatenate(errors, axis=1), levels).astype(np.float32)
    out = points[..., None] + np.sqrt(points + unit)[..., None] * np.nan_to_num(table)[:, None, :]
    unseen = np.isnan(values).all(axis=1)
    out[unseen] = np.nan
    return np.asarray(np.maximum(out, 0.0, out=out))


def _day_points(
    panel: Panel, values: NDArray[np.float32], sums: FloatArray, origin: int, bins: IntArray
) -> NDArray[np.float32]:
    """The rescaled mean of earlier days at `bins`, (n_some, n_bins); the mean of the last day without any."""
    day = round(DAY / panel.step)
    level = _mean_before(sums, origin, day)
    total = np.zeros((len(values), len(bins)), dtype=np.float32)
    weights = np.zeros_like(total)
    for lag, weight in zip(DAY_LAGS, DAY_WEIGHTS, strict=True):
        source = panel.days_before(bins, lag)
        if source[0] < 0:
            continue
        then = _mean_before(sums, origin - lag * day, day)
        both = (then > 0) & (level > 0)
        growth = np.clip(np.where(both, level / np.where(both, then, 1.0), 1.0), 1 / 3, 3.0) ** GROWTH_TRUST
        seen = values[:, np.minimum(source, origin - 1)]
        known = ~np.isnan(seen)
        total += np.where(known, seen, 0.0) * (weight * growth).astype(np.float32)
        weights += np.float32(weight) * known
    flat = np.broadcast_to(level, total.shape)
    return np.where(weights > 0, total / np.maximum(weights, 1e-9), flat).astype(np.float32)


def _mean_before(sums: FloatArray, end: int, width: int) -> FloatArray:
    """Mean of `width` bins before bin `end` from running sums, (n_some, 1)."""
    begin = max(end - width, 0)
    if end <= 0:
        return np.zeros((len(sums), 1))
    before = sums[:, begin - 1 : begin] if begin > 0 else 0.0
    return np.asarray((sums[:, end - 1 : end] - before) / (end - begin))


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangeTable:
    """How demand changed over a few short leads, per endpoint: learnt hourly, applied each minute to the latest values.

    `table` (n_series, n_leads, n_levels): quantiles of sqrt(y[t + lead]) - sqrt(y[t]) over the last days.
    """

    steps_ahead: IntArray
    levels: FloatArray
    table: FloatArray

    @classmethod
    def learn(cls, panel: Panel, steps_ahead: IntArray, levels: FloatArray) -> "ChangeTable":
        """From CHANGE_STRIDES moments spread over the panel. Leads that were never seen to their end have no spread."""
        stride = max(panel.n_steps // CHANGE_STRIDES, 1)
        origins = np.arange(1, panel.n_steps - int(steps_ahead.max()), stride)
        if len(origins) == 0:
            return cls(
                steps_ahead=steps_ahead, levels=levels, table=np.zeros((panel.n_series, len(steps_ahead), len(levels)))
            )
        rooted = np.sqrt(panel.values[:, origins - 1])
        tables = [quantiles_of(np.sqrt(panel.values[:, origins + lead]) - rooted, levels) for lead in steps_ahead]
        return cls(steps_ahead=steps_ahead, levels=levels, table=np.nan_to_num(np.stack(tables, axis=1)))

    def quantiles(self, latest: FloatArray) -> FloatArray:
        """Quantiles at each lead from the latest demand (n_series,), shape (n_series, n_leads, n_levels); NaN where
        NaN."""
        root = np.sqrt(latest)[:, None, None] + self.table
        return np.asarray(np.maximum(root, 0.0) ** 2)


def fit_many(
    series_by_key: Mapping[str, DemandSeries],
    forecaster: Forecaster,
    *,
    previous: Mapping[str, FittedModel] | None = None,
    n_processes: int = 1,
    progress: Progress | None = None,
) -> Iterator[FittedModel]:
    """Fit each endpoint, yielding models in the order of the mapping as they are ready: save each and a run that breaks
    off can go on. An endpoint whose previous model learnt from the very same history is yielded as it was, unfitted.
    Raises ShortHistory for an endpoint of which nothing was seen.
    """
    old = dict(previous or {})
    jobs = [(forecaster, key, series, old.get(key)) for key, series in series_by_key.items()]
    if n_processes <= 1:
        for done, job in enumerate(jobs, start=1):
            yield _fit_one(job)
            if progress is not None:
                progress(done, len(jobs))
        return
    with ProcessPoolExecutor(max_workers=n_processes) as pool:
        for done, model in enumerate(pool.map(_fit_one, jobs, chunksize=4), start=1):
            yield model
            if progress is not None:
                progress(done, len(jobs))


def _fit_one(job: tuple[Forecaster, str, DemandSeries, FittedModel | None]) -> FittedModel:
    forecaster, key, series, old = job
    if (
        old is not None
        and old.data_digest == data_digest(series)
        and forecaster.method in (old.method, old.fell_back_from)
    ):
        return old
    return forecaster.fit(key, series, old)


def statistical_pool(
    panel: Panel, n_hours: int = 24, *, names: tuple[str, ...] = MODELS, n_processes: int = 1, engine: str = ""
) -> dict[str, FloatArray]:
    """Hourly point paths of every statsforecast model for every endpoint, each (n_series, n_hours).

    `engine` "ray" or "dask" shares the endpoints among a cluster's workers (extras `ray`, `dask`).
    """
    hours, _ = hourly(panel)
    return hourly_paths(hours, names, n_hours, n_processes=n_processes, engine=engine)
