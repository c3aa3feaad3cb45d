import csv
import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from scaler.domain.endpoint import EndpointId
from scaler.errors import SettingsError, TraceError
from scaler.simulator.faults import parse_faults
from scaler.simulator.replay import OWN, run_replay
from scaler.simulator.report import report
from scaler.simulator.results import TIMELINE, summary, write_replay
from scaler.simulator.spans import ReplayRequest
from tests.builders import a_policy
from tests.simulator.makers import PresentAdvisor, a_series, present_advisor

CHAT = EndpointId("prod", "chat-7b")
WARMUP = timedelta(hours=2)


def counts(hours=6, seed=1, level=120.0):
    rng = np.random.Generator(np.random.PCG64(seed))
    minutes = np.arange(hours * 60)
    return rng.poisson(level * (1.2 + np.sin(minutes / 40.0))).astype(np.float64)


def a_request(trace=None, spec=None, **changes):
    policy = a_policy({"replicas": {"max": 12}} | (spec or {}))
    series = a_series(counts()) if trace is None else trace
    fields = {"policies": {CHAT: policy}, "traces": {CHAT: series}, "warmup": WARMUP, "baselines": ("hpa", "static")}
    return ReplayRequest(**(fields | changes))


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_files_of_the_contract_are_written_and_repeat_byte_for_byte(tmp_path):
    for name in ("one", "two"):
        result = run_replay(a_request(), present_advisor)
        write_replay(result, tmp_path / name, report(result))
    names = {file.name for file in (tmp_path / "one").iterdir()}
    expected = {"summary.json", "decisions.jsonl", "report.html"} | {
        f"timeline-{strategy}.csv" for strategy in (OWN, "hpa", "static")
    }
    assert names == expected
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "report.html").stat().st_size < 10_000_000


def test_the_summary_agrees_with_a_recomputation_from_the_timeline(tmp_path):
    request = a_request(spec={"target": {"gpusPerReplica": 2}})
    write_replay(run_replay(request, present_advisor), tmp_path)
    figures = json.loads((tmp_path / "summary.json").read_text())
    for strategy in (OWN, "hpa", "static"):
        table = rows(tmp_path / f"timeline-{strategy}.csv")
        assert tuple(table[0]) == TIMELINE
        assert len(table) == 4 * 240
        hours = sum(int(row["ready"]) + int(row["starting"]) for row in table) * 15 / 3600
        demand = sum(float(row["demand"]) for row in table)
        good = sum(float(row["demand"]) for row in table if float(row["wait_seconds"]) <= 10)
        cold = sum(float(row["demand"]) for row in table if int(row["ready"]) == 0)
        idle = sum(int(row["ready"]) for row in table if float(row["demand"]) < 0.5 * 15 * int(row["ready"]))
        own = figures[strategy]
        assert own["wasted_replica_hours"] == pytest.approx(idle * 15 / 3600, abs=1e-6)
        assert own["replica_hours"] == pytest.approx(hours)
        assert own["gpu_hours"] == pytest.approx(2 * hours)
        assert own["slo_attainment"] == pytest.approx(good / demand, abs=1e-6)
        assert own["cold_requests"] == cold
    assert demand == counts()[120:].sum()
    assert set(figures["clairvoyant"]) == {"lower_bound_replica_hours", "feasible_replica_hours"}


def test_time_stamps_are_the_steps_of_the_test_span_in_epoch_seconds(tmp_path):
    request = a_request()
    write_replay(run_replay(request, present_advisor), tmp_path)
    stamps = [float(row["timestamp"]) for row in rows(tmp_path / "timeline-hpa.csv")]
    assert stamps[0] == (request.traces[CHAT].start + WARMUP).timestamp()
    assert set(np.diff(stamps)) == {15.0}


