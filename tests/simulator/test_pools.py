"""Endpoints on a pool's GPUs: played together, within it, and as by themselves where it is ample."""

import csv
import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.domain.endpoint import EndpointId
from scaler.errors import SettingsError, TraceError
from scaler.simulator.faults import parse_faults
from scaler.simulator.lane import outcome_of
from scaler.simulator.pool import GpuPool
from scaler.simulator.pool_figures import gpu_use
from scaler.simulator.replay import OWN, run_replay
from scaler.simulator.report import report
from scaler.simulator.results import summary, write_replay
from scaler.simulator.spans import REACTIVE, ReplayRequest
from tests.builders import a_policy
from tests.simulator.makers import PresentAdvisor, a_lane, a_series, present_advisor

CHAT, IMAGE = EndpointId("prod", "chat"), EndpointId("prod", "image")
WARMUP = timedelta(minutes=30)
MINUTES = 90
"""Of a trace; the first 30 are the warm-up."""


def a_member(name=CHAT, *, gpus=1, priority=100, least=0, **spec):
    own = {
        "target": {"pool": "a100", "gpusPerReplica": gpus},
        "budget": {"priority": priority},
        "replicas": {"min": least, "max": 100},
        "startup": {"expected": "60s"},
    }
    return a_policy(own | spec, name=name.name)


def steady(replicas):
    """Demand of so many replicas."""
    return np.full(MINUTES, 60.0 * replicas)


def rising(before, after, at=45):
    return np.concatenate([np.full(at, 60.0 * before), np.full(MINUTES - at, 60.0 * after)])


def a_request(demand, policies=None, gpus=10, **changes):
    """Endpoints by name with their requests a minute, in a pool a100 (`gpus` None: without it)."""
    policies = policies or {name: a_member(name) for name in demand}
    fields = {
        "policies": policies,
        "traces": {name: a_series(counts) for name, counts in demand.items()},
        "warmup": WARMUP,
        "baselines": (),
        "with_clairvoyant": False,
        "pools": {} if gpus is None else {"a100": gpus},
    }
    return ReplayRequest(**(fields | changes))


def played(request, **options):
    return run_replay(request, present_advisor, **options).endpoints


def own_use(found):
    return gpu_use([(one, one.outcomes[OWN]) for one in found.values()])


def noisy(seed, level):
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.poisson(60.0 * level * (1.2 + np.sin(np.arange(MINUTES) / 12.0 + seed))).astype(np.float64)


# The world


def test_a_replica_without_free_gpus_is_pending_and_neither_starts_nor_costs():
    first, second = a_lane([0] * 6, startup=15.0, in_pool=True), a_lane([0] * 6, startup=15.0, in_pool=True)
    pool = GpuPool(gpus=3, lanes=[(first, 1), (second, 2)])
    for k in range(6):
        first.order(2 if k < 3 else 1)
        second.order(1)
        pool.place()
        first.advance()
        second.advance()
    out = outcome_of(second, is_rate=True)
    assert out.desired.tolist() == [1] * 6
    assert (out.ready + out.starting).tolist() == [0, 0, 0, 1, 1, 1]
    assert (out.starts, out.ready.tolist()) == (1, [0, 0, 0, 0, 1, 1])


def test_scale_in_lets_pending_replicas_go_first_the_newest_first():
    lane = a_lane([0] * 6, ready=1, startup=60.0, in_pool=True)
    pool = GpuPool(gpus=2, lanes=[(lane, 1)])
    for count in (3, 4):
        lane.order(count)
        pool.place()
        lane.advance()
    assert (lane.ready, len(lane.starting), lane.pending) == (1, 1, [0.0, 15.0])
    lane.order(3)
    assert (lane.ready, len(lane.starting), lane.pending) == (1, 1, [0.0])
    lane.order(1)
    assert (lane.ready, lane.starting, lane.pending, lane.cancelled) == (1, [], [], 1)


orders_of_lanes = st.lists(
    st.tuples(st.integers(1, 4), st.lists(st.integers(0, 6), min_size=8, max_size=8)), min_size=1, max_size=4
)


