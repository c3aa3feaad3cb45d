"""Scores agree with figures worked out by hand."""

import numpy as np
import pytest

from forecaster.scoring import coverage, decision_loss, mase, pinball, pit, wql

LEVELS = np.array([0.5, 0.9])


def test_pinball_charges_being_below_a_high_quantile_nine_times_being_above():
    losses = pinball(np.array([10.0, 10.0]), np.array([[8.0, 8.0], [12.0, 12.0]]), LEVELS)
    assert losses[:, 1] == pytest.approx([1.8, 0.2])
    assert losses[:, 0] == pytest.approx([1.0, 1.0])


def test_wql_is_twice_the_pinball_over_demand_averaged_over_levels():
    assert wql(np.array([10.0, np.nan]), np.array([[8.0, 8.0], [0.0, 0.0]]), LEVELS) == pytest.approx(
        2 * (1.0 + 1.8) / 10 / 2
    )


def test_a_tie_leaves_coverage_open_between_two_shares():
    share = coverage(np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(4), 0.5)
    assert (share.below, share.at_most, share.deviation) == (0.0, 0.75, 0.0)
    assert coverage(np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(4), 0.9).deviation == pytest.approx(-0.15)


def test_the_band_of_a_hundred_outcomes_at_nine_tenths_is_six_points():
    assert coverage(np.arange(100.0), np.full(100, 89.5), 0.9).band == pytest.approx(0.0588, abs=1e-4)


def test_pit_of_right_quantiles_is_uniform():
    rng = np.random.default_rng(0)
    levels = np.linspace(0.02, 0.98, 49)
    actual = rng.uniform(0, 1, 4000)
    values = pit(actual, np.tile(levels, (4000, 1)), levels)
    assert np.histogram(values, bins=5, range=(0, 1))[0] == pytest.approx([800] * 5, rel=0.12)


def test_mase_of_the_seasonal_naive_itself_is_one():
    history = np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.0])
    assert mase(np.array([5.0]), np.array([4.0]), history, 3) == pytest.approx(1.0)


def test_decision_loss_counts_whole_replicas_and_what_they_could_not_carry():
    loss = decision_loss(np.array([5.0, 1.0]), np.array([3.5, 2.0]), demand_per_replica=2.0, step_seconds=3600.0)
    assert loss.replica_hours == pytest.approx(3.0)
    assert loss.missed_demand == pytest.approx(3600.0)
