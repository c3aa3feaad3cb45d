"""The last replica: what the safeguards guarantee whatever the law says, and what a good law buys."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster.arrivals.law import LAST, N_GAPS, ArrivalLaw
from forecaster.arrivals.learning import observe, watch
from forecaster.arrivals.start import law_arrays, law_from_arrays, new_law
from forecaster.series import DemandSeries, DemandUnit
from scaler.core import idle
from tests.builders import NOON, SECOND, a_policy, some_replicas

TURN = 15.0
STARTUP = 150.0
AT = NOON.timestamp()


def terms(price: float = 600.0, trust: float = 0.5, min_idle: float = 0.0, pre_warm: bool = True) -> np.ndarray:
    return np.array([STARTUP, price, trust, min_idle, float(pre_warm), TURN])


def a_lying_law(seed: int) -> ArrivalLaw:
    """Hazards that have nothing to do with anything."""
    rng = np.random.default_rng(seed)
    law = new_law(STARTUP)
    law.events[:] = rng.exponential(10.0 ** rng.uniform(-3, 3), law.events.shape)
    law.exposure_seconds[:] = rng.exponential(10.0 ** rng.uniform(0, 6), law.exposure_seconds.shape)
    law.season[0] = rng.exponential(5.0, 48)
    law.season[1] = rng.exponential(1e4, 48)
    observe(law, AT, 1.0)
    return law


def hold_seconds(law: ArrivalLaw, conditions: np.ndarray, longest: float = 1e5) -> float:
    """How long after the last request the replica is let go, if nothing comes."""
    ledger = idle.new_ledger()
    elapsed = TURN
    while elapsed < longest:
        if not idle.advise(law, ledger, conditions, AT + elapsed, True)[0]:
            return elapsed
        elapsed += TURN
    return elapsed


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    price=st.floats(30.0, 3000.0),
    trust=st.sampled_from([0.2, 0.3, 0.5, 1.0]),
    gap=st.floats(1.0, 40_000.0),
)
def test_no_law_makes_a_gap_cost_more_than_the_clamp_allows(seed: int, price: float, trust: float, gap: float) -> None:
    law = a_lying_law(seed)
    conditions = terms(price, trust)
    cold_cost = idle.price_of_cold(law, conditions)
    hold = hold_seconds(law, conditions)
    cost = gap if gap < hold else hold + cold_cost
    assert cost <= (1 + 1 / trust) * min(gap, cold_cost) + TURN + 1e-6


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), trust=st.sampled_from([0.3, 1.0]))
def test_the_ledger_is_never_overdrawn(seed: int, trust: float) -> None:
    """Over any requests and any law: what pre-warming has lost is never more than one cold start, at any moment."""
    rng = np.random.default_rng(seed)
    law, ledger, conditions = a_lying_law(seed), idle.new_ledger(), terms(900.0, trust)
    stands = False
    for i in range(1, 1500):
        now = AT + i * TURN
        came = float(rng.random() < 0.01)
        keep, order = idle.turn(law, ledger, conditions, now, came, stands)
        stands = keep if stands else order or came > 0
        if not np.isnan(ledger[idle.BALANCE]):
            owed = 0.0 if np.isnan(ledger[idle.ORDERED_AT]) else now - ledger[idle.ORDERED_AT]
            assert ledger[idle.BALANCE] - owed >= -1e-6
            assert ledger[idle.BALANCE] <= idle.LEDGER_CAP * 900.0 * 1500


def test_a_hit_earns_the_cold_start_less_the_wait_and_a_miss_costs_the_time() -> None:
    law = new_law(STARTUP)
    observe(law, AT, 1.0)
    conditions = terms(600.0)
    cold_cost = idle.price_of_cold(law, conditions)
    hit = np.array([1000.0, AT + 3000.0, 1.0])
    idle.settle_arrival(law, hit, conditions, AT + 3200.0, 1.0)
    assert hit[idle.BALANCE] == pytest.approx(1000.0 + cold_cost - 200.0)
    late = np.array([1000.0, AT + 9000.0, 1.0])
    idle.settle_arrival(law, late, conditions, AT + 9100.0, 1.0)
    assert late[idle.BALANCE] == pytest.approx(900.0)
    missed = np.array([1000.0, AT, 1.0])
    idle.close_pre_warm(missed, AT + 400.0)
    assert missed[idle.BALANCE] == pytest.approx(600.0)
    never_carried_out = np.array([1000.0, AT, 0.0])
    idle.close_pre_warm(never_carried_out, AT + 400.0)
    assert never_carried_out[idle.BALANCE] == 1000.0


def test_luck_is_not_hoarded() -> None:
    law = new_law(STARTUP)
    observe(law, AT, 1.0)
    conditions = terms(600.0)
    ledger = np.array([4400.0, AT + 3000.0, 1.0])
    cold_cost = idle.price_of_cold(law, conditions)
    idle.settle_arrival(law, ledger, conditions, AT + 3200.0, 1.0)
    assert ledger[idle.BALANCE] == pytest.approx(idle.LEDGER_CAP * cold_cost)


def hourly(n: int) -> ArrivalLaw:
    law = new_law(STARTUP)
    for k in range(n):
        observe(law, AT + (k - n + 1) * 3600.0, 1.0)
    return law


def test_an_hourly_timer_is_let_go_early_and_ordered_again_in_time() -> None:
    law, ledger, conditions = hourly(15), idle.new_ledger(), terms(600.0)
    ordered = [
        elapsed
        for elapsed in np.arange(600.0, 3600.0, TURN)
        if idle.advise(law, idle.new_ledger(), conditions, AT + elapsed, False)[1]
    ]
    assert hold_seconds(law, conditions) <= 330.0
    assert 3600.0 - 600.0 < min(ordered) <= 3600.0 - STARTUP
    assert not idle.advise(law, ledger, terms(600.0, pre_warm=False), AT + min(ordered), False)[1]


def test_nothing_is_pre_warmed_before_a_first_request() -> None:
    law = new_law(STARTUP)
    watch(law, AT)
    asked = [idle.advise(law, idle.new_ledger(), terms(1e5), AT + s, False)[1] for s in range(0, 7200, 15)]
    assert not any(asked)


def test_steady_traffic_keeps_the_replica_and_rare_traffic_lets_it_go() -> None:
    steady, rare = new_law(STARTUP), new_law(STARTUP)
    for k in range(200):
        observe(steady, AT + k * 90.0, 1.0)
    for k in range(20):
        observe(rare, AT + k * 50_000.0, 1.0)
    for law, expected in ((steady, True), (rare, False)):
        now = float(law.marks[LAST]) + 405.0
        assert idle.advise(law, idle.new_ledger(), terms(600.0), now, True)[0] is expected


def demand(counts: list[float], start: datetime = NOON) -> DemandSeries:
    values = np.array(counts) / TURN
    return DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=timedelta(seconds=TURN), values=values)


def test_the_first_request_after_a_pause_is_never_argued_with() -> None:
    state = idle.new_state(timedelta(seconds=STARTUP))
    state, advice = idle.advance(state, demand([0, 0, 1]), terms(1.0), some_replicas(0), NOON + 45 * SECOND)
    assert advice.keep
    assert advice.last_arrival == NOON + 30 * SECOND
    assert "requests are coming in" in advice.reason


def test_min_idle_holds_against_a_law_that_expects_nothing() -> None:
    law = new_law(STARTUP)
    for k in range(20):
        observe(law, AT + k * 50_000.0, 1.0)
    now = float(law.marks[LAST])
    ledger = idle.new_ledger()
    assert idle.advise(law, ledger, terms(60.0, min_idle=900.0), now + 885.0, True)[0]
    assert not idle.advise(law, ledger, terms(60.0, min_idle=900.0), now + 900.0, True)[0]


@pytest.mark.parametrize(
    ("what", "counts", "replicas"),
    [
        ("demand was not seen", [1, 0, float("nan")], some_replicas(1)),
        ("the cluster did not answer", [1, 0, 0], None),
    ],
)
def test_what_is_not_known_keeps_the_replica(what: str, counts: list[float], replicas: object) -> None:
    state = idle.new_state(timedelta(seconds=STARTUP))
    _, advice = idle.advance(state, demand(counts), terms(1.0), replicas, NOON + 45 * SECOND)  # type: ignore[arg-type]
    assert advice.keep
    assert not advice.pre_warm


def test_bins_are_read_once_and_the_earlier_state_stays_as_it_was() -> None:
    first = idle.learn(idle.new_state(timedelta(seconds=STARTUP)), demand([1, 0, 0, 1]))
    kept = law_arrays(first.law)
    again = idle.learn(first, demand([1, 0, 0, 1]))
    longer = idle.learn(first, demand([1, 0, 0, 1, 0, 1]))
    assert again is first
    assert longer.law.marks[N_GAPS] == 2.0
    assert all(np.array_equal(kept[name], part, equal_nan=True) for name, part in law_arrays(first.law).items())


def test_a_restart_from_the_stored_arrays_goes_on_where_it_stopped() -> None:
    rng = np.random.default_rng(5)
    counts = (rng.random(400) < 0.03).astype(float)
    state = idle.learn(idle.new_state(timedelta(seconds=STARTUP)), demand(list(counts[:300])))
    stored = replace(state, law=law_from_arrays(law_arrays(state.law)), ledger=np.array(state.ledger.tolist()))
    for k in range(301, 400):
        now = NOON + k * TURN * SECOND
        recent = demand(list(counts[k - 8 : k]), NOON + (k - 8) * TURN * SECOND)
        state, advice = idle.advance(state, recent, terms(), some_replicas(1), now)
        stored, same = idle.advance(stored, recent, terms(), some_replicas(1), now)
        assert advice == same


def test_the_price_is_read_off_the_policy() -> None:
    policy = a_policy(
        {
            "target": {"costPerReplicaHour": 2.5},
            "scaleToZero": {"enabled": True, "coldRequestCost": 0.05, "minIdle": "5m", "trust": 0.3, "preWarm": False},
        }
    )
    read = idle.terms_of(policy, timedelta(seconds=150), timedelta(seconds=15))
    assert read.tolist() == [150.0, pytest.approx(72.0), 0.3, 300.0, 0.0, 15.0]


def test_the_reason_names_the_numbers_that_decided() -> None:
    law, ledger = hourly(15), idle.new_ledger()
    conditions = terms(600.0)
    cold_cost = idle.price_of_cold(law, conditions)
    assert "held at least" in idle.explain(law, ledger, conditions, AT + 60.0, True)
    assert f"not held beyond {2 * cold_cost:.0f} s" in idle.explain(law, ledger, conditions, AT + 2 * cold_cost, True)
    assert "with probability" in idle.explain(law, ledger, conditions, AT + 500.0, True)


@pytest.mark.parametrize(
    ("what", "counts", "expected"),
    [
        ("whole counts stay", [0, 3, 1, 0, 2], [0, 3, 1, 0, 2]),
        ("a smeared request counts once", [0, 0.25, 0.25, 0.25, 0.25, 0], [0, 1, 0, 0, 0, 0]),
        ("an extrapolated rate is one request still", [0.33, 0.33, 0.33, 0.33, 0], [1, 0, 0, 0, 0]),
        ("two requests in a smeared minute", [0.5, 0.5, 0.5, 0.5, 0], [1, 0, 1, 0, 0]),
        ("not seen stays not seen", [1, float("nan"), 0.25, 0.25], [1, float("nan"), 1, 0]),
    ],
)
def test_requests_are_read_off_rates(what: str, counts: list[float], expected: list[float]) -> None:
    assert np.array_equal(idle.requests_per_step(demand(counts)), np.array(expected, dtype=float), equal_nan=True)