@given(st.integers(0, 12), orders_of_lanes)
def test_what_is_placed_fits_nothing_that_fits_is_pending_and_the_oldest_of_a_size_goes_first(gpus, rows):
    lanes = [(a_lane([0] * 8, startup=30.0, in_pool=True), each) for each, _ in rows]
    pool = GpuPool(gpus=gpus, lanes=lanes)
    for k in range(8):
        had = pool.free
        for (lane, _), (_, counts) in zip(lanes, rows, strict=True):
            lane.order(counts[k])
        freed = pool.free
        pool.place()
        assert freed >= had >= 0 and pool.free >= 0
        for lane, each in lanes:
            assert not lane.pending or each > pool.free
            placed_now = [ordered for ordered, ready_at in lane.starting if ready_at == lane.now_seconds + 30.0]
            for other, size in lanes:
                if size <= each and other.pending and placed_now:
                    assert other.pending[0] >= placed_now[-1]
            lane.advance()


# Together


@given(
    st.integers(1, 14),
    st.lists(
        st.tuples(
            st.integers(1, 3), st.sampled_from([50, 100]), st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)
        ),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=15)
def test_the_gpus_of_all_endpoints_never_exceed_the_pool(gpus, rows):
    names = [EndpointId("prod", f"e{i}") for i in range(len(rows))]
    request = a_request(
        {name: rising(before, after) for name, (*_, before, after) in zip(names, rows, strict=True)},
        {
            name: a_member(name, gpus=each, priority=priority, least=least)
            for name, (each, priority, least, *_) in zip(names, rows, strict=True)
        },
        gpus,
        baselines=("hpa", "static"),
        warmup=timedelta(minutes=40),
        length=timedelta(minutes=15),
    )
    found = played(request)
    minima = sum(each * least for each, _, least, *_ in rows)
    ordered = sum(each * found[name].outcomes[OWN].desired for name, (each, *_) in zip(names, rows, strict=True))
    assert ordered.max() <= max(gpus, minima)
    for strategy in (OWN, "hpa", "static"):
        use = gpu_use([(one, one.outcomes[strategy]) for one in found.values()])
        assert use.granted.max() <= gpus
        assert (use.asked >= use.granted).all()


def test_a_higher_priority_takes_from_a_lower_one_down_to_its_minimum():
    policies = {CHAT: a_member(priority=200), IMAGE: a_member(IMAGE, least=2)}
    found = played(a_request({CHAT: rising(2, 20), IMAGE: steady(6)}, policies, gpus=10))
    chat, image = (found[name].outcomes[OWN] for name in (CHAT, IMAGE))
    at = 4 * (45 - 30)
    assert image.desired[:at].min() == 6
    assert (chat.desired[-1], image.desired[-1]) == (8, 2)


def test_equals_share_and_none_takes_what_the_other_has():
    found = played(a_request({CHAT: rising(4, 20), IMAGE: steady(5)}, gpus=10))
    assert found[IMAGE].outcomes[OWN].desired.min() == 5
    assert found[CHAT].outcomes[OWN].desired.max() == 5


def test_who_gives_way_serves_a_smaller_share_in_time():
    policies = {CHAT: a_member(priority=200), IMAGE: a_member(IMAGE)}
    demand = {CHAT: rising(2, 7), IMAGE: steady(6)}
    alone, together = (played(a_request(demand, policies, gpus)) for gpus in (None, 10))
    attained = {name: together[name].outcomes[OWN].attainment(10) for name in demand}
    assert attained[IMAGE] < 0.6 < alone[IMAGE].outcomes[OWN].attainment(10)
    assert attained[CHAT] == pytest.approx(alone[CHAT].outcomes[OWN].attainment(10), abs=0.03)


