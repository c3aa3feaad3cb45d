"""The paths that are played: the plan, its shadow without any forecast, and what is really ordered."""

from typing import Any, NamedTuple

import numpy as np

from forecaster.leadfeatures import MINUTE_SECONDS
from forecaster.series import FloatArray
from scaler.domain.policy import ScalingPolicy
from scaler.simulator.compiled import Columns, IntArray, Rules, Signals, new_state, replay
from scaler.simulator.selfreplay.choice import Budget, ReplayedSums, choose
from scaler.simulator.selfreplay.family import Family
from scaler.simulator.selfreplay.rows import RowMaker
from scaler.simulator.selfreplay.watch import (
    BARRED_HOURS,
    LONG_BUDGETS,
    LONG_HOURS,
    SHORT_BUDGETS,
    SHORT_HOURS,
    SHORT_PREMIUM,
    WATCHED,
    PremiumWatch,
    SurpriseWatch,
)

ENOUGH_HOURS = 12.0
"""Before so much was replayed the cautious default plays."""
PLAN, SHADOW, OWN = 0, 1, 2
N_PATHS = 3


class BlockOutcome(NamedTuple):
    """What one block did to the paths PLAN, SHADOW and OWN: replica-steps and bad work, shape (3,); work that
    arrived."""

    cost: FloatArray
    bad: FloatArray
    arrived: float


class PlayedPaths:
    """Mutable: `play` a block, then `choose` for the next one. The plan is chosen among `members`, the shadow among the
    reactive settings; own is the plan, except where the plan is barred: there it is the shadow's setting."""

    def __init__(
        self, policy: ScalingPolicy, rules: Rules, family: Family, rows: RowMaker, members: IntArray, default: int
    ) -> None:
        self._rules, self._family, self._rows, self._members = rules, family, rows, members
        self._reactive = np.flatnonzero(family.is_reactive)
        self._max_premium = policy.spec.safety.max_premium
        objective = policy.spec.slo.objective
        self.promised = 1.0 - objective
        self.sums = ReplayedSums(len(family.settings))
        self._budgets = (Budget(objective), Budget(objective))
        self._state = new_state(N_PATHS, rules, max(1, policy.spec.replicas.min))
        self._plays = np.full(2, default, dtype=np.int64)
        self.runner_up = default
        self._long, self._short = PremiumWatch(objective, LONG_HOURS), PremiumWatch(objective, SHORT_HOURS)
        self._surprises = [SurpriseWatch(watched) for watched in WATCHED]
        self._over_premium = ""
        self._sampled = 0
        self._alarm_at = -(2**40)

    def play(self, signals: Signals, cost: FloatArray, bad: FloatArray, first: int, last: int) -> BlockOutcome:
        """The rows first..last-1 under the settings chosen before; `cost` and `bad` are what every setting did in
        them."""
        own_cost, own_bad = np.zeros(N_PATHS), np.zeros(N_PATHS)
        begin = first
        while begin < last:
            self.watch(begin)
            plays = np.append(self._plays, self.playing(begin))
            end = self._next_change(begin, last)
            part = _rows_of(signals, begin - first, end - first)
            no_orders = np.zeros((0, 0), dtype=np.int64)
            columns: Columns = self._family.columns
            replay(part, columns, plays, self._rules, self._state, own_cost, own_bad, no_orders)
            begin = end
        hours = (last - first) * self._rules.step_seconds / 3600
        arrived = float(signals.arrivals.sum())
        self.sums.add(cost, bad, arrived, hours, self.promised)
        for path, budget in enumerate(self._budgets):
            budget.spend(arrived, float(own_bad[path]), hours)
        costs = (float(own_cost[PLAN]), float(own_cost[SHADOW]))
        for premium in (self._long, self._short):
            premium.see(costs, (float(own_bad[PLAN]), float(own_bad[SHADOW])), arrived, hours)
        return BlockOutcome(own_cost, own_bad, arrived)

    def _next_change(self, begin: int, last: int) -> int:
        """The row at which an alarm or its end changes what plays, at the latest `last`."""
        playing = self.playing(begin)
        for at in range(begin + 1, last):
            self.watch(at)
            if self.playing(at) != playing:
                return at
        return last

    def choose(self) -> None:
        """Choose what plays next."""
        if self.sums.hours < ENOUGH_HOURS:
            return
        unit_work = self._rules.capacity * self._rules.step_seconds
        self._plays[SHADOW], _ = choose(self.sums, self._budgets[SHADOW], self._reactive, unit_work)
        self._plays[PLAN], self.runner_up = choose(self.sums, self._budgets[PLAN], self._members, unit_work)
        short = max(SHORT_PREMIUM, self._max_premium)
        self._over_premium = self._long.verdict(self._max_premium, LONG_BUDGETS) or self._short.verdict(
            short, SHORT_BUDGETS
        )

    def watch(self, at: int) -> None:
        """Let the surprise watch see the newest minute at the made row `at`, once the last sample lies a lead back."""
        apart = self._rules.lead_steps + self._rows.tape.steps(MINUTE_SECONDS)
        if at - self._sampled < apart:
            return
        self._sampled = at
        demand = self._rows.now(at)
        for surprise in self._surprises:
            if surprise.see(demand, self._rows.watched(at - apart, surprise.watched.level)):
                self._alarm_at = at

    def why_demoted(self, at: int) -> str:
        """Why forecast settings are barred at row `at`; "" when they are not."""
        if self._over_premium:
            return self._over_premium
        barred = 0 <= at - self._alarm_at < BARRED_HOURS * 3600 / self._rules.step_seconds
        return "demand left the forecast's band more often than chance explains" if barred else ""

    def alarmed(self, at: int, steps: int) -> bool:
        """Whether an alarm was raised less than `steps` before row `at`."""
        return 0 <= at - self._alarm_at < steps

    def playing(self, at: int) -> int:
        """The setting that plays at row `at`."""
        return int(self._plays[SHADOW if self.why_demoted(at) else PLAN])

    def shadow(self) -> int:
        """The setting that the shadow reactive policy plays."""
        return int(self._plays[SHADOW])


def _rows_of(signals: Signals, first: int, last: int) -> Signals:
    """The rows first..last-1 of a block."""
    if first == 0 and last == len(signals.now):
        return signals
    parts: tuple[Any, ...] = tuple(np.ascontiguousarray(part[..., first:last]) for part in signals)
    return Signals(*parts)
