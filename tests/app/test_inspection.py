"""The notebooks' histories: the same demand from a trace file, from Prometheus and from the store of decisions."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from forecaster.calendar import DemandCalendar
from forecaster.forecaster import Forecaster
from forecaster.series import DemandSeries, DemandUnit
from scaler.adapters.store.store import SqlStore
from scaler.adapters.traces import write_trace
from scaler.app.demo.traffic import generate
from scaler.app.histories import History
from scaler.app.inspection import (
    compare,
    demand_figure,
    hindsight_figure,
    histories_to_inspect,
    is_mostly_idle,
    next_request_figure,
    overview,
)
from scaler.cycle import Cycle
from scaler.errors import SettingsError
from tests.app.fakes import MORNING, FakeClock, FakePolicies, FakeSource, FakeTarget, PlainAdvisor, a_policy
from tests.servers.prometheus import Prometheus, Series

POLICY = """
apiVersion: headstart.dev/v1alpha1
kind: InferenceScalingPolicy
metadata: {name: chat, namespace: prod}
spec:
  demand: {preset: http, selector: {namespace: prod, service: chat}}
  capacity: {perReplica: 2.0}
  forecast: {history: 1d, calendar: {timezone: Asia/Tokyo}}
"""


def test_a_trace_file(tmp_path: Path) -> None:
    series = generate("chat", seed=1, start=datetime(2026, 3, 2, tzinfo=UTC), days=1)
    write_trace(tmp_path / "chat.csv", {"": series})
    histories = histories_to_inspect({"HEADSTART_TRACE": str(tmp_path / "chat.csv")})
    assert histories["trace/chat"].series.values.mean() == pytest.approx(series.values.mean())


def test_prometheus_through_the_policies(prometheus: Prometheus, tmp_path: Path) -> None:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    samples = [(start + timedelta(seconds=15 * i), 30.0 * i) for i in range(480)]
    labels = {"namespace": "prod", "service": "chat"}
    prometheus.backfill([Series(metric="http_requests", kind="counter", labels=labels, samples=samples)])
    prometheus.start()
    (tmp_path / "chat.yaml").write_text(POLICY)
    told = {"HEADSTART_PROMETHEUS_URL": prometheus.url, "HEADSTART_POLICIES": str(tmp_path)}
    history = histories_to_inspect(told)["prod/chat"]
    assert history.calendar.timezone == "Asia/Tokyo"
    assert np.nanmedian(history.series.values) == pytest.approx(2.0)


def test_the_store_of_decisions(tmp_path: Path) -> None:
    """What was not read in a bin is not seen; a reading tells of the minute before it."""
    url, clock, source = f"sqlite:///{tmp_path}/store.db", FakeClock(), FakeSource()
    with closing(SqlStore.open(url)) as store:
        cycle = Cycle(
            clock=clock,
            policies=FakePolicies([a_policy()]),
            source=source,
            target=FakeTarget(),
            advisor=PlainAdvisor(),
            log=store,
        )
        for minutes, demand in ((1, 4.0), (3, 6.0), (12, 9.0)):
            clock.time, source.demand = MORNING + timedelta(minutes=minutes), demand
            cycle.turn()
    series = histories_to_inspect({"HEADSTART_STORE": url})["prod/chat"].series
    assert series.start == MORNING
    assert series.values == pytest.approx([5.0, np.nan, 9.0], nan_ok=True)


def test_a_store_without_demand_is_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    SqlStore.open(url).close()
    with pytest.raises(SettingsError, match="no decision"):
        histories_to_inspect({"HEADSTART_STORE": url})


def test_a_day_of_summer_time_has_its_place_in_the_figure() -> None:
    """The day has 23 hours: 02:00 to 03:00 was not, and is not drawn."""
    (history,) = histories_to_inspect({"HEADSTART_SAMPLE_DAYS": "2"}).values()
    berlin = replace(history.calendar, timezone="Europe/Berlin")
    moved = replace(history.series, start=datetime(2026, 3, 28, 23, tzinfo=UTC))
    grid = demand_figure(replace(history, series=moved, calendar=berlin)).data[0].z
    assert np.isnan(grid[0, 12:18]).all()
    assert np.isfinite(grid[0, :12]).all()


def test_the_next_request_of_a_rare_endpoint_is_shown_in_its_local_day() -> None:
    """One request a day at noon in Tokyo."""
    step = timedelta(minutes=5)
    counts = np.zeros(20 * 288)
    counts[3 * 12 :: 288] = 1.0
    start = datetime(2026, 3, 2, tzinfo=UTC)
    series = DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=step, values=counts / 300.0)
    assert is_mostly_idle(series)
    figure = next_request_figure(History(series=series, calendar=DemandCalendar(timezone="Asia/Tokyo")))
    chances, season = figure.data
    assert np.all(np.diff(chances.y) <= 0)
    assert season.x[int(np.argmax(season.y))] == 12.0


def test_the_overview_says_what_was_seen() -> None:
    (row,) = overview(histories_to_inspect({"HEADSTART_SAMPLE_DAYS": "2"})).to_dict("records")
    assert (row["days"], row["step"], row["seen"]) == (2.0, "10 min", 1.0)


def test_a_history_of_less_than_the_hindsight_is_said_instead_of_a_figure() -> None:
    series = generate("chat", seed=1, start=MORNING.replace(hour=0), days=1).until(MORNING)
    told = hindsight_figure(Forecaster(method="profile"), series, timedelta(days=1))
    assert told.startswith("No forecast of 24 h ago: the history is ")
    assert "HEADSTART_TRACE" in told


def test_a_history_too_short_for_a_backtest_is_said_with_what_to_do() -> None:
    start = datetime(2026, 3, 2, tzinfo=UTC)
    series = generate("chat", seed=1, start=start, days=1).until(start + timedelta(minutes=10))
    with pytest.raises(SettingsError, match="HEADSTART_TRACE"):
        compare(series, ["profile"], [timedelta(minutes=10)], timedelta(minutes=7))
