"""Trust in the forecast: what came of it, what it says beside the present, and what following it cost."""

from datetime import timedelta

import numpy as np
import pytest

from forecaster.lead import LEVELS
from scaler.cycle import prior_profile
from scaler.simulator.compiled import Columns, Signals, new_state, no_outcomes, replay
from scaler.simulator.selfreplay.family import COLUMN_LEVELS, settings_family
from scaler.simulator.selfreplay.fast import rules_of
from scaler.simulator.selfreplay.played import with_higher_of
from scaler.simulator.selfreplay.premium import CAP_HOURS, Premium
from scaler.simulator.selfreplay.rows import RowMaker
from scaler.simulator.selfreplay.signals import BaseRows
from scaler.simulator.selfreplay.watch import ABOVE, ALPHA, ODD, TOO_MUCH, Bet, Evidence, ForecastWatch, Stance
from tests.builders import a_policy
from tests.simulator.makers import MONDAY

STEP = timedelta(seconds=15)
HOUR, DAY = 240, 5760
POLICY = a_policy({"capacity": {"perReplica": 0.5}, "startup": {"expected": "150s"}})
RULES = rules_of(POLICY, prior_profile(POLICY), STEP)
FAMILY = settings_family((0.85, 1.0), timedelta(seconds=150), STEP)
BETS = [*(bet for _, bet in ABOVE), TOO_MUCH, ODD]


@pytest.mark.parametrize("bet", BETS)
def test_what_happens_as_often_as_tolerated_raises_few_alarms_and_what_always_happens_soon_does(bet: Bet) -> None:
    rng = np.random.default_rng(4)
    evidence = Evidence(bet)
    alarms = sum(evidence.see(bool(happened)) for happened in rng.random(20_000) < bet.tolerated)
    assert alarms <= 20_000 * ALPHA
    assert any(evidence.see(True) for _ in range(17))


class WrittenRows(RowMaker):
    """Rows as written, as if a lead model had said so."""

    def write(self, now: np.ndarray, quantiles: np.ndarray) -> None:
        ahead = np.tile(1.3 * now, (len(COLUMN_LEVELS), 1))
        ahead[: len(LEVELS)] = quantiles
        self._rows = BaseRows(now=now, ahead=ahead, peaks=np.stack([now, now]), floors=np.zeros((3, len(now))))
        self._model, self.made = object(), len(now)


def watched(broken_factor: float) -> tuple[ForecastWatch, int]:
    """Two and a half days of a noisy demand around 4 replicas with a sound forecast; from then on its quantiles are
    multiplied by `broken_factor`."""
    rng = np.random.default_rng(2)
    broken_from = 60 * HOUR
    now = 2.0 + 0.3 * rng.standard_normal(broken_from + 2 * HOUR)
    quantiles = np.array([0.0, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])[:, None] + np.full(len(now), 2.0)
    quantiles[:, broken_from:] *= broken_factor
    rows = WrittenRows(POLICY, RULES, FAMILY, MONDAY, STEP)
    rows.write(now, quantiles)
    watch = ForecastWatch(RULES, rows)
    for first in range(0, len(now), HOUR):
        watch.watch(first + HOUR - 1)
        watch.learn(first, first + HOUR)
    return watch, broken_from


def stances(watch: ForecastWatch, first: int, last: int) -> list[Stance]:
    return [watch.stance(at) for at in range(first, last)]


def test_a_sound_forecast_is_hardly_ever_doubted() -> None:
    watch, broken_from = watched(1.0)
    doubted = [stance is not Stance.TRUSTED for stance in stances(watch, 0, broken_from + 2 * HOUR)]
    assert np.mean(doubted) < 0.02
    assert Stance.SURPRISED not in stances(watch, 0, broken_from + 2 * HOUR)


