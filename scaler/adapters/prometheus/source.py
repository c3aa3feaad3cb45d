"""Demand history and live signals of every endpoint, one query per signal template."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, isfinite, nan

import numpy as np

from forecaster.series import DemandSeries, DemandUnit, FloatArray
from scaler.adapters.prometheus.client import Line, PrometheusClient
from scaler.adapters.prometheus.presets import Preset, QueryContext, fill
from scaler.adapters.prometheus.signals import Group, groups
from scaler.adapters.prometheus.timescale import Identity, TimeScale
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.errors import QueryRejected
from scaler.ports import Reading

STALE_AFTER = timedelta(minutes=2)
SAMPLES_IN_WINDOW = 4
"""A rate needs two samples in its window; four scrapes leave room for one that failed and one that came late."""


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """`turn` is the grid of a reading and `recent_span` how far it reaches back, both in service time.

    `scrape_interval` is that of the metrics server, in wall time: rate windows are never shorter than four of them, and
    a sample is stale after the longer of two minutes and four of them.
    """

    turn: timedelta = timedelta(seconds=15)
    recent_span: timedelta = timedelta(hours=24)
    scrape_interval: timedelta = timedelta(seconds=30)


class PrometheusSource:
    """Implements ports.DemandSource. Unknown is NaN or absence, never 0; a counter that stands still is 0.

    One range query brings the demand of all endpoints with one preset and one set of selector labels; a policy with a
    query of its own adds one. A reading asks only for what came since the last one. Not for parallel `read`s; `history`
    may run beside them.
    """

    def __init__(
        self, client: PrometheusClient, settings: SourceSettings | None = None, time_scale: TimeScale | None = None
    ) -> None:
        self._client = client
        self._settings = settings or SourceSettings()
        self._time = time_scale or Identity()
        self._recent: dict[EndpointId, _Recent] = {}
        self._problems: dict[EndpointId, str] = {}

    def problems(self) -> Mapping[EndpointId, str]:
        """Why endpoints were absent from the last `read`, or which signal was refused."""
        return dict(self._problems)

    def history(
        self, policies: Sequence[ScalingPolicy], start: datetime, end: datetime, step: timedelta
    ) -> Mapping[EndpointId, DemandSeries]:
        """Demand on the bins of `step` since the epoch that lie in [start, end); see ports.DemandSource.

        The value of a bin is the rate over the bin, or over four scrape intervals up to its end where that is longer.
        """
        grid = _Grid.within(start, end, step)
        values, _ = self._demand(policies, grid, patient=True)
        units = {policy.endpoint: policy.spec.demand.unit for policy in policies}
        return {
            endpoint: DemandSeries(unit=units[endpoint], start=grid.start, step=step, values=found)
            for endpoint, found in values.items()
            if not np.isnan(found).all()
        }

    def read(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, Reading]:
        """The present; an endpoint without a fresh value of demand is absent, and `problems()` says why."""
        self._problems = {}
        self._refresh(policies, _Grid.within(now - self._settings.recent_span, now, self._settings.turn))
        fresh_bins = ceil(self._fresh_seconds() * self._factor() / self._settings.turn.total_seconds())
        known: list[ScalingPolicy] = []
        for policy in policies:
            lately = self._recent[policy.endpoint].values[-fresh_bins:]
            if not np.isnan(lately).all():
                known.append(policy)
            else:
                self._problems.setdefault(policy.endpoint, self._silence(policy))
        return self._readings(known, now)

    def _readings(self, policies: Sequence[ScalingPolicy], now: datetime) -> dict[EndpointId, Reading]:
        queue = self._now(policies, now, lambda preset: preset.queue, lambda policy: True)
        request_tokens = self._now(policies, now, lambda preset: preset.tokens_per_request, _in_tokens)
        in_flight = self._now(policies, now, lambda preset: preset.in_flight, lambda policy: True)
        latency = self._now(policies, now, lambda preset: preset.latency, _percentile)
        signals = sorted({threshold.signal for p in policies for threshold in p.spec.reactive.thresholds})
        reactive = {name: self._threshold_signal(policies, now, name) for name in signals}
        factor = self._factor()
        return {
            policy.endpoint: Reading(
                recent=self._recent[policy.endpoint].series(policy, self._settings.turn),
                # A request has at least one token: while none ended lately that much of the queue is known.
                queue=queue.get(policy.endpoint, nan) * max(request_tokens.get(policy.endpoint, 1.0), 1.0),
                in_flight=in_flight.get(policy.endpoint, nan),
                latency_seconds=latency.get(policy.endpoint, nan) * factor,
                reactive={
                    threshold.signal: reactive[threshold.signal].get(policy.endpoint, nan)
                    for threshold in policy.spec.reactive.thresholds
                },
            )
            for policy in policies
        }

    def _threshold_signal(
        self, policies: Sequence[ScalingPolicy], now: datetime, name: str
    ) -> Mapping[EndpointId, float]:
        def asks(policy: ScalingPolicy) -> bool | None:
            return True if any(t.signal == name for t in policy.spec.reactive.thresholds) else None

        return self._now(policies, now, lambda preset: preset.per_replica.get(name, ""), asks)

    def _refresh(self, policies: Sequence[ScalingPolicy], wanted: "_Grid") -> None:
        """`_recent` holds the wanted bins of every policy; asked are new bins and those a late sample may mend."""
        for policy in policies:
            kept = self._recent.get(policy.endpoint)
            if kept is None or kept.asked != _asked(policy):
                self._recent[policy.endpoint] = _Recent.nothing(_asked(policy), wanted.first)
        overlap = 1 + ceil(self._window_seconds(wanted.step) * self._factor() / wanted.step.total_seconds())
        ends = [self._recent[policy.endpoint].end for policy in policies]
        first = max(wanted.first, min(ends, default=wanted.last) - overlap)
        grid = _Grid(first=min(first, wanted.last), last=wanted.last, step=wanted.step)
        fetched, rejected = self._demand(policies, grid, patient=False)
        self._problems.update(rejected)
        self._recent = {
            policy.endpoint: self._recent[policy.endpoint].extended(fetched.get(policy.endpoint), first, wanted)
            for policy in policies
        }

    def _demand(
        self, policies: Sequence[ScalingPolicy], grid: "_Grid", *, patient: bool
    ) -> tuple[dict[EndpointId, FloatArray], dict[EndpointId, str]]:
        """Values per endpoint on the grid (none: no series), and why queries were refused.

        Raises QueryRejected when every query was: then the server or the credentials are wrong, not one policy.
        """
        found = _Found(values={}, refused={})
        shared = [policy for policy in policies if not policy.spec.demand.query]
        for unit, group in groups(shared, lambda policy: policy.spec.demand.unit):
            self._shared_demand(unit, group, grid, patient, found)
        for policy in policies:
            if policy.spec.demand.query:
                self._own_demand(policy, grid, patient, found)
        if policies and not found.values and len(found.refused) == len(policies):
            raise QueryRejected("; ".join(dict.fromkeys(found.refused.values())))
        return found.values, found.refused

    def _shared_demand(self, unit: DemandUnit, group: Group, grid: "_Grid", patient: bool, found: "_Found") -> None:
        signal = group.preset.demand.get(unit.value)
        if signal is None:
            found.refused |= dict.fromkeys(group.endpoints, f"preset {group.preset.name} has no demand in {unit}")
            return
        try:
            lines = self._range(self._filled(signal, group, grid.step), grid, len(group.members), patient)
        except QueryRejected as error:
            found.refused |= dict.fromkeys(group.endpoints, str(error))
            return
        for line in lines:
            for endpoint in group.owners(line.labels):
                self._put(found.values, endpoint, line, grid, unit.is_rate)

    def _own_demand(self, policy: ScalingPolicy, grid: "_Grid", patient: bool, found: "_Found") -> None:
        try:
            lines = self._range(policy.spec.demand.query, grid, 1, patient)
        except QueryRejected as error:
            found.refused[policy.endpoint] = str(error)
            return
        if len({tuple(sorted(line.labels.items())) for line in lines}) > 1:
            found.refused[policy.endpoint] = "demand.query gives several series, need one: wrap it in sum(...)"
            return
        for line in lines:
            self._put(found.values, policy.endpoint, line, grid, policy.spec.demand.unit.is_rate)

    def _put(
        self, values: dict[EndpointId, FloatArray], endpoint: EndpointId, line: Line, grid: "_Grid", is_rate: bool
    ) -> None:
        """A chunk of an endpoint's series on the grid; what is no demand (negative, infinite) is not known."""
        target = values.setdefault(endpoint, np.full(grid.last - grid.first, nan))
        start, step = self._wall(grid)
        at = np.rint((line.stamps - start) / step).astype(np.int64)
        inside = (at >= 0) & (at < len(target))
        found = line.values / self._factor() if is_rate else line.values
        found = np.where(np.abs(found) < 1e-9, 0.0, found)
        target[at[inside]] = np.where(np.isfinite(found) & (found >= 0), found, nan)[inside]

    def _range(self, query: str, grid: "_Grid", n_series: int, patient: bool) -> list[Line]:
        start, step = self._wall(grid)
        n_steps = grid.last - grid.first
        return self._client.range(query, start=start, step=step, n_steps=n_steps, n_series=n_series, patient=patient)

    def _now(
        self,
        policies: Sequence[ScalingPolicy],
        now: datetime,
        signal: Callable[[Preset], str],
        key: Callable[[ScalingPolicy], float | bool | None],
    ) -> dict[EndpointId, float]:
        """One signal at the present; an endpoint without a finite value is absent, also where the query was refused."""
        found: dict[EndpointId, float] = {}
        at = self._time.to_wall(now).timestamp()
        for _, group in groups(policies, key):
            text = signal(group.preset)
            if not text:
                continue
            try:
                lines = self._client.instant(self._filled(text, group, self._settings.turn), at=at)
            except QueryRejected as error:
                for endpoint in group.endpoints:
                    self._problems.setdefault(endpoint, str(error))
                continue
            for line in lines:
                if isfinite(line.values[0]):
                    found |= dict.fromkeys(group.owners(line.labels), float(line.values[0]))
        return found

    def _filled(self, signal: str, group: Group, step: timedelta) -> str:
        context = QueryContext(
            by=group.by,
            matchers=group.matchers,
            window_seconds=self._window_seconds(step),
            fresh_seconds=self._fresh_seconds(),
            percentile=group.percentile,
        )
        return fill(signal, context)

    def _wall(self, grid: "_Grid") -> tuple[float, float]:
        """Wall epoch seconds at which the first bin ends, and the wall step: a bin is known when it has ended."""
        return self._time.to_wall(grid.start + grid.step).timestamp(), self._time.to_wall_span(
            grid.step
        ).total_seconds()

    def _factor(self) -> float:
        """Service seconds in a wall second."""
        return timedelta(hours=1) / self._time.to_wall_span(timedelta(hours=1))

    def _window_seconds(self, step: timedelta) -> float:
        wall = self._time.to_wall_span(step).total_seconds()
        return max(wall, SAMPLES_IN_WINDOW * self._settings.scrape_interval.total_seconds())

    def _fresh_seconds(self) -> float:
        scrapes = SAMPLES_IN_WINDOW * self._settings.scrape_interval.total_seconds()
        return max(self._time.to_wall_span(STALE_AFTER).total_seconds(), scrapes)

    def _silence(self, policy: ScalingPolicy) -> str:
        demand = policy.spec.demand
        asked = f"query {demand.query}" if demand.query else f"preset {demand.preset}"
        return f"no demand for {self._fresh_seconds():g} s ({asked}): unknown, not zero"


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Bins number `first` (inclusive) to `last` (exclusive) of `step` since the epoch."""

    first: int
    last: int
    step: timedelta

    @classmethod
    def within(cls, start: datetime, end: datetime, step: timedelta) -> "_Grid":
        epoch = datetime.fromtimestamp(0, UTC)
        first = -((epoch - start) // step)
        return cls(first=first, last=max(first, (end - epoch) // step), step=step)

    @property
    def start(self) -> datetime:
        return datetime.fromtimestamp(0, UTC) + self.first * self.step


@dataclass(kw_only=True)
class _Found:
    """Demand as it comes in, query by query."""

    values: dict[EndpointId, FloatArray]
    refused: dict[EndpointId, str]


def _percentile(policy: ScalingPolicy) -> float | None:
    latency = policy.spec.slo.latency
    return latency.percentile if latency else None


def _in_tokens(policy: ScalingPolicy) -> bool | None:
    return True if policy.spec.demand.unit is DemandUnit.TOKENS else None


def _asked(policy: ScalingPolicy) -> tuple[object, ...]:
    """What a kept value depends on: another query, another past."""
    demand = policy.spec.demand
    return demand.unit, demand.preset, tuple(sorted(demand.selector.items())), demand.query, policy.target_name


@dataclass(frozen=True, kw_only=True)
class _Recent:
    """What was answered lately about one endpoint: `values` of the bins from `first` on."""

    asked: tuple[object, ...]
    first: int
    values: FloatArray

    @classmethod
    def nothing(cls, asked: tuple[object, ...], first: int) -> "_Recent":
        return cls(asked=asked, first=first, values=np.zeros(0))

    @property
    def end(self) -> int:
        return self.first + len(self.values)

    def extended(self, fetched: FloatArray | None, first: int, wanted: _Grid) -> "_Recent":
        """The wanted bins: kept ones before bin `first`, fetched ones from there; NaN where neither knows."""
        values = np.full(wanted.last - wanted.first, nan)
        skipped = max(wanted.first - self.first, 0)
        kept = self.values[skipped:]
        at = self.first + skipped - wanted.first
        n_kept = max(min(len(kept), len(values) - at), 0)
        values[at : at + n_kept] = kept[:n_kept]
        if fetched is not None and len(fetched):
            known = ~np.isnan(fetched)
            values[first - wanted.first :][known] = fetched[known]
        return _Recent(asked=self.asked, first=wanted.first, values=values)

    def series(self, policy: ScalingPolicy, step: timedelta) -> DemandSeries:
        start = datetime.fromtimestamp(0, UTC) + self.first * step
        return DemandSeries(unit=policy.spec.demand.unit, start=start, step=step, values=self.values)
