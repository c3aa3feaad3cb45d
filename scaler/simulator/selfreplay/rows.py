"""The past of one endpoint as rows of signals, each made once with the models of its time."""

from datetime import datetime, timedelta

import numpy as np

from forecaster.calendar import DemandCalendar
from forecaster.lead import LEVELS, LeadModel, fit_lead_model
from forecaster.leadfeatures import DAY_SECONDS, HISTORY_DAYS, MINUTE_SECONDS, DemandTape, typical_demand
from forecaster.series import DemandSeries, FloatArray
from scaler.core.bounds import bounds_of
from scaler.domain.policy import ScalingPolicy
from scaler.domain.setting import Source
from scaler.simulator.compiled import IntArray, Rules, Signals
from scaler.simulator.selfreplay.family import COLUMN_LEVELS, Family
from scaler.simulator.selfreplay.fast import panic_demand, triggers_of
from scaler.simulator.selfreplay.signals import PEAK_SECONDS, BaseRows, Residuals, base_rows, fit_residuals, held
from scaler.simulator.selfreplay.spoil import Spoil

FIRST_FIT = timedelta(hours=12)
GROWTH_TO_REFIT, LATEST_REFIT = 1.5, timedelta(days=3)
"""The lead-time model is fitted anew when history has grown by half, and every third day at the latest: it changes
slowly, and its fit is the most expensive part of a replay."""
RESIDUALS_EVERY = timedelta(hours=6)