def test_a_forecast_gone_low_is_played_cautiously_at_once_and_barred_within_a_quarter_of_an_hour() -> None:
    watch, broken_from = watched(0.1)
    assert watch.stance(broken_from - 1) is Stance.TRUSTED
    assert watch.stance(broken_from) is Stance.CAUTIOUS
    assert all(stance >= Stance.ODD for stance in stances(watch, broken_from + HOUR // 4, broken_from + 2 * HOUR))


def test_a_forecast_gone_high_is_barred_within_a_quarter_of_an_hour() -> None:
    watch, broken_from = watched(5.0)
    assert watch.stance(broken_from) is Stance.TRUSTED
    assert all(stance >= Stance.ODD for stance in stances(watch, broken_from + HOUR // 4, broken_from + 2 * HOUR))


def test_a_broken_forecast_does_not_become_usual() -> None:
    watch, broken_from = watched(0.1)
    assert watch.surprised(broken_from + 2 * HOUR - 1, 2 * HOUR)
    assert watch.stance(broken_from + DAY) is Stance.SURPRISED


def test_all_rows_at_once_give_the_same_stances_as_one_after_another() -> None:
    watch, _ = watched(0.1)
    slow, _ = watched(0.1)
    more = WrittenRows(POLICY, RULES, FAMILY, MONDAY, STEP)
    again = ForecastWatch(RULES, more)
    more.write(slow._rows._rows.now, slow._rows._rows.ahead[: len(LEVELS)])
    for first in range(0, more.made, HOUR):
        for at in range(first, first + HOUR):
            again.watch(at)
        again.learn(first, first + HOUR)
    assert stances(again, 0, more.made + DAY) == stances(watch, 0, more.made + DAY)


def seen(premium: Premium, plan: float, shadow: float, hours: int, shadow_bad: float = 5.0) -> str:
    for _ in range(hours):
        premium.see((plan, shadow), (5.0, shadow_bad), 1000.0, 1.0)
    return premium.verdict()


def test_a_plan_dearer_than_its_premium_is_barred_unless_the_shadow_broke_the_promise() -> None:
    assert "cost more" in seen(Premium(0.99, 0.05), 110.0, 100.0, 1)
    assert seen(Premium(0.99, 0.05), 110.0, 100.0, 1, shadow_bad=50.0) == ""


def test_what_was_saved_before_does_not_pay_for_a_forecast_that_costs_more_now() -> None:
    premium = Premium(0.99, 0.05)
    assert seen(premium, 50.0, 100.0, 168) == ""
    hours = next(hour for hour in range(1, 100) if seen(premium, 150.0, 100.0, 1))
    assert hours <= 0.05 * CAP_HOURS / 0.5 + 1
    assert "cost more" in seen(premium, 95.0, 100.0, 1), "barred until all of the excess is saved again"
    assert seen(premium, 95.0, 100.0, 80) == ""


def test_a_plan_that_serves_worse_is_barred() -> None:
    premium = Premium(0.99, 0.05)
    premium.see((90.0, 100.0), (40.0, 5.0), 1000.0, 1.0)
    assert "worse" in premium.verdict()


def test_while_the_forecast_is_doubted_a_turn_wants_what_the_one_that_asks_for_more_wants() -> None:
    rng = np.random.default_rng(8)
    columns = FAMILY.columns
    for _ in range(100):
        level = 2.5 * rng.random(1)  # the five that stand carry it: draining a queue is planned for more cautiously
        signals = Signals(
            arrivals=15 * level,
            now=level,
            ahead=4.0 * rng.random((4 * len(COLUMN_LEVELS), 1)),
            floors=4.0 * rng.random((3, 1)),
            peaks=4.0 * rng.random((2, 1)),
            keep=np.ones(1, dtype=np.bool_),
            pre_warm=np.zeros(1, dtype=np.bool_),
            lowest=np.zeros(1, dtype=np.int64),
            highest=np.full(1, 100),
            least=np.zeros(1, dtype=np.int64),
            held=np.zeros(1, dtype=np.bool_),
            panic=level,
        )
        pair = rng.integers(0, len(FAMILY.settings), 2)
        part, more, index = with_higher_of(signals, columns, *pair)
        assert ordered(part, more, index) == max(ordered(signals, columns, setting) for setting in pair)


def ordered(signals: Signals, columns: Columns, setting: int) -> int:
    """The first order of `setting` where five replicas stand."""
    orders = np.zeros((1, 1), dtype=np.int64)
    state = new_state(1, RULES, 5)
    replay(signals, columns, np.array([setting]), RULES, state, no_outcomes(1), orders)
    return int(orders[0, 0])
