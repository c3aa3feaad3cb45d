"""Thousands of endpoints: a day ahead for all of them in one pass, and fits shared among processes or a cluster.

Vectorised methods need none of this: they take a panel of any number of series. `fit_many` is for what learns each
endpoint by itself, and for the models of statsforecast: on the processes of this machine, or on the workers of Ray or
Dask (extras `ray`, `dask`, through fugue).
"""

import base64
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import IntArray
from forecaster.errors import ForecasterError
from forecaster.forecaster import FittedModel, Forecaster, on_same_grid
from forecaster.methods.residual import quantiles_of
from forecaster.panel import Panel
from forecaster.scorecard import Scores, scores_of
from forecaster.series import DemandSeries, FloatArray

DAY = timedelta(days=1)
SERIES_AT_ONCE = 500
DAY_LAGS, DAY_WEIGHTS = (1, 2, 3, 7), (1.0, 0.7, 0.5, 1.0)
GROWTH_TRUST = 0.5
ERROR_DAYS = 5
ERROR_SLOTS = timedelta(minutes=30)
BATCH = 32  # endpoints that are fitted together where a method can
WAVE = 64  # batches that a cluster is given at once: what a wave has fitted is kept before the next begins


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
class FitJob:
    """One endpoint to fit. `previous`, its last model, saves work."""

    key: str
    series: DemandSeries
    forecaster: Forecaster
    previous: FittedModel | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult:
    """What came of one job: a model and how good its method lately was, or why there is none."""

    key: str
    model: FittedModel | None
    scores: Scores
    problem: str = ""


@dataclass(frozen=True)
class Workers:
    """Who does the work: `processes` of this machine, or the cluster that `engine` "ray" or "dask" finds."""

    processes: int = 1
    engine: str = ""


def fit_many(jobs: Sequence[FitJob], workers: Workers, *, with_scores: bool = True) -> Iterator[FitResult]:
    """Fit every job's endpoint, yielding results in the order of the jobs as they come: keep each, and a run that
    breaks off has lost little. An endpoint that cannot be fitted is yielded with its reason."""
    batches = [_Batch(jobs=tuple(some), with_scores=with_scores) for some in _batches(jobs)]
    for results in _mapped(batches, workers):
        yield from results


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    jobs: tuple[FitJob, ...]
    with_scores: bool

    def fit(self) -> list[FitResult]:
        first, series = self.jobs[0], {job.key: job.series for job in self.jobs}
        try:
            if len(self.jobs) == 1:
                models = [first.forecaster.fit(first.key, first.series, first.previous)]
            else:
                models = first.forecaster.fit_together(series)
        except ForecasterError as error:
            if len(self.jobs) == 1:
                return [FitResult(key=first.key, model=None, scores={}, problem=str(error))]
            alone = [_Batch(jobs=(job,), with_scores=self.with_scores) for job in self.jobs]
            return [result for one in alone for result in one.fit()]
        scores = scores_of(models, series) if self.with_scores else [{} for _ in models]
        return [FitResult(key=model.key, model=model, scores=own) for model, own in zip(models, scores, strict=True)]


def _batches(jobs: Sequence[FitJob]) -> Iterator[list[FitJob]]:
    """Neighbours that one pass can fit, BATCH at most; all others alone."""
    batch: list[FitJob] = []
    for job in jobs:
        if batch and (len(batch) == BATCH or not _fit_together(batch[0], job)):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _fit_together(one: FitJob, other: FitJob) -> bool:
    same_way = one.forecaster == other.forecaster and one.forecaster.fits_together
    return same_way and on_same_grid(one.series, other.series)


def _mapped(batches: Sequence[_Batch], workers: Workers) -> Iterator[list[FitResult]]:
    if workers.engine:
        for first in range(0, len(batches), WAVE):
            yield from _on_engine(batches[first : first + WAVE], workers.engine)
    elif workers.processes <= 1 or len(batches) == 1:
        yield from map(_Batch.fit, batches)
    else:
        with ProcessPoolExecutor(max_workers=min(workers.processes, len(batches))) as pool:
            yield from pool.map(_Batch.fit, batches)


def _on_engine(batches: Sequence[_Batch], engine: str) -> Iterator[list[FitResult]]:
    """The batches shared among a cluster's workers. They travel pickled between processes of one run (as text: Dask's
    tables take bytes for UTF-8); nothing that is kept is."""
    import pandas as pd

    fugue_api = import_module("fugue.api")  # an extra: absent unless a cluster is used

    def fit_some(some: pd.DataFrame) -> pd.DataFrame:
        fitted = [_packed(_unpacked(batch).fit()) for batch in some["content"]]
        return pd.DataFrame({"number": some["number"].to_numpy(), "content": fitted})

    table = pd.DataFrame({"number": range(len(batches)), "content": [_packed(batch) for batch in batches]})
    told = fugue_api.transform(
        table,
        fit_some,
        schema="number:long,content:str",
        partition={"by": ["number"]},
        engine=engine,
        as_local=True,
    )
    found = told if isinstance(told, pd.DataFrame) else fugue_api.as_pandas(told)
    for content in found.sort_values("number")["content"]:
        yield _unpacked(content)


def _packed(content: Any) -> str:
    return base64.b85encode(pickle.dumps(content)).decode()


def _unpacked(text: str) -> Any:
    return pickle.loads(base64.b85decode(text))
