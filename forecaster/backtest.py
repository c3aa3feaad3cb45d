"""Rolling-origin forecasts of recorded demand: what would have been forecast, from what was known then."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import DemandCalendar, IntArray
from forecaster.catalogue import method_named
from forecaster.errors import BadSeries, ShortHistory
from forecaster.forecast import DEFAULT_LEVELS
from forecaster.forecaster import panel_of
from forecaster.methods.base import Method
from forecaster.panel import LOOK_AHEAD, Panel
from forecaster.repair import broken_bins
from forecaster.scoring import coverage, decision_loss, mase, pinball, pit, wql
from forecaster.series import DemandSeries, FloatArray

Progress = Callable[[int, int], None]
"""Called with (origins done, origins in all)."""
REFIT_EVERY = timedelta(days=1)
EVERY = timedelta(minutes=30)
LEADS = (timedelta(minutes=5), timedelta(hours=1), timedelta(hours=6))


@dataclass(frozen=True, kw_only=True, eq=False)
class BacktestResult:
    """All forecasts of a backtest, with what came.

    `origins` (n_origins,) and `steps_ahead` (n_leads,) count steps from `start`; `quantiles` has shape (n_series,
    n_origins, n_leads, n_levels) and `actual` (n_series, n_origins, n_leads), both in units per second (concurrency:
    the level); `actual` is NaN where the target was not seen or lies beyond the history.
    """

    method: str
    keys: tuple[str, ...]
    start: datetime
    step: timedelta
    origins: IntArray
    steps_ahead: IntArray
    levels: FloatArray
    quantiles: FloatArray
    actual: FloatArray
    history: FloatArray
    is_rate: bool = True

    @property
    def lead_seconds(self) -> list[int]:
        return [round(float(k) * self.step.total_seconds()) for k in self.steps_ahead]

    @property
    def unscored(self) -> dict[timedelta, timedelta]:
        """The leads of which no target lies within the history, each with what the history must be longer than: up to
        the first origin, and the lead."""
        first = int(self.origins[0])
        beyond = (int(k) for k in self.steps_ahead if first + int(k) >= self.n_steps)
        return {k * self.step: (first + k) * self.step for k in beyond}

    @property
    def n_steps(self) -> int:
        return int(self.history.shape[1])

    def scores(self, *, demand_per_replica: float | None = None) -> dict[str, object]:
        """Scores per endpoint and lead: plain numbers, ready for JSON (None where nothing can be said).

        With `demand_per_replica` each lead also has the decision loss of each level.
        """
        endpoints = {
            key: {
                f"{seconds}s": self._scores_of(s, k, demand_per_replica) for k, seconds in enumerate(self.lead_seconds)
            }
            for s, key in enumerate(self.keys)
        }
        return {
            "method": self.method,
            "levels": self.levels.tolist(),
            "n_origins": len(self.origins),
            "unit": "demand per second" if self.is_rate else "demand (a level)",  # of the losses that have one
            "endpoints": endpoints,
        }

    def _scores_of(self, s: int, k: int, demand_per_replica: float | None) -> dict[str, object]:
        actual, quantiles = self.actual[s, :, k], self.quantiles[s, :, k]
        median = quantiles[:, int(np.argmin(np.abs(self.levels - 0.5)))]
        season = max(round(86_400 / self.step.total_seconds()), 1)
        warmup = self.history[s, : int(self.origins[0])] if len(self.origins) else self.history[s]
        seen = np.isfinite(actual)
        losses = pinball(actual[seen], quantiles[seen], self.levels)
        result: dict[str, object] = {
            "n_scored": int(seen.sum()),
            "wql": _number(wql(actual, quantiles, self.levels)),
            "mean_pinball": _number(float(losses.mean()) if losses.size else float("nan")),
            "mase": _number(mase(actual, median, warmup, season)),
            "pit_mean": _number(
                float(np.mean(pit(actual[seen], quantiles[seen], self.levels))) if seen.any() else float("nan")
            ),
            "coverage": {
                f"{level:g}": {
                    "below": _number(share.below),
                    "at_most": _number(share.at_most),
                    "deviation": _number(share.deviation),
                    "band": _number(share.band),
                }
                for i, level in enumerate(self.levels)
                for share in [coverage(actual, quantiles[:, i], float(level))]
            },
        }
        if demand_per_replica is not None:
            result["decision_loss"] = {
                f"{level:g}": {
                    "replica_hours": _number(loss.replica_hours),
                    "missed_demand": _number(loss.missed_demand),
                }
                for i, level in enumerate(self.levels)
                for loss in [
                    decision_loss(
                        actual,
                        quantiles[:, i],
                        demand_per_replica=demand_per_replica,
                        step_seconds=self.step.total_seconds(),
                        is_rate=self.is_rate,
                    )
                ]
            }
        return result

    def rows(self) -> Iterator[tuple[str, int, int, int, tuple[float, ...]]]:
        """(endpoint, origin, target, lead_seconds, quantiles) with epoch seconds, in demand per bin, by endpoint,
        origin, lead."""
        start, step = self.start.timestamp(), self.step.total_seconds()
        per_bin = self.quantiles * (step if self.is_rate else 1.0)
        for s, key in enumerate(self.keys):
            for i, origin in enumerate(self.origins):
                issued = round(start + float(origin) * step)
                for k, lead in enumerate(self.lead_seconds):
                    yield key, issued, issued + lead, lead, tuple(per_bin[s, i, k].tolist())

    def write_csv(self, file: TextIO, *, with_endpoint: bool = False) -> None:
        """forecasts.csv: origin, target, lead_seconds, q0.1, ... in demand per bin; `endpoint` first if asked for.

        Forecasts whose target lies beyond the trace are written as well; those of unseen series are left out.
        """
        rows = csv.writer(file, lineterminator="\n")
        names = ["endpoint"] if with_endpoint else []
        rows.writerow([*names, "origin", "target", "lead_seconds", *(f"q{level:g}" for level in self.levels)])
        for key, origin, target, lead, values in self.rows():
            if np.all(np.isfinite(values)):
                head = [key] if with_endpoint else []
                rows.writerow([*head, origin, target, lead, *(f"{value:.6g}" for value in values)])


def backtest(
    series_by_name: Mapping[str, DemandSeries],
    *,
    leads: Sequence[timedelta] | None = None,
    warmup: timedelta,
    every: timedelta | None = None,
    method: str | Method = "auto",
    levels: Sequence[float] = DEFAULT_LEVELS,
    calendar: DemandCalendar | None = None,
    refit: timedelta = REFIT_EVERY,
    progress: Progress | None = None,
) -> BacktestResult:
    """Forecast every `every` from the end of the warm-up to the end of the histories, at each of `leads`.

    Both are multiples of the step of the histories; without them it is EVERY at LEADS, as nearly as the step allows.
    All series have the step and unit of the first. The method is fitted anew each `refit` from what was known then.
    As in `Forecaster`, methods see a past without outages, outliers and planned events, and events are put back on
    what they say; forecasts are scored on what came. Nothing issued at an origin depends on a bin that ended after it.
    Raises BadSeries for leads and origins off the grid, ShortHistory if no target lies within the histories.
    """
    calendar = calendar or DemandCalendar()
    panel = Panel.of(series_by_name, calendar)
    cleared = panel_of(series_by_name, calendar)
    first_series = next(iter(series_by_name.values()))
    steps_ahead = _steps_ahead(panel, leads)
    origins = _origins(panel, warmup, every)
    actual = _outcomes(panel, origins, steps_ahead, warmup)
    chosen = method_named(method) if isinstance(method, str) else method
    level_array = np.asarray(levels, dtype=np.float64)
    parts = []
    fitted = None
    refit_steps = panel.steps(refit)
    for begin in range(int(origins[0]), int(origins[-1]) + 1, refit_steps):
        some = origins[(origins >= begin) & (origins < begin + refit_steps)]
        if len(some) == 0:
            continue
        broken = _broken(panel, series_by_name, int(some[0]))
        fitted = chosen.fit(_without(cleared, broken), steps_ahead, fitted)
        for alike, past in seen_alike(panel, cleared, series_by_name, some):
            parts.append(fitted.quantiles(past, alike, steps_ahead, level_array))
        if progress is not None:
            progress(int(np.searchsorted(origins, some[-1], side="right")), len(origins))
    targets = origins[:, None] + steps_ahead
    factors = calendar.factors(panel.start, panel.step, int(targets.max()) + 1)
    return BacktestResult(
        method=chosen.name,
        keys=panel.keys,
        start=panel.start,
        step=panel.step,
        origins=origins,
        steps_ahead=steps_ahead,
        levels=level_array,
        quantiles=np.concatenate(parts, axis=1) * factors[targets][:, :, None],
        actual=actual,
        history=panel.values,
        is_rate=first_series.unit.is_rate,
    )


def seen_alike(
    panel: Panel, cleared: Panel, series_by_name: Mapping[str, DemandSeries], origins: IntArray
) -> Iterator[tuple[IntArray, Panel]]:
    """The origins in runs over which what looks broken before each does not change, with the history up to the last of
    a run as each of them sees it: outages are told only by what came after them."""
    run: list[int] = []
    broken = np.zeros((panel.n_series, 0), dtype=bool)
    for origin in map(int, origins):
        now = _broken(panel, series_by_name, origin)
        if run and not np.array_equal(now[:, : run[-1]], broken):
            yield np.array(run, dtype=np.int64), _without(cleared, broken)
            run = []
        run.append(origin)
        broken = now
    yield np.array(run, dtype=np.int64), _without(cleared, broken)


def _broken(panel: Panel, series_by_name: Mapping[str, DemandSeries], origin: int) -> NDArray[np.bool_]:
    """What of each series is not learnt by an origin, (n_series, origin)."""
    broken = np.zeros((panel.n_series, origin), dtype=bool)
    for row, series in zip(broken, series_by_name.values(), strict=True):
        known = series.until(panel.start + origin * panel.step)
        first = (series.start - panel.start) // panel.step
        row[first : first + len(known)] = broken_bins(known)
    return broken


def _without(panel: Panel, broken: NDArray[np.bool_]) -> Panel:
    """The panel as far as `broken` goes, with those bins not seen."""
    known = panel.until(broken.shape[1])
    return replace(known, values=np.where(broken, np.nan, known.values)) if broken.any() else known


def _steps_ahead(panel: Panel, leads: Sequence[timedelta] | None) -> IntArray:
    if leads is None:
        return np.unique([-(-lead // panel.step) for lead in LEADS]).astype(np.int64)
    if not leads:
        raise BadSeries("backtest leads: need at least one, have none")
    for number, lead in enumerate(leads):
        if lead in leads[:number]:
            raise BadSeries(f"backtest lead {lead}: found twice, need each lead once")
        if lead < timedelta(0) or lead % panel.step:
            raise BadSeries(f"backtest lead {lead}: need a multiple of the step of {panel.step}, not below 0")
        if lead > LOOK_AHEAD:
            raise BadSeries(f"backtest lead {lead}: need at most {LOOK_AHEAD.days} days")
    return np.array([lead // panel.step for lead in leads], dtype=np.int64)


def _origins(panel: Panel, warmup: timedelta, every: timedelta | None) -> IntArray:
    if every is not None and (every <= timedelta(0) or every % panel.step):
        raise BadSeries(f"backtest every {every}: need a multiple of the step of {panel.step}, above 0")
    first = -(-warmup // panel.step)
    stride = panel.steps(EVERY if every is None else every)
    origins = np.arange(first, panel.n_steps + 1, stride, dtype=np.int64)
    if first < 1 or len(origins) == 0:
        raise ShortHistory(
            f"backtest: have {panel.n_steps} steps of {panel.step}, need more than the warm-up of {warmup}"
        )
    return origins


def _outcomes(panel: Panel, origins: IntArray, steps_ahead: IntArray, warmup: timedelta) -> FloatArray:
    """What came, (n_series, n_origins, n_leads); NaN where it was not seen or lies beyond the panel."""
    targets = origins[:, None] + steps_ahead
    known = targets < panel.n_steps
    if not known.any():
        raise ShortHistory(
            f"backtest: {panel.n_steps} steps of {panel.step} end before the first target; need at least the warm-up "
            f"of {warmup} and one lead more"
        )
    return np.where(known, panel.values[:, np.minimum(targets, panel.n_steps - 1)], np.nan)


def _number(value: float) -> float | None:
    return None if not np.isfinite(value) else float(value)
