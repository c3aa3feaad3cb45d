"""The advisor turn by turn: no look-ahead, the same numbers in batches, and honest when the forecast is broken."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from forecaster.calendar import DemandCalendar
from forecaster.series import DemandSeries, DemandUnit
from scaler.core.decide import decide
from scaler.cycle import prior_profile
from scaler.domain.policy import Mode, ScalingPolicy
from scaler.domain.setting import Source
from scaler.ports import Advice, Reading
from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor
from scaler.simulator.selfreplay.replayer import EndpointReplay
from scaler.simulator.selfreplay.spoil import Spoil
from tests.builders import a_policy, a_snapshot
from tests.simulator.makers import MONDAY

STEP = timedelta(seconds=15)
WARM, N = 14 * 240, 15 * 240 + 60


def demand(seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = 3.0 + 2.0 * np.sin(2 * np.pi * np.arange(N) / 960)
    level[(np.arange(N) % 700) < 40] *= 2.0
    values = rng.poisson(level * 15) / 15.0
    values[WARM + 100 : WARM + 110] = np.nan
    return values


def series(values: np.ndarray) -> DemandSeries:
    return DemandSeries(unit=DemandUnit.REQUESTS, start=MONDAY, step=STEP, values=values)


def policy(**changes: object) -> ScalingPolicy:
    return a_policy({"capacity": {"perReplica": 0.5}, "startup": {"expected": "150s"}, **changes})


def advised(advisor: SelfReplayAdvisor, values: np.ndarray, spec: ScalingPolicy, until: int = N) -> Sequence[Advice]:
    """Refit at WARM and each hour after it, one advice per turn, as the cycle does."""
    out = []
    for k in range(WARM, until):
        now = MONDAY + k * STEP
        if (k - WARM) % 240 == 0:
            advisor.refit(spec, series(values[:k]), prior_profile(spec), now)
        reading = Reading(recent=series(values[:k]).since(now - timedelta(hours=2)), queue=0.0, reactive={})
        out.append(advisor.advise(spec, reading, None, now))
    return out


@pytest.fixture(scope="module")
def turn_by_turn() -> Sequence[Advice]:
    return advised(SelfReplayAdvisor(), demand(), policy())


def test_batches_made_ahead_give_the_same_advice(turn_by_turn: Sequence[Advice]) -> None:
    spec = policy()
    ahead = advised(SelfReplayAdvisor(foreseen={spec.endpoint: series(demand())}), demand(), spec)
    assert ahead == turn_by_turn


def test_what_happens_later_changes_no_advice(turn_by_turn: Sequence[Advice]) -> None:
    spec, at = policy(), WARM + 130
    changed = demand()
    changed[at:] = 50.0
    advisor = SelfReplayAdvisor(foreseen={spec.endpoint: series(changed)})
    assert advised(advisor, changed, spec, at + 1) == turn_by_turn[: at + 1 - WARM]


def test_a_planned_event_is_ordered_for_before_it_begins(turn_by_turn: Sequence[Advice]) -> None:
    """An hour of three times the demand; the lead is ten steps. While it is under way what is read has it in it."""
    begin = MONDAY + (WARM + 20) * STEP
    launch = {"name": "launch", "start": begin.isoformat(), "end": (begin + timedelta(hours=1)).isoformat()}
    planned = policy(forecast={"calendar": {"events": [launch | {"factor": 3.0}]}})
    told = advised(SelfReplayAdvisor(), demand(), planned, WARM + 40)
    for turn, growth in ((5, 1.0), (9, 1.0), (10, 3.0), (19, 3.0), (20, 1.0), (39, 1.0)):
        plain, own = turn_by_turn[turn].signals, told[turn].signals
        assert plain is not None and own is not None
        assert own.demand_ahead == pytest.approx(growth * plain.demand_ahead)
        assert own.baseline_ahead == plain.baseline_ahead


def test_the_lead_time_model_lives_by_the_policys_calendar() -> None:
    spec = policy(forecast={"calendar": {"timezone": "Europe/Berlin", "holidays": "DE"}})
    rows = EndpointReplay(spec, prior_profile(spec), MONDAY, STEP).rows
    assert rows.tape.calendar == DemandCalendar(timezone="Europe/Berlin", holidays_of="DE")


def test_the_choice_says_what_its_replay_showed(turn_by_turn: Sequence[Advice]) -> None:
    choice = turn_by_turn[-1].choice
    assert choice is not None and choice.replayed is not None
    assert choice.replayed.replica_hours > 0
    assert "would have cost" in choice.why()


def test_what_is_no_worse_than_the_shadow_passes_the_gate_once_enough_was_replayed() -> None:
    """Fifteen hours were replayed when the last turns come."""
    (*_, advice) = advised(SelfReplayAdvisor(reactive_only=True), demand(), policy(), WARM + 241)
    for after, mode in (("15h", Mode.ENFORCE), ("16h", Mode.OBSERVE)):
        gated = policy(mode="Observe", safety={"promote": {"after": after}})
        assert decide(a_snapshot(gated, choice=advice.choice)).mode is mode, after


def test_an_endpoint_that_the_arrival_law_rules_is_no_worse_than_its_shadow_which_that_law_rules_too() -> None:
    rare = np.zeros(N)
    rare[::40] = 1.0
    (*_, advice) = advised(SelfReplayAdvisor(), rare, policy(scaleToZero={"enabled": True, "minIdle": "0s"}), WARM + 2)
    gated = policy(mode="Observe", safety={"promote": {"after": "12h"}})
    assert decide(a_snapshot(gated, choice=advice.choice)).mode is Mode.ENFORCE


def test_figures_of_an_endpoint_that_the_arrival_law_rules_are_said_to_be_without_it() -> None:
    rare = np.zeros(N)
    rare[::40] = 1.0
    (*_, advice) = advised(SelfReplayAdvisor(), rare, policy(scaleToZero={"enabled": True, "minIdle": "0s"}), WARM + 2)
    said = advice.choice.why()
    assert "the last replica by the law of the next arrival, without which it would have cost" in said
    assert "runner-up" not in said


def test_demand_that_was_not_seen_for_a_minute_gives_no_signals(turn_by_turn: Sequence[Advice]) -> None:
    assert turn_by_turn[102].signals is not None  # half of the last minute was seen
    assert turn_by_turn[106].signals is None


def test_without_any_history_the_cautious_reactive_setting_plays() -> None:
    advisor, spec = SelfReplayAdvisor(), policy()
    now = MONDAY + 8 * STEP
    reading = Reading(recent=series(demand()[:8]), queue=0.0, reactive={})
    advice = advisor.advise(spec, reading, None, now)
    assert advice.signals is not None and advice.choice is not None
    assert advice.choice.setting.source is Source.REACTIVE
    assert advice.signals.demand_ahead == pytest.approx(1.6 * advice.signals.demand_now, rel=0.5)


def test_the_shadow_uses_no_forecast() -> None:
    advices = advised(SelfReplayAdvisor(reactive_only=True), demand(), policy(), WARM + 5)
    assert all(advice.choice is not None and not advice.choice.setting.uses_forecast for advice in advices)


def test_a_fixed_risk_plays_that_quantile() -> None:
    advices = advised(SelfReplayAdvisor(), demand(), policy(forecast={"risk": 0.95}), WARM + 2)
    setting = advices[-1].choice.setting if advices[-1].choice else None
    assert setting is not None and (setting.source, setting.level) == (Source.LEAD_MODEL, 0.95)


def test_a_forecast_gone_blind_is_barred_within_the_hour() -> None:
    spec = policy(forecast={"risk": 0.95})
    advices = advised(SelfReplayAdvisor(spoil=Spoil(kind="zero")), demand(), spec, WARM + 240)
    assert advices[0].choice is not None and advices[0].choice.demoted == ""
    last = advices[-1].choice
    assert last is not None and "forecast's band" in last.demoted
    assert not last.setting.uses_forecast


def test_in_the_turn_in_which_the_forecast_breaks_whichever_of_plan_and_shadow_asks_for_more_is_ordered() -> None:
    """A day and a half is enough to know what is usual; the model of half a day is enough to be played."""
    spec, at = policy(forecast={"risk": 0.5}), 38 * 240
    rng = np.random.default_rng(6)
    values = rng.poisson(45.0 * (1.0 + 0.5 * np.sin(2 * np.pi * np.arange(at + 2) / 960))) / 15.0
    advisor = SelfReplayAdvisor(spoil=Spoil(kind="zero"))
    now = MONDAY + at * STEP
    advisor.refit(spec, series(values[:at]), prior_profile(spec), now)
    reading = Reading(recent=series(values[:at]).since(now - timedelta(hours=2)), queue=0.0, reactive={})
    advice = advisor.advise(spec, reading, None, now)
    assert advice.choice is not None and advice.choice.beside is not None and advice.signals is not None
    assert advice.choice.setting.uses_forecast and not advice.choice.beside.uses_forecast
    assert "looks odd" in advice.choice.why()
    assert advice.signals.demand_ahead == pytest.approx(
        advice.signals.baseline_ahead
        * advice.choice.setting.utilization_fraction
        / advice.choice.beside.utilization_fraction
    )
