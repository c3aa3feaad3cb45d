from datetime import timedelta
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.simulator.compiled_oracle import Terms, optimistic_value
from scaler.simulator.lane import outcome_of, waits
from scaler.simulator.oracle import Task, _fast_forward, clairvoyant, lower_bound_hours
from scaler.simulator.startups import StartupModel
from tests.simulator.makers import a_lane, played

ROUNDING = 1e-6


def a_task(work, objective=0.9, first=1, highest=2, startup=15.0):
    return Task(
        work=np.array(work, dtype=np.float64),
        step_seconds=15.0,
        capacity_per_second=1.0,
        startup=StartupModel(typical=timedelta(seconds=startup)),
        queue_wait_seconds=10.0,
        objective=objective,
        lowest=0,
        highest=highest,
        first=first,
    )


def cheapest_of_all(task):
    """Replica hours of the cheapest order sequence that reaches the objective, by trying all of them."""
    best = None
    for orders in product(range(task.highest + 1), repeat=len(task.work)):
        lane = a_lane(task.work, ready=task.first, startup=task.startup.typical.total_seconds())
        for count in orders:
            lane.order(count)
            lane.advance()
        out = outcome_of(lane, is_rate=True)
        if out.attainment(task.queue_wait_seconds) >= task.objective - 1e-12:
            best = out.replica_hours if best is None else min(best, out.replica_hours)
    return best


@settings(max_examples=15, deadline=None)
@given(
    work=st.lists(st.integers(0, 40), min_size=4, max_size=6),
    objective=st.sampled_from([0.5, 0.9, 0.99]),
    first=st.integers(0, 2),
    startup=st.sampled_from([15.0, 30.0]),
)
def test_the_bound_is_below_and_the_path_above_the_best_of_all_order_sequences(work, objective, first, startup):
    task = a_task(work, objective, first, startup=startup)
    exact, found = cheapest_of_all(task), clairvoyant(task)
    if exact is None:
        assert found.feasible_replica_hours is None
        return
    assert found.lower_bound_replica_hours is not None
    assert found.lower_bound_replica_hours <= exact + ROUNDING
    if found.feasible_replica_hours is not None:
        assert found.feasible_replica_hours >= exact - ROUNDING


def test_the_path_reaches_the_objective_in_the_world_and_is_close_to_the_bound_on_steady_demand():
    rng = np.random.Generator(np.random.PCG64(7))
    work = rng.poisson(150.0, 2000).astype(np.float64)
    found = clairvoyant(a_task(work, 0.99, first=10, highest=20, startup=150.0))
    assert found.outcome is not None
    assert found.outcome.attainment(10.0) >= 0.99
    assert found.lower_bound_replica_hours <= found.feasible_replica_hours <= 1.06 * found.lower_bound_replica_hours


def test_a_lonely_request_is_worth_one_start_of_one_replica():
    work = np.zeros(400)
    work[200] = 1.0
    found = clairvoyant(a_task(work, 0.9, first=0, startup=150.0))
    assert found.feasible_replica_hours == pytest.approx((150 + 15) / 3600)
    # The bound may serve nine tenths of it: the objective allows a tenth to be late.
    assert found.lower_bound_replica_hours == pytest.approx(0.9 * found.feasible_replica_hours, rel=0.01)


def test_an_endpoint_that_is_never_asked_costs_nothing():
    found = clairvoyant(a_task(np.zeros(100), first=1))
    assert (found.lower_bound_replica_hours, found.feasible_replica_hours) == (0.0, 0.0)


def test_an_objective_out_of_reach_has_no_bound_and_no_path():
    found = clairvoyant(a_task(np.full(200, 100.0), 0.99, first=0, highest=2))
    assert found.lower_bound_replica_hours is None
    assert found.feasible_replica_hours is None


@pytest.mark.parametrize("price", [0.1, 1.0, 10.0])
def test_the_optimistic_programme_is_never_above_a_schedule_of_whole_replicas(price):
    rng = np.random.Generator(np.random.PCG64(2))
    work = rng.integers(0, 30, 6).astype(np.float64)
    terms = Terms(
        room=15.0,
        step_seconds=15.0,
        start_cost=30.0,
        price=price,
        wait_room=15.0,
        lowest=0,
        highest=2,
        first=1,
        lead_steps=2,
    )
    value, _ = optimistic_value(work, terms)
    for path in product(range(3), repeat=6):
        bad = sum(max(0.0, work[t] - 15.0 * (path[t] + (path[t + 1] if t < 5 else 9))) for t in range(6))
        starts = sum(max(0, now - before) for before, now in zip((1, *path), path, strict=False))
        assert value <= sum(path) * 15.0 + 30.0 * starts + price * bad + ROUNDING


def test_a_bound_on_coarser_blocks_is_still_a_bound():
    rng = np.random.Generator(np.random.PCG64(5))
    work = rng.poisson(20.0, 4 * 60 * 70).astype(np.float64)
    found = lower_bound_hours(a_task(work, 0.99, first=2, highest=6, startup=150.0))
    assert 0 < found <= 70 * 6


@settings(max_examples=40, deadline=None)
@given(
    work=st.lists(st.integers(0, 60), min_size=1, max_size=25),
    orders=st.lists(st.integers(0, 5), min_size=25, max_size=25),
    startup=st.sampled_from([10.0, 15.0, 40.0, 150.0]),
    first=st.integers(0, 3),
)
def test_compiled_orders_end_where_the_lane_ends_step_by_step(work, orders, startup, first):
    given_orders = np.array(orders[: len(work)])
    walked = played(a_lane(work, ready=first, startup=startup), given_orders.tolist())
    jumped = a_lane(work, ready=first, startup=startup)
    _fast_forward(jumped, given_orders)
    assert np.allclose(walked.rows, jumped.rows)
    assert (walked.ready, walked.starts, walked.starting) == (jumped.ready, jumped.starts, jumped.starting)
    assert walked.cancelled == jumped.cancelled
    assert np.allclose(waits(walked), waits(jumped))
