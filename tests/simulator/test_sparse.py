"""One-replica endpoints replayed: the compiled policy is the cycle's own, causal, and never loses a request."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from forecaster.arrivals.learning import watch
from forecaster.arrivals.prior import pooled_prior
from forecaster.arrivals.start import law_arrays, new_law
from forecaster.series import DemandSeries, DemandUnit
from scaler.core import idle
from scaler.domain.replicas import ReplicaState
from scaler.simulator import sparse

START = datetime(2026, 3, 2, tzinfo=UTC)
TURN = timedelta(seconds=15)
AT = START.timestamp()
TERMS = np.array([150.0, 600.0, 0.3, 0.0, 1.0, 15.0])
DAY = 5760


def some_requests(n_steps: int = DAY, seed: int = 0) -> np.ndarray:
    """Sessions, a timer every half hour, and quiet in between."""
    rng = np.random.default_rng(seed)
    requests = (rng.random(n_steps) < 0.002).astype(float)
    for first in np.flatnonzero(requests):
        requests[first : first + 8] += rng.random(len(requests[first : first + 8])) < 0.3
    requests[60::120] += 1.0
    return requests


def test_the_compiled_pass_gives_what_the_cycle_would_say_turn_by_turn() -> None:
    past, requests = some_requests(), some_requests(800, seed=1)
    compiled = sparse.IdleReplay(TERMS)
    compiled.learn(AT, past)
    keep, order = compiled.advise(AT + DAY * 15.0, requests)

    everything = np.concatenate([past, requests]) / 15.0
    demand = DemandSeries(unit=DemandUnit.REQUESTS, start=START, step=TURN, values=everything)
    state = idle.learn(idle.new_state(timedelta(seconds=150)), demand.until(START + DAY * TURN))
    stands = False
    for i in range(1, len(requests)):
        now = START + (DAY + i) * TURN
        recent = DemandSeries(
            unit=DemandUnit.REQUESTS, start=now - 8 * TURN, step=TURN, values=everything[DAY + i - 8 : DAY + i]
        )
        state, advice = idle.advance(state, recent, TERMS, ReplicaState(ready=int(stands), desired=int(stands)), now)
        came = requests[i - 1] > 0
        assert (advice.pre_warm if not stands and not came else False) == bool(order[i])
        if stands:
            waits = came or bool(requests[max(0, i - 11) : i].any())
            assert advice.keep == bool(keep[i])
            stands = bool(keep[i]) or waits
        else:
            stands = advice.pre_warm or came


def test_blocks_follow_each_other_as_one_run() -> None:
    requests = some_requests(3 * DAY)
    whole, parts = sparse.IdleReplay(TERMS), sparse.IdleReplay(TERMS)
    at_once = whole.advise(AT, requests)
    first = parts.advise(AT, requests[:7000])
    second = parts.advise(AT + 7000 * 15.0, requests[7000:])
    for one, two, three in zip(at_once, first, second, strict=True):
        assert np.array_equal(one, np.concatenate([two, three]))
    assert all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(law_arrays(whole.law).values(), law_arrays(parts.law).values(), strict=True)
    )


@pytest.mark.parametrize("cut", [100, 2000, 5000])
def test_changing_the_future_changes_no_advice_before_it(cut: int) -> None:
    requests = some_requests()
    changed = requests.copy()
    changed[cut:] = 7.0
    one, two = sparse.IdleReplay(TERMS).advise(AT, requests), sparse.IdleReplay(TERMS).advise(AT, changed)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a[: cut + 1], b[: cut + 1])


def test_the_same_requests_give_the_same_advice() -> None:
    one, two = (sparse.IdleReplay(TERMS).advise(AT, some_requests()) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_steps_that_were_not_seen_keep_and_order_nothing() -> None:
    requests = some_requests()
    requests[3000:3100] = np.nan
    keep, order = sparse.IdleReplay(TERMS).advise(AT, requests)
    assert keep[3001:3101].all()
    assert not order[3001:3101].any()


def test_the_first_request_is_served_one_start_up_time_after_the_next_turn() -> None:
    """Nothing advises to stand, yet the request is never lost: cold are those of the start-up time, and no others."""
    requests = np.zeros(100)
    requests[[10, 15, 21]] = 1.0
    never = np.zeros(100, dtype=bool)
    cold, steps = sparse.replay(requests, never, never, 10)
    assert cold == 2.0
    assert steps == 12.0


def test_a_replica_ordered_ahead_meets_the_request_and_costs_from_its_order() -> None:
    requests = np.zeros(60)
    requests[30] = 1.0
    order = np.zeros(60, dtype=bool)
    order[15] = True
    keep = np.arange(60) < 40
    assert sparse.replay(requests, keep, order, 10) == (0.0, 25.0)


def test_the_keep_alive_counts_from_the_last_arrival() -> None:
    requests = np.zeros(100)
    requests[[10, 20]] = 1.0
    keep = sparse.keep_alive(requests, 40)
    assert keep[11:60].all()
    assert not keep[60:].any()
    assert not keep[:11].any()


def test_the_clairvoyant_keeps_exactly_the_gaps_that_are_worth_it() -> None:
    requests = np.zeros(200)
    requests[[10, 40, 120]] = 1.0
    keep = sparse.clairvoyant(requests, 50)
    assert keep[11:40].all()
    assert not keep[42:119].any()
    assert not keep[122:].any()


def test_the_hybrid_histogram_sleeps_through_a_regular_gap_and_wakes_before_its_end() -> None:
    """Hourly requests: the 5th percentile is minute 60, less 10 %: ready from minute 54 on, ordered 150 s earlier."""
    requests = np.zeros(3 * DAY)
    requests[::240] = 1.0
    keep, order = sparse.hybrid_histogram(requests[:DAY], requests[DAY:], 10)
    assert np.flatnonzero(order[:240])[0] == 216 - 10
    assert not keep[1:200].any()
    cold, _ = sparse.replay(requests[DAY:], keep, order, 10)
    assert cold == 1.0


def test_sparse_endpoints_meet_fewer_cold_requests_in_fewer_hours_than_a_keep_alive() -> None:
    """On a timer and sessions: at the price where hours are about equal or fewer, cold requests are fewer."""
    past, requests = some_requests(2 * DAY), some_requests(2 * DAY, seed=1)
    endpoint = sparse.IdleReplay(TERMS)
    endpoint.learn(AT, past)
    cold, steps = sparse.replay(requests, *endpoint.advise(AT + 2 * DAY * 15.0, requests), 10)
    base_cold, base_steps = sparse.replay(requests, sparse.keep_alive(requests, 40), np.zeros(2 * DAY, dtype=bool), 10)
    assert cold < 0.6 * base_cold
    assert steps < base_steps


def test_chances_are_those_of_the_law_and_see_nothing_ahead() -> None:
    requests = some_requests()
    changed = requests.copy()
    changed[3000:] = 3.0
    chances = []
    for each in (requests, changed):
        law = new_law(150.0)
        watch(law, AT)
        chances.append(sparse.arrival_chances(law, AT, each, 4, 150.0))
    assert np.array_equal(chances[0][:751], chances[1][:751])
    assert np.all((chances[0] >= 0) & (chances[0] <= 1))


def test_a_fleets_prior_reaches_the_replay() -> None:
    taught = sparse.IdleReplay(TERMS)
    taught.learn(AT, some_requests(2 * DAY))
    prior = pooled_prior([taught.law])
    fresh, new = sparse.IdleReplay(TERMS), sparse.IdleReplay(TERMS, prior)
    one = fresh.advise(AT, some_requests(seed=2))
    two = new.advise(AT, some_requests(seed=2))
    assert not np.array_equal(one[0], two[0])
