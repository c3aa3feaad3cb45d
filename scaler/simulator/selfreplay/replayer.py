"""One endpoint's past, replayed under every setting, an hour at a time."""

from datetime import datetime, timedelta

import numpy as np

from forecaster.leadfeatures import MINUTE_SECONDS
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile
from scaler.domain.setting import Choice, ReplayedCost, Setting, Source
from scaler.simulator.compiled import IntArray, new_state, replay
from scaler.simulator.selfreplay.choice import FORGET_HOURS, Budget, ReplayedSums, choose
from scaler.simulator.selfreplay.family import COLUMN_LEVELS, settings_family
from scaler.simulator.selfreplay.fast import rules_of
from scaler.simulator.selfreplay.rows import RowMaker
from scaler.simulator.selfreplay.spoil import Spoil
from scaler.simulator.selfreplay.watch import BARRED_HOURS, WATCHED_LEVEL, PremiumWatch, SurpriseWatch

ENOUGH_HISTORY = timedelta(hours=12)
"""Before so much was replayed the cautious default plays."""
SURPRISED_FOR = timedelta(minutes=15)
"""How long scale-in waits after an alarm: until the reactive setting has taken over."""
SPARSE_IDLE_FRACTION, SPARSE_LEVEL = 0.5, 0.995
PLAN, SHADOW = 0, 1


