from datetime import timedelta
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from scaler.errors import PolicyError
from scaler.simulator.patterns import PATTERNS, START, demand_of
from scaler.simulator.policy_tests import PolicyTest, junit, run_policy_test
from tests.builders import a_policy
from tests.simulator.makers import a_series, present_advisor


def a_test(expect, **spec):
    body = {
        "policy": "chat.yaml",
        "traffic": {"pattern": "diurnal", "low": 1, "high": 6, "days": 0.25, "warmup": "2h", "at": "6h"},
        "expect": expect,
    }
    document = {"apiVersion": "headstart.dev/v1alpha1", "kind": "PolicyTest", "metadata": {"name": "monday"}}
    return PolicyTest.model_validate(document | {"spec": body | spec})


def ran(expect, policy=None, trace=None, **spec):
    chosen = policy or a_policy({"replicas": {"min": 1, "max": 9}})
    return run_policy_test(a_test(expect, **spec), lambda path: chosen, lambda path, unit: trace, present_advisor)


def test_expectations_that_hold_pass_in_one_line():
    outcome = ran(
        [
            {"sloAttainment": {"atLeast": 0.5}},
            {"gpuHours": {"atMost": 100, "atLeast": 1}},
            {"gpuHoursVs": {"baseline": "hpa", "atMost": 3}},
            {"coldRequests": {"atMost": 0}},
            {"readyReplicas": {"at": "04:00", "atLeast": 2}},
            {"replicas": {"never": {"above": 9, "below": 1}}},
        ]
    )
    assert outcome.passed
    assert outcome.line() == "ok    monday: 7 of 7 as expected"


def test_what_is_not_as_expected_is_shown_beside_what_was_seen():
    outcome = ran([{"gpuHours": {"atMost": 1}}, {"readyReplicas": {"at": "05:30", "atLeast": 90}}])
    assert not outcome.passed
    assert outcome.line().startswith("FAIL  monday: 2 of 2 not as expected; gpuHours: expected at")
    assert "- gpuHours: at most 1\n  + gpuHours: " in outcome.diff()
    assert "+ readyReplicas at 05:30: " in outcome.diff()


def test_the_share_of_a_baseline_is_known_without_gpus_too():
    expected = [{"gpuHoursVs": {"baseline": "hpa", "atLeast": 0.1, "atMost": 3}}]
    for gpus in (0, 1):
        assert ran(expected, a_policy({"target": {"gpusPerReplica": gpus}, "replicas": {"min": 1, "max": 9}})).passed


def test_a_time_of_day_is_local_to_the_policy():
    policy = a_policy({"forecast": {"calendar": {"timezone": "Asia/Tokyo"}}, "replicas": {"min": 1}})
    outcome = ran([{"readyReplicas": {"at": "04:00", "atLeast": 0}}], policy)
    assert "the test does not reach that time (Asia/Tokyo)" in outcome.diff()


def test_the_day_that_is_said_is_the_local_one_too():
    """Seven in the evening of Monday is four in the morning of Tuesday in Tokyo."""
    policy = a_policy({"forecast": {"calendar": {"timezone": "Asia/Tokyo"}}})
    trace = a_series(np.full(26 * 60, 120.0))
    traffic = {"trace": "x.csv", "from": "2026-03-02T18:55:00Z", "days": 0.01, "warmup": "6h"}
    outcome = ran([{"readyReplicas": {"at": "04:00", "atLeast": 90}}], policy, trace=trace, traffic=traffic)
    assert outcome.diff().endswith(" on 2026-03-03 (Asia/Tokyo, 19:00 UTC)")


def test_a_pattern_happens_in_utc_whatever_the_policys_time_zone():
    """A spike at 9:00 UTC is at 18:00 in Tokyo."""
    policy = a_policy({"forecast": {"calendar": {"timezone": "Asia/Tokyo"}}})
    traffic = {"pattern": "spike", "low": 0, "high": 20, "at": "9h", "lasts": "30m", "days": 0.25, "warmup": "6h"}
    expect = [{"readyReplicas": {"at": "17:55", "atMost": 1}}, {"readyReplicas": {"at": "18:25", "atLeast": 2}}]
    outcome = ran(expect, policy, traffic=traffic)
    assert outcome.passed, outcome.diff()


def test_a_trace_is_cut_to_its_warmup_and_days():
    trace = a_series(np.full(26 * 60, 120.0))
    traffic = {"trace": "x.csv", "from": "2026-03-03", "days": 0.05, "warmup": "6h"}
    assert ran([{"gpuHours": {"atMost": 10}}], trace=trace, traffic=traffic).passed
    longer = ran([{"gpuHours": {"atMost": 10}}], trace=trace, traffic=traffic | {"days": 2})
    assert "the trace ends 0.08333 d after the warm-up, asked for are 2 d" in longer.line()
    early = ran([{"gpuHours": {"atMost": 10}}], trace=trace, traffic=traffic | {"warmup": "3d"})
    assert early.line().startswith("ERROR monday: x.csv: holds 2026-03-02 00:00")


