"""What the page and the API show: the last turns of every endpoint, kept in memory and bounded."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import numpy as np

from forecaster.forecast import DemandForecast
from forecaster.series import DemandSeries
from scaler.cycle import TurnReport
from scaler.domain.endpoint import EndpointId
from scaler.domain.record import DecisionRecord

BIN = timedelta(minutes=1)
"""One point of a timeline; the last turn within it stands for it."""
KEPT = timedelta(hours=36)
BAND_STEP = timedelta(minutes=10)
"""The forecast is shown at this step: a day is 144 points."""
BAND_LEVELS = (0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One minute of one endpoint. None: not known."""

    at: datetime
    demand: float | None
    decided: int | None
    ready: int | None = None
    starting: int | None = None
    desired: int | None = None
    queue: float | None = None
    reactive: int | None = None
    """What the shadow reactive policy would stand at."""


@dataclass(kw_only=True)
class _Card:
    last: DecisionRecord | None = None
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=KEPT // BIN))
    forecast: DemandForecast | None = None


class Board:
    """Written by the turn, read by the page; every method is safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cards: dict[EndpointId, _Card] = {}
        self._problems: Mapping[str, str] = {}
        self._last_turn: datetime | None = None
        self._n_turns = 0

    @property
    def last_turn(self) -> datetime | None:
        """Service time of the last finished turn."""
        return self._last_turn

    @property
    def n_turns(self) -> int:
        return self._n_turns

    @property
    def problems(self) -> Mapping[str, str]:
        return self._problems

    def turn(self, report: TurnReport) -> None:
        """The report shows from now on. Endpoints without a policy are gone, unless the policies could not be read."""
        with self._lock:
            if "policies" not in report.problems:
                present = {record.decision.endpoint for record in report.records}
                self._cards = {endpoint: card for endpoint, card in self._cards.items() if endpoint in present}
            for record in report.records:
                card = self._cards.setdefault(record.decision.endpoint, _Card())
                card.last = record
                _put(card.points, _point(record))
            self._problems = dict(report.problems)
            self._last_turn = report.now
            self._n_turns += 1

    def forecast(self, endpoint: EndpointId, forecast: DemandForecast) -> None:
        with self._lock:
            self._cards.setdefault(endpoint, _Card()).forecast = forecast

    def history(self, endpoint: EndpointId, series: DemandSeries) -> None:
        """The line of demand reaches back into history where no turn has been seen yet."""
        with self._lock:
            card = self._cards.setdefault(endpoint, _Card())
            first = card.points[0].at if card.points else series.end
            if first <= series.end - KEPT / 2:
                return
            by_minute = series.since(series.end - KEPT).resampled(max(series.step, BIN)).until(first)
            past = [
                Point(at=by_minute.start + i * by_minute.step, demand=_number(value), decided=None)
                for i, value in enumerate(by_minute.values.tolist())
            ]
            card.points.extendleft(reversed(past[max(len(past) + len(card.points) - KEPT // BIN, 0) :]))

    def restore(self, endpoint: EndpointId, rows: Sequence[Mapping[str, Any]]) -> None:
        """The timeline of an earlier run, from stored rows (newest first)."""
        with self._lock:
            card = self._cards.setdefault(endpoint, _Card())
            for row in reversed(rows):
                _put(card.points, _restored_point(row))

    def endpoints(self) -> list[dict[str, Any]]:
        """One row an endpoint, in order of name: what /api/v1/endpoints answers."""
        with self._lock:
            cards = sorted(self._cards.items())
        return [_endpoint_row(card.last) for _, card in cards if card.last is not None]

    def timeline(self, endpoint: EndpointId) -> dict[str, Any] | None:
        """Points and forecast band of one endpoint, column by column; None for an unknown endpoint."""
        with self._lock:
            card = self._cards.get(endpoint)
            if card is None:
                return None
            points, forecast, last = list(card.points), card.forecast, card.last
        return {
            "points": {
                "at": [point.at.isoformat() for point in points],
                **{
                    name: [getattr(point, name) for point in points]
                    for name in ("demand", "ready", "starting", "desired", "decided", "queue", "reactive")
                },
            },
            "forecast": None if forecast is None else _band(forecast),
            "unit": None if last is None else last.snapshot.policy.spec.demand.unit.value,
            "per_replica": None if last is None else last.snapshot.profile.demand_per_replica,
        }


def _put(points: deque[Point], point: Point) -> None:
    if points and points[-1].at == point.at:
        points.pop()
    points.append(point)


def _point(record: DecisionRecord) -> Point:
    snapshot, decision = record.snapshot, record.decision
    replicas, signals = snapshot.replicas, snapshot.signals
    return Point(
        at=_minute(decision.decided_at),
        demand=None if signals is None else _number(signals.demand_now),
        ready=None if replicas is None else replicas.ready,
        starting=None if replicas is None else len(replicas.starting),
        desired=None if replicas is None else replicas.desired,
        decided=decision.final,
        queue=_number(snapshot.queue),
        reactive=None if signals is None else _reactive(record),
    )


def _reactive(record: DecisionRecord) -> int | None:
    """Replicas that the demand of the shadow reactive policy asks for, within the policy's bounds."""
    snapshot = record.snapshot
    ahead = snapshot.signals.baseline_ahead if snapshot.signals else float("nan")
    if not isfinite(ahead):
        return None
    spec = snapshot.policy.spec
    usable = snapshot.profile.demand_per_replica * spec.capacity.utilization.target
    return int(np.clip(np.ceil(ahead / usable - 1e-9), spec.replicas.min, spec.replicas.max))


