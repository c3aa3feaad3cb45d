"""Local time, holidays and planned events: the only place where local time exists."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from forecaster.errors import BadSeries
from forecaster.series import FloatArray, require_utc

IntArray = NDArray[np.int64]
DAY_SECONDS = 86_400
OFFSET_GRID_SECONDS = 900  # every zone in use since 1970 changes its offset on a quarter of an hour (UTC)


@dataclass(frozen=True, kw_only=True)
class PlannedEvent:
    """Demand in [start, end) is expected to be `factor` times what it would be otherwise (factor > 0)."""

    name: str
    start: datetime
    end: datetime
    factor: float

    def __post_init__(self) -> None:
        require_utc(self.start, f"event {self.name} start")
        require_utc(self.end, f"event {self.name} end")
        if self.end <= self.start or not self.factor > 0:
            raise BadSeries(f"event {self.name}: need end after start and factor > 0, have factor {self.factor}")


@dataclass(frozen=True, kw_only=True)
class DemandCalendar:
    """What the clock on the wall and the calendar beside it say about demand.

    `timezone` is an IANA name; `holidays_of` a country code of the `holidays` package, optionally with a subdivision
    ("DE" or "DE-BY"), "" for none; events multiply.
    """

    timezone: str = "UTC"
    holidays_of: str = ""
    events: tuple[PlannedEvent, ...] = ()

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise BadSeries(f"calendar timezone: {self.timezone!r} is no IANA zone (such as Europe/Berlin)") from error
        if self.holidays_of:
            _holidays(self.holidays_of, 2026)

    def offsets(self, start: datetime, step: timedelta, n_steps: int) -> IntArray:
        """Seconds that local time is ahead of UTC in each bin, shape (n_steps,)."""
        epochs = _epochs(start, step, n_steps)
        if self.timezone == "UTC" or n_steps == 0:
            return np.zeros(n_steps, dtype=np.int64)
        grid, back = np.unique(epochs // OFFSET_GRID_SECONDS, return_inverse=True)
        # Offsets change a few times a year: ask per day, and per quarter hour only within days that have a change.
        days, day_of = np.unique(grid * OFFSET_GRID_SECONDS // DAY_SECONDS, return_inverse=True)
        edges = np.array([_offset(self.timezone, int(day) * DAY_SECONDS) for day in [*days, days[-1] + 1]])
        ends = np.array([_offset(self.timezone, (int(day) + 1) * DAY_SECONDS) for day in days])
        on_grid = edges[:-1][day_of]
        for i in np.flatnonzero(edges[:-1] != ends):
            for j in np.flatnonzero(day_of == i):
                on_grid[j] = _offset(self.timezone, int(grid[j]) * OFFSET_GRID_SECONDS)
        return np.asarray(on_grid[back], dtype=np.int64)

    def local_seconds(self, start: datetime, step: timedelta, n_steps: int) -> IntArray:
        """Seconds since the local epoch at the start of each bin, shape (n_steps,): // 86400 is the local day."""
        return _epochs(start, step, n_steps) + self.offsets(start, step, n_steps)

    def is_free_day(self, start: datetime, step: timedelta, n_steps: int) -> NDArray[np.bool_]:
        """Whether each bin lies on a local Saturday, Sunday or holiday, shape (n_steps,)."""
        if n_steps == 0:
            return np.zeros(0, dtype=np.bool_)
        days = self.local_seconds(start, step, n_steps) // DAY_SECONDS
        first, last = int(days.min()), int(days.max())
        return np.asarray(free_days(self.holidays_of, first, last - first + 1)[days - first])

    def factors(self, start: datetime, step: timedelta, n_steps: int) -> FloatArray:
        """The product of the factors of the events under way in each bin, 1 without any, shape (n_steps,)."""
        epochs = _epochs(start, step, n_steps)
        factors = np.ones(n_steps)
        for event in self.events:
            inside = (epochs >= event.start.timestamp()) & (epochs < event.end.timestamp())
            factors[inside] *= event.factor
        return factors


@lru_cache(maxsize=64)
def offset_changes(timezone: str) -> tuple[FloatArray, FloatArray]:
    """When local time changes against UTC, for plain loops: `edges` (n + 1,), epoch seconds from minus to plus
    infinity, and `offsets` (n,), the seconds that local time is ahead between two edges. Known from 2000 to 2060;
    beyond, the outermost offset."""
    if timezone == "UTC":
        return np.array([-np.inf, np.inf]), np.zeros(1)
    first, last = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) // DAY_SECONDS for year in (2000, 2060))
    by_day = [_offset(timezone, day * DAY_SECONDS) for day in range(first, last + 1)]
    edges, offsets = [-np.inf], [by_day[0]]
    for i in np.flatnonzero(np.diff(by_day)):
        begin = (first + int(i)) * DAY_SECONDS
        for epoch in range(begin + OFFSET_GRID_SECONDS, begin + DAY_SECONDS + 1, OFFSET_GRID_SECONDS):
            if _offset(timezone, epoch) != offsets[-1]:
                edges.append(epoch)
                offsets.append(_offset(timezone, epoch))
    return np.array([*edges, np.inf], dtype=np.float64), np.array(offsets, dtype=np.float64)


@lru_cache(maxsize=1024)
def free_days(holidays_of: str, first_day: int, n_days: int) -> NDArray[np.bool_]:
    """Whether each of `n_days` local days is a Saturday, a Sunday or a holiday, shape (n_days,). Days count from 1
    January 1970; `holidays_of` as in DemandCalendar."""
    days = range(first_day, first_day + n_days)
    free = np.array([(day + 3) % 7 >= 5 for day in days], dtype=np.bool_)  # 1 January 1970 was a Thursday
    if holidays_of:
        dates = [(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date() for day in days]
        free |= np.array([date in _holidays(holidays_of, date.year) for date in dates], dtype=np.bool_)
    free.setflags(write=False)
    return free


def steps_of_season(step: timedelta, period: timedelta) -> int:
    """A season counts only when two full periods of it have been seen: so many steps."""
    return -(-2 * period // step)


def season_is_enabled(n_steps: int, step: timedelta, period: timedelta) -> bool:
    """Whether `n_steps` hold enough of a season for it to count."""
    return n_steps >= steps_of_season(step, period)


def _epochs(start: datetime, step: timedelta, n_steps: int) -> IntArray:
    return np.asarray(np.floor(start.timestamp() + step.total_seconds() * np.arange(n_steps)), dtype=np.int64)


@lru_cache(maxsize=4096)
def _offset(timezone: str, epoch: int) -> int:
    offset = datetime.fromtimestamp(epoch, ZoneInfo(timezone)).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


@lru_cache(maxsize=64)
def _holidays(code: str, year: int) -> frozenset[object]:
    import holidays  # takes a fifth of a second to import; most calendars have none

    country, _, subdivision = code.partition("-")
    try:
        return frozenset(holidays.country_holidays(country, subdiv=subdivision or None, years=year))
    except NotImplementedError as error:
        raise BadSeries(
            f"calendar holidays: {code!r} is no country of the holidays package (such as DE or DE-BY)"
        ) from error