class RowMaker:
    """Mutable: bins are appended to `tape`, rows are made up to `made`, and forgotten once no hold needs them.

    Without `forecasts` no model is ever fitted: every column is reactive. Row t stands for a turn at the start of bin
    t and reads the bins before it. Bins and rows count from `start`.
    """

    def __init__(
        self,
        policy: ScalingPolicy,
        rules: Rules,
        family: Family,
        start: datetime,
        step: timedelta,
        forecasts: bool = True,
    ) -> None:
        self._forecasts = forecasts
        self.policy, self.rules, self.family, self.start, self.step = policy, rules, family, start, step
        told = policy.spec.forecast.calendar
        self.calendar = DemandCalendar(timezone=told.timezone, holidays_of=told.holidays)
        self.tape = DemandTape(np.empty(0), start.timestamp(), step.total_seconds(), self.calendar)
        self.made = 0
        self.spoil: Spoil | None = None
        self.spoil_from = 0
        self._model: LeadModel | None = None
        self._residuals: Residuals | None = None
        self._fitted_at = self._residuals_at = 0
        self._rows = _no_rows()
        self._true_rows = self._rows
        self._rows_from = 0

    def start_at(self, first: int) -> None:
        """Make no rows before `first`: for a past that is not replayed."""
        self.made = self._rows_from = first

    def append(self, series: DemandSeries) -> None:
        """Take over the bins of `series` that end after the tape does; bins between were not seen (NaN)."""
        offset = round((series.start - self.start) / self.step)
        known = len(self.tape)
        if offset > known:
            self.tape.append(np.full(offset - known, np.nan))
            known = offset
        if offset + len(series) > known:
            self.tape.append(series.values[known - offset :])

    def make(self, last: int) -> None:
        """Make the rows up to `last` (exclusive) with the present models; needs the bins before `last` - 1."""
        if last > self.made:
            self._add(
                base_rows(self.tape, self.made, last, self.rules.lead_steps, self._model, self._residuals), self.tape, 0
            )

    def make_ahead(self, foreseen: DemandSeries, least: int, most: int) -> None:
        """Make the rows up to `most` from demand that is known beforehand (replay only), as far as it reaches; at least
        those up to `least`. The tape stays what it is."""
        most = max(most, least)  # a refit that failed leaves the present beyond its own period
        offset = round((foreseen.start - self.start) / self.step)
        origin = max(0, offset, self.made - self.tape.steps(HISTORY_DAYS * DAY_SECONDS))
        values = foreseen.values[origin - offset : max(most - offset, 0)]
        tape_start = (self.start + origin * self.step).timestamp()
        tape = DemandTape(values, tape_start, self.rules.step_seconds, self.calendar)
        last = max(least, min(most, origin + len(tape) + 1))
        first = self.made - origin
        self._add(
            base_rows(tape, first, last - origin, self.rules.lead_steps, self._model, self._residuals), tape, origin
        )

    def _add(self, rows: BaseRows, tape: DemandTape, origin: int) -> None:
        """Append true rows, and the same with their forecasts replaced where a fault asks for it."""
        first, last = self.made, self.made + len(rows.now)
        wrong = rows
        if self.spoil is not None and last > self.spoil_from:
            numbers = np.arange(first, last)
            typical = typical_demand(tape, numbers - origin)
            spoilt = self.spoil.apply(rows, self._true_rows, numbers, typical, self.step)
            wrong = _chosen(rows, spoilt, numbers >= self.spoil_from)
        self._rows = joined(self._rows, wrong)
        self._true_rows = joined(self._true_rows, rows) if self.spoil is not None else self._rows
        self.made = last

    def refit(self, end: int) -> None:
        """Fit what is due on the bins before `end`."""
        grown = end >= GROWTH_TO_REFIT * self._fitted_at or end - self._fitted_at >= LATEST_REFIT // self.step
        fit_lead = end >= FIRST_FIT // self.step and grown
        fit_res = end - self._residuals_at >= RESIDUALS_EVERY // self.step
        if not self._forecasts or not (fit_lead or fit_res):
            return
        past = DemandTape(self.tape.values[:end], self.start.timestamp(), self.rules.step_seconds, self.calendar)
        if fit_lead:
            self._model = fit_lead_model([past], self.rules.lead_steps, PEAK_SECONDS)
            self._fitted_at = end
        if fit_res:
            self._residuals = fit_residuals(past, self.rules.lead_steps)
            self._residuals_at = end

    def forget(self, before: int) -> None:
        """Keep only the rows that holds, faults and watches from row `before` on still need."""
        reach = max(self.family.holds_steps) + self.rules.lead_steps + self.tape.steps(MINUTE_SECONDS)
        if self.spoil is not None:
            reach = max(reach, self.spoil.shift_steps(self.step))
        gone = max(0, before - reach - self._rows_from)
        self._rows, self._true_rows = _without(self._rows, gone), _without(self._true_rows, gone)
        self._rows_from += gone

    def signals(self, first: int, last: int) -> Signals:
        """What the compiled replay reads for the made rows first..last-1. Demand that was not seen counts as none."""
        begin, stop, n = first - self._rows_from, last - self._rows_from, last - first
        work = np.zeros(n)
        seen = self.tape.values[first:last]
        work[: len(seen)] = np.nan_to_num(seen) * self.rules.step_seconds
        lowest, highest = bounds_of(self.policy, [self.start + k * self.step for k in range(first, last)])
        lately = self._lately(first, last)
        now = np.ascontiguousarray(self._rows.now[begin:stop])
        least, held_in = triggers_of(self.policy, self.tape.values, first, last, self.step)
        return Signals(
            arrivals=work,
            now=now,
            ahead=held(self._rows.ahead[:, :stop], self.family, n),
            floors=np.ascontiguousarray(self._rows.floors[:, begin:stop]),
            peaks=np.ascontiguousarray(self._rows.peaks[:, begin:stop]),
            keep=lately,
            pre_warm=np.zeros(n, dtype=np.bool_),
            lowest=lowest,
            highest=highest,
            least=least,
            held=held_in,
            panic=panic_demand(self.policy, now, self.tape.values, first, last, self.step),
        )

    def _lately(self, first: int, last: int) -> "np.typing.NDArray[np.bool_]":
        """Per row whether demand was seen less than minIdle ago."""
        wait = self.policy.spec.scale_to_zero.min_idle / self.step
        begin = max(0, first - int(np.ceil(wait)) - 1)
        above = self.tape.values[begin : max(last - 1, begin)] > 0
        index = np.where(above, np.arange(begin, begin + len(above)), -(2**40))
        latest = np.maximum.accumulate(index) if len(index) else index
        rows = np.arange(first, last)
        at = rows - 1 - begin
        recent = np.where(at >= 0, latest[np.maximum(at, 0)] if len(latest) else 0, -(2**40))
        return np.asarray((rows - recent < wait) & (at >= 0))

    def now(self, at: int) -> float:
        """Demand of the last full minute at the made row `at`; NaN: not seen."""
        return float(self._rows.now[at - self._rows_from])

    def watched(self, at: int, level: float) -> float:
        """The lead model's quantile that row `at` gave; NaN if that row is gone or nothing was known."""
        index = at - self._rows_from
        column = COLUMN_LEVELS.index((Source.LEAD_MODEL, level))
        return float(self._rows.ahead[column, index]) if index >= 0 and self._model is not None else np.nan

    @property
    def kept_from(self) -> int:
        """The first row that is not forgotten."""
        return self._rows_from

    def gaps(self, first: int, last: int, *levels: float) -> FloatArray:
        """How far the lead model's quantiles at `levels` lie above demand now, on the square root scale: (n_levels, n)
        of the made rows first..last-1; NaN where nothing was known."""
        if self._model is None:
            return np.full((len(levels), last - first), np.nan)
        part = slice(first - self._rows_from, last - self._rows_from)
        columns = [COLUMN_LEVELS.index((Source.LEAD_MODEL, level)) for level in levels]
        return np.asarray(np.sqrt(self._rows.ahead[columns, part]) - np.sqrt(self._rows.now[part]))

    def of_setting(self, at: int, setting: int) -> tuple[float, float, float]:
        """(demand ahead, dip floor, peak soon) that `setting` reads at the made row `at`."""
        index, columns = at - self._rows_from, self.family.columns
        hold, column = divmod(int(columns.ahead[setting]), len(COLUMN_LEVELS))
        window = self._rows.ahead[column, max(0, index + 1 - self.family.holds_steps[hold]) : index + 1]
        ahead = float(np.max(window, where=~np.isnan(window), initial=-np.inf))
        return (
            ahead,
            float(self._rows.floors[columns.floor[setting], index]),
            float(self._rows.peaks[columns.peak[setting], index]),
        )


