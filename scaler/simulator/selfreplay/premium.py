"""What the plan cost and missed beside the shadow reactive policy: the bounded premium."""

from dataclasses import dataclass
from math import exp

DOMINATED = 0.02
"""Dearer by this and serving worse as well: no trade-off, so no doubt."""
LONG_HOURS, LONG_BUDGETS = 168.0, 1.0
"""The premium holds over a week: over a day, one event decides who looks better."""
SHORT_HOURS, SHORT_BUDGETS = 12.0, 3.0
"""Misses this far beyond the shadow's within half a day are not chance: such a forecast is not followed for a week."""
CAP_HOURS = 48.0
"""At no time more than the premium on two days of the shadow's cost is spent beyond it, whatever was saved before: 2.4
hours of its usual cost at 5 %. Recorded endpoints with a sound forecast never spent more than 1.8."""


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
    hours: float = 0.0

    def see(self, costs: tuple[float, float], bads: tuple[float, float], arrived: float, hours: float) -> None:
        """One block: (plan, shadow) costs and misses."""
        keep = exp(-hours / self.tau_hours)
        self.plan_cost = self.plan_cost * keep + costs[0]
        self.shadow_cost = self.shadow_cost * keep + costs[1]
        self.plan_bad = self.plan_bad * keep + bads[0]
        self.shadow_bad = self.shadow_bad * keep + bads[1]
        self.arrived = self.arrived * keep + arrived
        self.hours = self.hours * keep + hours

    @property
    def promised(self) -> float:
        """The bad work that the promise allows."""
        return (1.0 - self.objective) * self.arrived

    def served_worse(self, budgets: float) -> bool:
        """Whether the plan missed more than this many error budgets beyond the shadow and the promise, or missed more
        and was dearer as well."""
        if self.plan_cost > (1.0 + DOMINATED) * self.shadow_cost and self.plan_bad > self.shadow_bad:
            return True
        return self.plan_bad > max(self.shadow_bad, self.promised) + budgets * self.promised

    def cost_more(self, max_premium: float) -> bool:
        """Whether the plan cost more than its premium. A shadow that broke the promise is no yardstick: the plan pays
        for keeping it."""
        return self.plan_cost > (1.0 + max_premium) * self.shadow_cost and self.shadow_bad <= self.promised


@dataclass
class Premium:
    """The verdict on the plan, block by block. Mutable: one `see` per block."""

    objective: float
    max_premium: float
    excess: float = 0.0
    """Replica-steps that the plan spent beyond the shadow since the two last were even: savings are not banked."""
    overspent: bool = False

    def __post_init__(self) -> None:
        self.long = PremiumWatch(self.objective, LONG_HOURS)
        self.short = PremiumWatch(self.objective, SHORT_HOURS)

    def see(self, costs: tuple[float, float], bads: tuple[float, float], arrived: float, hours: float) -> None:
        """One block: (plan, shadow) costs and misses."""
        for watch in (self.long, self.short):
            watch.see(costs, bads, arrived, hours)
        shadow_kept = self.long.shadow_bad <= self.long.promised
        self.excess = max(0.0, self.excess + costs[0] - costs[1]) if shadow_kept else 0.0
        cap = self.max_premium * CAP_HOURS * self.long.shadow_cost / max(self.long.hours, 1e-9)
        # Once over it, until all of it is saved again: else the cap would be spent anew each hour.
        self.overspent = self.excess > 0 if self.overspent else self.excess > cap

    def verdict(self) -> str:
        """Why forecast settings are barred; "" when they are not."""
        if self.long.served_worse(LONG_BUDGETS) or self.short.served_worse(SHORT_BUDGETS):
            return "the plan served worse than the shadow reactive policy"
        if self.overspent or self.long.cost_more(self.max_premium):
            share = self.long.plan_cost / max(self.long.shadow_cost, 1e-9) - 1.0
            return f"the plan cost more than the shadow reactive policy ({share:+.0%} over the last week)"
        return ""