def test_an_ample_pool_gives_the_orders_of_each_by_itself():
    demand = {CHAT: noisy(1, 5), IMAGE: noisy(2, 3)}
    strategies = (OWN, REACTIVE, "hpa", "knative")
    faults = parse_faults(["failed-starts:0.3", "varied-starts:0.5", "metrics-outage:20m/5m"])
    alone, together = (
        played(a_request(demand, gpus=gpus, baselines=strategies[1:], faults=faults)) for gpus in (None, 1000)
    )
    for name in demand:
        for strategy in strategies:
            one, other = alone[name].outcomes[strategy], together[name].outcomes[strategy]
            for column in ("desired", "starting", "ready", "queue", "wait_seconds"):
                assert np.array_equal(getattr(one, column), getattr(other, column)), (name, strategy, column)
            assert (one.starts, one.cancelled_starts) == (other.starts, other.cancelled_starts)
            assert np.array_equal(other.asked, other.desired)
        explained = [
            row | {"verdicts": [one for one in row["verdicts"] if one["guardrail"] != "quota"]}
            for row in together[name].decisions
        ]
        assert explained == alone[name].decisions


def test_an_endpoint_that_draws_from_no_pool_is_played_by_itself():
    demand = {CHAT: noisy(1, 5), IMAGE: noisy(2, 3)}
    elsewhere = a_policy({"target": {"pool": "h100"}}, name="image")
    cpu_only = a_member(IMAGE, gpus=0)
    for other in (elsewhere, cpu_only):
        policies = {CHAT: a_member(), IMAGE: other}
        result = run_replay(a_request(demand, policies, gpus=3), present_advisor)
        assert result.pools["a100"].endpoints == (CHAT,)
        alone = played(a_request({IMAGE: demand[IMAGE]}, {IMAGE: other}, gpus=None))[IMAGE]
        found = result.endpoints[IMAGE]
        assert (found.decisions, found.outcomes[OWN].asked) == (alone.decisions, None)
        assert "quota" not in {one["guardrail"] for row in found.decisions for one in row["verdicts"]}


def test_minima_that_exceed_the_pool_stay_pending():
    policies = {name: a_member(name, least=least) for name, least in ((CHAT, 4), (IMAGE, 5))}
    found = played(a_request({CHAT: steady(1), IMAGE: rising(1, 7)}, policies, gpus=6))
    chat, image = (found[name].outcomes[OWN] for name in (CHAT, IMAGE))
    assert (chat.desired.min(), image.desired.min()) == (4, 5)
    assert ((chat.ready + chat.starting).min(), (image.ready + image.starting).max()) == (4, 2)
    last = found[IMAGE].decisions[-1]
    assert (last["final"], last["ready"], last["starting"]) == (5, 2, 3)


def test_a_pool_without_gpus_serves_nobody():
    own = summary(run_replay(a_request({CHAT: steady(1)}, gpus=0), present_advisor))[OWN]
    assert (own["gpu_hours"], own["starts"], own["slo_attainment"]) == (0, 0, 0)


def test_a_policy_that_observes_takes_part_as_one_that_enforces():
    demand = {CHAT: rising(2, 9), IMAGE: steady(6)}
    modes = [
        played(a_request(demand, {CHAT: a_member(priority=200), IMAGE: a_member(IMAGE, mode=mode)}))
        for mode in ("Observe", "Enforce")
    ]
    for name in demand:
        assert np.array_equal(*(found[name].outcomes[OWN].desired for found in modes))
    assert own_use(modes[0]).granted.max() == 10


def test_endpoints_under_one_policy_that_names_its_target_hold_gpus_of_their_own_while_metrics_are_missing():
    target = {"pool": "a100", "name": "served"}
    policies = {name: a_policy({"target": target}, name=name.name) for name in (CHAT, IMAGE)}
    faults = parse_faults(["metrics-outage:10m/10m"])
    found = played(a_request({CHAT: noisy(1, 5), IMAGE: steady(5)}, policies, gpus=10, faults=faults))
    assert own_use(found).granted.max() <= 10


