"""What every guardrail promises, whatever it is fed."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.core.decide import decide
from scaler.core.guardrails.registry import GUARDRAILS
from scaler.domain.setting import Choice, Setting, Source
from scaler.domain.snapshot import IdleAdvice, PastTurn
from tests.builders import NOON, SECOND, a_policy, a_snapshot, some_replicas, some_signals

demand = st.floats(0, 500) | st.just(float("nan"))
count = st.integers(0, 60)


@st.composite
def snapshots(draw):
    low, high = sorted((draw(st.integers(0, 40)), draw(st.integers(1, 40))))
    policy = a_policy(
        {
            "replicas": {"min": low, "max": max(high, 1)},
            "scaleToZero": {"enabled": draw(st.booleans())},
            "safety": {
                "paused": draw(st.booleans()),
                "missingMetrics": draw(st.sampled_from(["Hold", "LastGood", "Floor"])),
            },
            "reactive": {"thresholds": [{"signal": "queue_depth", "above": draw(st.floats(0, 9))}]},
        }
    )
    ages = draw(st.lists(st.floats(0, 900), max_size=8))
    signals = some_signals(
        draw(demand), ahead=draw(demand), peak_soon=draw(st.floats(0, 500)), dip_floor=draw(st.floats(0, 50))
    )
    idle = IdleAdvice(
        last_arrival=draw(st.none() | st.just(NOON - timedelta(minutes=5))),
        keep=draw(st.booleans()),
        pre_warm=draw(st.booleans()),
        reason="law",
    )
    recent = tuple(
        PastTurn(decided_at=NOON - 15 * n * SECOND, recommended=draw(count), current=draw(count), ordered=draw(count))
        for n in (3, 2, 1)
    )
    setting = Setting(source=Source.LEAD_MODEL, level=0.9, utilization_fraction=draw(st.floats(0.1, 1)))
    return a_snapshot(
        policy,
        replicas=draw(st.none() | st.builds(some_replicas, count, st.just(ages), rolling_out=st.booleans())),
        signals=draw(st.none() | st.just(signals)),
        queue=draw(demand),
        reactive={"queue_depth": draw(demand)},
        idle=draw(st.none() | st.just(idle)),
        choice=Choice(setting=setting, chosen_at=NOON, surprised=draw(st.booleans())),
        recent=recent,
    )


@given(snapshots())
def test_an_order_stays_within_the_bounds_unless_held_or_paused(snapshot):
    decision = decide(snapshot)
    bounds = snapshot.policy.spec.replicas
    if decision.plan is not None and not snapshot.policy.spec.safety.paused:
        assert bounds.min <= decision.final <= bounds.max


@given(snapshots())
def test_every_guardrail_speaks_once_in_order_and_gives_a_reason(snapshot):
    decision = decide(snapshot)
    if decision.plan is not None:
        assert [verdict.guardrail for verdict in decision.verdicts if verdict.guardrail != "freshness"] == list(
            GUARDRAILS
        )
    assert all(verdict.reason for verdict in decision.verdicts)
    befores = [verdict.before for verdict in decision.verdicts if verdict.guardrail != "freshness"]
    afters = [verdict.after for verdict in decision.verdicts if verdict.guardrail != "freshness"]
    assert befores[1:] == afters[:-1]


@given(snapshots())
def test_deciding_twice_gives_the_same_decision(snapshot):
    assert decide(snapshot) == decide(snapshot)


@given(snapshots())
def test_unknown_never_lowers_the_order(snapshot):
    decision = decide(snapshot)
    if decision.plan is None:
        assert decision.final >= decision.current


@pytest.mark.parametrize("name", ["thresholds", "panic", "surprise", "triggers", "rollout"])
@given(snapshot=snapshots())
def test_floors_only_ever_raise(name, snapshot):
    for verdict in decide(snapshot).verdicts:
        if verdict.guardrail == name:
            assert verdict.after >= verdict.before


@given(snapshot=snapshots(), factor=st.floats(1, 20), more=st.floats(0, 20))
def test_more_demand_never_orders_fewer(snapshot, factor, more):
    signals = snapshot.signals
    if signals is None:
        return
    raised = replace(
        signals,
        demand_now=factor * signals.demand_now + more,
        demand_ahead=factor * signals.demand_ahead + more,
        peak_soon=factor * signals.peak_soon + more,
    )
    asked = replace(snapshot, signals=raised, queue=factor * snapshot.queue + more)
    before, after = decide(snapshot).final, decide(asked).final
    assert before is None or after >= before