def test_changing_the_trace_after_a_moment_changes_no_order_up_to_it():
    before = counts()
    after = before.copy()
    after[240:] = 3000.0
    request = a_request(with_clairvoyant=False, baselines=("hpa", "knative", "aws", "gcp", "dynamo-arima"))
    one = run_replay(request, present_advisor).endpoints[CHAT]
    other = run_replay(replace(request, traces={CHAT: a_series(after)}), present_advisor).endpoints[CHAT]
    at = (240 - 120) * 4
    for strategy, outcome in one.outcomes.items():
        assert np.array_equal(outcome.desired[: at + 1], other.outcomes[strategy].desired[: at + 1]), strategy
        assert not np.array_equal(outcome.desired, other.outcomes[strategy].desired), strategy


def test_every_strategy_begins_with_what_the_last_minute_asks_for():
    trace = a_series(np.concatenate([np.full(120, 180.0), np.full(60, 60.0)]))
    result = run_replay(a_request(trace), present_advisor).endpoints[CHAT]
    for outcome in result.outcomes.values():
        assert outcome.ready[0] <= 3
        assert outcome.queue[0] >= 0
    assert result.outcomes["static"].ready[0] == 3


def test_bounds_set_by_people_hold_for_every_strategy():
    override = {"name": "by-hand", "start": "2026-03-02T03:00:00Z", "end": "2026-03-02T04:00:00Z", "min": 9}
    request = a_request(spec={"overrides": [override]}, with_clairvoyant=False)
    for outcome in run_replay(request, present_advisor).endpoints[CHAT].outcomes.values():
        assert outcome.desired[240:480].min() >= 9


def test_bound_and_path_bracket_every_strategy_that_keeps_the_promise():
    names = ("hpa", "keda", "knative", "static", "keepalive", "aws", "gcp", "ahpa")
    request = a_request(spec={"capacity": {"utilization": {"target": 0.7}}}, baselines=names)
    found = run_replay(request, present_advisor).endpoints[CHAT]
    best = found.clairvoyant
    assert best.lower_bound_replica_hours <= best.feasible_replica_hours
    keeping = {key: item for key, item in found.outcomes.items() if item.attainment(10.0) >= 0.99}
    assert len(keeping) >= 3
    for outcome in keeping.values():
        assert best.feasible_replica_hours <= outcome.replica_hours


def test_the_cycle_refits_from_what_had_ended_and_not_more():
    advisors = []

    def make(foreseen, faults, reactive_only):
        advisors.append(PresentAdvisor())
        return advisors[-1]

    request = a_request(with_clairvoyant=False)
    run_replay(request, make)
    start = request.traces[CHAT].start + WARMUP
    assert advisors[0].refits == [(start + timedelta(hours=k),) * 2 for k in range(4)]


def test_an_outage_holds_what_is_ordered_and_says_so():
    request = a_request(faults=parse_faults(["metrics-outage:1h/1h"]), with_clairvoyant=False)
    found = run_replay(request, present_advisor).endpoints[CHAT]
    during = found.outcomes[OWN].desired[246:480]
    assert len(set(during)) == 1
    normal = run_replay(a_request(with_clairvoyant=False), present_advisor).endpoints[CHAT]
    assert len(set(normal.outcomes[OWN].desired[246:480])) > 1


def test_slow_and_failed_starts_cost_attainment():
    fine, bad = (
        run_replay(a_request(faults=parse_faults(names), with_clairvoyant=False), present_advisor).endpoints[CHAT]
        for names in ([], ["slow-starts:4", "failed-starts:0.3"])
    )
    assert bad.outcomes[OWN].attainment(10.0) < fine.outcomes[OWN].attainment(10.0)


def test_a_rolling_update_at_steady_demand_changes_no_order_and_costs_one_more_replica_while_it_lasts():
    def played(*names):
        steady = a_series(np.full(4 * 60, 60.0))
        faults, floor = parse_faults(names), {"replicas": {"min": 6, "max": 12}}
        request = a_request(trace=steady, spec=floor, faults=faults, with_clairvoyant=False, baselines=())
        return run_replay(request, present_advisor).endpoints[CHAT].outcomes[OWN]

    plain, updated = played(), played("rolling-update:30m")
    assert np.array_equal(updated.desired, plain.desired)
    assert updated.attainment(10) == plain.attainment(10) == 1.0
    n, startup_hours = 6, 150 / 3600
    assert updated.replica_hours - plain.replica_hours == pytest.approx(n * startup_hours)
    assert updated.starts == plain.starts + n


