"""Weights follow skill, offsets follow misses, and both only from what was known."""

from datetime import timedelta

import numpy as np
import pytest

from forecaster.calibration import (
    AlarmRule,
    Published,
    TrackingRule,
    alarmed,
    on_lattice,
    spread,
    tracked_offsets,
)
from forecaster.selection import (
    OperatingPoint,
    WeightRule,
    known_losses,
    method_weights,
    told_sooner,
    vincentised,
)

LEVELS = np.array([0.1, 0.5, 0.8, 0.9, 0.95, 0.99])
NORMAL = np.array([-1.2816, 0.0, 0.8416, 1.2816, 1.6449, 2.3263])


def losses_of(good, bad, n_past=50):
    return np.tile(np.array([good, bad]), (1, n_past, 1, 1)).astype(float)


def test_the_better_method_gets_nearly_all_and_the_worse_keeps_the_floor():
    made = np.arange(50)
    sums = known_losses(losses_of(1.0, 5.0), made, made[:, None] + 1, np.array([60]), half_life=100.0)
    weights = method_weights(sums, WeightRule(floor=0.01))[0, 0, 0]
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] > 0.95
    assert weights[1] == pytest.approx(0.01, abs=0.002)


def test_outcomes_that_are_not_known_yet_count_for_nothing():
    made = np.arange(50)
    sums = known_losses(losses_of(1.0, 5.0), made, made[:, None] + 100, np.array([60]), half_life=100.0)
    assert method_weights(sums, WeightRule())[0, 0, 0] == pytest.approx([0.5, 0.5])


def test_a_prior_of_the_fleet_leads_while_nothing_is_known():
    sums = np.zeros((2, 1, 1, 1, 2))
    assert method_weights(sums, WeightRule(), np.array([3.0, 1.0]))[0, 0, 0] == pytest.approx([0.75, 0.25])


def test_long_leads_hear_at_once_of_a_method_that_stopped_fitting():
    nothing_yet = np.zeros((2, 1, 1, 1, 2))
    fresh = np.array([10.0, 10.0, 10.0, 40.0]).reshape(2, 1, 1, 1, 2)
    weights = method_weights(nothing_yet, WeightRule(), fresh=fresh)[0, 0, 0]
    assert weights[0] > 2 * weights[1]
    assert method_weights(nothing_yet, WeightRule(), fresh=nothing_yet)[0, 0, 0] == pytest.approx([0.5, 0.5])


def test_a_lead_hears_what_a_lead_a_quarter_as_long_knows_already():
    sums = np.zeros((2, 1, 1, 2, 2))  # of the second lead nothing is known yet
    sums[:, 0, 0, 0] = [[100.0, 100.0], [100.0, 300.0]]
    weights = method_weights(sums, WeightRule(), sooner=np.array([0, 0]))[0, 0, 1]
    assert weights[0] > 2 * weights[1]


@pytest.mark.parametrize(
    ("leads", "heard"),
    [([10, 60, 360, 1440], [10, 10, 60, 360]), ([1, 6, 36, 144], [1, 1, 6, 36]), ([5], [5])],
    ids=["minutes", "ten minutes", "one lead"],
)
def test_leads_hear_from_the_one_nearest_to_a_quarter(leads, heard):
    leads = np.array(leads)
    assert leads[told_sooner(leads)].tolist() == heard


def test_a_decision_is_priced_in_whole_replicas_at_its_quantile():
    point = OperatingPoint(level=0.9, demand_per_replica=10.0)
    said = np.array([[1.0, 12.0]])
    levels = np.array([0.5, 0.9])
    assert point.losses(np.array(25.0), said, levels) == pytest.approx([0.9 * 5])
    assert point.losses(np.array(15.0), said, levels) == pytest.approx([0.1 * 5])
    assert np.isnan(point.losses(np.array(np.nan), said, levels)).all()


@pytest.mark.parametrize(("level", "per_replica"), [(0.0, 1.0), (1.0, 1.0), (0.9, 0.0)])
def test_an_operating_point_that_decides_nothing_is_refused(level, per_replica):
    with pytest.raises(ValueError, match="operating point"):
        OperatingPoint(level=level, demand_per_replica=per_replica)


def test_by_decision_loss_the_member_leads_that_needs_fewer_replicas_for_the_same_demand():
    from forecaster.auto import POOL_LEVELS, Auto

    quantiles = np.tile(np.array([[10.1], [10.0]]), (1, len(POOL_LEVELS)))
    actual = np.array(10.05)
    by_pinball = Auto().losses(actual, quantiles)
    by_decision = Auto(operating=OperatingPoint(level=0.5, demand_per_replica=10.0)).losses(actual, quantiles)
    assert by_pinball[0] < by_pinball[1]
    assert by_decision[1] < by_decision[0] / 100


