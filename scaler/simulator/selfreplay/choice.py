"""Which setting plays next: the cheapest that keeps the error budget, by what replaying the past has shown.

Costs and misses of every setting are summed with exponential forgetting, apart for three load contexts (what a quiet
hour teaches says little about a ramp). A price of one bad unit of work turns both into one number; the smallest price
at which the cheapest settings keep the budget is taken. Measured in
docs/decisions/0008-choose-by-replaying.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forecaster.series import FloatArray

FORGET_HOURS = 72.0
"""Three days: two of the same load pattern, and yesterday's regime outweighs last week's."""
CONTEXT_EDGES = (0.3, 1.0)
"""Load of the last hour over its running mean: quiet, usual, high."""
SHARED_WEIGHT = 0.3
"""How much all contexts together count beside the present one."""
LOWEST_BUDGET, HIGHEST_BUDGET = 0.2, 3.0
"""Of the promised budget: overspending is paid back and underspending used up within a day, within these bounds."""
SMOOTH = 0.8
"""Of the logarithm of the price from one hour to the next: the budget is a slow promise."""
MOST_REGRET = 0.015
"""One hour's misses count for at most this times the root of the budget, in days' work: 3.6 % of an hour's work at
0.99,
1.1 % at 0.999. A single event is not insured against for days; the rarer misses may be, the more each one says."""
USUAL_BUDGET, CAUTION = 0.01, 0.4
"""Below a budget of 1 % only (budget / 1 %) ** 0.4 of it is planned for, 40 % of it at 0.1 %: the same days of
history hold ten times fewer misses there, and what was never seen costs the most."""
START_PRICE = 0.5
"""Start-up times of one replica that a start costs in the choice, beside what it is billed: a pod scheduled, an image
pulled. Without it a start that is let go again costs next to nothing, and settings that follow noise are chosen."""
PRICES = np.exp(np.linspace(np.log(1e-4), np.log(1e5), 91))
"""Replica-steps per unit of work, relative to what one replica-step can serve."""


@dataclass(eq=False)
class ReplayedSums:
    """Decayed sums per context and setting, in replica-steps and units of work. Mutable: `add` one block at a time.

    `cost`, `bad`, `arrived` are what is chosen by: each block in units of the last day's load, cost with the price of
    starts, misses as clipped regret. `raw_*` are the plain sums, for people.
    """

    n_settings: int
    cost: FloatArray = field(init=False)
    bad: FloatArray = field(init=False)
    arrived: FloatArray = field(init=False)
    raw_cost: FloatArray = field(init=False)
    raw_bad: FloatArray = field(init=False)
    raw_arrived: float = 0.0
    hours: float = 0.0
    mean_load: float = 0.0
    recent_load: float = 0.0
    _day: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        contexts, n = len(CONTEXT_EDGES) + 1, self.n_settings
        self.cost, self.bad, self.arrived = np.zeros((contexts, n)), np.zeros((contexts, n)), np.zeros(contexts)
        self.raw_cost, self.raw_bad = np.zeros(n), np.zeros(n)

    @property
    def context(self) -> int:
        """The load context of the block that comes next."""
        if self.mean_load <= 0:
            return 1
        return int(np.searchsorted(CONTEXT_EDGES, self.recent_load / self.mean_load))

    @property
    def remembered_hours(self) -> float:
        """The hours that the forgetting sums amount to: after two days 35, in the end FORGET_HOURS."""
        return FORGET_HOURS * (1.0 - float(np.exp(-self.hours / FORGET_HOURS)))

    def day_load(self) -> float:
        """Work per hour over the last 24 hours of blocks."""
        return sum(arrived for arrived, _ in self._day) / max(sum(hours for _, hours in self._day), 1e-9)

    def start_from(self, prior: "Prior", unit_work: float) -> None:
        """Before the first block: let the fleet's past count as if it were the endpoint's own; it is forgotten with
        time. `unit_work`: what one replica serves in one step."""
        self.cost += prior.cost / unit_work
        self.bad += prior.bad
        self.arrived += prior.arrived

    def add(
        self, cost: FloatArray, bad: FloatArray, arrived: float, hours: float, promised: float, toll: FloatArray
    ) -> None:
        """One block: what each setting cost and missed, (n_settings,); `promised` is the share that may be bad, `toll`
        (n_settings,) what the choice counts beside the cost.

        Misses count as regret against the best setting of the block: what none could serve says nothing about the
        choice, and would make it give up on the rest. One block counts for no more than MOST_REGRET says. A day
        counts as a day whatever its load.
        """
        context, keep = self.context, float(np.exp(-hours / FORGET_HOURS))
        self._day.append((arrived, hours))
        while sum(h for _, h in self._day) - self._day[0][1] >= 24.0 - 1e-9:
            self._day.pop(0)
        level = max(self.day_load(), 1e-12)
        regret = np.minimum(bad - bad.min(), MOST_REGRET * np.sqrt(promised) * level * 24.0)
        for sums in (self.cost, self.bad, self.arrived, self.raw_cost, self.raw_bad):
            sums *= keep
        self.cost[context] += (cost + toll) / level
        self.bad[context] += regret / level
        self.arrived[context] += arrived / level
        self.raw_cost += cost
        self.raw_bad += bad
        self.raw_arrived = self.raw_arrived * keep + arrived
        self.mean_load = (self.mean_load * self.hours + arrived) / (self.hours + hours)
        self.recent_load = arrived / hours
        self.hours += hours


PRIOR_HOURS = 6.0
"""What a fleet has shown counts for a new endpoint as much as so many hours of its own."""


@dataclass(frozen=True, eq=False)
class Prior:
    """What a fleet's endpoints have shown, for one that has shown nothing yet: per context and setting, in hours of the
    usual load (`cost`: of capacity; `bad`, `arrived`: of work)."""

    cost: FloatArray
    bad: FloatArray
    arrived: FloatArray


def pooled(fleet: Iterable[tuple[ReplayedSums, float]]) -> Prior | None:
    """The prior that endpoints of one family leave, each with what one of its replicas serves in one step; None: there
    are none. Each hour of each counts the same."""
    parts = [(sums.cost * unit_work, sums.bad, sums.arrived) for sums, unit_work in fleet]
    if not parts:
        return None
    cost, bad, arrived = (np.sum([part[k] for part in parts], axis=0) for k in range(3))
    share = PRIOR_HOURS / max(float(arrived.sum()), PRIOR_HOURS)
    return Prior(cost * share, bad * share, arrived * share)


@dataclass(eq=False)
class Budget:
    """The error budget of one played path: what arrived, what was bad, and the price that follows. Mutable."""

    objective: float
    arrived: float = 0.0
    bad: float = 0.0
    last_day: float = 0.0
    log_price: float | None = None

    def spend(self, arrived: float, bad: float, hours: float) -> None:
        """One block of the played path."""
        keep = float(np.exp(-hours / 24.0))
        self.arrived += arrived
        self.bad += bad
        self.last_day = self.last_day * keep + arrived

    def bad_fraction(self) -> float:
        """The share of bad work that the next day may have."""
        promised = 1.0 - self.objective
        planned: float = promised * min(1.0, (promised / USUAL_BUDGET) ** CAUTION)
        if self.last_day <= 0:
            return planned
        owed = (planned * self.arrived - self.bad) / self.last_day
        return float(np.clip(planned + owed, LOWEST_BUDGET * planned, HIGHEST_BUDGET * planned))


def choose(sums: ReplayedSums, budget: Budget, members: NDArray[np.int64], unit_work: float) -> tuple[int, int]:
    """(setting that plays, runner-up) among `members`; moves the budget's price. `unit_work` scales the prices: what
    one replica serves in one step."""
    shared_cost, shared_bad = sums.cost.sum(axis=0), sums.bad.sum(axis=0)
    cost = (sums.cost + SHARED_WEIGHT * shared_cost)[:, members]
    bad = (sums.bad + SHARED_WEIGHT * shared_bad)[:, members] / unit_work
    allowed = budget.bad_fraction() * sums.arrived.sum() * (1 + SHARED_WEIGHT * len(cost)) / unit_work
    log_price = np.log(PRICES[_cheapest_price(cost, bad, allowed)])
    if budget.log_price is not None:
        log_price = SMOOTH * budget.log_price + (1 - SMOOTH) * log_price
    budget.log_price = float(log_price)
    total = cost[sums.context] + np.exp(log_price) * bad[sums.context]
    first, second = np.argsort(total, kind="stable")[:2] if len(members) > 1 else (0, 0)
    return int(members[first]), int(members[second])


def _cheapest_price(cost: FloatArray, bad: FloatArray, allowed: float) -> int:
    """Index of the smallest price at which the cheapest settings of all contexts keep `allowed`; the highest if
    none."""
    low, high = 0, len(PRICES) - 1
    while low < high:
        middle = (low + high) // 2
        picks = np.argmin(cost + PRICES[middle] * bad, axis=1)
        if np.take_along_axis(bad, picks[:, None], axis=1).sum() <= allowed:
            high = middle
        else:
            low = middle + 1
    return low
