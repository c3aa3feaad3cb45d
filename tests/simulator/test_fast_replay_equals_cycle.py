"""The fast replay is the product: its orders equal those of the whole cycle in the simulated world."""

from datetime import timedelta
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster.series import DemandSeries
from scaler.core.bounds import bounds_of
from scaler.cycle import Cycle, look_back, prior_profile
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile, ReplicaState
from scaler.domain.setting import Choice, Setting, Source
from scaler.domain.snapshot import ControlSignals, IdleAdvice
from scaler.ports import Advice, Reading
from scaler.simulator.arrivals import StepDemand, StepGrid
from scaler.simulator.compiled import Columns, Signals, new_state, no_outcomes, replay
from scaler.simulator.lane import Lane, outcome_of
from scaler.simulator.selfreplay.fast import panic_demand, rules_of, triggers_of
from scaler.simulator.startups import StartupModel
from scaler.simulator.world import FixedPolicies, MemoryLog, SimulatedClock, SimulatedSource, SimulatedTarget, World
from tests.builders import a_policy
from tests.simulator.makers import MONDAY

STEP = timedelta(seconds=15)
N = 60


class WrittenAdvisor:
    """Gives each turn what the arrays say for it."""

    def __init__(self, signals: Signals, setting: Setting) -> None:
        self.signals, self.setting, self.turn = signals, setting, 0

    def refit(self, policy: ScalingPolicy, history: DemandSeries, profile: CapacityProfile, now: Any) -> None:
        raise AssertionError("nothing is fitted here")

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: Any) -> Advice:
        t, self.turn = self.turn, self.turn + 1
        s = self.signals
        signals = None
        if not np.isnan(s.now[t]):
            signals = ControlSignals(
                read_at=now,
                demand_now=s.now[t],
                demand_ahead=s.ahead[0, t],
                dip_floor=s.floors[0, t],
                peak_soon=s.peaks[0, t],
            )
        idle = IdleAdvice(last_arrival=None, keep=bool(s.keep[t]), pre_warm=bool(s.pre_warm[t]), reason="as written")
        choice = Choice(setting=self.setting, chosen_at=now)
        return Advice(signals=signals, choice=choice, idle=idle, profile=prior_profile(policy))


limits = st.fixed_dictionaries(
    {
        "type": st.just("Fraction"),
        "value": st.sampled_from([0.1, 0.5, 1.0]),
        "period": st.sampled_from(["15s", "1m", "100s"]),
    }
) | st.fixed_dictionaries(
    {
        "type": st.just("Replicas"),
        "value": st.sampled_from([1, 4]),
        "period": st.sampled_from(["15s", "45s"]),
    }
)
windows = st.sampled_from(["0s", "15s", "1m", "100s"])
thresholds = st.fixed_dictionaries(
    {
        "signal": st.sampled_from(["queue_depth", "kv_cache_usage", "in_flight"]),
        "above": st.sampled_from([0.0, 0.5, 0.8, 5.0]),
    }
)
triggers = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b"]),
        "when": st.fixed_dictionaries({"growth": st.sampled_from([1.2, 3.0]), "within": st.sampled_from(["1m", "3m"])}),
        "then": st.fixed_dictionaries(
            {"holdScaleInFor": st.sampled_from(["0s", "40s", "2m"]), "atLeastReplicas": st.integers(0, 4)}
        ),
    }
)
overrides = st.fixed_dictionaries(
    {
        "name": st.just("by-hand"),
        "cron": st.sampled_from(["*/5 * * * *", "*/7 * * * *"]),
        "duration": st.sampled_from(["20s", "2m"]),
        "timezone": st.just("Europe/Berlin"),
    },
    optional={"min": st.integers(0, 3)},
)


@st.composite
def policies(draw: st.DrawFn) -> ScalingPolicy:
    def rules(window: str) -> dict[str, Any]:
        return {
            "stabilizationWindow": window,
            "policies": draw(st.lists(limits, min_size=1, max_size=2)),
            "select": draw(st.sampled_from(["Max", "Max", "Min", "Disabled"])),
        }

    lowest = draw(st.integers(0, 2))
    return a_policy(
        {
            "demand": {"unit": draw(st.sampled_from(["requests", "tokens", "concurrency"]))},
            "slo": {"queueWait": draw(st.sampled_from(["0s", "10s", "15s", "20s", "40s"]))},
            "capacity": {"perReplica": draw(st.sampled_from([0.3, 1.0, 2.5]))},
            "startup": {"expected": draw(st.sampled_from(["10s", "15s", "22300ms", "40s", "150s", "155s"]))},
            "replicas": {"min": lowest, "max": lowest + draw(st.integers(1, 12))},
            "scaleToZero": {"enabled": draw(st.booleans()), "minIdle": "0s"},
            "reactive": {
                "panic": {
                    "factor": draw(st.sampled_from([1.2, 2.0])),
                    "window": draw(st.sampled_from(["1m", "1m", "3m"])),
                },
                "thresholds": draw(st.lists(thresholds, max_size=3)),
            },
            "triggers": draw(st.lists(triggers, max_size=2, unique_by=lambda one: one["name"])),
            "overrides": [one | {"max": draw(st.integers(3, 9))} for one in draw(st.lists(overrides, max_size=1))],
            "safety": {"missingMetrics": draw(st.sampled_from(["Hold", "Floor"]))},
            "behavior": {
                "scaleUp": rules(draw(windows)),
                "scaleDown": rules(draw(st.sampled_from(["auto", "0s", "1m", "100s"]))),
            },
        }
    )


