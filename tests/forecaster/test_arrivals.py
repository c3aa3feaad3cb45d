"""The arrival law: what is true of it whatever it has seen, and what it learns."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster.arrivals.gaps import SESSION_GAP_SECONDS
from forecaster.arrivals.hazard import (
    arrival_within,
    elapsed_at,
    next_arrival_quantile,
    refresh,
    requests_per_burst,
    survival,
)
from forecaster.arrivals.law import LAST, N_GAPS, PERIOD, ArrivalLaw
from forecaster.arrivals.learning import miss, observe, observe_steps, watch
from forecaster.arrivals.prior import default_prior, pooled_prior
from forecaster.arrivals.season import half_hour_of
from forecaster.arrivals.start import copy_law, law_arrays, law_from_arrays, new_law
from forecaster.errors import BadSeries

START = 1_772_452_800.0
"""2026-03-02 12:00 UTC."""
HORIZONS = np.array([0.0, 1.0, 15.0, 150.0, 600.0, 3600.0, 86400.0])


def taught(gaps_seconds: list[float], start: float = START) -> ArrivalLaw:
    """A law that saw one request at `start` and one after each gap."""
    law = new_law(150.0)
    when = start
    observe(law, when, 1.0)
    for gap in gaps_seconds:
        when += gap
        observe(law, when, 1.0)
    return law


gaps = st.lists(st.floats(1.0, 900_000.0), max_size=40)


@settings(max_examples=60, deadline=None)
@given(gaps=gaps, elapsed=st.floats(0.0, 1e6))
def test_survival_is_a_probability_that_falls_with_the_horizon(gaps: list[float], elapsed: float) -> None:
    chance = survival(taught(gaps), elapsed, HORIZONS)
    assert chance[0] == 1.0
    assert np.all((chance >= 0) & (chance <= 1))
    assert np.all(np.diff(chance) <= 0)


@settings(max_examples=40, deadline=None)
@given(gaps=gaps, elapsed=st.floats(0.0, 1e5), first=st.floats(1.0, 5000.0), then=st.floats(1.0, 5000.0))
def test_survival_over_two_stretches_is_the_product(
    gaps: list[float], elapsed: float, first: float, then: float
) -> None:
    law = taught(gaps)
    whole = survival(law, elapsed, np.array([first + then]))[0]
    parts = survival(law, elapsed, np.array([first]))[0] * survival(law, elapsed + first, np.array([then]))[0]
    assert whole == pytest.approx(parts, rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(gaps=gaps, cut=st.integers(0, 40))
def test_a_law_does_not_depend_on_what_comes_later(gaps: list[float], cut: int) -> None:
    early = taught(gaps[:cut])
    kept = copy_law(early)
    when = float(early.marks[LAST])
    for gap in gaps[cut:]:
        when += gap
        observe(early, when, 1.0)
    again = taught(gaps[:cut])
    assert np.array_equal(survival(kept, 60.0, HORIZONS), survival(again, 60.0, HORIZONS))


def test_the_same_arrivals_give_the_same_arrays() -> None:
    one, two = taught([100.0, 4000.0, 20.0]), taught([100.0, 4000.0, 20.0])
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))


def at_nine_in_berlin(n_days: int) -> list[float]:
    """09:00 local each day from 16 March 2026 on: 08:00 UTC until summer time begins on the 29th, then 07:00."""
    first = 1_773_648_000.0  # 2026-03-16 08:00 UTC
    return [first + day * 86400.0 - (3600.0 if day >= 13 else 0.0) for day in range(n_days)]


def test_the_season_keeps_the_local_hour_across_summer_time() -> None:
    law = new_law(150.0, timezone="Europe/Berlin")
    for when in at_nine_in_berlin(28):
        observe(law, when, 1.0)
    assert np.flatnonzero(law.season[0]).tolist() == [18]
    assert law.season[1].sum() == pytest.approx(27 * 86400.0 - 3600.0 - 27 * SESSION_GAP_SECONDS)
    refresh(law)
    assert int(np.argmax(law.season_factor)) == 18
    in_utc = new_law(150.0)
    for when in at_nine_in_berlin(28):
        observe(in_utc, when, 1.0)
    assert np.flatnonzero(in_utc.season[0]).tolist() == [14, 16]


def test_half_hours_end_where_local_ones_do() -> None:
    law = new_law(150.0, timezone="Asia/Kathmandu")  # 5:45 ahead
    assert half_hour_of(law, 1_772_452_800.0) == (35, 1_772_452_800.0 + 900.0)  # 17:45, until 18:00


def test_reading_steps_equals_observing_their_arrivals() -> None:
    by_step = new_law(150.0)
    observe_steps(by_step, START, 15.0, np.array([1.0, 0.0, 0.0, 2.0]))
    observe_steps(by_step, START + 60.0, 15.0, np.array([0.0, 3.0]))
    by_hand = new_law(150.0)
    for when, requests in ((START, 1.0), (START + 45.0, 2.0), (START + 75.0, 3.0)):
        observe(by_hand, when, requests)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(by_step, by_hand, strict=True))


def test_a_law_goes_through_arrays_and_back() -> None:
    law = taught([100.0, 4000.0, 20.0, 7000.0])
    again = law_from_arrays(law_arrays(law))
    assert np.array_equal(survival(again, 30.0, HORIZONS), survival(law, 30.0, HORIZONS))


@pytest.mark.parametrize(
    ("what", "change"),
    [("a missing part", {"events": None}), ("another shape", {"events": np.zeros((2, 3))})],
)
def test_damaged_arrays_are_refused(what: str, change: dict[str, Any]) -> None:
    arrays = {**law_arrays(taught([10.0])), **change}
    with pytest.raises(BadSeries, match="events needs shape"):
        law_from_arrays({name: part for name, part in arrays.items() if part is not None})


def test_regular_gaps_are_learned() -> None:
    law = taught([3600.0] * 30)
    assert arrival_within(law, 600.0, 150.0) < 0.05
    assert arrival_within(law, 3540.0, 150.0) > 0.5


def test_a_timer_is_found_and_narrower_than_the_gap_bins() -> None:
    rng = np.random.default_rng(3)
    law = taught([float(gap) for gap in 3600.0 + rng.uniform(-20, 20, 12)])
    assert law.marks[PERIOD] == pytest.approx(3600.0, rel=0.01)
    before = arrival_within(law, 3300.0, 150.0)
    around = arrival_within(law, 3525.0, 150.0)
    assert around > 0.75
    assert before < 0.1


def test_five_of_seven_intervals_make_a_timer_and_four_do_not() -> None:
    minutes = [60, 60, 61, 59, 60, 45, 60, 20, 33, 75]
    assert taught([60.0 * m for m in minutes[:7]]).marks[PERIOD] == pytest.approx(3600.0, rel=0.01)
    assert taught([60.0 * m for m in minutes]).marks[PERIOD] == 0.0


def test_a_timer_that_stopped_is_no_longer_believed() -> None:
    law = taught([3600.0] * 12)
    gone = arrival_within(law, 6 * 3600.0 - 75.0, 150.0)
    assert gone < 0.3


def test_after_a_burst_the_next_gap_is_expected_short_and_after_a_pause_long() -> None:
    gaps = ([20.0] * 5 + [5000.0]) * 20
    in_burst, after_pause = taught(gaps[:-2]), taught(gaps)
    assert arrival_within(in_burst, 0.0, 60.0) > 0.6
    calm = taught([2000.0] * 40)
    assert arrival_within(calm, 0.0, 60.0) < 0.1
    assert arrival_within(after_pause, 0.0, 60.0) > arrival_within(calm, 0.0, 60.0)


def test_the_season_raises_the_hours_that_are_usually_busy() -> None:
    law = new_law(150.0)
    morning = START - START % 86400.0 + 9 * 3600.0
    for day in range(10):
        for k in range(4):
            observe(law, morning + day * 86400.0 + k * 1500.0, 1.0)
    last = float(law.marks[LAST])
    at_night = arrival_within(law, morning + 9 * 86400.0 + 14 * 3600.0 - last, 1800.0)
    in_the_morning = arrival_within(law, morning + 10 * 86400.0 - last, 1800.0)
    assert in_the_morning > 2 * at_night


def test_a_gap_with_unseen_demand_in_it_is_not_learned() -> None:
    law = taught([100.0])
    miss(law)
    observe(law, float(law.marks[LAST]) + 5000.0, 1.0)
    assert law.marks[N_GAPS] == 1.0
    observe(law, float(law.marks[LAST]) + 50.0, 1.0)
    assert law.marks[N_GAPS] == 2.0


def test_requests_per_burst_counts_those_within_the_window_of_a_sessions_first() -> None:
    law = new_law(150.0)
    for when in (0.0, 60.0, 149.0, 200.0, 1000.0):
        observe(law, START + when, 1.0)
    assert requests_per_burst(law) == pytest.approx((3 + 1 + 3) / (2 + 2))
    assert requests_per_burst(new_law(150.0)) == 1.5


def test_the_quantiles_of_the_next_arrival_invert_survival() -> None:
    law = taught([300.0, 20.0, 5000.0, 700.0, 90000.0])
    for level in (0.1, 0.5, 0.9):
        seconds = next_arrival_quantile(law, 60.0, level)
        assert 1 - survival(law, 60.0, np.array([seconds]))[0] == pytest.approx(level, abs=0.02)
    with pytest.raises(BadSeries, match="level"):
        next_arrival_quantile(law, 60.0, 1.0)


def test_before_the_first_request_the_law_speaks_from_the_start_of_the_watch() -> None:
    law = new_law(150.0)
    watch(law, START)
    assert elapsed_at(law, START + 90.0) == 90.0
    assert 0 < arrival_within(law, 90.0, 150.0) < 1


def test_a_fleet_teaches_a_new_endpoint() -> None:
    fleet = [taught([1200.0] * n) for n in (5, 20, 80)]
    prior = pooled_prior(fleet)
    new, plain = new_law(150.0, prior), new_law(150.0)
    for law in (new, plain):
        observe(law, START, 1.0)
    assert arrival_within(new, 1150.0, 100.0) > 2 * arrival_within(plain, 1150.0, 100.0)


def test_a_fleet_without_gaps_gives_the_default_prior() -> None:
    assert np.array_equal(pooled_prior([new_law(150.0)]).hazard, default_prior().hazard)
