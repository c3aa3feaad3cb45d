"""One endpoint's past, replayed under every setting, an hour at a time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from forecaster.lead import LeadModel, fit_lead_model
from forecaster.leadfeatures import DAY_SECONDS, HISTORY_DAYS, DemandTape
from forecaster.series import DemandSeries
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile
from scaler.domain.setting import Choice, ReplayedCost, Setting, Source
from scaler.simulator.compiled import IntArray, Rules, Signals, State, new_state, replay
from scaler.simulator.selfreplay.choice import Budget, ReplayedSums, choose
from scaler.simulator.selfreplay.family import COLUMN_LEVELS, Family, settings_family
from scaler.simulator.selfreplay.fast import bounds_of, rules_of
from scaler.simulator.selfreplay.signals import PEAK_SECONDS, BaseRows, Residuals, base_rows, fit_residuals, held

FIRST_FIT = timedelta(hours=12)
GROWTH_TO_REFIT, LATEST_REFIT = 1.5, timedelta(days=3)
"""The lead-time model is fitted anew when history has grown by half, and every third day at the latest: it changes slowly,
and its fit is the most expensive part of a replay."""
RESIDUALS_EVERY = timedelta(hours=6)
ENOUGH_HISTORY = timedelta(hours=12)
"""Before so much was replayed the cautious default plays."""
OWN, PLAN, SHADOW = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one turn reads, of the playing setting and of the shadow reactive one."""

    now: float
    ahead: float
    floor: float
    peak: float
    baseline_ahead: float