def some_signals(seed: int, policy: ScalingPolicy, unseen: float) -> Signals:
    rng = np.random.default_rng(seed)
    level = rng.choice([0.0, 0.3, 2.0, 8.0], N // 6).repeat(6) * policy.spec.capacity.per_replica
    now = level * rng.choice([0.0, 0.5, 1.0, 1.3], N)
    now[rng.random(N) < unseen] = np.nan
    work = rng.poisson(level * 15).astype(float)
    lowest, highest = bounds_of(policy, [MONDAY + k * STEP for k in range(N)])
    unit_seconds = 15.0  # work of a step to a rate, or to a level
    least, held = triggers_of(policy, work / unit_seconds, 0, N, STEP)
    return Signals(
        arrivals=work,
        now=now,
        ahead=np.nan_to_num(now * rng.uniform(0.5, 2.0, N))[None, :],
        floors=(level * rng.choice([0.0, 1.0], N))[None, :],
        peaks=(level * rng.uniform(0.0, 1.5, N))[None, :],
        keep=rng.random(N) < 0.5,
        pre_warm=rng.random(N) < 0.1,
        lowest=lowest,
        highest=highest,
        least=least,
        held=held,
        panic=panic_demand(policy, now, work / unit_seconds, 0, N, STEP),
    )


def orders_of_cycle(policy: ScalingPolicy, signals: Signals, setting: Setting) -> tuple[list[int], Lane]:
    startup = StartupModel(typical=policy.spec.startup.expected)
    lane = Lane(
        signals.arrivals,
        step_seconds=15.0,
        capacity_per_second=policy.spec.capacity.per_replica,
        startup=startup,
        rng=np.random.default_rng(0),
        ready=1,
    )
    clock = SimulatedClock(time=MONDAY)
    grid = StepGrid(start=MONDAY, step=STEP, n_steps=N)
    demand = StepDemand(grid=grid, work=signals.arrivals, seen=np.ones(N, dtype=bool))
    world = World(clock=clock, grid=grid, first=0, demand={policy.endpoint: demand}, lanes={policy.endpoint: lane})
    cycle = Cycle(
        clock=clock,
        policies=FixedPolicies(policies=(policy,)),
        source=SimulatedSource(world, {policy.endpoint: policy.spec.demand.unit}),
        target=SimulatedTarget(world),
        advisor=WrittenAdvisor(signals, setting),
        log=MemoryLog(look_back=look_back(policy)),
    )
    orders = []
    for _ in range(N):
        orders.append(cycle.turn().records[0].decision.final)
        world.advance()
    return orders, lane


def orders_of_fast_replay(policy: ScalingPolicy, signals: Signals) -> list[int]:
    rules, columns = rules_of(policy, prior_profile(policy), STEP), Columns(*np.zeros((3, 1), dtype=int), np.ones(1))
    orders, state = np.zeros((1, N), dtype=np.int64), new_state(1, rules, ready=1)
    replay(signals, columns, np.zeros(1, dtype=int), rules, state, no_outcomes(1), orders)
    return orders[0].tolist()


def test_both_finish_what_is_in_flight_before_the_last_replica_goes() -> None:
    """One step's work for two steps and a bit, then silence: it is let go once a step has passed without any."""
    policy = a_policy({"scaleToZero": {"enabled": True, "minIdle": "0s"}})
    idle, nothing, never = np.zeros(N), np.zeros((1, N)), np.zeros(N, dtype=bool)
    signals = some_signals(0, policy, 0.0)._replace(
        arrivals=np.array([40.0, *idle[1:]]),
        now=idle,
        ahead=nothing,
        floors=nothing,
        peaks=nothing,
        keep=np.array([True, *never[1:]]),
        pre_warm=never,
        panic=idle,
    )
    setting = Setting(source=Source.RESIDUAL, level=0.9)
    orders = orders_of_fast_replay(policy, signals)
    expected, lane = orders_of_cycle(policy, signals, setting)
    assert orders == expected
    ended = int(np.argmax(lane.rows[:, 3] == 0.0))
    assert expected[: ended + 3] == [*expected[: ended + 1], 1, 0] and 0 not in expected[: ended + 1]


@pytest.mark.parametrize(
    "thresholds",
    [
        [{"signal": "kv_cache_usage", "above": 0.0}, {"signal": "in_flight", "above": 0.5}],
        [{"signal": "kv_cache_usage", "above": 0.1}, {"signal": "in_flight", "above": 0.0}],
        [{"signal": "queue_depth", "above": 0.0}, {"signal": "queue_depth", "above": 0.5}],
    ],
)
def test_both_take_the_most_that_thresholds_on_one_measure_ask_for(thresholds: list[dict[str, Any]]) -> None:
    policy = a_policy({"reactive": {"thresholds": thresholds}, "replicas": {"max": 40}})
    signals = some_signals(0, policy, 0.0)
    setting = Setting(source=Source.RESIDUAL, level=0.9)
    assert orders_of_fast_replay(policy, signals) == orders_of_cycle(policy, signals, setting)[0]


def test_of_tokens_that_wait_neither_takes_the_number_for_that_of_requests() -> None:
    def orders(*thresholds: dict[str, Any]) -> tuple[list[int], list[int]]:
        reactive = {"thresholds": list(thresholds)}
        policy = a_policy({"demand": {"unit": "tokens"}, "reactive": reactive, "replicas": {"max": 40}})
        signals = some_signals(0, policy, 0.0)
        setting = Setting(source=Source.RESIDUAL, level=0.9)
        return orders_of_fast_replay(policy, signals), orders_of_cycle(policy, signals, setting)[0]

    assert orders({"signal": "queue_depth", "above": 5.0}) == orders()


@pytest.mark.parametrize("missing", ["Hold", "Floor"])
def test_both_keep_the_floor_while_demand_is_not_known(missing: str) -> None:
    policy = a_policy({"scaleToZero": {"enabled": True, "minIdle": "0s"}, "safety": {"missingMetrics": missing}})
    unseen = np.arange(N) >= N // 2
    idle, nothing, never = np.where(unseen, np.nan, 0.0), np.zeros((1, N)), np.zeros(N, dtype=bool)
    signals = some_signals(0, policy, 0.0)._replace(
        arrivals=np.zeros(N),
        now=idle,
        ahead=nothing,
        floors=nothing,
        peaks=nothing,
        keep=never,
        pre_warm=never,
        panic=idle,
    )
    orders = orders_of_fast_replay(policy, signals)
    assert orders == orders_of_cycle(policy, signals, Setting(source=Source.RESIDUAL, level=0.9))[0]
    assert set(orders[: N // 2]) == {0} and set(orders[N // 2 :]) == {1 if missing == "Floor" else 0}


@settings(max_examples=100, deadline=None)
@given(
    policy=policies(),
    seed=st.integers(0, 2**32 - 1),
    unseen=st.sampled_from([0.0, 0.0, 0.1]),
    utilization=st.sampled_from([0.85, 1.0]),
)
def test_whole_cycle_and_fast_replay_give_the_same_orders(
    policy: ScalingPolicy, seed: int, unseen: float, utilization: float
) -> None:
    signals = some_signals(seed, policy, unseen)
    setting = Setting(source=Source.RESIDUAL, level=0.9, utilization_fraction=utilization)
    expected, lane = orders_of_cycle(policy, signals, setting)
    rules = rules_of(policy, prior_profile(policy), STEP)
    columns = Columns(*(np.zeros(1, dtype=np.int64) for _ in range(3)), np.array([utilization]))
    outcomes, orders = no_outcomes(1), np.zeros((1, N), dtype=np.int64)
    state = new_state(1, rules, ready=1)
    replay(signals, columns, np.zeros(1, dtype=np.int64), rules, state, outcomes, orders)
    assert orders[0].tolist() == expected
    outcome = outcome_of(lane, is_rate=True)
    assert outcomes.starts[0] == outcome.starts
    assert outcomes.cost[0] * 15 / 3600 == pytest.approx(outcome.replica_hours)
    settled = N - ceil(rules.wait_steps + 1e-9) - 1  # the last steps' waits are known only after the end
    late = outcome.wait_seconds[:settled] > policy.spec.slo.queue_wait.total_seconds() + 1e-6
    assert outcomes.bad[0] >= signals.arrivals[:settled][late].sum() - 1e-6
    assert outcomes.bad[0] <= signals.arrivals[:settled][late].sum() + signals.arrivals[settled:].sum() + 1e-6
