"""Local time, holidays and events."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from forecaster.calendar import DemandCalendar, PlannedEvent, offset_changes, season_is_enabled
from forecaster.errors import BadSeries
from forecaster.panel import Panel

HOUR = timedelta(hours=1)


def test_berlin_is_an_hour_ahead_until_the_last_sunday_of_march_and_two_after():
    offsets = DemandCalendar(timezone="Europe/Berlin").offsets(datetime(2026, 3, 28, 22, tzinfo=UTC), HOUR, 6)
    assert (offsets // 3600).tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "America/St_Johns", "Africa/Casablanca"])
def test_the_table_of_changes_tells_the_offset_at_any_hour(timezone):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    edges, offsets = offset_changes(timezone)
    hours = start.timestamp() + 3600.0 * np.arange(3 * 8766)
    told = offsets[np.searchsorted(edges, hours, side="right") - 1]
    np.testing.assert_array_equal(told, DemandCalendar(timezone=timezone).offsets(start, HOUR, len(hours)))


def test_a_day_before_keeps_the_local_hour_across_summer_time():
    panel = Panel(
        keys=("a",),
        start=datetime(2026, 3, 28, tzinfo=UTC),
        step=HOUR,
        values=np.zeros((1, 72)),
        calendar=DemandCalendar(timezone="Europe/Berlin"),
    )
    # 09:00 local on Sunday 29 March is 07:00 UTC; on Saturday it was 08:00 UTC: 23 hours earlier.
    assert panel.days_before(np.array([24 + 7]), 1).tolist() == [8]
    assert panel.days_before(np.array([48 + 7]), 1).tolist() == [24 + 7]


def test_whit_monday_is_free_in_germany_and_any_other_monday_is_not():
    calendar = DemandCalendar(timezone="Europe/Berlin", holidays_of="DE")
    free = calendar.is_free_day(datetime(2026, 5, 25, 12, tzinfo=UTC), timedelta(days=7), 2)
    assert free.tolist() == [True, False]


def test_events_multiply_while_they_last():
    start = datetime(2026, 3, 2, tzinfo=UTC)
    launch = PlannedEvent(name="launch", start=start + HOUR, end=start + 3 * HOUR, factor=3.0)
    advert = PlannedEvent(name="advert", start=start + 2 * HOUR, end=start + 4 * HOUR, factor=2.0)
    assert DemandCalendar(events=(launch, advert)).factors(start, HOUR, 5).tolist() == [1.0, 3.0, 6.0, 2.0, 1.0]


def test_a_season_counts_after_two_full_periods():
    assert not season_is_enabled(47, HOUR, timedelta(days=1))
    assert season_is_enabled(48, HOUR, timedelta(days=1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"timezone": "Europe/Berlln"}, "IANA"), ({"holidays_of": "XX"}, "holidays package")],
    ids=["zone", "country"],
)
def test_an_unknown_zone_or_country_is_refused_by_name(changes, words):
    with pytest.raises(BadSeries, match=words):
        DemandCalendar(**changes)
