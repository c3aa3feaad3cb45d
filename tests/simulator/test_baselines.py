"""Worked examples of each baseline, from its public description."""

import itertools

import numpy as np
import pytest

from scaler.simulator.baselines.ahpa import Ahpa
from scaler.simulator.baselines.aibrix import Aibrix, apa
from scaler.simulator.baselines.aws import Aws
from scaler.simulator.baselines.base import play
from scaler.simulator.baselines.dynamo import Dynamo
from scaler.simulator.baselines.gcp import Gcp
from scaler.simulator.baselines.histogram import HybridHistogram
from scaler.simulator.baselines.hpa import Hpa, average_value
from scaler.simulator.baselines.keda import Keda
from scaler.simulator.baselines.keepalive import KeepAlive
from scaler.simulator.baselines.knative import Knative
from scaler.simulator.baselines.llmd import saturation_step
from scaler.simulator.baselines.predictors import arima, constant, kalman
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.baselines.static import Static
from scaler.simulator.baselines.window import HighestLately
from scaler.simulator.lane import outcome_of
from tests.simulator.makers import STEP, a_lane, a_site, a_situation

DAY = 5760


class Watch:
    """Feeds a strategy loads (replicas' worth), step by step, obeying it as a cluster without start-up time."""

    def __init__(self, strategy, site, ready):
        self.strategy, self.now = strategy, a_situation(site, [], ready=ready)

    def sees(self, load):
        self.now.push(load * self.now.site.per_step, load)
        self.now.step += 1
        self.now.ready = self.strategy.desired(self.now)
        return self.now.ready


@pytest.mark.parametrize(
    ("label", "total", "target", "current", "wanted"),
    [
        ("ratio 1.5", 30.0, 10.0, 2, 3),
        ("within a tenth", 21.0, 10.0, 2, 2),
        ("just beyond a tenth", 22.1, 10.0, 2, 3),
        ("below", 11.0, 10.0, 4, 2),
    ],
)
def test_hpa_average_value(label, total, target, current, wanted):
    assert average_value(total, target, current) == wanted


def test_hpa_doubles_or_adds_four_per_period_at_most():
    site = a_site()
    assert Hpa(site).desired(a_situation(site, [50.0] * 8, ready=2)) == 6
    assert Hpa(site).desired(a_situation(site, [50.0] * 8, ready=10)) == 20


def test_hpa_scales_in_only_after_five_quiet_minutes():
    watch = Watch(Hpa(a_site()), a_site(), ready=8)
    for _ in range(10):
        watch.sees(8.0)
    counts = [watch.sees(2.0) for _ in range(30)]
    # The metric, a minute's mean one scrape late, falls after one step and is down after five; then the window.
    assert counts[:20] == [8] * 20
    assert counts[24:] == [2] * 6


def test_hpa_sees_a_jump_only_after_the_scrape():
    watch = Watch(Hpa(a_site()), a_site(), ready=4)
    for _ in range(10):
        watch.sees(4.0)
    assert [watch.sees(8.0) for _ in range(3)] == [4, 5, 6]


def test_hpa_holds_when_metrics_are_missing():
    site = a_site()
    now = a_situation(site, [50.0] * 8, ready=5)
    now.blind = True
    assert Hpa(site).desired(now) == 5


def test_keda_wakes_at_its_poll_and_sleeps_after_the_cooldown():
    site = a_site()
    watch = Watch(Keda(site), site, ready=0)
    assert [watch.sees(1.0) for _ in range(3)][-1] == 1
    for _ in range(8):
        watch.sees(1.0)
    counts = [watch.sees(0.0) for _ in range(40)]
    asleep = counts.index(0)
    # 300 s after the last active poll; the mean over a minute, one scrape late, stays above zero for five steps more.
    assert 20 <= asleep <= 28
    assert set(counts[asleep:]) == {0}


def test_keda_takes_an_empty_answer_for_zero():
    site = a_site()
    strategy, now = Keda(site), a_situation(site, [5.0] * 8, ready=5)
    now.blind = True
    for now.step in range(8, 60):
        if strategy.desired(now) == 0:
            break
    assert now.step * STEP >= 300