class EndpointReplay:
    """The past of one endpoint and what its replay has shown. Mutable: bins are appended, `catch_up` replays them.

    Rows count bins since `start`. `made` rows are made (with the models of their time), `replayed` rows are replayed.
    """

    def __init__(self, policy: ScalingPolicy, profile: CapacityProfile, start: datetime, step: timedelta) -> None:
        self.policy, self.profile, self.start, self.step = policy, profile, start, step
        self.rules: Rules = rules_of(policy, profile, step)
        target = policy.spec.capacity.utilization.target
        utilizations = (target, 1.0) if target < 1.0 else (1.0,)
        self.family: Family = settings_family(utilizations, profile.startup.p50, step)
        self.tape = DemandTape(np.empty(0), start.timestamp(), step.total_seconds())
        self.model: LeadModel | None = None
        self.residuals: Residuals | None = None
        self.made = self.replayed = 0
        self._fitted_at = self._residuals_at = 0
        self._rows = _no_rows()
        self._rows_from = 0
        self._states: tuple[State, State] = self._new_states()
        n = len(self.family.settings)
        self.sums = ReplayedSums(n)
        objective = policy.spec.slo.objective
        self._budgets = {PLAN: Budget(objective), SHADOW: Budget(objective)}
        self._plays = np.full(3, self._default(), dtype=np.int64)
        self._runner_up = self._default()
        self._reactive = np.flatnonzero(self.family.is_reactive)
        self._members = self._allowed_members()
        self.demoted = ""

    def _new_states(self) -> tuple[State, State]:
        first = max(1, self.policy.spec.replicas.min)
        return new_state(len(self.family.settings), self.rules, first), new_state(3, self.rules, first)

    def _default(self) -> int:
        """The cautious reactive setting that plays before anything was replayed."""
        startup = self.profile.startup.p50
        return self.family.settings.index(
            Setting(
                source=Source.REACTIVE,
                level=1.6,
                hold=3 * startup,
                guard=timedelta(hours=1),
                utilization_fraction=self.policy.spec.capacity.utilization.target,
            )
        )

    def _allowed_members(self) -> IntArray:
        """All settings; with a fixed risk only the lead model's at the nearest level, one start-up time held."""
        risk = self.policy.spec.forecast.risk
        if risk == "auto":
            return np.arange(len(self.family.settings))
        levels = [level for source, level in COLUMN_LEVELS if source is Source.LEAD_MODEL]
        nearest = min(levels, key=lambda level: abs(level - risk))
        fixed = Setting(
            source=Source.LEAD_MODEL,
            level=nearest,
            hold=self.profile.startup.p50,
            utilization_fraction=self.policy.spec.capacity.utilization.target,
        )
        return np.array([self.family.settings.index(fixed)])

    def append(self, series: DemandSeries) -> None:
        """Take over the bins of `series` that end after the tape does; bins between are not seen (NaN)."""
        offset = round((series.start - self.start) / self.step)
        known = len(self.tape)
        if offset > known:
            self.tape.append(np.full(offset - known, np.nan))
            known = offset
        if offset + len(series) > known:
            self.tape.append(series.values[known - offset :])

    def make_rows(self, last: int) -> None:
        """Make the rows up to `last` (exclusive) with the present models. Row t needs the bins before t."""
        if last <= self.made:
            return
        rows = base_rows(self.tape, self.made, last, self.rules.lead_steps, self.model, self.residuals)
        self._rows = _joined(self._rows, rows)
        self.made = last

    def make_rows_ahead(self, foreseen: DemandSeries, least: int, most: int) -> None:
        """Make the rows up to `most` from demand that is known beforehand (replay only), as far as it reaches; at least
        those up to `least`. The tape stays what it is."""
        first = max(0, self.made - self.tape.steps(HISTORY_DAYS * DAY_SECONDS))
        known = foreseen.until(self.start + most * self.step)
        offset = round((foreseen.start - self.start) / self.step)
        skipped = max(0, first - offset)
        tape = DemandTape(
            known.values[skipped:],
            (self.start + max(first, offset) * self.step).timestamp(),
            self.rules.step_seconds,
        )
        origin = max(first, offset)
        last = max(least, min(most, origin + len(tape)))
        rows = base_rows(tape, self.made - origin, last - origin, self.rules.lead_steps, self.model, self.residuals)
        self._rows = _joined(self._rows, rows)
        self.made = last

    def catch_up(self, last: int, block: int) -> None:
        """Replay the steps up to `last` (exclusive) in blocks; refit and choose anew after each."""
        while self.replayed < last:
            end = min(self.replayed + block, last)
            self.make_rows(end)
            self._replay(self.replayed, end)
            self.replayed = end
            self._refit_models(end)
            self._choose()
            self._forget_rows()

    def _signals(self, first: int, last: int) -> Signals:
        """Signals of the made rows first..last-1."""
        begin, stop = first - self._rows_from, last - self._rows_from
        n = last - first
        work = np.nan_to_num(self.tape.values[first:last])
        arrivals = np.zeros(n)
        arrivals[: len(work)] = work * (self.rules.step_seconds if self.rules.is_rate else 1.0)
        lowest, highest = bounds_of(self.policy, [self.start + k * self.step for k in range(first, last)])
        return Signals(
            arrivals=arrivals,
            now=self._rows.now[begin:stop],
            ahead=held(self._rows.ahead[:, :stop], self.family, n),
            floors=np.ascontiguousarray(self._rows.floors[:, begin:stop]),
            peaks=np.ascontiguousarray(self._rows.peaks[:, begin:stop]),
            keep=np.zeros(n, dtype=np.bool_),
            pre_warm=np.zeros(n, dtype=np.bool_),
            lowest=lowest,
            highest=highest,
        )

    def _replay(self, first: int, last: int) -> None:
        signals = self._signals(first, last)
        n = len(self.family.settings)
        every, played = self._states
        cost, bad = np.zeros(n), np.zeros(n)
        replay(signals, self.family.columns, np.arange(n), self.rules, every, cost, bad, np.zeros((n, 0), np.int64))
        own_cost, own_bad = np.zeros(3), np.zeros(3)
        replay(signals, self.family.columns, self._plays, self.rules, played, own_cost, own_bad, np.zeros((3, 0), np.int64))
        hours = (last - first) * self.rules.step_seconds / 3600
        arrived = float(signals.arrivals.sum())
        self.sums.add(cost, bad, arrived, hours)
        for run, budget in self._budgets.items():
            budget.spend(arrived, float(own_bad[run]), hours)

    def _refit_models(self, end: int) -> None:
        """Fit what is due on the bins before `end`."""
        past = DemandTape(self.tape.values[:end], self.start.timestamp(), self.rules.step_seconds)
        if end >= FIRST_FIT // self.step and (
            end >= GROWTH_TO_REFIT * self._fitted_at or end - self._fitted_at >= LATEST_REFIT // self.step
        ):
            self.model = fit_lead_model([past], self.rules.lead_steps, PEAK_SECONDS)
            self._fitted_at = end
        if end - self._residuals_at >= RESIDUALS_EVERY // self.step:
            self.residuals = fit_residuals(past, self.rules.lead_steps)
            self._residuals_at = end

    def _choose(self) -> None:
        if self.replayed < ENOUGH_HISTORY // self.step:
            return
        unit_work = self.rules.capacity * self.rules.step_seconds
        shadow, _ = choose(self.sums, self._budgets[SHADOW], self._reactive, unit_work)
        plan, self._runner_up = choose(self.sums, self._budgets[PLAN], self._members, unit_work)
        self._plays[PLAN], self._plays[SHADOW] = plan, shadow
        self._plays[OWN] = shadow if self.demoted else plan

    def _forget_rows(self) -> None:
        """Keep only the rows that the longest hold still needs."""
        keep_from = max(self._rows_from, self.replayed - max(self.family.holds_steps))
        gone = keep_from - self._rows_from
        self._rows = BaseRows(
            now=self._rows.now[gone:],
            ahead=self._rows.ahead[:, gone:],
            peaks=self._rows.peaks[:, gone:],
            floors=self._rows.floors[:, gone:],
        )
        self._rows_from = keep_from

    def row(self, at: int) -> Row:
        """The signals of the made row `at` for the setting that plays."""
        index, columns = at - self._rows_from, self.family.columns
        own, shadow = int(self._plays[OWN]), int(self._plays[SHADOW])
        return Row(
            now=float(self._rows.now[index]),
            ahead=self._held_at(index, own),
            floor=float(self._rows.floors[columns.floor[own], index]),
            peak=float(self._rows.peaks[columns.peak[own], index]),
            baseline_ahead=self._held_at(index, shadow),
        )

    def _held_at(self, index: int, setting: int) -> float:
        hold, column = divmod(int(self.family.columns.ahead[setting]), len(COLUMN_LEVELS))
        window = self._rows.ahead[column, max(0, index + 1 - self.family.holds_steps[hold]) : index + 1]
        return float(np.max(window, where=~np.isnan(window), initial=-np.inf))

    def choice(self, now: datetime) -> Choice:
        """The setting that plays, with what its replay showed."""
        own = int(self._plays[OWN])
        enough = self.replayed >= ENOUGH_HISTORY // self.step
        return Choice(
            setting=self.family.settings[own],
            chosen_at=now,
            replayed=self._replayed_cost(own) if enough else None,
            runner_up=self._replayed_cost(self._runner_up) if enough and self._runner_up != own else None,
            demoted=self.demoted,
        )

    def _replayed_cost(self, setting: int) -> ReplayedCost:
        total = max(float(self.sums.arrived.sum()), 1e-12)
        return ReplayedCost(
            setting=self.family.settings[setting],
            replica_hours=float(self.sums.cost[:, setting].sum()) * self.rules.step_seconds / 3600,
            bad_fraction=min(1.0, float(self.sums.bad[:, setting].sum()) / total),
            days=min(self.sums.hours, 72.0) / 24,
        )


def _no_rows() -> BaseRows:
    return BaseRows(
        now=np.empty(0), ahead=np.empty((len(COLUMN_LEVELS), 0)), peaks=np.empty((2, 0)), floors=np.empty((3, 0))
    )


def _joined(before: BaseRows, after: BaseRows) -> BaseRows:
    return BaseRows(
        now=np.concatenate([before.now, after.now]),
        ahead=np.concatenate([before.ahead, after.ahead], axis=1),
        peaks=np.concatenate([before.peaks, after.peaks], axis=1),
        floors=np.concatenate([before.floors, after.floors], axis=1),
    )
