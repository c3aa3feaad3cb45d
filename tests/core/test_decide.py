"""One snapshot in, one explained decision out."""

from datetime import datetime, timedelta
from math import nan

import pytest

from scaler.core.bounds import active_bounds
from scaler.core.decide import decide
from scaler.domain.decision import Reason
from scaler.domain.setting import Choice, Setting, Source
from scaler.domain.snapshot import IdleAdvice, PastTurn
from tests.builders import NOON, SECOND, a_policy, a_snapshot, some_replicas, some_signals


def reasons(decision):
    return [verdict.reason_code for verdict in decision.verdicts if verdict.changed]


@pytest.mark.parametrize(
    ("label", "changes", "expected"),
    [
        ("demand that is served needs nothing", {}, 2),
        ("more demand ahead is ordered now", {"signals": some_signals(2, ahead=6)}, 6),
        ("demand that is not served builds a backlog: as fast as behavior allows", {"signals": some_signals(5)}, 6),
        ("less than half a replica is left to the queue", {"signals": some_signals(2, ahead=2.44)}, 2),
        ("a little more is not", {"signals": some_signals(2, ahead=2.46)}, 3),
        (
            "one that stands is kept for less than one is ordered for",
            {"replicas": some_replicas(3), "signals": some_signals(2, ahead=2.16)},
            3,
        ),
        ("but not for next to nothing", {"replicas": some_replicas(3), "signals": some_signals(2, ahead=2.14)}, 2),
        (
            "replicas that start are not ordered twice",
            {"replicas": some_replicas(2, [9, 9]), "signals": some_signals(2, 4)},
            4,
        ),
        (
            "a little demand ahead has its first replica",
            {"replicas": some_replicas(0), "signals": some_signals(0, ahead=0.1)},
            1,
        ),
        ("less demand lets go", {"replicas": some_replicas(8), "signals": some_signals(3)}, 3),
        ("a peak soon keeps what it needs", {"replicas": some_replicas(8), "signals": some_signals(3, peak_soon=6)}, 6),
        ("a peak soon orders nothing new", {"replicas": some_replicas(2), "signals": some_signals(2, peak_soon=6)}, 2),
        (
            "the dip guard plans for what comes back",
            {"replicas": some_replicas(8), "signals": some_signals(1, dip_floor=8)},
            8,
        ),
        ("present demand blocks scale-in that the plan wants", {"signals": some_signals(2, ahead=0)}, 2),
    ],
)
def test_the_order(label, changes, expected):
    assert decide(a_snapshot(**changes)).final == expected, label


def test_a_queue_that_will_not_drain_by_itself_is_ordered_for():
    # 60 waiting, two replicas for a demand of two: still 60 after the start-up; draining them in one turn takes 4 more.
    assert decide(a_snapshot(queue=60.0)).final == 6


def test_a_replica_that_a_rolling_update_starts_takes_anothers_place_and_drains_no_queue():
    replacing = some_replicas(2, [145, 145, 145], desired=2)
    assert decide(a_snapshot(queue=60.0, replicas=replacing)).plan == decide(a_snapshot(queue=60.0)).plan


def test_a_queue_that_starting_replicas_will_drain_is_not_ordered_for():
    # Three more replicas are ready in 5 s: 60 waiting are gone long before a new replica would be ready.
    decision = decide(a_snapshot(queue=60.0, replicas=some_replicas(2, [145, 145, 145])))
    assert decision.final == 5 and decision.plan.order_now == 2


@pytest.mark.parametrize(
    ("label", "changes", "code"),
    [
        ("no reading", {"signals": None}, Reason.STALE_METRICS),
        ("NaN demand", {"signals": some_signals(nan)}, Reason.STALE_METRICS),
        ("an old reading", {"signals": some_signals(9, read_at=NOON - 61 * SECOND)}, Reason.STALE_METRICS),
    ],
)
def test_unknown_demand_holds_and_says_so(label, changes, code):
    decision = decide(a_snapshot(**changes))
    assert decision.final == 2 and decision.plan is None, label
    assert decision.verdicts[0].reason_code is code and "held" in decision.sentence()


def test_a_silent_cluster_holds_the_last_order():
    before = PastTurn(decided_at=NOON - 15 * SECOND, recommended=7, current=6, ordered=7)
    decision = decide(a_snapshot(replicas=None, recent=(before,)))
    assert decision.final == 7 and decision.verdicts[0].reason_code is Reason.CLUSTER_UNKNOWN


def test_of_a_silent_cluster_nothing_is_known_but_the_last_order():
    before = PastTurn(decided_at=NOON - 15 * SECOND, recommended=7, current=6, ordered=7)
    decision = decide(a_snapshot(replicas=None, recent=(before,)))
    assert (decision.current, decision.ready, decision.starting) == (7, None, None)
    assert "keep 7 replicas (not known how many)" in decision.sentence()