def test_changing_one_trace_after_a_moment_changes_no_order_of_any_endpoint_up_to_it():
    policies = {CHAT: a_member(priority=200), IMAGE: a_member(IMAGE)}
    requests = [
        a_request({CHAT: chat, IMAGE: steady(6)}, policies, baselines=("hpa",))
        for chat in (rising(3, 3), rising(3, 30))
    ]
    one, other = (played(request) for request in requests)
    at = 4 * (45 - 30)
    for name in (CHAT, IMAGE):
        for strategy in (OWN, "hpa"):
            before, after = one[name].outcomes[strategy], other[name].outcomes[strategy]
            assert np.array_equal(before.desired[: at + 1], after.desired[: at + 1]), (name, strategy)
    assert not np.array_equal(one[IMAGE].outcomes[OWN].desired, other[IMAGE].outcomes[OWN].desired)


def test_every_endpoint_is_refitted_from_its_own_history_at_its_own_pace():
    made = {}

    def make(foreseen, faults, reactive_only):
        ((name, _),) = foreseen.items()
        return made.setdefault(name, PresentAdvisor())

    policies = {CHAT: a_member(forecast={"refit": "30m"}), IMAGE: a_member(IMAGE)}
    request = a_request({CHAT: steady(2), IMAGE: steady(2)}, policies)
    run_replay(request, make)
    start = request.traces[CHAT].start + WARMUP
    assert made[CHAT].refits == [(start + timedelta(minutes=at),) * 2 for at in (0, 30)]
    assert made[IMAGE].refits == [(start, start)]


# What is left on disk


@pytest.fixture(scope="module")
def scarce():
    """A replay with everything in it, on a pool that is too small."""
    policies = {CHAT: a_member(priority=200, gpus=2), IMAGE: a_member(IMAGE, least=2)}
    demand = {CHAT: rising(2, 5), IMAGE: steady(6)}
    baselines = (REACTIVE, "hpa")
    return a_request(demand, policies, gpus=11, baselines=baselines, with_clairvoyant=True)


def test_the_same_request_writes_the_same_bytes_in_one_process_and_in_several(scarce, tmp_path, monkeypatch):
    monkeypatch.setattr("scaler.simulator.replay.WORTH_A_PROCESS", timedelta(0))
    for name, processes in (("one", 1), ("two", 2)):
        result = run_replay(scarce, present_advisor, processes=processes)
        write_replay(result, tmp_path / name, report(result))
    names = {file.name for file in (tmp_path / "one").iterdir()}
    assert names == {
        "summary.json", "decisions.jsonl", "report.html",
        "timeline-headstart.csv", "timeline-reactive.csv", "timeline-hpa.csv",
    }  # fmt: skip
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_figures_of_a_pool_agree_with_a_recomputation_from_the_timelines(scarce, tmp_path):
    result = run_replay(scarce, present_advisor)
    write_replay(result, tmp_path, report(result))
    figures = json.loads((tmp_path / "summary.json").read_text())
    pool, each = figures["pools"]["a100"], {"chat": 2, "image": 1}
    assert (pool["gpus"], pool["endpoints"]) == (11, ["chat", "image"])
    for strategy in (OWN, REACTIVE, "hpa"):
        with (tmp_path / f"timeline-{strategy}.csv").open() as file:
            rows = list(csv.DictReader(file))
        asked, had, cut = {}, {}, set()
        for row in rows:
            at, gpus = row["timestamp"], each[row["endpoint"]]
            standing = int(row["ready"]) + int(row["starting"])
            asked[at] = asked.get(at, 0) + gpus * int(row["asked"])
            had[at] = had.get(at, 0) + gpus * standing
            if int(row["asked"]) > standing:
                cut.add(at)
        told = pool[strategy]
        assert told["asked_gpu_hours"] == pytest.approx(sum(asked.values()) * 15 / 3600, abs=1e-6)
        assert told["granted_gpu_hours"] == pytest.approx(sum(had.values()) * 15 / 3600, abs=1e-6)
        assert told["most_gpus_asked"] == max(asked.values())
        assert told["cut_hours"] == pytest.approx(len(cut) * 15 / 3600, abs=1e-6) and cut
        assert max(had.values()) <= 11
        members = [figures["endpoints"][name][strategy] for name in each]
        assert told["granted_gpu_hours"] == pytest.approx(sum(one["gpu_hours"] for one in members), abs=1e-5)
        assert told["asked_gpu_hours"] == pytest.approx(sum(one["asked_gpu_hours"] for one in members), abs=1e-5)
        assert max(one["cut_hours"] for one in members) <= told["cut_hours"]


