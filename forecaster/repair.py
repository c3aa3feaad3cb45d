"""Honest demand: what was not seen is unknown, what was broken is not learnt.

Nothing is invented: a repaired bin is either what was measured, or NaN. Requests that were turned away are in what was
measured: signals count arrivals (docs/signals.md).
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from forecaster.leadfeatures import trailing_max
from forecaster.series import DemandSeries, FloatArray

DAY = timedelta(days=1)
NEIGHBOURS = timedelta(hours=1)  # seen before and after what is judged
OUTAGE_AT_LEAST = timedelta(minutes=3)
OUTAGE_AT_MOST = timedelta(hours=6)
OUTAGE_BELOW = 0.02  # of what is usual
OUTAGE_NEIGHBOURS_ABOVE = 0.4
OUTLIER_FACTOR = 8.0
FEW_UNITS_PER_BIN = 5.0  # below it a zero is nothing unusual and a burst neither
SAME_TIME = timedelta(hours=1)  # what comes that close to the same time on other days comes at that time


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A series fit to learn from, and what was done to it in sentences for people."""

    series: DemandSeries
    notes: tuple[str, ...]


def repaired(series: DemandSeries) -> Repaired:
    """The series with outages and outliers not seen (NaN), so that no season is learnt from them.

    An outage: next to nothing for minutes to hours although the hour before and the hour after were busy, and on most
    other days nothing of the kind came about that time. An outlier: single bins far above both their surroundings and
    what came about that time on every other day. So the gaps and bursts of an endpoint that has them every day, sooner
    or later by minutes, are learnt.
    Needs two days of history; with less, or little demand, nothing is touched. Only bins well before the end are
    judged (an hour must have been seen after them), so that the present is never taken for broken.
    """
    outage, outlier = _broken(series)
    values = np.where(outage | outlier, np.nan, series.values)
    notes = []
    if outage.any():
        notes.append(
            f"{int(outage.sum())} bins of {series.step} look like an outage of the signal or service: not learnt"
        )
    if outlier.any():
        notes.append(f"{int(outlier.sum())} bins of {series.step} are far beyond any other day: not learnt")
    return Repaired(
        series=DemandSeries(unit=series.unit, start=series.start, step=series.step, values=values), notes=tuple(notes)
    )


def broken_bins(series: DemandSeries) -> NDArray[np.bool_]:
    """The bins that `repaired` does not let be learnt, shape (n_steps,)."""
    outage, outlier = _broken(series)
    return np.asarray(outage | outlier)


def _broken(series: DemandSeries) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    usual = _usual(series)
    if usual is None:
        nothing = np.zeros(len(series), dtype=bool)
        return nothing, nothing
    return _outages(series, usual), _outliers(series, usual)


def _usual(series: DemandSeries) -> FloatArray | None:
    """The median over days at each time of day, shape of the values; None if there are too few days or too little
    demand."""
    if series.step > DAY:  # no time of day in such bins
        return None
    n_days = len(series) // _steps(series, DAY)
    units = series.counts()
    if n_days < 2 or not np.isfinite(units).any() or float(np.nanmedian(units)) < FEW_UNITS_PER_BIN:
        return None
    return _median_of_days(series, series.values)


def _median_of_days(series: DemandSeries, values: FloatArray) -> FloatArray:
    """The lower median over days at each time of day, shape of the values; NaN where none was seen."""
    days = _by_day(series, values)
    ordered = np.sort(days, axis=0)  # NaN last
    n_seen = np.isfinite(ordered).sum(axis=0)
    middle = ordered[np.maximum((n_seen - 1) // 2, 0), np.arange(days.shape[1])]
    usual = np.where(n_seen > 0, middle, np.nan)
    return np.asarray(np.tile(usual, len(days))[: len(series)])


def _outages(series: DemandSeries, usual: FloatArray) -> NDArray[np.bool_]:
    low = np.nan_to_num(series.values, nan=np.inf) <= OUTAGE_BELOW * usual
    low &= (usual > 0) & (_usual_lowest(series) > OUTAGE_BELOW * usual)
    hour = _steps(series, NEIGHBOURS)
    out = np.zeros(len(series), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], low.astype(np.int8), [0]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        length = (end - begin) * series.step
        if not OUTAGE_AT_LEAST <= length <= OUTAGE_AT_MOST or begin < hour or end + hour > len(series):
            continue
        if all(
            _ratio(series.values[around], usual[around]) > OUTAGE_NEIGHBOURS_ABOVE
            for around in (slice(begin - hour, begin), slice(end, end + hour))
        ):
            out[begin:end] = True
    return out


def _outliers(series: DemandSeries, usual: FloatArray) -> NDArray[np.bool_]:
    hour = _steps(series, NEIGHBOURS)
    values = series.values
    high = np.nan_to_num(values) > OUTLIER_FACTOR * np.maximum(usual, np.nanmedian(usual))
    suspicious = np.flatnonzero(high & (np.nan_to_num(values) > OUTLIER_FACTOR * _highest_elsewhere(series)))
    out = np.zeros(len(values), dtype=bool)
    for i in suspicious:
        around = np.concatenate([values[max(i - hour, 0) : i], values[i + 1 : i + 1 + hour]])
        if i + hour < len(values) and np.isfinite(around).any() and values[i] > OUTLIER_FACTOR * np.nanmax(around):
            out[i] = True
    return out


def _steps(series: DemandSeries, span: timedelta) -> int:
    """How many bins the span takes, at least one."""
    return max(round(span / series.step), 1)


def _by_day(series: DemandSeries, values: FloatArray) -> FloatArray:
    """The values as (n_days, bins a day), NaN behind the last."""
    day = _steps(series, DAY)
    return np.concatenate([values, np.full(-len(values) % day, np.nan)]).reshape(-1, day)


def _highest_around(series: DemandSeries, values: FloatArray) -> FloatArray:
    """The highest value within SAME_TIME of each bin, shape of the values; NaN where none was seen."""
    reach = _steps(series, SAME_TIME)
    highest = trailing_max(np.concatenate([values, np.full(reach, np.nan)]), 2 * reach + 1)[reach:]
    return np.where(np.isfinite(highest), highest, np.nan)


def _highest_elsewhere(series: DemandSeries) -> FloatArray:
    """The highest value about the same time on the other days, shape of the values; infinite where none was seen."""
    days = np.nan_to_num(_by_day(series, _highest_around(series, series.values)), nan=-np.inf)
    first = days.argmax(axis=0)
    ordered = np.sort(days, axis=0)
    highest, second = ordered[-1], ordered[-2]
    others = np.where(np.arange(len(days))[:, None] == first, second, highest)
    return np.asarray(np.where(np.isfinite(others), others, np.inf).reshape(-1)[: len(series)])


def _usual_lowest(series: DemandSeries) -> FloatArray:
    """The median over days of the lowest value about each time of day, shape of the values; NaN where none was seen."""
    return _median_of_days(series, -_highest_around(series, -series.values))


def _ratio(values: FloatArray, usual: FloatArray) -> float:
    seen = np.isfinite(values) & np.isfinite(usual)
    expected = float(usual[seen].sum())
    return float(values[seen].sum()) / expected if expected > 0 else 0.0
