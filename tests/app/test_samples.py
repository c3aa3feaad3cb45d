"""Generated traffic: the same arguments give the same requests, and each kind is what it says."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from scaler.app.demo.traffic import KINDS, generate

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_arguments_give_the_same_requests_and_days_stand_alone(kind: str) -> None:
    three = generate(kind, seed=7, start=MONDAY, days=3)
    again = generate(kind, seed=7, start=MONDAY + timedelta(days=1), days=1)
    np.testing.assert_array_equal(three.values[1440:2880], again.values)
    assert not np.array_equal(three.values, generate(kind, seed=8, start=MONDAY, days=3).values)


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_whole(kind: str) -> None:
    counts = generate(kind, seed=7, start=MONDAY, days=2, step=timedelta(seconds=15)).counts()
    np.testing.assert_allclose(counts, np.round(counts))


def test_office_hours_are_idle_at_night_and_on_weekends() -> None:
    week = generate("code", seed=7, start=MONDAY, days=7).counts().reshape(7, 24, 60).sum(axis=2)
    assert week[:5, :5].sum() == 0
    assert week[5:].sum() == 0
    assert week[:5, 9:17].min() > 500


def test_the_sparse_one_is_idle_most_of_the_time() -> None:
    counts = generate("rerank", seed=7, start=MONDAY, days=7).counts()
    assert 0.85 < np.mean(counts == 0) < 0.99


def test_the_bursty_one_has_peaks_far_above_its_median() -> None:
    counts = generate("image", seed=7, start=MONDAY, days=7).counts()
    assert counts.max() > 5 * np.median(counts)


def test_a_start_that_is_no_midnight_is_refused() -> None:
    with pytest.raises(ValueError, match="midnight UTC"):
        generate("chat", seed=7, start=MONDAY + timedelta(hours=1), days=1)
