"""The histories of one or many endpoints on one grid: what every method eats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import DAY_SECONDS, DemandCalendar, IntArray, steps_of_season
from forecaster.errors import BadSeries
from forecaster.series import DemandSeries, FloatArray, require_utc

LOOK_AHEAD = timedelta(days=8)  # how far beyond the history local time is laid out


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Demand of `keys` on one UTC grid; `values` has shape (n_series, n_steps), is read-only, >= 0, NaN = not seen."""

    keys: tuple[str, ...]
    start: datetime
    step: timedelta
    values: FloatArray
    calendar: DemandCalendar = field(default_factory=DemandCalendar)

    def __post_init__(self) -> None:
        require_utc(self.start, "panel start")
        values = np.ascontiguousarray(self.values, dtype=np.float64)
        if values.ndim != 2 or len(values) != len(self.keys):
            raise BadSeries(f"panel values: need shape ({len(self.keys)}, n_steps), have {values.shape}")
        if values is self.values:
            values = values.view()
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @classmethod
    def of(cls, series_by_key: Mapping[str, DemandSeries], calendar: DemandCalendar | None = None) -> Self:
        """All series on the grid that spans them; bins outside a series are NaN. Raises BadSeries on unequal grids."""
        if not series_by_key:
            raise BadSeries("panel: need at least one series, have none")
        first = next(iter(series_by_key.values()))
        start = min(series.start for series in series_by_key.values())
        end = max(series.end for series in series_by_key.values())
        n_steps = (end - start) // first.step
        values = np.full((len(series_by_key), n_steps), np.nan)
        for row, (key, series) in zip(values, series_by_key.items(), strict=True):
            offset, rest = divmod(series.start - start, first.step)
            if series.step != first.step or rest:
                raise BadSeries(
                    f"panel: series {key} has step {series.step} from {series.start}, need {first.step} grid"
                )
            row[offset : offset + len(series)] = series.values
        return cls(
            keys=tuple(series_by_key),
            start=start,
            step=first.step,
            values=values,
            calendar=calendar or DemandCalendar(),
        )

    @property
    def n_series(self) -> int:
        return len(self.values)

    @property
    def n_steps(self) -> int:
        return int(self.values.shape[1])

    @property
    def step_seconds(self) -> float:
        return self.step.total_seconds()

    @property
    def end(self) -> datetime:
        return self.start + self.n_steps * self.step

    def steps(self, span: timedelta) -> int:
        """How many steps `span` takes, at least one."""
        return max(round(span / self.step), 1)

    def until(self, n_steps: int) -> Self:
        """Only the first `n_steps` bins."""
        return type(self)(
            keys=self.keys, start=self.start, step=self.step, values=self.values[:, :n_steps], calendar=self.calendar
        )

    @cached_property
    def local_seconds(self) -> IntArray:
        """Local seconds of every bin and of LOOK_AHEAD beyond the last, shape (n_steps + ahead,)."""
        return self.calendar.local_seconds(self.start, self.step, self.n_steps + self.steps(LOOK_AHEAD))

    @cached_property
    def free_days(self) -> NDArray[np.bool_]:
        """Whether bins (and LOOK_AHEAD beyond) lie on weekends or holidays."""
        return self.calendar.is_free_day(self.start, self.step, self.n_steps + self.steps(LOOK_AHEAD))

    def same_type(self, one: IntArray, other: IntArray) -> NDArray[np.bool_]:
        """Whether bins lie on days of the same type, free or working, for shapes that broadcast; bins outside what the
        calendar covers count as the nearest within."""
        last = len(self.free_days) - 1
        return np.asarray(self.free_days[np.clip(one, 0, last)] == self.free_days[np.clip(other, 0, last)])

    def week_is_known(self, origins: IntArray) -> NDArray[np.bool_]:
        """Whether two full weeks lie before each origin: before that a weekly season does not count, and a day a week
        ago is a day like others, only older."""
        return np.asarray(origins >= steps_of_season(self.step, timedelta(days=7)))

    def days_before(self, bins: IntArray, n_days: int) -> IntArray:
        """The bins at the same local time `n_days` earlier; may be negative, which lies before the history.

        Across a change of summer time the lag is an hour more or less than n_days * 24 h.
        """
        lag = round(n_days * DAY_SECONDS / self.step_seconds)
        earlier = bins - lag
        if self.calendar.timezone == "UTC":
            return earlier
        local = self.local_seconds
        last = len(local) - 1
        drift = local[np.clip(bins, 0, last)] - local[np.clip(earlier, 0, last)] - n_days * DAY_SECONDS
        drift = np.where((earlier < 0) | (bins > last), 0, drift)
        return earlier + np.round(drift / self.step_seconds).astype(np.int64)
