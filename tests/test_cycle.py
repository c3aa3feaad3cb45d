"""One turn after the other, in a world of small fakes."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from forecaster.errors import ShortHistory
from scaler.cycle import Cycle
from scaler.domain.decision import ActuationOutcome, Reason
from scaler.domain.policy import Mode
from scaler.domain.snapshot import IdleAdvice
from scaler.errors import ClusterUnavailable, Conflict, PolicyError, SourceUnavailable
from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor
from tests.builders import NOON, a_policy, some_replicas
from tests.fakes import FakeAdvisor, FakeClock, FakePolicies, FakeSource, FakeTarget, MemoryLog


@pytest.fixture
def chat():
    return a_policy(name="chat")


@pytest.fixture
def cycle(chat):
    return Cycle(
        clock=FakeClock(),
        policies=FakePolicies([chat]),
        source=FakeSource(),
        target=FakeTarget({chat.endpoint: some_replicas(2)}),
        advisor=FakeAdvisor(),
        log=MemoryLog(),
    )


def test_a_turn_reads_the_clock_once(cycle):
    cycle.turn()
    assert cycle.clock.n_reads == 1


def test_demand_that_grew_is_ordered_and_recorded(cycle, chat):
    cycle.source.demand = 2.4
    report = cycle.turn()
    assert cycle.target.orders == [(chat.endpoint, report.records[0].decision.final)]
    assert cycle.log.records == list(report.records) and not report.problems
    assert report.records[0].actuation.outcome is ActuationOutcome.ORDERED


def test_an_order_that_stands_is_not_written_again(cycle):
    cycle.source.demand = 2.4
    cycle.turn()
    n_orders = len(cycle.target.orders)
    cycle.source.demand = float(cycle.target.orders[-1][1])
    cycle.clock.advance()
    assert cycle.turn().records[0].actuation.outcome is ActuationOutcome.UNCHANGED
    assert len(cycle.target.orders) == n_orders


def test_observe_writes_nothing(cycle):
    cycle.policies.policies = [a_policy({"mode": "Observe"}, name="chat")]
    cycle.source.demand = 9.0
    report = cycle.turn()
    assert report.records[0].decision.final > 2
    assert report.records[0].actuation.outcome is ActuationOutcome.OBSERVED
    assert not cycle.target.orders and not cycle.target.announced


def test_recommend_announces_and_orders_nothing(cycle):
    cycle.policies.policies = [a_policy({"mode": "Recommend"}, name="chat")]
    cycle.source.demand = 9.0
    assert cycle.turn().records[0].actuation.outcome is ActuationOutcome.RECOMMENDED
    assert len(cycle.target.announced) == 1 and not cycle.target.orders


def test_a_metrics_outage_is_held_said_and_survived(cycle, chat):
    cycle.turn()
    cycle.source.error = SourceUnavailable("metrics: no answer within 10 s")
    for _ in range(8):  # two minutes
        cycle.clock.advance()
        report = cycle.turn()
        assert report.records[0].decision.final == 2 and report.problems["metrics"].startswith("metrics:")
    assert report.records[0].decision.plan is None
    assert "no answer within 10 s" in report.records[0].decision.sentence()
    assert "no answer" in cycle.target.announced[-1]
    cycle.source.error = None
    cycle.source.demand = 2.4
    cycle.clock.advance()
    assert cycle.turn().records[0].actuation.outcome is ActuationOutcome.ORDERED


def test_a_short_gap_is_bridged_by_the_last_reading(cycle):
    cycle.turn()
    cycle.source.error = SourceUnavailable("metrics: no answer within 10 s")
    cycle.clock.advance()
    assert cycle.turn().records[0].decision.plan is not None


def test_of_a_last_minute_that_was_seen_in_part_that_part_is_planned_from(cycle):
    cycle.advisor = SelfReplayAdvisor()
    cycle.source.lately = np.full(240, 2.0)
    cycle.source.lately[-3:] = np.nan
    assert cycle.turn().records[0].decision.plan is not None


@pytest.mark.parametrize("missing", ["Hold", "LastGood", "Floor"])
def test_a_last_minute_that_was_not_seen_at_all_is_planned_through_by_last_good_alone(cycle, missing):
    """Of a Prometheus two minutes are fresh: it goes on answering while the last minute is not seen."""
    cycle.policies.policies = [a_policy({"safety": {"missingMetrics": missing}}, name="chat")]
    cycle.advisor = SelfReplayAdvisor()
    cycle.source.lately = np.full(240, 2.0)
    cycle.turn()
    cycle.clock.advance(timedelta(minutes=1))
    cycle.source.lately = np.concatenate([cycle.source.lately[4:], np.full(4, np.nan)])
    decision = cycle.turn().records[0].decision
    assert (decision.plan is not None) == (missing == "LastGood")


def test_a_silent_cluster_orders_nothing(cycle):
    cycle.target.error = ClusterUnavailable("cluster: connection refused")
    cycle.source.demand = 9.0
    report = cycle.turn()
    assert report.records[0].decision.verdicts[0].reason_code is Reason.CLUSTER_UNKNOWN
    assert report.records[0].actuation.outcome is ActuationOutcome.FAILED and not cycle.target.orders


def test_with_cluster_and_metrics_down_both_are_named_and_no_count_is_invented(cycle):
    cycle.target.error = ClusterUnavailable("cluster: connection refused")
    cycle.source.error = SourceUnavailable("metrics: no answer within 10 s")
    record = cycle.turn().records[0]
    (verdict,) = record.decision.verdicts
    assert verdict.reason == "held: cluster: connection refused; metrics: no answer within 10 s"
    row = record.as_row()
    assert [row[name] for name in ("current", "ready", "starting", "proposed", "recommended", "final")] == [None] * 6
    assert record.past_turn() is None


def test_a_turn_that_knew_of_no_replicas_holds_nothing_back_later(cycle):
    cycle.target.error = ClusterUnavailable("cluster: connection refused")
    cycle.turn()
    cycle.target.error = None
    cycle.clock.advance()
    cycle.source.demand = 2.4
    assert cycle.turn().records[0].actuation.outcome is ActuationOutcome.ORDERED


def test_a_failed_order_is_an_outcome_and_the_next_turn_tries_again(cycle, chat):
    cycle.source.demand = 2.4
    cycle.target.order_error = Conflict("somebody else scaled it")
    report = cycle.turn()
    assert report.records[0].actuation.outcome is ActuationOutcome.FAILED
    assert report.problems[str(chat.endpoint)] == "somebody else scaled it"
    cycle.target.order_error = None
    cycle.clock.advance()
    assert cycle.turn().records[0].actuation.outcome is ActuationOutcome.ORDERED


def test_an_order_that_was_not_written_does_not_count_as_a_move(cycle):
    cycle.source.demand = 2.4
    cycle.target.order_error = Conflict("somebody else scaled it")
    cycle.turn()
    turn = cycle.log.records[-1].past_turn()
    assert turn.ordered == turn.current == 2


def test_one_endpoint_without_data_does_not_touch_another(cycle, chat):
    other = a_policy(name="other")
    cycle.policies.policies = [chat, other]
    cycle.target.states[other.endpoint] = some_replicas(2)
    cycle.source.silent = {chat.endpoint}
    cycle.source.demand = 2.4
    by_name = {record.snapshot.endpoint.name: record.decision for record in cycle.turn().records}
    assert by_name["chat"].final == 2 and by_name["other"].final > 2


def test_a_decision_without_data_says_what_the_source_says(cycle, chat):
    cycle.source.silent = {chat.endpoint}
    report = cycle.turn()
    assert report.problems == {"prod/chat": "nothing fresh of prod/chat"}
    assert "nothing fresh of prod/chat" in report.records[0].decision.sentence()


def test_policies_that_cannot_be_read_end_the_turn_with_the_reason(cycle):
    cycle.policies.error = PolicyError("policies/chat.yaml: spec.mode = Obey, must be Observe, Recommend or Enforce")
    report = cycle.turn()
    assert not report.records and "must be" in report.problems["policies"]


def test_an_advisor_without_history_holds(cycle, chat):
    cycle.advisor.error = ShortHistory("prod/chat: have 3 steps, need 20")
    report = cycle.turn()
    assert report.records[0].decision.final == 2 and "need 20" in report.records[0].decision.sentence()


def test_refit_reports_what_failed_and_goes_on(cycle, chat):
    other = a_policy(name="other")
    cycle.source.silent = {other.endpoint}
    problems = cycle.refit([chat, other], {})
    assert cycle.advisor.refitted == [chat.endpoint] and list(problems) == ["prod/other"]


def test_a_pool_that_no_policy_draws_from_is_a_problem(cycle):
    cycle.policies.policies = [a_policy({"target": {"pool": "a100"}})]
    cycle.pools = {"a1000": 8, "a100": 4}
    why = "a1000: 8 GPUs, and no policy draws from it; spec.target.pool is a100"
    assert cycle.turn().problems["pools"] == why


def test_a_pool_whose_policies_take_no_gpu_is_said_to_be_that_and_not_misspelt(cycle):
    cycle.policies.policies = [a_policy({"target": {"pool": "a100", "gpusPerReplica": 0}})]
    cycle.pools = {"a100": 4}
    why = "a100: 4 GPUs, and no policy draws from it; spec.target.gpusPerReplica is 0 where spec.target.pool names it"
    assert cycle.turn().problems["pools"] == why


def test_two_endpoints_that_grow_at_once_stay_within_their_pool_and_the_higher_priority_gets_its_share(cycle):
    def drawing(name, priority):
        return a_policy({"target": {"pool": "a100"}, "budget": {"priority": priority}}, name=name)

    chat, image = drawing("chat", 200), drawing("image", 100)
    cycle.policies.policies = [image, chat]
    cycle.target.states = {policy.endpoint: some_replicas(2) for policy in (chat, image)}
    cycle.pools = {"a100": 8}
    cycle.source.demand = 4.0
    for _ in range(4):
        report = cycle.turn()
        cycle.clock.advance()
    short, whole = (record.decision.verdicts[-1] for record in report.records)
    assert (short.guardrail, short.changed, whole.changed) == ("quota", True, False)
    assert sum(state.desired for state in cycle.target.states.values()) == 8
    assert report.pools["a100"].granted == 8 < report.pools["a100"].asked


def test_turns_look_back_on_what_the_target_was_asked_for(cycle):
    cycle.source.demand = 9.0
    (record,) = cycle.turn().records
    allowed = replace(record, actuation=replace(record.actuation, asked=3))
    assert record.past_turn().ordered > 3 == allowed.past_turn().ordered


@pytest.mark.parametrize(("hours_down", "mode"), [(0.5, Mode.ENFORCE), (5, Mode.ENFORCE), (30, Mode.OBSERVE)])
def test_who_was_promoted_stays_acting_over_a_downtime(cycle, hours_down, mode):
    gated = a_policy({"mode": "Observe", "safety": {"promote": {"after": "3d"}}}, name="chat")
    cycle.policies.policies = [gated]
    (record,) = cycle.turn().records
    cycle.log.records = [replace(record, decision=replace(record.decision, mode=Mode.ENFORCE))]
    cycle.clock.advance(timedelta(hours=hours_down))
    assert cycle.turn().records[0].decision.mode is mode


def after_turns(cycle, n_turns, every=timedelta(minutes=15)):
    """Replica-hours that the budget had seen spent at the last of them."""
    for _ in range(n_turns):
        report = cycle.turn()
        cycle.clock.advance(every)
    return report.records[0].snapshot.spent_replica_hours


def test_a_days_budget_counts_on_over_a_restart_what_stood_above_a_floor_too(cycle, chat):
    above = replace(some_replicas(5), desired=2)  # the HPA holds three more
    cycle.policies.policies = [a_policy({"mode": "Observe", "budget": {"gpuHoursPerDay": 100}}, name="chat")]
    cycle.target.states = {chat.endpoint: above}
    assert after_turns(cycle, 5) == pytest.approx(5.0)
    restarted = replace(cycle, _spends={})
    restarted.clock.advance(timedelta(hours=2))  # down, and what stood stood on
    assert after_turns(restarted, 1) == pytest.approx(5.0 + 5 * 2.25)


def test_a_restart_over_midnight_counts_what_stood_since(cycle, chat):
    cycle.policies.policies = [a_policy({"mode": "Observe", "budget": {"gpuHoursPerDay": 100}}, name="chat")]
    cycle.clock.time = NOON.replace(hour=23, minute=45)
    after_turns(cycle, 1, every=timedelta(minutes=30))
    assert after_turns(replace(cycle, _spends={}), 1) == pytest.approx(2 * 0.25)


def test_a_service_that_was_down_over_midnight_counts_what_stood_since(cycle, chat):
    cycle.policies.policies = [a_policy({"mode": "Observe", "budget": {"gpuHoursPerDay": 100}}, name="chat")]
    cycle.clock.time = NOON.replace(hour=20)
    after_turns(cycle, 1, every=timedelta(hours=14))
    assert after_turns(replace(cycle, _spends={}), 1) == pytest.approx(2 * 10.0)


def test_a_restart_reads_the_turns_of_this_day_and_little_of_the_day_before(cycle):
    """Two days of turns are 11,520 rows an endpoint."""
    cycle.policies.policies = [a_policy({"mode": "Observe", "budget": {"gpuHoursPerDay": 100}}, name="chat")]
    cycle.clock.time = NOON.replace(hour=0)
    after_turns(cycle, 24 * 4 + 8)
    read = []

    class CountingLog(MemoryLog):
        def recent_turns(self, endpoint, since):
            read.append(found := super().recent_turns(endpoint, since))
            return found

    restarted = replace(cycle, _spends={}, log=CountingLog(cycle.log.records))
    assert after_turns(restarted, 1) == pytest.approx(2 * 2.0)
    assert max(map(len, read)) == 4 + 8


def test_a_clock_that_is_set_back_over_midnight_leaves_what_the_day_had_spent(cycle):
    cycle.policies.policies = [a_policy({"mode": "Observe", "budget": {"gpuHoursPerDay": 100}}, name="chat")]
    cycle.clock.time = NOON.replace(hour=22)
    after_turns(cycle, 10)
    cycle.clock.time = NOON.replace(hour=23, minute=30)
    assert after_turns(cycle, 1) == pytest.approx(2 * 1.5)


@pytest.mark.parametrize("hold", [None, timedelta(minutes=5)])
def test_turns_of_a_clock_that_was_ahead_say_nothing_once_it_is_set_back(cycle, chat, hold):
    """They moved the order from 2 to 8: neither a rate limit nor a hold counts what is still to come."""
    grow = {"name": "flash", "when": {"growth": 3.0, "within": "2m"}, "then": {"holdScaleInFor": "5m"}}
    slow = {"stabilizationWindow": "0s", "policies": [{"type": "Replicas", "value": 2, "period": "1m"}]}
    cycle.policies.policies = [
        a_policy({"triggers": [grow], "behavior": {"scaleUp": slow, "scaleDown": slow}}, name="chat")
    ]
    cycle.source.demand = 8.0
    cycle.clock.time = NOON + timedelta(hours=2)
    after_turns(cycle, 3, every=timedelta(minutes=1))
    if hold:
        cycle.log.records[-1] = _with_hold(cycle.log.records[-1], cycle.clock.time + hold)
    cycle.clock.time, cycle.source.demand = NOON, 2.0 if hold else 12.0
    assert cycle.turn().records[0].decision.final == (6 if hold else 10)


def test_a_budget_that_was_taken_away_and_comes_back_knows_what_stood_meanwhile(cycle, chat):
    with_budget = [a_policy({"mode": "Observe", "budget": {"gpuHoursPerDay": 100}}, name="chat")]
    cycle.policies.policies = with_budget
    after_turns(cycle, 4)
    cycle.policies.policies = [a_policy({"mode": "Observe"}, name="chat")]
    cycle.target.states = {chat.endpoint: some_replicas(10)}
    after_turns(cycle, 4)
    cycle.policies.policies = with_budget
    assert after_turns(cycle, 1) == pytest.approx(2 * 1.0 + 10 * 1.0)


def test_a_trigger_within_an_hour_sees_the_whole_hour(cycle):
    """Demand of 1 an hour and a minute ago, 2 since, 3 now: threefold only against the first."""
    grow = {"name": "tide", "when": {"growth": 3.0, "within": "1h"}, "then": {"atLeastReplicas": 20}}
    cycle.policies.policies = [a_policy({"triggers": [grow]}, name="chat")]
    cycle.source.lately = np.repeat([1.0, *[2.0] * 59, 3.0], 4)
    verdicts = cycle.turn().records[0].decision.verdicts
    assert [verdict.after for verdict in verdicts if verdict.reason_code is Reason.TRIGGER] == [20]
    # Also where the deadline of a backlog looks back less far.
    backlog = {"workload": "Batch", "demand": {"preset": "kafka"}, "slo": {"queueWait": "10m"}}
    cycle.policies.policies = [a_policy(backlog | {"triggers": [grow]}, name="chat")]
    verdicts = cycle.turn().records[0].decision.verdicts
    assert [verdict.after for verdict in verdicts if verdict.reason_code is Reason.TRIGGER] == [20]


def test_a_hold_of_a_trigger_survives_from_turn_to_turn(cycle):
    grow = {"name": "flash", "when": {"growth": 3.0, "within": "2m"}, "then": {"holdScaleInFor": "5m"}}
    cycle.policies.policies = [a_policy({"triggers": [grow]}, name="chat")]
    first = cycle.turn().records[0].decision
    assert first.hold_scale_in_until is None
    held = cycle.clock.time + timedelta(minutes=5)
    cycle.log.records[-1] = _with_hold(cycle.log.records[-1], held)
    cycle.source.demand = 0.5
    cycle.clock.advance()
    assert cycle.turn().records[0].decision.final == 2


def _with_hold(record, until):
    return replace(record, decision=replace(record.decision, hold_scale_in_until=until))


def some_minutes_with_a_queue(cycle, minutes=60, revisions=()):
    """Two replicas that are thought to carry one a second each carry 0.8, and the queue never ends."""
    cycle.source.demand, cycle.source.queue = 1.6, 40.0
    for _ in range(minutes):
        cycle.target.states = {endpoint: some_replicas(2, revisions=revisions) for endpoint in cycle.target.states}
        cycle.turn()
        cycle.clock.advance(timedelta(minutes=1))


def test_capacity_is_learned_from_turns_and_handed_to_the_refit(cycle, chat):
    cycle.learns_capacity = True
    some_minutes_with_a_queue(cycle)
    cycle.refit([chat], {})
    profile = cycle.advisor.profiles[-1]
    assert profile.demand_per_replica == pytest.approx(0.8, rel=0.02)
    assert "too slow" in profile.measured_how


def test_capacity_is_the_policys_where_it_says_so_and_in_the_simulator(cycle, chat):
    some_minutes_with_a_queue(cycle)
    cycle.refit([chat], {})
    assert cycle.advisor.profiles[-1].demand_per_replica == 1.0
    cycle.learns_capacity = True
    fixed = a_policy({"capacity": {"learn": False}}, name="chat")
    cycle.policies.policies = [fixed]
    some_minutes_with_a_queue(cycle)
    cycle.refit([fixed], {})
    assert cycle.advisor.profiles[-1].demand_per_replica == 1.0


def test_a_new_model_version_begins_anew_and_a_rollout_teaches_nothing(cycle, chat):
    cycle.learns_capacity = True
    some_minutes_with_a_queue(cycle, revisions=("7c9",))
    some_minutes_with_a_queue(cycle, minutes=10, revisions=("7c9", "d41"))
    cycle.refit([chat], {})
    assert cycle.advisor.profiles[-1].demand_per_replica == pytest.approx(0.8, rel=0.02)
    some_minutes_with_a_queue(cycle, minutes=1, revisions=("d41",))
    cycle.refit([chat], {})
    assert cycle.advisor.profiles[-1].demand_per_replica == 1.0


def test_another_value_in_the_policy_begins_anew(cycle, chat):
    cycle.learns_capacity = True
    some_minutes_with_a_queue(cycle)
    changed = a_policy({"capacity": {"perReplica": 0.7}}, name="chat")
    cycle.policies.policies = [changed]
    some_minutes_with_a_queue(cycle, minutes=1)
    cycle.refit([changed], {})
    assert cycle.advisor.profiles[-1].demand_per_replica == 0.7


def test_a_query_that_failed_once_ends_no_request_in_flight(cycle, chat):
    zero = a_policy({"scaleToZero": {"enabled": True}}, name="chat")
    cycle.policies.policies, cycle.target.states = [zero], {chat.endpoint: some_replicas(1)}
    cycle.source.demand, cycle.source.in_flight = 0.0, 1.0
    cycle.advisor.idle = IdleAdvice(last_arrival=None, keep=False, pre_warm=False, reason="idle until morning")
    cycle.turn()
    cycle.source.error = SourceUnavailable("metrics: no answer within 10 s")
    cycle.clock.advance()
    bridged = cycle.turn().records[0]
    assert bridged.decision.plan is not None and bridged.decision.final == 1
    assert "1 in flight" in bridged.decision.sentence() and bridged.as_row()["in_flight"] == 1.0
    cycle.source.error, cycle.source.in_flight = None, 0.0
    cycle.clock.advance()
    assert cycle.turn().records[0].decision.final == 0