class EndpointReplay:
    """What replaying an endpoint has shown. Mutable: `catch_up` replays what was appended to `rows`.

    Two paths are played beside the settings: the plan (chosen among all allowed settings) and its shadow (among those that
    use no forecast). The shadow's setting takes over while the plan is barred.
    """

    def __init__(
        self,
        policy: ScalingPolicy,
        profile: CapacityProfile,
        start: datetime,
        step: timedelta,
        reactive_only: bool = False,
    ) -> None:
        self.policy, self.profile, self.step = policy, profile, step
        self.rules = rules_of(policy, profile, step)
        target = policy.spec.capacity.utilization.target
        self.family = settings_family((target, 1.0) if target < 1.0 else (1.0,), profile.startup.p50, step)
        self.rows = RowMaker(policy, self.rules, self.family, start, step)
        self.replayed = 0
        n, first = len(self.family.settings), max(1, policy.spec.replicas.min)
        self._every, self._played = new_state(n, self.rules, first), new_state(2, self.rules, first)
        self._plays = np.full(2, self._default(), dtype=np.int64)
        self._runner_up = self._default()
        self._reactive = np.flatnonzero(self.family.is_reactive)
        self._members = self._reactive if reactive_only else self._allowed_members()
        self.sums = ReplayedSums(n)
        objective = policy.spec.slo.objective
        self._budgets = (Budget(objective), Budget(objective))
        self._premium, self._surprise = PremiumWatch(objective), SurpriseWatch()
        self._over_premium = ""
        self._sampled = self._barred_until = self._alarm_until = 0
        self.is_sparse = False

    def _setting(self, source: Source, level: float, startups: float, guard_hours: float) -> int:
        return self.family.settings.index(
            Setting(
                source=source,
                level=level,
                hold=startups * self.profile.startup.p50,
                guard=timedelta(hours=guard_hours),
                utilization_fraction=self.policy.spec.capacity.utilization.target,
            )
        )

    def _default(self) -> int:
        """The cautious reactive setting that plays before anything was replayed."""
        return self._setting(Source.REACTIVE, 1.6, 3, 1)

    def _allowed_members(self) -> IntArray:
        """All settings; with a fixed risk only the lead model's at the nearest level, held for one start-up time."""
        risk = self.policy.spec.forecast.risk
        if risk == "auto":
            return np.arange(len(self.family.settings))
        levels = [level for source, level in COLUMN_LEVELS if source is Source.LEAD_MODEL]
        return np.array([self._setting(Source.LEAD_MODEL, min(levels, key=lambda level: abs(level - risk)), 1, 0)])

    def catch_up(self, last: int, block: int) -> None:
        """Replay the steps up to `last` (exclusive) in blocks; refit and choose anew after each."""
        while self.replayed < last:
            end = min(self.replayed + block, last)
            self.rows.make(end)
            self._replay(self.replayed, end)
            self.replayed = end
            self.rows.refit(end)
            self._choose()
            self.rows.forget(end)

    def _replay(self, first: int, last: int) -> None:
        signals = self.rows.signals(first, last)
        n, no_orders = len(self.family.settings), np.zeros((0, 0), dtype=np.int64)
        cost, bad = np.zeros(n), np.zeros(n)
        replay(signals, self.family.columns, np.arange(n), self.rules, self._every, cost, bad, no_orders)
        played_cost, played_bad = np.zeros(2), np.zeros(2)
        replay(signals, self.family.columns, self._plays, self.rules, self._played, played_cost, played_bad, no_orders)
        hours = (last - first) * self.rules.step_seconds / 3600
        arrived = float(signals.arrivals.sum())
        self.sums.add(cost, bad, arrived, hours, 1.0 - self.policy.spec.slo.objective)
        for budget, own_bad in zip(self._budgets, played_bad, strict=True):
            budget.spend(arrived, float(own_bad), hours)
        self._premium.see(
            (float(played_cost[PLAN]), float(played_cost[SHADOW])),
            (float(played_bad[PLAN]), float(played_bad[SHADOW])),
            arrived,
            hours,
        )

    def _choose(self) -> None:
        if self.replayed < ENOUGH_HISTORY // self.step:
            return
        unit_work = self.rules.capacity * self.rules.step_seconds
        self._plays[SHADOW], _ = choose(self.sums, self._budgets[SHADOW], self._reactive, unit_work)
        self._plays[PLAN], self._runner_up = choose(self.sums, self._budgets[PLAN], self._members, unit_work)
        self._over_premium = self._premium.verdict(self.policy.spec.safety.max_premium)
        self.is_sparse = self.looks_sparse(self.replayed)

    def looks_sparse(self, end: int) -> bool:
        """True where, in the bins before `end`, one replica carries nearly every minute and most minutes are idle: then
        only the law of the next arrival matters, and a single replica's price of a cold request, not quantiles of demand."""
        if not self.policy.spec.scale_to_zero.enabled:
            return False
        values = self.rows.tape.values[:end]
        width = self.rows.tape.steps(MINUTE_SECONDS)
        minutes = np.nan_to_num(values[: len(values) // width * width]).reshape(-1, width).mean(axis=1)
        idle = float(np.mean(minutes == 0)) if len(minutes) else 0.0
        return idle >= SPARSE_IDLE_FRACTION and float(np.quantile(minutes, SPARSE_LEVEL)) <= self.rules.capacity

    def watch(self, at: int) -> None:
        """Let the surprise watch see the newest minute at the made row `at`, if the last sample lies a lead back."""
        apart = self.rules.lead_steps + self.rows.tape.steps(MINUTE_SECONDS)
        if at - self._sampled < apart or self._members is self._reactive:
            return
        self._sampled = at
        if self._surprise.see(self.rows.now(at), self.rows.watched(at - apart, WATCHED_LEVEL)):
            self._barred_until = at + round(BARRED_HOURS * 3600 / self.rules.step_seconds)
            self._alarm_until = at + SURPRISED_FOR // self.step

    def why_demoted(self, at: int) -> str:
        """Why forecast settings are barred at row `at`; "" when they are not."""
        if self._over_premium:
            return self._over_premium
        return "demand left the forecast's band more often than chance explains" if at < self._barred_until else ""

    def playing(self, at: int) -> int:
        """The setting that plays at row `at`."""
        if self.is_sparse:
            return self.sparse_setting()
        return int(self._plays[SHADOW if self.why_demoted(at) else PLAN])

    def sparse_setting(self) -> int:
        """What plays while the endpoint is sparse: the present; the last replica is the arrival law's."""
        return self._setting(Source.REACTIVE, 1.0, 0, 0)

    def shadow(self) -> int:
        """The setting that the shadow reactive policy plays."""
        return int(self._plays[SHADOW])

    def choice(self, at: int, now: datetime) -> Choice:
        """The setting that plays at row `at`, with what its replay showed."""
        own = self.playing(at)
        enough = self.replayed >= ENOUGH_HISTORY // self.step
        return Choice(
            setting=self.family.settings[own],
            chosen_at=now,
            replayed=self._replayed_cost(own) if enough else None,
            runner_up=self._replayed_cost(self._runner_up) if enough and self._runner_up != own else None,
            demoted=self.why_demoted(at),
            surprised=at < self._alarm_until,
        )

    def _replayed_cost(self, setting: int) -> ReplayedCost:
        cost, bad, arrived = self.sums.raw_cost[setting], self.sums.raw_bad[setting], self.sums.raw_arrived
        return ReplayedCost(
            setting=self.family.settings[setting],
            replica_hours=float(cost) * self.rules.step_seconds / 3600,
            bad_fraction=min(1.0, float(bad) / max(arrived, 1e-12)),
            days=min(self.sums.hours, FORGET_HOURS) / 24,
        )