@pytest.mark.parametrize("holds", [True, False])
def test_scale_in_waits_for_a_rolling_update_unless_the_policy_allows_it(holds):
    before = round(WARMUP / timedelta(minutes=1)) + 25
    falling = a_series(np.concatenate([np.full(before, 900.0), np.full(4 * 60 - before, 150.0)]))
    spec = {"rollout": {"holdScaleInDuringRollout": holds}, "replicas": {"min": 1, "max": 12}}
    faults = parse_faults(["rolling-update:20m"])
    request = a_request(trace=falling, spec=spec, faults=faults, with_clairvoyant=False, baselines=())
    played = run_replay(request, present_advisor).endpoints[CHAT].outcomes[OWN]
    until = np.flatnonzero(played.starting > 0)[-1]  # its last replacement
    fell = np.flatnonzero(np.diff(played.desired) < 0)[0] + 1
    assert (fell > until) == holds


def test_a_days_budget_is_not_exceeded_and_the_last_of_it_goes_slowly():
    steady = a_series(np.full(30 * 60, 600.0))  # ten a second
    spec = {"budget": {"gpuHoursPerDay": 100}, "replicas": {"min": 1, "max": 40}}
    request = a_request(trace=steady, spec=spec, with_clairvoyant=False, baselines=())
    own = run_replay(request, present_advisor).endpoints[CHAT].outcomes[OWN]
    until_midnight = round((timedelta(hours=24) - WARMUP) / timedelta(seconds=15))
    standing = (own.ready + own.starting)[:until_midnight]
    assert 97.0 <= standing.sum() * 15 / 3600 <= 100.0
    fading = standing[np.flatnonzero(standing >= 10)[-1] :].astype(int)
    assert fading[-1] == 1
    assert np.diff(fading).min() == -1 and np.diff(fading).max() <= 0, "one by one, not all at once"
    assert own.desired[until_midnight + 4] > 5, "a new day"


def test_starts_on_cold_nodes_take_as_much_longer_as_a_node_takes():
    kept = {"stabilizationWindow": "0s", "policies": [{"type": "Replicas", "value": 1, "period": "15s"}]}
    spec = {"behavior": {"scaleDown": {**kept, "select": "Disabled"}}}
    faults = parse_faults(["cold-nodes:1/4m"])
    request = a_request(spec=spec, faults=faults, with_clairvoyant=False, baselines=())
    late = run_replay(request, present_advisor).endpoints[CHAT].outcomes[OWN]
    first = np.flatnonzero(np.diff(late.starting) > 0)[0] + 1
    ready = np.flatnonzero(np.diff(late.ready) > 0)
    assert (ready[ready > first][0] + 1 - first) * 15 == pytest.approx(390, abs=15)


