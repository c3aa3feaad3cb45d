"""Thousands of endpoints: a day ahead for all of them in one pass, and fits shared among processes or a cluster.

`fit_many` and `backtest_many` share endpoints among the processes of this machine, or the workers of Ray or Dask
(extras `ray`, `dask`, through fugue); the models of statsforecast are fitted some endpoints at a time.
"""

import base64
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib import import_module
from multiprocessing import Event, parent_process
from multiprocessing.synchronize import Event as Flag
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from forecaster.backtest import BacktestResult, Progress, backtest
from forecaster.calendar import DemandCalendar, IntArray
from forecaster.errors import ForecasterError, ShortHistory
from forecaster.forecaster import FittedModel, Forecaster, on_same_grid
from forecaster.methods.base import Method
from forecaster.methods.global_residual import GlobalResidual
from forecaster.methods.profile import DAY_WEIGHTS, GROWTH_TRUST, trust_in_day
from forecaster.methods.residual import quantiles_of
from forecaster.panel import Panel
from forecaster.scorecard import Scores, scores_of
from forecaster.series import DemandSeries, FloatArray

DAY = timedelta(days=1)
SERIES_AT_ONCE = 500
WEEK_WEIGHTS = {lag: weight for lag, weight in DAY_WEIGHTS.items() if lag <= 7}
"""Of the profile's days, those of a week."""
ERROR_DAYS = 5
ERROR_SLOTS = timedelta(minutes=30)
WAVE = 64  # jobs that a cluster is given at once: what a wave has fitted is kept before the next begins


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
    for lag, weight in WEEK_WEIGHTS.items():
        source = panel.days_before(bins, lag)
        if source[0] < 0:
            continue
        weight *= float(trust_in_day(panel, np.array([origin]), lag)[0])
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


def fit_many(jobs: Sequence[FitJob], workers: Workers, *, with_scores: bool = True) -> Generator[FitResult, None, None]:
    """Fit every job's endpoint, yielding results as they come, in any order: keep each, and a run that breaks off has
    lost little. An endpoint that cannot be fitted is yielded with its reason. Closing it ends the work at once."""
    batches = [_Batch(jobs=tuple(some), with_scores=with_scores) for some in _batches(jobs)]
    with closing(_mapped(batches, workers)) as found:
        for results in found:
            yield from results