def test_a_policy_that_cannot_be_read_is_an_error_of_its_test_only():
    def missing(path):
        raise PolicyError(f"{path}: no such file")

    outcome = run_policy_test(a_test([{"starts": {"atMost": 1}}]), missing, None, present_advisor)
    assert not outcome.passed
    assert "no such file" in outcome.line()


def test_a_fault_that_does_not_exist_is_an_error_of_its_test_only():
    outcome = ran([{"starts": {"atMost": 1}}], world={"faults": ["flood"]})
    assert outcome.line().startswith("ERROR monday: fault 'flood': no such fault")


def test_junit_counts_and_explains():
    outcomes = [ran([{"gpuHours": {"atMost": 1}}]), ran([{"gpuHours": {"atMost": 1000}}])]
    suite = ElementTree.fromstring(junit(outcomes))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert "gpuHours" in suite.find("testcase/failure").text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expect": [{"gpuHours": {"atMost": 1}, "starts": {"atMost": 1}}]}, "exactly one expectation"),
        ({"expect": [{"gpuHours": {}}]}, "need atLeast, atMost or both"),
        ({"expect": [{"gpuHoursVs": {"baseline": "hap", "atMost": 1}}]}, "allowed: reactive, hpa"),
        ({"expect": [{"gpuHours": {"atLeast": 9, "atMost": 1}}]}, "atLeast = 9, must be <= atMost = 1"),
        ({"expect": [{"gpuHours": {"atLeast": -1}}]}, "greater than or equal to 0"),
        ({"expect": [{"gpuHours": {"atMost": float("nan")}}]}, "finite number"),
        ({"expect": [{"sloAttainment": {"atLeast": 99}}]}, "less than or equal to 1"),
        ({"expect": [{"replicas": {"never": {}}}]}, "need above, below or both"),
        ({"expect": [{"replicas": {"never": {"above": 2, "below": 5}}}]}, "above = 2, must be >= below = 5"),
        ({"expect": []}, "at least one expectation"),
        ({"world": {"seed": -1}}, "greater than or equal to 0"),
        ({"traffic": {"pattern": "spike", "low": 5}}, "low = 5, must be <= high = 1"),
        ({"traffic": {"pattern": "spike", "at": "40h"}}, "at = 40h, must be a time of day below 24h"),
        ({"traffic": {"pattern": "spike", "lasts": "2d"}}, "lasts = 2d, must be <= 24h"),
        ({"traffic": {"pattern": "spike", "from": "2026-03-02"}}, "pattern spike does not depend on from"),
        ({"traffic": {"pattern": "diurnal", "lasts": "1h"}}, "pattern diurnal does not depend on lasts"),
        ({"traffic": {"pattern": "constant", "low": 0.5}}, "pattern constant does not depend on low"),
        ({"traffic": {"trace": "x.csv", "high": 5, "at": "9h"}}, "a recorded trace does not depend on at, high"),
        ({"traffic": {"pattern": "spike", "days": 1e9}}, "less than or equal to 3650"),
        ({"traffic": {"pattern": "flood"}}, "allowed: constant"),
        ({"traffic": {}}, "either trace or pattern"),
        ({"world": {"sede": 1}}, "sede"),
    ],
)
def test_a_test_that_makes_no_sense_is_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        a_test(change.pop("expect", [{"starts": {"atMost": 1}}]), **change)


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_a_pattern_depends_on_what_it_says_it_reads_and_on_nothing_else(pattern):
    plain = {"low": 1.0, "high": 10.0, "at": timedelta(hours=9), "lasts": timedelta(hours=1)}
    other = {"low": 2.0, "high": 20.0, "at": timedelta(hours=15.5), "lasts": timedelta(hours=5)}

    def drawn(told):
        rng = np.random.Generator(np.random.PCG64(1))
        return demand_of(pattern, **told, span=timedelta(days=1), rng=rng).values.tolist()

    read = {name for name in plain if drawn(plain | {name: other[name]}) != drawn(plain)}
    assert read == PATTERNS[pattern].reads


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_patterns_stay_between_low_and_high_and_repeat(pattern):
    def drawn():
        rng = np.random.Generator(np.random.PCG64(1))
        return demand_of(pattern, 1.0, 10.0, timedelta(hours=9), timedelta(hours=1), timedelta(days=1), rng)

    series = drawn()
    assert series.start == START
    assert len(series) == 1440
    assert series.values.min() > 0.5
    assert series.values.max() < 12.0
    assert series.values.max() > 8.0
    assert np.array_equal(series.values, drawn().values)


