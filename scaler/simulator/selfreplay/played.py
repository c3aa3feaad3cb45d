"""The paths that are played: the plan, its shadow without any forecast, and what is really ordered."""

from typing import Any, NamedTuple

import numpy as np

from forecaster.series import FloatArray
from scaler.domain.policy import ScalingPolicy
from scaler.simulator.compiled import Columns, IntArray, Outcomes, Rules, Signals, new_state, no_outcomes, replay
from scaler.simulator.selfreplay.choice import START_PRICE, Budget, Prior, ReplayedSums, choose
from scaler.simulator.selfreplay.family import Family
from scaler.simulator.selfreplay.premium import Premium
from scaler.simulator.selfreplay.rows import RowMaker
from scaler.simulator.selfreplay.watch import WHY_BARRED, ForecastWatch, Stance

ENOUGH_HOURS = 12.0
"""Before so much was replayed the cautious default plays."""
PLAN, SHADOW, OWN = 0, 1, 2
N_PATHS = 3


class BlockOutcome(NamedTuple):
    """What one block did to the paths PLAN, SHADOW and OWN: replica-steps, bad work and starts, shape (3,); work that
    arrived."""

    cost: FloatArray
    bad: FloatArray
    starts: FloatArray
    arrived: float


class PlayedPaths:
    """Mutable: `play` a block, then `choose` for the next one. The plan is chosen among `members`, the shadow among the
    reactive settings; own is the plan, except where the plan is barred (there it is the shadow's setting) and where its
    forecast is doubted (there it is whichever of the two asks for more)."""

    def __init__(
        self, policy: ScalingPolicy, rules: Rules, family: Family, rows: RowMaker, members: IntArray, default: int
    ) -> None:
        self._rules, self._family, self._rows, self._members = rules, family, rows, members
        self._reactive = np.flatnonzero(family.is_reactive)
        objective = policy.spec.slo.objective
        self.promised = 1.0 - objective
        self.sums = ReplayedSums(len(family.settings))
        self._budgets = (Budget(objective), Budget(objective))
        self._state = new_state(N_PATHS, rules, max(1, policy.spec.replicas.min))
        self._plays = np.full(2, default, dtype=np.int64)
        self.runner_up = default
        self._premium = Premium(objective, policy.spec.safety.max_premium)
        self._over_premium = ""
        self._has_prior = False
        self._watch = ForecastWatch(rules, rows)

    def play(self, signals: Signals, outcomes: Outcomes, first: int, last: int) -> BlockOutcome:
        """The rows first..last-1 under the settings chosen before; `outcomes` are what every setting did in them."""
        own = no_outcomes(N_PATHS)
        self._watch.watch(last - 1)
        begin = first
        while begin < last:
            end = last if self._over_premium else self._watch.next_change(begin, last)
            self._play_part(_rows_of(signals, begin - first, end - first), begin, own)
            begin = end
        self._watch.learn(first, last)
        hours = (last - first) * self._rules.step_seconds / 3600
        arrived = float(signals.arrivals.sum())
        toll = START_PRICE * self._rules.startup_steps * outcomes.starts
        self.sums.add(outcomes.cost, outcomes.bad, arrived, hours, self.promised, toll)
        for path, budget in enumerate(self._budgets):
            budget.spend(arrived, float(own.bad[path]), hours)
        costs, bads = (float(own.cost[PLAN]), float(own.cost[SHADOW])), (float(own.bad[PLAN]), float(own.bad[SHADOW]))
        self._premium.see(costs, bads, arrived, hours)
        return BlockOutcome(*own, arrived)

    def _play_part(self, part: Signals, begin: int, outcomes: Outcomes) -> None:
        """The rows of a part in which the stance, that of row `begin`, does not change."""
        columns, own = self._family.columns, self.playing(begin)
        if self.is_cautious(begin):
            part, columns, own = with_higher_of(part, columns, int(self._plays[PLAN]), int(self._plays[SHADOW]))
        no_orders = np.zeros((0, 0), dtype=np.int64)
        replay(part, columns, np.append(self._plays, own), self._rules, self._state, outcomes, no_orders)

    @property
    def unit_work(self) -> float:
        """What one replica serves in one step."""
        return self._rules.capacity * self._rules.step_seconds

    def start_from(self, prior: Prior) -> None:
        """Before the first block: begin with what plays best elsewhere instead of the cautious default."""
        self.sums.start_from(prior, self.unit_work)
        self._has_prior = True
        self.choose()

    def choose(self) -> None:
        """Choose what plays next; before ENOUGH_HOURS only where others have shown something, and without forecasts."""
        enough = self.sums.hours >= ENOUGH_HOURS
        if not (enough or self._has_prior):
            return
        members = self._members if enough else self._reactive
        self._plays[SHADOW], _ = choose(self.sums, self._budgets[SHADOW], self._reactive, self.unit_work)
        self._plays[PLAN], self.runner_up = choose(self.sums, self._budgets[PLAN], members, self.unit_work)
        self._over_premium = self._premium.verdict()

    def watch(self, at: int) -> None:
        """Let the watch over the forecast see the made rows up to `at`."""
        self._watch.watch(at)

    def why_demoted(self, at: int) -> str:
        """Why forecast settings are barred at row `at`; "" when they are not."""
        return self._over_premium or WHY_BARRED[self._watch.stance(at)]

    def is_cautious(self, at: int) -> bool:
        """Whether at row `at` whichever of plan and shadow asks for more is ordered."""
        return not self._over_premium and self._watch.stance(at) is Stance.CAUTIOUS

    def surprised(self, at: int, steps: int) -> bool:
        """Whether demand left the forecast's band less than `steps` before row `at`."""
        return self._watch.surprised(at, steps)

    def playing(self, at: int) -> int:
        """The setting that plays at row `at`."""
        return int(self._plays[SHADOW if self.why_demoted(at) else PLAN])

    def shadow(self) -> int:
        """The setting that the shadow reactive policy plays."""
        return int(self._plays[SHADOW])


def with_higher_of(signals: Signals, columns: Columns, one: int, other: int) -> tuple[Signals, Columns, int]:
    """Signals and columns with one setting more, and its index: it orders at least what each of the two would.

    It plans for the lower utilisation of the two; what the other one reads is scaled to that.
    """
    pair = np.array([one, other])
    utilization = columns.utilization[pair].min()
    scale = (utilization / columns.utilization[pair])[:, None]

    def with_higher(rows: FloatArray, index: IntArray) -> FloatArray:
        return np.concatenate([rows, (rows[index[pair]] * scale).max(axis=0)[None]])

    more = Columns(
        ahead=np.append(columns.ahead, len(signals.ahead)),
        floor=np.append(columns.floor, len(signals.floors)),
        peak=np.append(columns.peak, len(signals.peaks)),
        utilization=np.append(columns.utilization, utilization),
    )
    signals = signals._replace(
        ahead=with_higher(signals.ahead, columns.ahead),
        floors=with_higher(signals.floors, columns.floor),
        peaks=with_higher(signals.peaks, columns.peak),
    )
    return signals, more, len(columns.ahead)


def _rows_of(signals: Signals, first: int, last: int) -> Signals:
    """The rows first..last-1 of a block."""
    if first == 0 and last == len(signals.now):
        return signals
    parts: tuple[Any, ...] = tuple(np.ascontiguousarray(part[..., first:last]) for part in signals)
    return Signals(*parts)