def backtest_many(
    series_by_name: Mapping[str, DemandSeries],
    workers: Workers,
    *,
    leads: Sequence[timedelta] | None,
    warmup: timedelta,
    every: timedelta | None,
    method: Method,
    calendar: DemandCalendar | None = None,
    progress: Progress | None = None,
) -> BacktestResult:
    """`backtest.backtest` of each endpoint by itself, shared among workers, all over the same origins. Only a method
    that learns from many endpoints (global_residual) is given all of them at once. Raises as `backtest` does, and
    ShortHistory if no endpoint was seen after the warm-up."""
    asked = None if leads is None else tuple(leads)
    panel = Panel.of(series_by_name)
    unit = next(iter(series_by_name.values())).unit
    tested = panel.values[:, warmup // panel.step :]
    if tested.size and not np.isfinite(tested).any():
        hours = warmup / timedelta(hours=1)
        raise ShortHistory(f"backtest: no demand was seen after the warm-up of {hours:g} h, need at least one bin")
    aligned = {
        key: DemandSeries(unit=unit, start=panel.start, step=panel.step, values=values)
        for key, values in zip(panel.keys, panel.values, strict=True)
    }
    if len(aligned) == 1 or isinstance(method, GlobalResidual):
        return _Backtest(aligned, asked, warmup, every, method, calendar).run(progress)
    jobs = [_Backtest({key: series}, asked, warmup, every, method, calendar) for key, series in aligned.items()]
    results: list[BacktestResult] = []
    with closing(_mapped(jobs, workers)) as found:
        for result in found:
            results.append(result)
            if progress is not None:
                progress(len(results), len(jobs))
    return _joined(sorted(results, key=lambda result: panel.keys.index(result.keys[0])))


def _joined(results: Sequence[BacktestResult]) -> BacktestResult:
    return replace(
        results[0],
        keys=tuple(key for result in results for key in result.keys),
        quantiles=np.concatenate([result.quantiles for result in results]),
        actual=np.concatenate([result.actual for result in results]),
        history=np.concatenate([result.history for result in results]),
    )


@dataclass(frozen=True, eq=False)
class _Backtest:
    series: Mapping[str, DemandSeries]
    leads: tuple[timedelta, ...] | None
    warmup: timedelta
    every: timedelta | None
    method: Method
    calendar: DemandCalendar | None

    def run(self, progress: Progress | None = None) -> BacktestResult:
        return backtest(
            self.series,
            leads=self.leads,
            warmup=self.warmup,
            every=self.every,
            method=self.method,
            calendar=self.calendar,
            progress=progress,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    jobs: tuple[FitJob, ...]
    with_scores: bool

    def run(self) -> list[FitResult]:
        first, series = self.jobs[0], {job.key: job.series for job in self.jobs}
        try:
            if len(self.jobs) == 1:
                models = [first.forecaster.fit(first.key, first.series, first.previous)]
            else:
                models = first.forecaster.fit_together(series, first.previous)
        except ForecasterError as error:
            if len(self.jobs) == 1:
                return [FitResult(key=first.key, model=None, scores={}, problem=str(error))]
            alone = [_Batch(jobs=(job,), with_scores=self.with_scores) for job in self.jobs]
            return [result for one in alone for result in one.run()]
        scores = scores_of(models, series) if self.with_scores else [{} for _ in models]
        return [FitResult(key=model.key, model=model, scores=own) for model, own in zip(models, scores, strict=True)]


def _batches(jobs: Sequence[FitJob]) -> Iterator[list[FitJob]]:
    """Neighbours that one pass can fit, as many as their forecaster likes."""
    batch: list[FitJob] = []
    for job in jobs:
        if batch and (len(batch) >= job.forecaster.at_once or not _alike(batch[0], job)):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _alike(one: FitJob, other: FitJob) -> bool:
    return one.forecaster == other.forecaster and on_same_grid(one.series, other.series)


T = TypeVar("T", covariant=True)


class _Job(Protocol[T]):
    def run(self) -> T: ...


def _run(job: _Job[T]) -> T:
    return job.run()


def _mapped(jobs: Sequence[_Job[T]], workers: Workers) -> Generator[T, None, None]:
    """What each job gives, as they come."""
    if workers.engine:
        for first in range(0, len(jobs), WAVE):
            yield from _on_engine(jobs[first : first + WAVE], workers.engine)
    elif workers.processes <= 1 or len(jobs) <= 1:
        yield from map(_run, jobs)
    else:
        yield from _on_processes(jobs, min(workers.processes, len(jobs)))


def _on_processes(jobs: Sequence[_Job[T]], processes: int) -> Generator[T, None, None]:
    """The jobs shared among processes of this machine. Broken off (Ctrl-C, or closed), it ends them at once: what they
    are at would not be kept, and the pool by itself would wait for it."""
    stop = Event()
    pool = ProcessPoolExecutor(processes, initializer=_end_with_parent, initargs=(stop,))
    finished = False
    try:
        for future in as_completed([pool.submit(_run, job) for job in jobs]):
            yield future.result()
        finished = True
    finally:
        if not finished:
            stop.set()
        pool.shutdown(cancel_futures=True)


def _end_with_parent(stop: Flag) -> None:
    """A worker ends when it is told to, and when its parent was killed: it would wait for work for ever. Ctrl-C reaches
    all processes of a terminal; the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    def watch_stop() -> None:
        stop.wait()
        os._exit(1)

    for watch in (watch_parent, watch_stop):
        threading.Thread(target=watch, daemon=True).start()


def _on_engine(jobs: Sequence[_Job[T]], engine: str) -> Iterator[T]:
    """The jobs shared among a cluster's workers. They travel pickled between processes of one run (as text: Dask's
    tables take bytes for UTF-8); nothing that is kept is."""
    import pandas as pd

    fugue_api = import_module("fugue.api")  # an extra: absent unless a cluster is used

    def run_some(some: pd.DataFrame) -> pd.DataFrame:
        given = [_packed(_run(_unpacked(job))) for job in some["content"]]
        return pd.DataFrame({"number": some["number"].to_numpy(), "content": given})

    table = pd.DataFrame({"number": range(len(jobs)), "content": [_packed(job) for job in jobs]})
    told = fugue_api.transform(
        table,
        run_some,
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