def test_a_pattern_of_concurrency_is_a_level_and_stays_the_same_within_a_minute():
    shown = []

    def watching(foreseen, faults, reactive_only):
        shown.extend(foreseen.values())
        return present_advisor(foreseen, faults, reactive_only)

    traffic = {"pattern": "constant", "high": 20, "days": 0.1, "warmup": "1h"}
    policy = a_policy({"demand": {"unit": "concurrency"}})
    run_policy_test(
        a_test([{"starts": {"atLeast": 0}}], traffic=traffic), lambda path: policy, lambda *_: None, watching
    )
    minutes = shown[0].values.reshape(-1, 4)
    assert (minutes == minutes[:, :1]).all()


def beside_a_neighbour(expect, pools, other=None, **traffic):
    """chat at a steady three replicas, beside an image endpoint of a lower priority that wants six."""
    steady = {"pattern": "constant", "days": 0.05, "warmup": "1h"}
    policies = {
        "chat.yaml": a_policy({"target": {"pool": "a100"}, "budget": {"priority": 200}}, name="chat"),
        "image.yaml": other or a_policy({"target": {"pool": "a100"}, "replicas": {"min": 2}}, name="image"),
    }
    test = a_test(
        expect,
        traffic=steady | {"high": 3},
        beside=[{"policy": "image.yaml", "traffic": steady | {"high": 6} | traffic}],
        world={"pools": pools},
    )
    return run_policy_test(test, policies.__getitem__, lambda path, unit: None, present_advisor)


def test_a_policy_is_tested_beside_others_on_the_gpus_of_their_pool():
    expect = [{"replicas": {"never": {"above": 5}}}, {"readyReplicas": {"at": "01:30", "atLeast": 3}}]
    assert not beside_a_neighbour(expect, {"a100": 50}).findings[0].holds
    outcome = beside_a_neighbour(expect, {"a100": 7})
    assert outcome.passed, outcome.diff()


@pytest.mark.parametrize("is_recorded", [(True, False), (False, True)])
def test_a_pattern_beside_a_trace_happens_in_the_hours_of_the_trace(is_recorded):
    """What is recorded begins at noon, an hour before the test; the spike is at 13:30."""
    times = {"days": 0.033, "warmup": "1h"}  # 47.52 minutes: a pattern is no shorter than that
    kinds = {True: {"trace": "x.csv", "from": "2026-03-02T13:00:00Z"}, False: {"pattern": "spike", "at": "13h30m"}}
    shown = {}

    def watching(foreseen, faults, reactive_only):
        shown.update(foreseen)
        return present_advisor(foreseen, faults, reactive_only)

    own, other = (kinds[kind] | times for kind in is_recorded)
    policies = {f"{name}.yaml": a_policy({"target": {"pool": "a100"}}, name=name) for name in ("chat", "image")}
    test = a_test(
        [{"starts": {"atLeast": 0}}],
        traffic=own,
        beside=[{"policy": "image.yaml", "traffic": other}],
        world={"pools": {"a100": 9}},
    )
    trace = a_series(np.full(26 * 60, 120.0))
    outcome = run_policy_test(test, policies.__getitem__, lambda path, unit: trace, watching)
    assert outcome.passed, outcome.error
    spike = next(series for series, kind in zip(shown.values(), is_recorded, strict=True) if not kind)
    (busy,) = np.nonzero(spike.values)
    assert (spike.start + busy[0] * spike.step).strftime("%d %H:%M") == "02 13:30"


def test_a_neighbour_that_plays_no_part_is_refused():
    expect = [{"starts": {"atMost": 99}}]
    outside = a_policy({"target": {"pool": "h100"}}, name="image")
    stranger = beside_a_neighbour(expect, {"a100": 7}, outside).error
    assert stranger.startswith("beside: prod/image: found no pool of world.pools (a100) that it shares")
    twin = a_policy({"target": {"pool": "a100"}}, name="chat")
    again = beside_a_neighbour(expect, {"a100": 7}, twin).error
    assert again == "beside: prod/chat: found twice; need a policy of another name"
    assert "pool l4: 7 GPUs, and no policy draws" in beside_a_neighbour(expect, {"a100": 7, "l4": 7}).error
    with pytest.raises(ValidationError, match=r"need world\.pools"):
        beside_a_neighbour(expect, {})
    with pytest.raises(ValidationError, match="days and warmup"):
        beside_a_neighbour(expect, {"a100": 7}, days=1)
