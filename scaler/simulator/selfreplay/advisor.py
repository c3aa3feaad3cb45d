"""The advisor: an endpoint's own replayed past turned into what the ordering rule reads this turn."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from forecaster.series import DemandSeries
from scaler.cycle import TURN, prior_profile
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile, ReplicaState, StartupLaw
from scaler.domain.snapshot import ControlSignals
from scaler.ports import Advice, Reading
from scaler.simulator.selfreplay.replayer import EndpointReplay


class SelfReplayAdvisor:
    """Implements ports.Advisor. Holds one replay per endpoint; all state follows from history, so a restart loses nothing
    that `refit` does not bring back.

    `foreseen` (replay only) is demand beyond the present, on the control grid: with it the rows of a whole refit period
    are made at once. Row t reads bins before t only, so the numbers equal those made turn by turn (held by a test).
    """

    def __init__(self, turn: timedelta = TURN, foreseen: Mapping[EndpointId, DemandSeries] | None = None) -> None:
        self._turn = turn
        self._foreseen = foreseen or {}
        self._replays: dict[EndpointId, EndpointReplay] = {}

    def refit(self, policy: ScalingPolicy, history: DemandSeries, startup: StartupLaw, now: datetime) -> None:
        """Replay what happened since the last refit (the first time: all of history), fit and choose anew."""
        series = on_grid(history.until(now), self._turn)
        replay = self._replay_of(policy, prior_profile(policy, startup), series)
        replay.append(series)
        replay.catch_up(len(replay.tape), max(1, round(policy.spec.forecast.refit / self._turn)))

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        """The playing setting's signals for this turn; `signals` None while demand of the last minute is not known."""
        replay = self._replays.get(policy.endpoint)
        if replay is None:
            recent = on_grid(reading.recent, self._turn)
            replay = self._replay_of(policy, prior_profile(policy), recent)
        replay.append(reading.recent)
        at = len(replay.tape)
        if at >= replay.made:
            self._make_rows(replay, policy, at)
        row = replay.row(at)
        choice = replay.choice(now)
        signals = None
        if row.now == row.now:
            read_at = replay.start + at * self._turn
            signals = ControlSignals(
                read_at=read_at,
                demand_now=row.now,
                demand_ahead=row.ahead,
                dip_floor=row.floor,
                peak_soon=row.peak,
                forecast_issued_at=read_at if choice.setting.uses_forecast else None,
                forecast_method=str(choice.setting.source),
                baseline_ahead=row.baseline_ahead,
            )
        return Advice(signals=signals, choice=choice, idle=None, profile=replay.profile)

    def _replay_of(self, policy: ScalingPolicy, profile: CapacityProfile, series: DemandSeries) -> EndpointReplay:
        """The endpoint's replay; a new one where there is none yet or what it rests on has changed."""
        replay = self._replays.get(policy.endpoint)
        if replay is None or replay.policy != policy or replay.profile != profile:
            replay = EndpointReplay(policy, profile, series.start, self._turn)
            self._replays[policy.endpoint] = replay
        return replay

    def _make_rows(self, replay: EndpointReplay, policy: ScalingPolicy, at: int) -> None:
        foreseen = self._foreseen.get(policy.endpoint)
        if foreseen is None:
            replay.make_rows(at + 1)
            return
        period = max(1, round(policy.spec.forecast.refit / self._turn))
        replay.make_rows_ahead(foreseen, at + 1, replay.replayed + period + 1)


def on_grid(series: DemandSeries, step: timedelta) -> DemandSeries:
    """The series on the control grid: coarser bins are spread evenly, finer ones are averaged."""
    if series.step == step:
        return series
    if series.step < step:
        return series.resampled(step)
    factor = series.step // step
    return DemandSeries(unit=series.unit, start=series.start, step=step, values=series.values.repeat(factor))