def _no_rows() -> BaseRows:
    return BaseRows(
        now=np.empty(0), ahead=np.empty((len(COLUMN_LEVELS), 0)), peaks=np.empty((2, 0)), floors=np.empty((3, 0))
    )


def joined(before: BaseRows, after: BaseRows) -> BaseRows:
    """Rows in a row."""
    return BaseRows(
        now=np.concatenate([before.now, after.now]),
        ahead=np.concatenate([before.ahead, after.ahead], axis=1),
        peaks=np.concatenate([before.peaks, after.peaks], axis=1),
        floors=np.concatenate([before.floors, after.floors], axis=1),
    )


def _without(rows: BaseRows, gone: int) -> BaseRows:
    return BaseRows(
        now=rows.now[gone:], ahead=rows.ahead[:, gone:], peaks=rows.peaks[:, gone:], floors=rows.floors[:, gone:]
    )


def _chosen(rows: BaseRows, others: BaseRows, other: "np.typing.NDArray[np.bool_]") -> BaseRows:
    return BaseRows(
        now=rows.now,
        ahead=np.where(other, others.ahead, rows.ahead),
        peaks=np.where(other, others.peaks, rows.peaks),
        floors=rows.floors,
    )


__all__ = ["LEVELS", "FloatArray", "IntArray", "RowMaker", "joined"]