def test_a_cluster_that_never_answered_leaves_every_count_unknown():
    decision = decide(a_snapshot(replicas=None, problem="cluster: refused"))
    counts = (decision.current, decision.ready, decision.starting, decision.proposed, decision.recommended)
    assert {*counts, decision.final, decision.verdicts[0].before, decision.verdicts[0].after} == {None}
    assert "keep what stands (not known how many); held: cluster: refused" in decision.sentence()


def test_last_good_plans_from_an_old_reading_up_to_its_age_limit():
    policy = a_policy({"safety": {"missingMetrics": "LastGood", "maxForecastAge": "10m"}})
    for age_seconds, expected in ((300, 5), (601, 2)):
        signals = some_signals(2, ahead=5, read_at=NOON - age_seconds * SECOND)
        assert decide(a_snapshot(policy, signals=signals)).final == expected


def test_last_good_lets_nothing_go_while_the_present_is_not_known():
    policy = a_policy({"safety": {"missingMetrics": "LastGood"}})
    for age_seconds, expected in ((60, 2), (75, 5)):
        signals = some_signals(2, read_at=NOON - age_seconds * SECOND)
        assert decide(a_snapshot(policy, signals=signals, replicas=some_replicas(5))).final == expected


def test_floor_keeps_one_replica_standing_while_blind():
    policy = a_policy({"safety": {"missingMetrics": "Floor"}})
    assert decide(a_snapshot(policy, signals=None, replicas=some_replicas(0))).final == 1
    assert decide(a_snapshot(policy, signals=None, replicas=some_replicas(5))).final == 5


TODAY = {"name": "today", "cron": "0 0 * * *", "duration": "24h"}


@pytest.mark.parametrize(
    ("label", "spec", "stands", "expected"),
    [
        ("a minimum", {"replicas": {"min": 3, "max": 9}}, 1, 3),
        ("an override's minimum", {"overrides": [TODAY | {"min": 6}]}, 2, 6),
        ("an override's maximum", {"overrides": [TODAY | {"max": 4}]}, 7, 4),
        ("a maximum lowers nothing by itself", {"replicas": {"max": 9}}, 12, 12),
        ("a frozen one is left alone", {"replicas": {"min": 3, "max": 9}, "safety": {"paused": True}}, 1, 1),
    ],
)
def test_what_people_say_of_now_holds_while_demand_is_unknown(label, spec, stands, expected):
    decision = decide(a_snapshot(a_policy(spec), signals=None, replicas=some_replicas(stands)))
    assert decision.final == expected, label
    assert decision.verdicts[0].after == stands and "held" in decision.sentence()


def test_floor_while_blind_is_no_more_than_an_active_override_allows():
    policy = a_policy({"safety": {"missingMetrics": "Floor"}, "overrides": [TODAY | {"max": 0}]})
    assert decide(a_snapshot(policy, signals=None, replicas=some_replicas(0))).final == 0


def test_an_old_forecast_is_replaced_by_the_reactive_plan():
    old = some_signals(2, ahead=9, forecast_issued_at=NOON - timedelta(hours=1), baseline_ahead=3.0)
    decision = decide(a_snapshot(signals=old))
    assert decision.final == 3 and Reason.STALE_FORECAST in reasons(decision)


def test_scale_to_zero_needs_the_policy_the_silence_and_the_law():
    zero = a_policy({"scaleToZero": {"enabled": True, "minIdle": "10m"}})
    gone = IdleAdvice(last_arrival=NOON - timedelta(hours=1), keep=False, pre_warm=False, reason="idle until morning")
    idle = {"replicas": some_replicas(1), "signals": some_signals(0.0)}
    cases = [
        ("the policy does not allow it", decide(a_snapshot(a_policy(), idle=gone, **idle)), 1),
        ("there is no law yet", decide(a_snapshot(zero, **idle)), 1),
        ("silence and law agree", decide(a_snapshot(zero, idle=gone, **idle)), 0),
    ]
    lately = IdleAdvice(last_arrival=NOON - timedelta(minutes=9), keep=False, pre_warm=False, reason="idle")
    cases.append(("the last request is nine minutes ago", decide(a_snapshot(zero, idle=lately, **idle)), 1))
    keep = IdleAdvice(last_arrival=NOON - timedelta(hours=1), keep=True, pre_warm=False, reason="the next one is near")
    cases.append(("the law says keep", decide(a_snapshot(zero, idle=keep, **idle)), 1))
    for label, decision, expected in cases:
        assert decision.final == expected, label