def test_quantiles_are_averaged_level_by_level():
    mixed = vincentised(np.array([[1.0, 3.0], [3.0, 5.0]]), np.array([0.25, 0.75]), trim=0.0)
    assert mixed == pytest.approx([2.5, 4.5])


def test_one_method_that_is_off_by_a_thousand_moves_the_mean_by_little():
    quantiles = np.array([[10.0], [11.0], [12.0], [10_000.0]])
    assert vincentised(quantiles, np.array([0.33, 0.33, 0.33, 0.01]))[0] < 12.1


def test_a_method_without_a_forecast_is_left_out():
    assert vincentised(np.array([[np.nan], [4.0]]), np.array([0.9, 0.1])) == pytest.approx([4.0])


def published(actual, sigma, lead=1):
    """Normal forecasts N(10, sigma) on the tracking scale, one an origin."""
    n = len(actual)
    made = np.arange(n)
    return Published(
        quantiles=np.tile(10.0 + sigma * NORMAL, (1, n, 1, 1)),
        actual=actual[None, :, None],
        unit=np.ones((1, n, 1, 1)),
        made=made,
        ended=made[:, None] + lead,
        lattice=np.array([np.nan]),
    )


@pytest.mark.parametrize("sigma", [0.3, 3.0], ids=["overconfident", "timid"])
def test_whatever_the_forecast_the_share_of_misses_becomes_what_it_says(sigma):
    actual = 10.0 + np.random.default_rng(0).normal(0, 1, 6000)
    past = published(actual, sigma)
    offsets = tracked_offsets(past, LEVELS, TrackingRule(rate=0.05), past.made)
    told = past.quantiles + offsets * spread(past.quantiles, LEVELS)
    covered = (actual[None, 1000:, None, None] <= told[:, 1000:]).mean(axis=(0, 1, 2))
    assert covered[2:] == pytest.approx(LEVELS[2:], abs=0.015)


def test_an_outcome_moves_offsets_only_once_it_is_known():
    actual = np.full(20, 100.0)
    past = published(actual, 1.0, lead=10)
    offsets = tracked_offsets(past, LEVELS, TrackingRule(), past.made)
    assert np.all(offsets[:, :10] == 0.0)
    assert np.all(offsets[:, 10:] > 0.0)


def test_an_idle_endpoint_does_not_wind_its_offsets_up():
    n = 500
    made = np.arange(n)
    idle = Published(
        quantiles=np.tile(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.1]), (1, n, 1, 1)),
        actual=np.zeros((1, n, 1)),
        unit=np.ones((1, n, 1, 1)),
        made=made,
        ended=made[:, None] + 1,
        lattice=np.array([np.nan]),
    )
    assert np.all(tracked_offsets(idle, LEVELS, TrackingRule(), made)[:, -1, :, :5] == 0.0)


def test_small_demand_is_forecast_in_whole_requests():
    assert on_lattice(np.array([[0.2, 0.6, 2.4]]), np.array([1.0])).tolist() == [[0.0, 1.0, 2.0]]
    assert on_lattice(np.array([[0.2, 0.6, 2.4]]), np.array([np.nan])).tolist() == [[0.2, 0.6, 2.4]]


def test_a_threefold_shift_raises_the_alarm_within_a_few_outcomes_and_it_passes():
    rng = np.random.default_rng(1)
    actual = 10.0 + rng.normal(0, 1, 400)
    actual[200:] *= 3.0**0.5
    past = published(actual, 1.0)
    told = alarmed(past, LEVELS, AlarmRule(), past.made, lasting_bins=48, lead_bins=1)[0]
    assert told[:200].mean() < 0.3
    assert told[206]


def test_right_quantiles_rarely_raise_the_alarm():
    past = published(10.0 + np.random.default_rng(2).normal(0, 1, 5000), 1.0)
    told = alarmed(past, LEVELS, AlarmRule(), past.made, lasting_bins=1, lead_bins=1)[0]
    assert told.mean() < 0.02


def test_a_fleet_hands_a_new_endpoint_the_weights_that_served_it():
    from forecaster.auto import Auto, fleet_prior
    from tests.forecaster.samples import a_panel, daily_counts

    step_seconds = 1800.0
    members = ("persistence", "climate")
    panel = a_panel(daily_counts(4, timedelta(minutes=30), mean_per_bin=200), timedelta(minutes=30))
    ahead = np.array([12])
    old = Auto(members=members).fit(panel, ahead)
    prior = fleet_prior([old], step_seconds)
    assert prior[1] > 0.8
    young = Auto(members=members, prior=prior).fit(panel.until(60), ahead)
    asked = (np.array([60]), ahead, LEVELS)
    plain = Auto(members=members).fit(panel.until(60), ahead)
    climate = plain.members["climate"].quantiles(panel.until(60), *asked)
    gaps = [np.abs(model.quantiles(panel.until(60), *asked) - climate).sum() for model in (young, plain)]
    assert gaps[0] < gaps[1]