def test_kedas_hpa_reads_the_same_zero_and_an_hpa_alone_no_answer():
    site = a_site(lowest=1)
    for strategy, expected in ((Keda(site), 1), (Hpa(site), 5)):
        now = a_situation(site, [5.0] * 8, ready=5)
        now.blind = True
        for now.step in range(8, 40):
            wanted = strategy.desired(now)
        assert wanted == expected


def test_knative_panics_at_twice_its_capacity_and_never_scales_in_meanwhile():
    site = a_site()
    watch = Watch(Knative(site), site, ready=2)
    for _ in range(8):
        watch.sees(1.4)
    assert watch.sees(2.8) == 4
    assert [watch.sees(0.7) for _ in range(4)] == [4] * 4
    assert [watch.sees(0.7) for _ in range(4)][-1] <= 2


def test_knative_halves_at_most_and_goes_to_zero_after_window_and_grace():
    site = a_site()
    watch = Watch(Knative(site), site, ready=8)
    for _ in range(4):
        watch.sees(5.6)
    counts = [watch.sees(0.0) for _ in range(12)]
    assert all(after >= before // 2 for before, after in itertools.pairwise(counts) if before > 1)
    assert counts[-1] == 0
    assert counts[4] > 0


def test_static_is_the_peak_minute_over_what_is_planned_for():
    history = np.zeros(DAY)
    history[100:104] = 150.0
    assert Static(a_site(history=history, capacity_per_second=2.0, utilization=0.8)).desired(None) == 7


def test_keep_alive_counts_from_the_last_arrival():
    site = a_site()
    watch = Watch(KeepAlive(site), site, ready=0)
    assert watch.sees(0.1) == 1
    kept = [watch.sees(0.0) for _ in range(60)]
    # 600 s after the start of the step of the arrival; the first of these steps begins 30 s after it.
    assert kept.index(0) == 38


def test_hybrid_histogram_unloads_at_once_and_is_back_before_the_usual_gap():
    history = np.zeros(8 * DAY)
    history[::240] = 1.0  # every hour
    site = a_site(history=history)
    watch = Watch(HybridHistogram(site), site, ready=0)
    watch.sees(1.0)
    counts = [watch.sees(0.0) for _ in range(239)]
    first = counts.index(1, 5)
    # Head: bin 60 less a tenth, so 54 min after the arrival.
    assert counts[4] == 0
    assert first * STEP == pytest.approx(54 * 60, abs=30)


def test_hybrid_histogram_without_a_pattern_keeps_for_its_range():
    site = a_site(history=np.zeros(DAY))
    watch = Watch(HybridHistogram(site), site, ready=0)
    watch.sees(1.0)
    counts = [watch.sees(0.0) for _ in range(1000)]
    assert counts.index(0) * STEP == pytest.approx(4 * 3600, abs=30)


def test_aws_stands_five_minutes_before_the_hour_and_never_scales_in_for_it():
    history = np.zeros(3 * DAY)
    for day in range(3):
        history[day * DAY + 240 : day * DAY + 480] = 8 * STEP  # 8 replicas' worth from 1:00 to 2:00
    site = a_site(history=history)
    strategy = Aws(site)
    now = a_situation(site, [], ready=1)
    for work in history:
        now.push(work, work / site.per_step)
    now.step = 0
    strategy.desired(now)
    wanted = {}
    for step in range(200, 260):
        now.step = step
        wanted[step] = strategy.desired(now)
    assert wanted[219] == 1
    assert wanted[220] == 8


def test_gcp_takes_the_forecast_one_initialization_period_ahead():
    history = np.zeros(4 * DAY)
    for day in range(4):
        history[day * DAY + 240 : day * DAY + 480] = 8 * STEP
    site = a_site(history=history)
    strategy, now = Gcp(site), a_situation(site, [], ready=1)
    for work in history:
        now.push(work, work / site.per_step)
    counts = []
    for step in range(240):
        now.step = step
        counts.append(strategy.desired(now))
        now.push(0.0, 0.0)
    # Five minutes' means that begin 150 s ahead: the first of 1:00 shows at 0:52:45, all of it at 0:57:30.
    assert counts[200] == 1
    assert counts[230] == 8
    assert counts[215] < 8


def test_ahpa_takes_the_season_or_the_present_whichever_is_larger():
    history = np.full(2 * DAY, 3 * STEP)
    site = a_site(history=history)
    strategy, now = Ahpa(site), a_situation(site, [], ready=3)
    for work in history:
        now.push(work, work / site.per_step)
    assert strategy.desired(now) == 3
    for _ in range(8):
        now.push(6 * STEP, 6.0)
    assert strategy.desired(now) == 6


@pytest.mark.parametrize(
    ("kv", "queue", "replicas", "move"),
    [(0.75, 0, 4, 1), (0.4, 0, 4, -1), (0.65, 0, 2, 0), (0.1, 6, 4, 1), (0.1, 0, 1, 0)],
)
def test_llmd_moves_by_one_on_spare_capacity(kv, queue, replicas, move):
    assert saturation_step(kv, queue, replicas) == move


@pytest.mark.parametrize(("current", "use", "wanted"), [(4, 30.0, 8), (4, 5.0, 2), (4, 10.5, 4), (8, 1.0, 4)])
def test_aibrix_moves_between_half_and_twice(current, use, wanted):
    assert apa(current, use, 10.0) == wanted


def test_aibrix_without_its_guard_doubles_on_replicas_that_still_start():
    site = a_site()
    cascade, guarded = [], []
    for counts, strategy in ((cascade, Aibrix(site, guarded=False)), (guarded, Aibrix(site))):
        total = 2
        for _ in range(3):
            total = strategy.desired(a_situation(site, [8.0] * 8, ready=2, starting=total - 2))
            counts.append(total)
    assert (cascade, guarded) == ([4, 8, 16], [4, 4, 4])


def test_dynamo_plans_one_interval_ahead_and_moves_by_one_above_it():
    site = a_site(history=np.full(48, 4 * STEP))
    assert Dynamo(site, predict=constant).desired(a_situation(site, [4.0], ready=4)) == 4
    assert Dynamo(site, predict=constant).desired(a_situation(site, [4.0], ready=4, queue=100.0)) == 5
    assert Dynamo(site, predict=constant).desired(a_situation(site, [4.0], ready=4, starting=1, queue=100.0)) == 5
    assert Dynamo(site, predict=constant).desired(a_situation(site, [1.0], ready=8)) == 7


def test_predictors_name_the_next_interval():
    line = [float(value) for value in range(10, 60, 2)]
    assert constant(line) == 58.0
    assert arima(line) == pytest.approx(60.0, abs=0.5)
    assert kalman(line) == pytest.approx(60.0, abs=2.0)
    assert arima([5.0, 7.0]) == 7.0
    assert kalman([5.0, 7.0]) == 7.0


def test_the_highest_of_a_window():
    window = HighestLately(3)
    assert [window.of(step, count) for step, count in enumerate([5, 2, 2, 2, 4, 1])] == [5, 5, 5, 2, 4, 4]


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_baseline_runs_on_bursts_idleness_and_a_blind_spell_within_bounds(name):
    rng = np.random.Generator(np.random.PCG64(4))
    work = rng.poisson(np.repeat([0.0, 30.0, 120.0, 0.0, 60.0], 240)).astype(np.float64)
    site = a_site(history=work, highest=6, lowest=0)
    for knob in (None, BASELINES[name].knob_values[0], BASELINES[name].knob_values[-1]):
        lane = a_lane(work, ready=2, startup=150.0)
        play(BASELINES[name].make(site, knob), lane, site, lambda step: 300 <= step < 340)
        out = outcome_of(lane, is_rate=True)
        assert out.desired.min() >= 0
        assert out.desired.max() <= 6


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"hybrid-histogram", "keepalive", "static"}))
def test_a_more_careful_knob_costs_more(name):
    rng = np.random.Generator(np.random.PCG64(4))
    work = rng.poisson(60.0 + 50.0 * np.sin(np.arange(2000) / 200.0)).astype(np.float64)
    site = a_site(history=work)
    hours = []
    for knob in (BASELINES[name].knob_values[0], BASELINES[name].knob_values[-1]):
        lane = a_lane(work, ready=4, startup=150.0)
        play(BASELINES[name].make(site, knob), lane, site)
        hours.append(outcome_of(lane, is_rate=True).replica_hours)
    assert hours[0] < hours[1]
