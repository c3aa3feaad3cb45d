"""Demand from recorded series instead of a metrics server: for offline runs and demonstrations."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import nan

import numpy as np

from forecaster.series import DemandSeries, FloatArray
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.ports import Reading


class CsvSource:
    """Implements ports.DemandSource over series read by scaler.adapters.traces. Knows demand only: the rest is NaN."""

    def __init__(self, series: Mapping[EndpointId, DemandSeries], *, turn: timedelta, recent_span: timedelta) -> None:
        self._series = dict(series)
        self._turn = turn
        self._recent_span = recent_span

    def history(
        self, policies: Sequence[ScalingPolicy], start: datetime, end: datetime, step: timedelta
    ) -> Mapping[EndpointId, DemandSeries]:
        """Demand on [start, end) aligned to multiples of `step`; bins outside the recording are NaN."""
        wanted = {policy.endpoint for policy in policies} & self._series.keys()
        return {endpoint: on_grid(self._series[endpoint].until(end), start, end, step) for endpoint in wanted}

    def read(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, Reading]:
        """Demand up to the last recorded bin that had ended by `now`; an endpoint outside its recording is absent."""
        readings = {}
        for endpoint, recent in self.history(policies, now - self._recent_span, now, self._turn).items():
            known_until = min(self._series[endpoint].until(now).end, now)
            known = recent.until(known_until)
            if now - known_until < max(2 * self._series[endpoint].step, 2 * self._turn) and len(known):
                readings[endpoint] = Reading(recent=known, queue=nan, reactive={})
        return readings

    def problems(self) -> Mapping[EndpointId, str]:
        """An endpoint outside its recording is absent; there is nothing else to say."""
        return {}


def on_grid(series: DemandSeries, start: datetime, end: datetime, step: timedelta) -> DemandSeries:
    """The same demand on the bins of `step` since the epoch that lie in [start, end): time-weighted means.

    A bin of which less than half was seen is NaN. Finer bins than the series' own repeat its value.
    """
    width = step.total_seconds()
    first = int(np.ceil(round(start.timestamp() / width, 9)))
    last = int(np.floor(round(end.timestamp() / width, 9)))
    edges = width * np.arange(first, max(last, first) + 1, dtype=np.float64)
    seen = ~np.isnan(series.values)
    seconds = _integral(series, seen.astype(np.float64), edges)
    amounts = _integral(series, np.where(seen, series.values, 0.0), edges)
    known = 2 * seconds >= width * (1 - 1e-9)
    values = np.where(known, amounts / np.maximum(seconds, 1e-9), np.nan)
    return DemandSeries(
        unit=series.unit,
        start=datetime.fromtimestamp(edges[0], start.tzinfo),
        step=step,
        values=np.maximum(values, 0.0),
    )


def _integral(series: DemandSeries, values: FloatArray, edges: FloatArray) -> FloatArray:
    """The integral of a step function between neighbouring edges; outside the series it is 0."""
    own_edges = series.start.timestamp() + series.step_seconds * np.arange(len(values) + 1)
    total = np.concatenate([[0.0], np.cumsum(values) * series.step_seconds])
    return np.diff(np.interp(edges, own_edges, total))