@pytest.mark.parametrize(
    ("label", "in_flight", "standing", "expected"),
    [
        ("a generation still runs", 1.0, 1, 1),
        ("on one of three that are not needed", 1.0, 3, 1),
        ("nothing runs", 0.0, 1, 0),
        ("what runs is not known", nan, 1, 0),
        ("what runs elsewhere orders nothing by itself", 1.0, 0, 0),
    ],
)
def test_requests_in_flight_are_not_cut_off_by_going_to_zero(label, in_flight, standing, expected):
    zero = a_policy({"scaleToZero": {"enabled": True, "minIdle": "10m"}})
    gone = IdleAdvice(last_arrival=NOON - timedelta(hours=1), keep=False, pre_warm=False, reason="idle until morning")
    quiet = {"replicas": some_replicas(standing), "signals": some_signals(0.0), "idle": gone}
    decision = decide(a_snapshot(zero, in_flight=in_flight, **quiet))
    assert decision.final == expected, label
    assert ("1 in flight" in decision.sentence()) is (expected > 0)
    assert (Reason.KEPT_WARM in reasons(decision)) is (expected > 0)


def test_pre_warm_orders_from_zero_before_anybody_asks():
    zero = a_policy({"scaleToZero": {"enabled": True}})
    soon = IdleAdvice(
        last_arrival=NOON - timedelta(hours=9), keep=False, pre_warm=True, reason="the timer fires at 12:02"
    )
    asleep = {"replicas": some_replicas(0), "signals": some_signals(0.0), "idle": soon}
    decision = decide(a_snapshot(zero, **asleep))
    assert decision.final == 1 and reasons(decision) == [Reason.PRE_WARMED] and "timer" in decision.sentence()
    without = a_policy({"scaleToZero": {"enabled": True, "preWarm": False}})
    assert decide(a_snapshot(without, **asleep)).final == 0


def test_the_first_request_at_zero_is_answered_with_a_replica():
    zero = a_policy({"scaleToZero": {"enabled": True}})
    assert decide(a_snapshot(zero, replicas=some_replicas(0), signals=some_signals(0.01))).final == 1
    assert decide(a_snapshot(zero, replicas=some_replicas(0), signals=some_signals(0.0), queue=1.0)).final == 1


def test_a_threshold_counts_ready_replicas_only_so_that_it_cannot_cascade():
    policy = a_policy({"reactive": {"thresholds": [{"signal": "queue_depth", "above": 5}]}})
    hot = {"queue_depth": 10.0}
    assert decide(a_snapshot(policy, reactive=hot)).final == 4
    # The two that were ordered are still starting: the same reading asks for the same four.
    assert decide(a_snapshot(policy, reactive=hot, replicas=some_replicas(2, [15, 15]))).final == 4
    assert decide(a_snapshot(policy, reactive={"queue_depth": nan})).final == 2


def test_panic_lets_nothing_go_and_orders_the_present():
    # 4 ready of 10 asked for; demand 9 is over twice what 4 carry; plan alone would keep 9.
    decision = decide(a_snapshot(replicas=some_replicas(4, [149] * 6), signals=some_signals(9.0)))
    assert decision.final == 10 and reasons(decision) == [Reason.PANIC]


def test_a_surprised_forecast_may_not_let_go():
    setting = Setting(source=Source.LEAD_MODEL, level=0.9)
    choice = Choice(setting=setting, chosen_at=NOON, surprised=True)
    decision = decide(a_snapshot(choice=choice, replicas=some_replicas(8)))
    assert decision.final == 8 and reasons(decision) == [Reason.SURPRISE]


def test_a_trigger_raises_the_order_and_holds_scale_in_for_its_time():
    policy = a_policy(
        {
            "triggers": [
                {
                    "name": "flash-crowd",
                    "when": {"growth": 3.0, "within": "2m"},
                    "then": {"holdScaleInFor": "15m", "atLeastReplicas": 6},
                }
            ]
        }
    )
    fired = decide(a_snapshot(policy, demand_lately=(0.5, 0.6, 2.0)))
    assert fired.final == 6 and fired.hold_scale_in_until == NOON + timedelta(minutes=15)
    later = decide(a_snapshot(policy, replicas=some_replicas(6), held_in_until=fired.hold_scale_in_until))
    assert later.final == 6 and reasons(later) == [Reason.TRIGGER]
    over = decide(a_snapshot(policy, replicas=some_replicas(6), held_in_until=NOON))
    assert over.final == 2


