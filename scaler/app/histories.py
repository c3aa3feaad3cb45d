"""The histories that a forecasting command works on: from a trace file, or from the metrics server of the policies."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from forecaster.calendar import DemandCalendar
from forecaster.series import DemandSeries, DemandUnit
from scaler.app.dayahead import STEP, calendar_of
from scaler.domain.policy import Forecast, ScalingPolicy
from scaler.errors import PolicyError, SettingsError

_DEFAULT = Forecast()
TRACE_NAMESPACE = "trace"
"""Of the keys of models that were fitted on a trace file."""


@dataclass(frozen=True, kw_only=True)
class History:
    """One endpoint's demand, on a grid of STEP or coarser, the calendar it lives by, and what its policy says of its
    forecasts (without a policy: what a policy says by default). `if_unseen` is the problem if no demand was seen."""

    series: DemandSeries
    calendar: DemandCalendar
    method: str = _DEFAULT.method
    horizon: timedelta = _DEFAULT.horizon
    if_unseen: str = "no demand was seen"


def read_histories(
    *,
    trace: Path | None,
    policies: str | None,
    prometheus_url: str | None,
    policy: Path | None = None,
    whole_hours: bool = False,
) -> Mapping[str, History]:
    """`namespace/name` -> history; with `whole_hours` that of a metrics server ends with the last one, so that asking
    again soon gives the same. An endpoint of which the metrics server knows nothing has a history without a bin seen.

    `policy` is that of a trace's endpoints: its calendar, unit, method and horizon. Raises SettingsError unless exactly
    one of trace and policies is named, PolicyError, TraceError.
    """
    if (trace is None) == (policies is None):
        raise SettingsError("need either --trace FILE, or --policies DIR with the metrics server of --prometheus-url")
    if trace is not None:
        if prometheus_url is not None:
            raise SettingsError("--prometheus-url: not with --trace, which holds the history")
        return _from_trace(trace, policy)
    if policy is not None:
        raise SettingsError("--policy: only with --trace; --policies DIR names the policies of a metrics server")
    return _from_metrics(policies, prometheus_url, whole_hours)


def stored_histories(store_url: str) -> Mapping[str, History]:
    """`namespace/name` -> demand as the decisions in a store read it, means over bins of STEP (UTC, requests taken).
    Endpoints without any are left out. Raises SettingsError where there is none at all, StoreUnavailable."""
    from scaler.adapters.store.store import SqlStore

    with closing(SqlStore.open(store_url, must_exist=True)) as store:
        found = {str(endpoint): list(store.demand_seen(endpoint)) for endpoint in store.endpoints()}
    known = {key: seen for key, seen in found.items() if seen}
    if not known:
        raise SettingsError(f"{store_url}: no decision in this store knew demand")
    return {key: History(series=_on_bins(seen), calendar=DemandCalendar()) for key, seen in known.items()}


def _on_bins(seen: Sequence[tuple[datetime, float]]) -> DemandSeries:
    """Means of readings over the bins of STEP that hold the middle of the minute that each tells of."""
    step = STEP.total_seconds()
    bins = np.array([(when - timedelta(seconds=30)).timestamp() // step for when, _ in seen], dtype=np.int64)
    count = np.bincount(bins - bins[0])
    total = np.bincount(bins - bins[0], weights=[value for _, value in seen])
    return DemandSeries(
        unit=DemandUnit.REQUESTS,
        start=datetime.fromtimestamp(float(bins[0]) * step, UTC),
        step=STEP,
        values=np.where(count > 0, total / np.maximum(count, 1), np.nan),
    )


def _from_trace(trace: Path, policy: Path | None) -> Mapping[str, History]:
    from scaler.adapters.policies import load_policy
    from scaler.adapters.traces import read_trace

    known = load_policy(policy) if policy is not None else None
    found = read_trace(trace, known.spec.demand.unit) if known is not None else read_trace(trace)
    stem = trace.name.removesuffix(".gz").removesuffix(".csv")
    if_unseen = f"{trace}: no demand was seen, every bin is missing"
    return {
        f"{TRACE_NAMESPACE}/{name or stem}": _history(_coarse(series), known, if_unseen)
        for name, series in found.items()
    }


def _history(series: DemandSeries, policy: ScalingPolicy | None, if_unseen: str) -> History:
    if policy is None:
        return History(series=series, calendar=DemandCalendar(), if_unseen=if_unseen)
    return History(
        series=series,
        calendar=calendar_of(policy),
        method=policy.spec.forecast.method,
        horizon=policy.spec.forecast.horizon,
        if_unseen=if_unseen,
    )


def _from_metrics(policies: str | None, prometheus_url: str | None, whole_hours: bool) -> Mapping[str, History]:
    from scaler.adapters.clock import SystemClock
    from scaler.app.bootstrap import build_policies, build_source
    from scaler.app.settings import load_settings

    settings = load_settings(policies=policies, prometheus_url=prometheus_url)
    source = build_policies(settings)
    found = source.load()
    if source.problems():
        raise PolicyError("\n".join(source.problems()))
    clock = SystemClock()
    now = clock.now()
    if whole_hours:
        now = now.replace(minute=0, second=0, microsecond=0)
    longest = max(policy.spec.forecast.history for policy in found)
    told = build_source(settings, clock).history(found, now - longest, now, STEP)
    if_unseen = (
        "the metrics server told of no demand; check demand.preset, demand.selector and demand.query of its "
        "policy (headstart doctor)"
    )
    histories = {}
    for policy in found:
        span = policy.spec.forecast.history
        series = told.get(policy.endpoint)
        known = series.since(now - span) if series is not None else _unseen(policy.spec.demand.unit, now, span)
        histories[str(policy.endpoint)] = _history(known, policy, if_unseen)
    return histories


def _unseen(unit: DemandUnit, end: datetime, span: timedelta) -> DemandSeries:
    """A history of that span in which no bin was seen."""
    n_steps = max(span // STEP, 1)
    last = datetime.fromtimestamp(end.timestamp() // STEP.total_seconds() * STEP.total_seconds(), UTC)
    return DemandSeries(unit=unit, start=last - n_steps * STEP, step=STEP, values=np.full(n_steps, np.nan))


def _coarse(series: DemandSeries) -> DemandSeries:
    """On the smallest multiple of its own step that is at least STEP."""
    factor = max(-(-STEP // series.step), 1)
    return series.resampled(factor * series.step)