def test_several_endpoints_lead_with_their_name_and_add_up(tmp_path):
    names = [EndpointId("prod", name) for name in ("b", "a")]
    request = a_request(
        policies={name: a_policy(name=name.name) for name in names},
        traces={name: a_series(counts(seed=i, hours=3)) for i, name in enumerate(names)},
        baselines=("hpa",),
    )
    result = run_replay(request, present_advisor)
    write_replay(result, tmp_path, report(result))
    table = rows(tmp_path / "timeline-hpa.csv")
    assert tuple(table[0]) == ("endpoint", *TIMELINE)
    assert [row["endpoint"] for row in table[:: len(table) // 2]] == ["a", "b"]
    figures = json.loads((tmp_path / "summary.json").read_text())
    each = figures["endpoints"]
    assert set(each) == {"a", "b"}
    total = sum(row["hpa"]["replica_hours"] for row in each.values())
    assert figures["hpa"]["replica_hours"] == pytest.approx(total)
    assert 'id="chart-demand-prod-a"' in (tmp_path / "report.html").read_text()


def test_the_frontier_holds_a_point_for_each_value_of_the_knob():
    request = a_request(frontier=True, with_clairvoyant=False, baselines=("hpa",))
    points = run_replay(request, present_advisor).endpoints[CHAT].frontier["hpa"]
    hours = [point.replica_hours for point in points]
    assert len(points) > 10
    assert hours[0] < hours[-1]


def test_bad_input_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SettingsError, match="baseline 'hap' is not known; allowed: reactive, hpa"):
        run_replay(a_request(baselines=("hap",)), present_advisor)
    with pytest.raises(TraceError, match=r"covers 6\.0 h and the warm-up takes 24\.0 h"):
        run_replay(a_request(warmup=timedelta(days=1)), present_advisor)
    unseen = counts()
    unseen[120:] = np.nan
    with pytest.raises(TraceError, match=r"no demand was seen from .* UTC, every bin is missing"):
        run_replay(a_request(a_series(unseen)), present_advisor)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bin_is_unknown_to_the_cycle_and_no_demand_to_the_world():
    values = counts()
    values[200:220] = np.nan
    found = run_replay(a_request(a_series(values), with_clairvoyant=False), present_advisor).endpoints[CHAT]
    gap = slice((200 - 120) * 4, (220 - 120) * 4)
    assert found.outcomes[OWN].demand[gap].sum() == 0
    assert len(set(found.outcomes[OWN].desired[gap][6:])) == 1


@pytest.mark.parametrize("step", [timedelta(seconds=57), timedelta(minutes=5), timedelta(minutes=10)], ids=str)
def test_other_bins_than_minutes_are_replayed(step):
    trace = a_series(counts()[: int(timedelta(hours=5) / step)], step)
    result = run_replay(a_request(trace, baselines=("hpa",)), present_advisor)
    assert summary(result)[OWN]["replica_hours"] > 0


def test_several_processes_give_what_one_gives():
    names = [EndpointId("prod", name) for name in ("a", "b")]
    request = a_request(
        policies={name: a_policy(name=name.name) for name in names},
        traces={name: a_series(counts(seed=i, hours=3)) for i, name in enumerate(names)},
        baselines=("hpa",),
    )
    alone = summary(run_replay(request, present_advisor))
    assert summary(run_replay(request, present_advisor, processes=2)) == alone
    each = [found["hpa"] for found in alone["endpoints"].values()]
    for figure in ("starts", "cancelled_starts", "wasted_replica_hours"):
        assert alone["hpa"][figure] == pytest.approx(sum(found[figure] for found in each), abs=1e-6)


def test_the_parts_of_one_endpoint_in_several_processes_write_what_one_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("scaler.simulator.replay.WORTH_A_PROCESS", timedelta(0))
    request = a_request(a_series(counts(hours=3)), baselines=("hpa", "reactive", "static"), frontier=True)
    for processes in (1, 2):
        result = run_replay(request, present_advisor, processes=processes)
        write_replay(result, tmp_path / str(processes), report(result))
    names = {file.name for file in (tmp_path / "1").iterdir()}
    assert {"timeline-reactive.csv", "frontier.csv"} <= names
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_what_an_outage_hid_stays_hidden_from_what_is_prepared_in_batches():
    seen = []

    def make(foreseen, faults, reactive_only):
        seen.append(foreseen[CHAT])
        return PresentAdvisor()

    run_replay(a_request(faults=parse_faults(["metrics-outage:1h/10m"]), with_clairvoyant=False), make)
    first = (120 + 60) * 4
    assert np.isnan(seen[0].values[first : first + 40]).all()
    assert not np.isnan(np.delete(seen[0].values, slice(first, first + 40))).any()


def test_the_report_says_what_moved_the_orders():
    thresholds = {"reactive": {"thresholds": [{"signal": "kv_cache_usage", "above": 0.8}]}}
    page = report(run_replay(a_request(spec=thresholds, baselines=(), with_clairvoyant=False), present_advisor))
    table = page[page.index("What moved the orders") :]
    assert "<td>thresholds</td>" in table and "<td>plan</td>" in table