def _restored_point(row: Mapping[str, Any]) -> Point:
    signals = row.get("signals") or {}
    return Point(
        at=_minute(datetime.fromisoformat(row["decided_at"])),
        demand=signals.get("demand_now"),
        ready=row["ready"],
        starting=row["starting"],
        desired=row["current"],
        decided=row["final"],
        queue=row.get("queue"),
        reactive=None,
    )


def _endpoint_row(record: DecisionRecord) -> dict[str, Any]:
    decision, snapshot = record.decision, record.snapshot
    point = _point(record)
    signals = snapshot.signals
    issued_at = None if signals is None else signals.forecast_issued_at
    return {
        "namespace": decision.endpoint.namespace,
        "name": decision.endpoint.name,
        "mode": decision.mode.value,
        "ready": point.ready,
        "starting": point.starting,
        "desired": point.desired,
        "demand": point.demand,
        "unit": snapshot.policy.spec.demand.unit.value,
        "decided": decision.final,
        "decided_at": decision.decided_at.isoformat(),
        "sentence": decision.sentence(),
        "why_setting": decision.why_setting,
        "held_for_lack_of_knowledge": decision.held_for_lack_of_knowledge(),
        "outcome": record.actuation.outcome.value,
        "queue": point.queue,
        "forecast_issued_at": None if issued_at is None else issued_at.isoformat(),
        "startup_p95_seconds": snapshot.profile.startup.p95.total_seconds(),
        "pool": snapshot.policy.spec.target.pool,
        "gpus_per_replica": snapshot.profile.gpus_per_replica,
        "cost_per_replica_hour": snapshot.profile.cost_per_replica_hour,
        "problem": snapshot.problem,
    }


def _band(forecast: DemandForecast) -> dict[str, Any]:
    """The forecast at BAND_LEVELS, thinned to BAND_STEP by the mean of its steps."""
    factor = max(BAND_STEP // forecast.step, 1)
    n_bins = len(forecast) // factor
    levels = [level for level in BAND_LEVELS if forecast.quantile_levels[0] <= level <= forecast.quantile_levels[-1]]
    paths = [forecast.at_level(level)[: n_bins * factor].reshape(n_bins, factor).mean(axis=1) for level in levels]
    starts = [forecast.start + i * factor * forecast.step for i in range(n_bins)]
    return {
        "issued_at": forecast.issued_at.isoformat(),
        "method": forecast.method,
        "at": [start.isoformat() for start in starts],
        "levels": levels,
        "values": [[round(float(value), 6) for value in path] for path in paths],
    }


def _minute(when: datetime) -> datetime:
    seconds = int(when.timestamp())
    return datetime.fromtimestamp(seconds - seconds % int(BIN.total_seconds()), UTC)


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