@pytest.mark.parametrize(
    ("minutes", "unit", "fires"),
    [
        ((1.0, 1.0, 3.0), "requests", True),
        ((0.13, 0.13, 0.4), "requests", False),  # 8 requests, then 24
        ((0.0, 0.0, 0.2), "requests", False),  # none, then 12
        ((0.0, 0.0, 1.0), "requests", True),
        ((0.13, 0.13, 0.4), "concurrency", True),  # a level counts no requests
        ((1.0, nan, 2.9), "requests", False),
    ],
)
def test_a_trigger_fires_on_growth_that_chance_does_not_explain(minutes, unit, fires):
    trigger = {"name": "a", "when": {"growth": 3.0, "within": "2m"}, "then": {"atLeastReplicas": 6}}
    policy = a_policy({"demand": {"unit": unit}, "triggers": [trigger]})
    assert (decide(a_snapshot(policy, demand_lately=minutes)).final == 6) is fires


def test_overrides_the_highest_min_and_the_lowest_max_hold():
    policy = a_policy(
        {
            "replicas": {"min": 1, "max": 20},
            "overrides": [
                {"name": "office", "cron": "0 7 * * 1-5", "duration": "12h", "timezone": "Europe/Berlin", "min": 4},
                {"name": "launch", "start": "2026-03-02T11:00:00Z", "end": "2026-03-02T13:00:00Z", "min": 6, "max": 8},
                {"name": "over", "start": "2026-03-01T11:00:00Z", "end": "2026-03-02T12:00:00Z", "min": 19},
            ],
        }
    )
    low = decide(a_snapshot(policy))
    high = decide(a_snapshot(policy, replicas=some_replicas(7), signals=some_signals(50)))
    assert (low.final, high.final) == (6, 8)
    assert reasons(low) == [Reason.OVERRIDE] and "office, launch" in low.sentence()


@pytest.mark.parametrize(
    ("label", "cron", "duration", "utc", "active"),
    [
        ("clocks show half past two the first time", "30 2 * * *", "1h", "00:30", True),
        ("an hour later they do again", "30 2 * * *", "1h", "01:30", False),
        ("the span does not begin anew", "30 2 * * *", "1h", "02:15", False),
        ("what comes each half hour comes in both hours", "*/30 * * * *", "10m", "01:35", True),
        ("a night over the change lasts as long as it says", "0 22 * * *", "8h", "03:59", True),
        ("and no longer", "0 22 * * *", "8h", "04:00", False),
    ],
)
def test_an_override_at_an_hour_that_clocks_show_twice_comes_once(label, cron, duration, utc, active):
    """Berlin, 25 October 2026: at 03:00 summer time clocks go back to 02:00; 01:00 UTC."""
    zone = "Europe/Berlin"
    policy = a_policy({"overrides": [{"name": "n", "cron": cron, "duration": duration, "timezone": zone, "min": 4}]})
    now = datetime.fromisoformat(f"2026-10-25T{utc}:00+00:00")
    assert (active_bounds(policy, now).names == ("n",)) is active, label


def test_paused_has_the_last_word():
    policy = a_policy({"safety": {"paused": True}, "replicas": {"min": 5}})
    decision = decide(a_snapshot(policy, signals=some_signals(50)))
    assert decision.final == 2 and reasons(decision)[-1] is Reason.PAUSED


def test_the_sentence_names_what_bound_the_order():
    policy = a_policy({"replicas": {"max": 3}})
    text = decide(a_snapshot(policy, signals=some_signals(2, ahead=6))).sentence()
    assert text == (
        "prod/chat-7b: 2 -> 3 replicas (2 ready, 0 starting): demand of 6 expected by 12:02:30 UTC asks for 6; "
        "bounds are 0..3"
    )


def test_what_a_threshold_ordered_is_not_let_go_before_it_could_serve():
    policy = a_policy({"reactive": {"thresholds": [{"signal": "queue_depth", "above": 5}]}})
    calm = {"policy": policy, "replicas": some_replicas(2, [15]), "reactive": {"queue_depth": 0.0}}
    above = decide(a_snapshot(policy, reactive={"queue_depth": 6.0}))
    assert (above.final, above.hold_scale_in_until) == (3, NOON + 150 * SECOND)
    held = decide(a_snapshot(**calm, held_in_until=above.hold_scale_in_until))
    assert held.final == 3 and Reason.TRIGGER in reasons(held)
    assert decide(a_snapshot(**calm, held_in_until=NOON)).final == 2


def test_a_scale_in_window_of_the_policys_own_is_the_only_hold():
    rules = {"stabilizationWindow": "0s", "policies": [{"type": "Fraction", "value": 1.0, "period": "15s"}]}
    thresholds = {"thresholds": [{"signal": "queue_depth", "above": 5}]}
    policy = a_policy({"reactive": thresholds, "behavior": {"scaleDown": rules}})
    assert decide(a_snapshot(policy, reactive={"queue_depth": 6.0})).hold_scale_in_until is None