def test_the_clairvoyant_is_said_to_know_of_no_pool(scarce):
    result = run_replay(scarce, present_advisor)
    told = summary(result)["pools"]["a100"]["clairvoyant"]
    assert told["most_gpus_asked"] > 11 and told["asked_gpu_hours"] > 0
    assert (told["granted_gpu_hours"], told["cut_hours"]) == (None, None)
    page = report(result)
    assert "Pool a100: 11 GPUs" in page and "The clairvoyant knows of no pool" in page
    without = report(run_replay(replace(scarce, pools={}, baselines=()), present_advisor))
    assert "knows of no pool" not in without


def test_a_pool_of_any_name_is_written_as_text(scarce):
    name = '"><script>alert(1)</script>'
    policies = {key: a_member(key, target={"pool": name}) for key in scarce.policies}
    request = replace(scarce, policies=policies, pools={name: 11}, baselines=(), with_clairvoyant=False)
    assert "<script>alert" not in report(run_replay(request, present_advisor))


def test_an_order_that_is_cut_says_by_how_much_from_the_turn_on_at_which_it_is():
    found = played(a_request({CHAT: rising(3, 30)}, gpus=5))[CHAT]
    quotas = [verdict for row in found.decisions for verdict in row["verdicts"] if verdict["guardrail"] == "quota"]
    assert len(quotas) == len(found.decisions)
    first = next(verdict for verdict in quotas if verdict["before"] > verdict["after"])
    assert first["after"] == 5
    assert f"pool a100 has 5 GPUs: 5 of {first['before']} replicas" in first["reason"]
    assert first["before"] == found.outcomes[OWN].asked[np.flatnonzero(found.outcomes[OWN].asked > 5)[0]]


def test_a_pool_that_cuts_may_be_asked_for_less_than_one_that_suffices_and_the_report_says_so():
    """From the two that stand an order grows to six at most, each turn anew."""
    demand = {CHAT: rising(1, 20)}
    small, ample = (run_replay(a_request(demand, gpus=gpus), present_advisor) for gpus in (2, 50))
    most = [own_use(result.endpoints).most_gpus_asked for result in (small, ample)]
    assert most[0] == 6 < 20 <= most[1]
    assert "a pool that cuts may be asked for less than one that suffices" in report(small)


def test_a_frontier_is_played_within_the_pool_too(scarce):
    request = replace(scarce, baselines=("hpa",), frontier=True, with_own=False, with_clairvoyant=False)
    for found in played(request).values():
        at_default = found.outcomes["hpa"]
        (same,) = [
            point for point in found.frontier["hpa"] if point.knob == found.policy.spec.capacity.utilization.target
        ]
        assert same.replica_hours == at_default.replica_hours
        assert same.slo_attainment == at_default.attainment(10)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pools": {"h100": 16}}, "pool h100: 16 GPUs, and no policy .* a100 among the endpoints that are played"),
        ({"faults": parse_faults(["rolling-update:10m"])}, "rolling-update: cannot be played beside pools"),
    ],
)
def test_what_cannot_be_played_is_refused(changes, said):
    with pytest.raises(SettingsError, match=said):
        run_replay(a_request({CHAT: steady(1)}, **changes), present_advisor)


def test_endpoints_of_a_pool_that_were_recorded_at_different_times_are_refused():
    request = a_request({CHAT: steady(1), IMAGE: steady(1)})
    later = a_series(steady(1), start=request.traces[CHAT].start + timedelta(hours=1))
    said = "pool a100: prod/chat is recorded from .* 00:00 .*, prod/image is recorded from .* 01:00 and tested from"
    with pytest.raises(TraceError, match=said):
        run_replay(replace(request, traces=request.traces | {IMAGE: later}), present_advisor)
