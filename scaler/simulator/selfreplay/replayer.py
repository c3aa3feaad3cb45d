"""One endpoint's past, replayed under every setting, an hour at a time."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from forecaster.leadfeatures import MINUTE_SECONDS
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile
from scaler.domain.setting import Choice, ReplayedCost, Setting, Source
from scaler.simulator.compiled import IntArray, Outcomes, Signals, new_state, no_outcomes
from scaler.simulator.compiled import replay as replay_settings
from scaler.simulator.selfreplay.experience import Kin
from scaler.simulator.selfreplay.family import COLUMN_LEVELS, settings_family
from scaler.simulator.selfreplay.fast import rules_of
from scaler.simulator.selfreplay.played import ENOUGH_HOURS, PlayedPaths
from scaler.simulator.selfreplay.rows import RowMaker

SURPRISED_FOR = timedelta(minutes=15)
"""How long scale-in waits after an alarm: until the reactive setting has taken over."""
SPARSE_IDLE_FRACTION, SPARSE_LEVEL = 0.5, 0.995
OnBlock = Callable[[int, int, Signals, Outcomes], None]
"""Called with (first row, last row, signals, what came of every setting) of each replayed block."""


class EndpointReplay:
    """What replaying an endpoint has shown. Mutable: `catch_up` replays what was appended to `rows`.

    `basis` is the profile that is replayed with; `profile`, the newest one known, may differ a little.
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
        self.basis = profile
        self.rules = rules_of(policy, profile, step)
        target = policy.spec.capacity.utilization.target
        self.family = settings_family((target, 1.0) if target < 1.0 else (1.0,), profile.startup.p50, step)
        self.rows = RowMaker(policy, self.rules, self.family, start, step, forecasts=not reactive_only)
        self.replayed = 0
        n = len(self.family.settings)
        self._every = new_state(n, self.rules, max(1, policy.spec.replicas.min))
        self.paths = self.new_paths(policy, reactive_only)
        self.is_sparse = False

    def new_paths(self, policy: ScalingPolicy, reactive_only: bool = False) -> PlayedPaths:
        """Fresh played paths over these rows, as `policy` promises."""
        members = np.flatnonzero(self.family.is_reactive) if reactive_only else self._allowed_members()
        return PlayedPaths(policy, self.rules, self.family, self.rows, members, self._default())

    @property
    def has_experience(self) -> bool:
        """Whether enough was replayed to say which settings are good, and they are what plays."""
        return self.paths.sums.hours >= ENOUGH_HOURS and not self.is_sparse

    @property
    def kin(self) -> Kin:
        return Kin(
            objective=self.policy.spec.slo.objective,
            utilizations=tuple(self.family.utilizations),
            is_rate=self.rules.is_rate,
            startup=self.basis.startup.p50,
        )

    def _setting(self, source: Source, level: float, startups: float, guard_hours: float) -> int:
        return self.family.settings.index(
            Setting(
                source=source,
                level=level,
                hold=startups * self.basis.startup.p50,
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

    def catch_up(self, last: int, block: int, on_block: OnBlock = lambda first, last, signals, outcomes: None) -> None:
        """Replay the steps up to `last` (exclusive) in blocks; refit and choose anew after each."""
        while self.replayed < last:
            first, end = self.replayed, min(self.replayed + block, last)
            self.rows.make(end)
            signals = self.rows.signals(first, end)
            outcomes = self._replay(signals)
            on_block(first, end, signals, outcomes)
            self.paths.play(signals, outcomes, first, end)
            self.replayed = end
            self.rows.refit(end)
            self.paths.choose()
            self.rows.forget(end)
        self.is_sparse = self.looks_sparse()

    def _replay(self, signals: Signals) -> Outcomes:
        """What came of every setting in this block."""
        n = len(self.family.settings)
        outcomes = no_outcomes(n)
        no_orders = np.zeros((0, 0), dtype=np.int64)
        replay_settings(signals, self.family.columns, np.arange(n), self.rules, self._every, outcomes, no_orders)
        return outcomes

    def looks_sparse(self) -> bool:
        """True where one replica carries nearly every minute and most minutes are idle: then only the law of the next
        arrival matters, and a single replica's price of a cold request, not quantiles of demand."""
        width = self.rows.tape.steps(MINUTE_SECONDS)
        values = self.rows.tape.values[: self.replayed // width * width]
        if not self.policy.spec.scale_to_zero.enabled or len(values) == 0:
            return False
        minutes = np.nan_to_num(values).reshape(-1, width).mean(axis=1)
        idle = float(np.mean(minutes == 0))
        return idle >= SPARSE_IDLE_FRACTION and float(np.quantile(minutes, SPARSE_LEVEL)) <= self.rules.capacity

    def playing(self, at: int) -> int:
        """The setting that plays at row `at`; on sparse endpoints demand now, and the arrival law does the rest."""
        return self._setting(Source.REACTIVE, 1.0, 0, 0) if self.is_sparse else self.paths.playing(at)

    def beside(self, at: int) -> int | None:
        """The setting that is ordered where it asks for more than the one that plays; None: there is none."""
        return self.paths.shadow() if self.paths.is_cautious(at) and not self.is_sparse else None

    def reads(self, at: int) -> tuple[float, float, float]:
        """(demand ahead, dip floor, peak soon) to plan for at row `at`, at `utilization`."""
        own, beside = self.playing(at), self.beside(at)
        read = self.rows.of_setting(at, own)
        if beside is None:
            return read
        # The same as played.with_higher_of, for one row.
        share, shares = self.utilization(at), self.family.utilizations
        pairs = zip(read, self.rows.of_setting(at, beside), strict=True)
        ahead, floor, peak = (max(a * (share / shares[own]), b * (share / shares[beside])) for a, b in pairs)
        return ahead, floor, peak

    def utilization(self, at: int) -> float:
        """The share of a replica that is planned for at row `at`."""
        beside, shares = self.beside(at), self.family.utilizations
        own = float(shares[self.playing(at)])
        return own if beside is None else min(own, float(shares[beside]))

    def choice(self, at: int, now: datetime) -> Choice:
        """The setting that plays at row `at`, with what its replay showed."""
        own, other, beside = self.playing(at), self.paths.runner_up, self.beside(at)
        setting = self.family.settings[own]
        if beside is not None:
            setting = replace(setting, utilization_fraction=self.utilization(at))
        enough = self.paths.sums.hours >= ENOUGH_HOURS
        return Choice(
            setting=setting,
            chosen_at=now,
            replayed=self._replayed_cost(own) if enough else None,
            # Beside the law of the next arrival nothing else is in the race.
            runner_up=self._replayed_cost(other) if enough and other != own and not self.is_sparse else None,
            shadow=self._replayed_cost(own if self.is_sparse else self.paths.shadow()) if enough else None,
            replayed_for=timedelta(hours=self.paths.sums.hours),
            demoted=self.paths.why_demoted(at),
            surprised=self.paths.surprised(at, SURPRISED_FOR // self.step),
            beside=None if beside is None else self.family.settings[beside],
            by_next_arrival=self.is_sparse,
        )

    def _replayed_cost(self, setting: int) -> ReplayedCost:
        sums = self.paths.sums
        return ReplayedCost(
            setting=self.family.settings[setting],
            replica_hours=float(sums.raw_cost[setting]) * self.rules.step_seconds / 3600,
            bad_fraction=min(1.0, float(sums.raw_bad[setting]) / max(sums.raw_arrived, 1e-12)),
            days=sums.remembered_hours / 24,
        )
