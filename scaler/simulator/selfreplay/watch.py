"""Is the forecast still about this demand? Two watches over it, both of them able to bar forecast settings.

surprise   e-processes on how often demand one lead ahead left the forecast's quantiles. If the true rate is at most
           `tolerated`, the product of (1 + bet x (1{above} - tolerated)) is a non-negative supermartingale, so it ever
           exceeds 1 / alpha with probability at most alpha (Ville's inequality), whenever one looks. It never falls
           below 1 here (e-detector: Shin, Ramdas, Rinaldo 2023), so that a long good past does not postpone the
           alarm: false alarms are then at least 1 / alpha samples apart on average.
premium    the plan's replayed cost and misses against those of the shadow reactive policy.
"""

from dataclasses import dataclass
from math import exp, isnan
from typing import NamedTuple


class Watched(NamedTuple):
    """A watched quantile, the rate of samples above it that is no surprise yet, and the bet against that."""

    level: float
    tolerated: float
    bet: float


WATCHED = (Watched(0.95, 0.15, 3.0), Watched(0.998, 0.02, 15.0))
"""Live coverage lies between .88 and .97, and above .993, on recorded endpoints. The bets grow fastest when a half
and a sixth of the samples are above: a forecast that went blind raises the alarm after three samples."""
ALPHA = 5e-4
"""Of each of the two. Samples are some minutes apart: less than one false alarm in three days by the bound, fewer
seen."""
BARRED_HOURS = 48.0
"""Two days without an alarm before forecasts are trusted again: a sound forecast hardly ever raises one, a broken one
every hour."""
DOMINATED = 0.02
"""Dearer by this and serving worse as well: no trade-off, so no doubt."""
LONG_HOURS, LONG_BUDGETS = 168.0, 1.0
"""The bounded premium holds over a week: over a day, one event decides who looks better."""
SHORT_HOURS, SHORT_BUDGETS, SHORT_PREMIUM = 12.0, 3.0, 0.5
"""What is this bad within half a day is not chance: a broken forecast is not followed for a week."""


@dataclass
class SurpriseWatch:
    """Mutable: one `see` per sample. `evidence` >= 1."""

    watched: Watched
    evidence: float = 1.0

    def see(self, demand: float, quantile: float) -> bool:
        """Take one sample in; True when it raises the alarm (and the evidence starts anew). NaN is no sample."""
        if isnan(demand) or isnan(quantile):
            return False
        bet = self.watched.bet * ((demand > quantile) - self.watched.tolerated)
        self.evidence = max(1.0, self.evidence * (1.0 + bet))
        if self.evidence < 1.0 / ALPHA:
            return False
        self.evidence = 1.0
        return True


@dataclass
class PremiumWatch:
    """Decayed replica-steps and bad work of the plan and of its shadow. Mutable: one `see` per block."""

    objective: float
    tau_hours: float
    plan_cost: float = 0.0
    shadow_cost: float = 0.0
    plan_bad: float = 0.0
    shadow_bad: float = 0.0
    arrived: float = 0.0

    def see(self, costs: tuple[float, float], bads: tuple[float, float], arrived: float, hours: float) -> None:
        """One block: (plan, shadow) costs and misses."""
        keep = exp(-hours / self.tau_hours)
        self.plan_cost = self.plan_cost * keep + costs[0]
        self.shadow_cost = self.shadow_cost * keep + costs[1]
        self.plan_bad = self.plan_bad * keep + bads[0]
        self.shadow_bad = self.shadow_bad * keep + bads[1]
        self.arrived = self.arrived * keep + arrived

    def verdict(self, max_premium: float, budgets: float) -> str:
        """Why forecast settings are barred; "" while the plan cost at most `max_premium` more than its shadow, and
        missed at most `budgets` error budgets more than it.

        A shadow that broke the promise is no yardstick for cost: the plan pays for keeping it.
        """
        promised = (1.0 - self.objective) * self.arrived
        if self.plan_cost > (1.0 + DOMINATED) * self.shadow_cost and self.plan_bad > self.shadow_bad:
            return "the plan cost more and served worse than the shadow reactive policy"
        if self.plan_bad > max(self.shadow_bad, promised) + budgets * promised:
            return "the plan served worse than the shadow reactive policy"
        if self.plan_cost > (1.0 + max_premium) * self.shadow_cost and self.shadow_bad <= promised:
            share = self.plan_cost / max(self.shadow_cost, 1e-9) - 1.0
            return f"the plan cost {share:.0%} more than the shadow reactive policy"
        return ""
