from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.simulator.lane import outcome_of
from scaler.simulator.startups import StartupModel
from tests.simulator.makers import a_lane, played


def test_a_replica_serves_one_startup_time_after_its_order_and_costs_from_its_order():
    out = outcome_of(played(a_lane([10] * 5, startup=30.0), [1] * 5), is_rate=True)
    assert out.starting.tolist() == [1, 1, 0, 0, 0]
    assert out.ready.tolist() == [0, 0, 1, 1, 1]
    assert out.replica_hours == pytest.approx(5 * 15 / 3600)
    assert out.starts == 1


def test_a_startup_that_ends_within_a_step_serves_the_rest_of_it():
    lane = played(a_lane([30] * 3, startup=20.0), [1, 1, 1])
    assert lane.rows[:, 2].tolist() == [0, 1, 1]
    assert lane.rows[:, 4].tolist() == pytest.approx([0, 10, 15])


def test_the_queue_grows_by_what_finds_no_room_and_is_served_in_order():
    out = outcome_of(played(a_lane([45, 0, 0, 0], ready=1), [1] * 4), is_rate=True)
    assert out.queue.tolist() == [30, 15, 0, 0]
    assert out.wait_seconds.tolist() == pytest.approx([30, 15, 0, 0])


def test_thirty_units_before_two_replicas_of_one_wait_fifteen_seconds():
    out = outcome_of(played(a_lane([60, 0, 0], ready=2), [2] * 3), is_rate=True)
    assert out.wait_seconds[0] == pytest.approx(15.0)


def test_scale_in_lets_starting_replicas_go_first_the_newest_first():
    lane = played(a_lane([0] * 6, ready=2, startup=60.0), [3, 4])
    lane.order(3)
    assert (lane.ready, [ordered for ordered, _ in lane.starting]) == (2, [0.0])
    lane.order(1)
    assert (lane.ready, lane.starting) == (1, [])


def test_of_the_starts_those_let_go_before_they_were_ready_are_cancelled():
    out = outcome_of(played(a_lane([0] * 6, ready=1, startup=60.0), [3, 2, 1, 2, 2, 2]), is_rate=True)
    assert (out.starts, out.cancelled_starts) == (3, 2)


def test_what_still_waits_at_the_end_is_served_by_what_stands_then():
    out = outcome_of(played(a_lane([0, 45], ready=1), [1, 1]), is_rate=True)
    assert out.wait_seconds.tolist() == pytest.approx([0, 30])
    none = outcome_of(played(a_lane([0, 45], startup=30.0), [0, 0]), is_rate=True)
    assert none.wait_seconds[1] == pytest.approx(30 + 45)


def test_requests_of_steps_without_a_ready_replica_are_cold():
    out = outcome_of(played(a_lane([3, 4, 5], startup=30.0), [1] * 3), is_rate=True)
    assert out.cold_requests == 7


def test_attainment_is_the_share_of_demand_whose_step_waits_within_the_promise():
    out = outcome_of(played(a_lane([45, 5, 0, 50], ready=1), [1, 1, 1, 4]), is_rate=True)
    late = out.wait_seconds > 10
    assert out.attainment(10) == pytest.approx(1 - out.demand[late].sum() / out.demand.sum())


def test_a_failed_start_begins_anew_and_keeps_its_place():
    model = StartupModel(typical=timedelta(seconds=30), failed_fraction=0.5)
    rng = np.random.Generator(np.random.PCG64(3))
    draws = [model.draw_seconds(rng) for _ in range(2000)]
    assert set(np.unique(draws)) >= {30.0, 60.0, 90.0}
    assert np.mean(draws) == pytest.approx(60.0, rel=0.1)


def test_slow_and_cold_starts_take_longer():
    rng = np.random.Generator(np.random.PCG64(3))
    slow = StartupModel(typical=timedelta(seconds=30), slow_factor=3.0)
    cold = StartupModel(typical=timedelta(seconds=30), cold_node_fraction=1.0, node=timedelta(seconds=100))
    assert (slow.draw_seconds(rng), cold.draw_seconds(rng)) == (90.0, 130.0)


@settings(max_examples=60, deadline=None)
@given(
    work=st.lists(st.integers(0, 60), min_size=1, max_size=25),
    orders=st.lists(st.integers(0, 5), min_size=25, max_size=25),
    startup=st.sampled_from([10.0, 15.0, 40.0, 150.0]),
)
def test_nothing_is_lost_and_hours_are_what_the_timeline_says(work, orders, startup):
    lane = played(a_lane(work, ready=1, startup=startup), orders[: len(work)])
    out = outcome_of(lane, is_rate=True)
    served = sum(lane.served(k) for k in range(len(work)))
    assert out.starts == len(lane.finished) + len(lane.starting) + out.cancelled_starts
    assert served + out.queue[-1] == pytest.approx(sum(work))
    assert np.array_equal(out.desired, np.array(orders[: len(work)]))
    assert np.array_equal(out.ready + out.starting, out.desired)
    assert all(lane.served(k) <= lane.rows[k, 4] + 1e-9 for k in range(len(work)))
    assert np.all(out.wait_seconds >= 0)
    assert np.all((out.wait_seconds > 0) == (out.queue > 0))


def rolled_out(orders, *, ready=2, startup=30.0, at=15.0):
    """A lane of one unit per second and step, in which a rolling update begins at the second step."""
    model = StartupModel(typical=timedelta(seconds=startup))
    return played(a_lane([15] * len(orders), ready=ready, model=model, rolling_updates=[at]), orders)


def test_a_rolling_update_replaces_the_ready_ones_one_by_one_beside_what_was_asked_for():
    lane = rolled_out([2] * 7)
    assert lane.rows[:, 0].tolist() == [2] * 7
    assert lane.rows[:, 1].tolist() == [0, 1, 1, 1, 1, 0, 0]
    assert lane.rows[:, 2].tolist() == [2] * 7
    assert lane.finished == [(15.0, 45.0), (45.0, 75.0)]
    assert (lane.starts, lane.outdated, lane.replacement) == (2, 0, None)


def test_what_was_starting_when_the_update_came_begins_anew():
    lane = rolled_out([3, 3, 3, 3, 3], startup=30.0, ready=0)
    assert lane.rows[:, 2].tolist() == [0, 0, 0, 3, 3]
    assert (lane.starts, lane.cancelled) == (6, 3)
    assert lane.outdated == 0


def test_scale_in_lets_outdated_replicas_go_first_and_ends_the_update_with_the_last():
    lane = rolled_out([3, 3, 3, 3, 1, 1], ready=3)
    assert lane.rows[:, 1].tolist() == [0, 1, 1, 1, 0, 0]
    assert (lane.ready, lane.outdated, lane.replacement) == (1, 0, None)
    assert lane.starts == len(lane.finished) + lane.cancelled


def test_replicas_ordered_during_an_update_add_to_the_room():
    lane = rolled_out([2, 2, 4, 4, 4, 4], ready=2)
    assert lane.rows[:, 2].tolist() == [2, 2, 2, 2, 4, 4]
