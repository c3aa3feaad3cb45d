"""The advisor: an endpoint's own replayed past turned into what the ordering rule reads this turn."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from forecaster.series import DemandSeries
from scaler.core import idle, rule
from scaler.cycle import TURN, prior_profile
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile, ReplicaState, StartupLaw
from scaler.domain.snapshot import ControlSignals, IdleAdvice
from scaler.ports import Advice, Reading
from scaler.simulator.selfreplay.experience import FleetExperience
from scaler.simulator.selfreplay.replayer import EndpointReplay
from scaler.simulator.selfreplay.spoil import Spoil
from scaler.simulator.sparse import IdleReplay

SAME_PROFILE = 0.1
"""A tenth more or less capacity or start-up time: replaying all of history anew would tell little else."""


class SelfReplayAdvisor:
    """Implements ports.Advisor. Holds one replay per endpoint; all state follows from history, so a restart loses
    nothing that `refit` does not bring back. An endpoint without half a day of history begins with what the others of
    its kind have shown by then.

    `foreseen` (replay only) is demand beyond the present, on the control grid: with it the rows of a whole refit period
    are made at once. Row t reads bins before t only, so the numbers equal those made turn by turn (held by a test).
    `spoil` replaces all forecasts from the first refit on; `reactive_only` is the shadow policy: no forecast at all.
    `fleet` is shared by the advisors of a fleet.
    """

    def __init__(
        self,
        turn: timedelta = TURN,
        foreseen: Mapping[EndpointId, DemandSeries] | None = None,
        spoil: Spoil | None = None,
        reactive_only: bool = False,
        fleet: FleetExperience | None = None,
    ) -> None:
        self._turn = turn
        self._fleet = fleet or FleetExperience()
        self._foreseen = foreseen or {}
        self._spoil = spoil
        self._reactive_only = reactive_only
        self._replays: dict[EndpointId, EndpointReplay] = {}
        self._idle: dict[EndpointId, idle.IdleState] = {}

    def refit(self, policy: ScalingPolicy, history: DemandSeries, profile: CapacityProfile, now: datetime) -> None:
        """Replay what happened since the last refit (the first time: all of history), fit and choose anew."""
        series = history.until(now).resampled(self._turn)
        replay = self._replay_of(policy, profile, series)
        replay.rows.append(series)
        replay.catch_up(len(replay.rows.tape), self._period(policy))
        if self._spoil is not None and replay.rows.spoil is None:
            replay.rows.spoil, replay.rows.spoil_from = self._spoil, replay.rows.made
        if replay.is_sparse:
            self._learn_arrivals(policy, series, profile.startup)
        self._tell_fleet(replay)

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        """The playing setting's signals for this turn; `signals` None while demand of the last minute is not known."""
        replay = self._replays.get(policy.endpoint)
        if replay is None:
            replay = self._replay_of(policy, prior_profile(policy), reading.recent.resampled(self._turn))
        replay.rows.append(reading.recent.resampled(self._turn))
        at = len(replay.rows.tape)
        if at >= replay.rows.made:
            self._make_rows(replay, policy, at)
        replay.paths.watch(at)
        signals = self._signals(replay, at)
        advice = self._idle_advice(replay, policy, reading, replicas, now)
        return Advice(signals=signals, choice=replay.choice(at, now), idle=advice, profile=replay.profile)

    def _signals(self, replay: EndpointReplay, at: int) -> ControlSignals | None:
        demand_now = replay.rows.now(at)
        if np.isnan(demand_now):
            return None
        ahead, floor, peak = replay.reads(at)
        setting = replay.family.settings[replay.playing(at)]
        read_at = replay.rows.start + at * self._turn
        return ControlSignals(
            read_at=read_at,
            demand_now=demand_now,
            demand_ahead=ahead * _planned_growth(replay.policy, read_at, replay.rules.lead_steps * self._turn),
            dip_floor=floor,
            peak_soon=peak * _planned_growth(replay.policy, read_at, timedelta(minutes=rule.PEAK_WINDOW_MINUTES)),
            forecast_issued_at=read_at if setting.uses_forecast else None,
            forecast_method=str(setting.source),
            baseline_ahead=replay.rows.of_setting(at, replay.paths.shadow())[0],
        )

    def _idle_advice(
        self,
        replay: EndpointReplay,
        policy: ScalingPolicy,
        reading: Reading,
        replicas: ReplicaState | None,
        now: datetime,
    ) -> IdleAdvice | None:
        """Sparse endpoints: from the law of the next arrival. Busy ones: the plan may go to zero, its hold decides."""
        if not policy.spec.scale_to_zero.enabled:
            return None
        if replay.is_sparse:
            startup = replay.profile.startup.mean
            state = self._idle.get(policy.endpoint) or self._new_idle(policy, startup)
            terms = idle.terms_of(policy, startup, self._turn)
            self._idle[policy.endpoint], advice = idle.advance(state, reading.recent, terms, replicas, now)
            return advice
        return IdleAdvice(
            last_arrival=_last_arrival(reading.recent),
            keep=False,
            pre_warm=False,
            reason="the replayed setting expects no need for a replica",
        )

    def _new_idle(self, policy: ScalingPolicy, startup: timedelta) -> idle.IdleState:
        prior = self._fleet.arrival_prior_for(policy.endpoint)
        return idle.new_state(startup, prior, policy.spec.forecast.calendar.timezone)

    def _learn_arrivals(self, policy: ScalingPolicy, series: DemandSeries, startup: StartupLaw) -> None:
        """Read history into the arrival law once, and anew if the policy's time zone changed; turns read on from
        there."""
        known, timezone = self._idle.get(policy.endpoint), policy.spec.forecast.calendar.timezone
        if known is not None and known.timezone == timezone:
            return
        prior = self._fleet.arrival_prior_for(policy.endpoint)
        learned = IdleReplay(idle.terms_of(policy, startup.mean, self._turn), prior, timezone)
        learned.learn(series.start.timestamp(), idle.requests_per_step(series))
        state = known or self._new_idle(policy, startup.mean)
        self._idle[policy.endpoint] = replace(state, law=learned.law, read_until=series.end, timezone=timezone)

    def _replay_of(self, policy: ScalingPolicy, profile: CapacityProfile, series: DemandSeries) -> EndpointReplay:
        """The endpoint's replay; a new one where there is none yet, where what it rests on has changed, or where it has
        grown to twice the policy's history.

        A turn before the first refit knows a day of the past: history that reaches further back takes its place.
        """
        replay = self._replays.get(policy.endpoint)
        longest = 2 * (policy.spec.forecast.history // self._turn) + len(series)
        fits = replay is not None and replay.policy == policy and _much_the_same(replay.basis, profile)
        if replay is None or not fits or series.start < replay.rows.start or len(replay.rows.tape) > longest:
            replay = EndpointReplay(policy, profile, series.start, self._turn, self._reactive_only)
            self._let_begin(replay)
            self._replays[policy.endpoint] = replay
        replay.profile = profile
        return replay

    def _let_begin(self, replay: EndpointReplay) -> None:
        """Give a new replay what the fleet's others have shown, if there are any of its kind."""
        prior = self._fleet.prior_for(replay.policy.endpoint, replay.kin)
        if prior is not None:
            replay.paths.start_from(prior)

    def _tell_fleet(self, replay: EndpointReplay) -> None:
        endpoint = replay.policy.endpoint
        if replay.has_experience:
            self._fleet.tell(endpoint, replay.kin, replay.paths.sums, replay.paths.unit_work)
        if replay.is_sparse:
            self._fleet.tell_arrivals(endpoint, self._idle[endpoint].law)

    def _period(self, policy: ScalingPolicy) -> int:
        return max(1, round(policy.spec.forecast.refit / self._turn))

    def _make_rows(self, replay: EndpointReplay, policy: ScalingPolicy, at: int) -> None:
        foreseen = self._foreseen.get(policy.endpoint)
        if foreseen is None:
            replay.rows.make(at + 1)
        else:
            replay.rows.make_ahead(foreseen, at + 1, replay.replayed + self._period(policy) + 1)


def _last_arrival(recent: DemandSeries) -> datetime | None:
    """When the last bin with demand began; None: there was none."""
    backwards = recent.values[::-1] > 0
    back = int(backwards.argmax()) if len(backwards) else 0
    return recent.end - (back + 1) * recent.step if len(backwards) and backwards[back] else None


def _planned_growth(policy: ScalingPolicy, now: datetime, ahead: timedelta) -> float:
    """How demand is expected to change by planned events alone: what is read now has those under way in it."""
    calendar = policy.spec.forecast.calendar
    return calendar.factor_at(now + ahead) / calendar.factor_at(now) if calendar.events else 1.0


def _much_the_same(one: CapacityProfile, other: CapacityProfile) -> bool:
    """Whether a replay under one profile still tells about the other: what is learned turn by turn wavers."""
    pairs = (
        (one.demand_per_replica, other.demand_per_replica),
        (one.startup.p50 / TURN, other.startup.p50 / TURN),
        (one.startup.p95 / TURN, other.startup.p95 / TURN),
    )
    return all(abs(a - b) <= SAME_PROFILE * max(a, b) for a, b in pairs)
