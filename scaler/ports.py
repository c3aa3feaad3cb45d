"""What the loop needs from the world, as protocols. Adapters and the simulator implement them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import nan
from typing import Protocol

from forecaster.forecast import DemandForecast
from forecaster.series import DemandSeries
from scaler.domain.decision import Actuation, Decision
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.record import DecisionRecord
from scaler.domain.replicas import CapacityProfile, ReplicaState, StartupObservation
from scaler.domain.setting import Choice
from scaler.domain.snapshot import ControlSignals, IdleAdvice, PastTurn


class Clock(Protocol):
    def now(self) -> datetime:
        """The present as aware UTC. The cycle reads it once per turn."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one turn read about one endpoint. Values are NaN where the source had nothing fresh; nothing is ever 0 for
    lack.

    `recent` is demand on the control grid (one bin per turn length) up to the last finished bin, long enough for the
    advisor's windows. `queue` is what waits: requests, in tokens where demand is. `reactive` maps signal names to
    values per ready replica. `latency_seconds` is the measured latency at the policy's percentile. `in_flight` is
    requests being served.
    """

    recent: DemandSeries
    queue: float = nan
    in_flight: float = nan
    latency_seconds: float = nan
    reactive: Mapping[str, float]


class DemandSource(Protocol):
    """History and present of demand. All methods take every endpoint at once: one query per signal, never one each."""

    def history(
        self, policies: Sequence[ScalingPolicy], start: datetime, end: datetime, step: timedelta
    ) -> Mapping[EndpointId, DemandSeries]:
        """Demand on the grid [start, end) of `step`; gaps NaN, the unfinished bin left out. An endpoint that the source
        does not know is absent. Raises SourceUnavailable (temporary) or QueryRejected (permanent)."""
        ...

    def read(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, Reading]:
        """The present. An endpoint without usable data is absent. Raises as `history`."""
        ...

    def problems(self) -> Mapping[EndpointId, str]:
        """What was wrong in the last `read`: why endpoints were absent, or lack a signal they ask for."""
        ...


class ScaleTarget(Protocol):
    """The cluster's side. Every method may raise ClusterUnavailable, TargetNotFound or Forbidden."""

    def observe(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, ReplicaState]:
        """Ready and starting replicas of every target that could be read; a target that could not is absent and said in
        `problems()`."""
        ...

    def problems(self) -> Mapping[EndpointId, str]:
        """Why targets were absent from the last `observe`."""
        ...

    def order(self, policy: ScalingPolicy, replicas: int, seen: ReplicaState) -> Actuation:
        """Ask for `replicas` naming the version that was seen. Idempotent: nothing is written when the target already
        asks for that many. A conflict is an outcome, never forced; an unclear answer is FAILED and the next turn reads
        again.
        """
        ...

    def announce(self, policy: ScalingPolicy, decision: Decision) -> None:
        """Show the decision on the target (an event). Repeats of the same reason are folded."""
        ...

    def startups(self, policies: Sequence[ScalingPolicy]) -> Mapping[EndpointId, Sequence[StartupObservation]]:
        """Starts seen in the pods of the last `observe`, finished or not."""
        ...


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What the advisor makes of an endpoint's past for this turn. `signals` None: not enough is known to plan.

    `forecast` is the day-ahead forecast for people to look at (None: none yet).
    """

    signals: ControlSignals | None
    choice: Choice | None
    idle: IdleAdvice | None
    profile: CapacityProfile
    forecast: DemandForecast | None = None
    problem: str = ""


class Advisor(Protocol):
    """From an endpoint's past to what the ordering rule needs. Holds fitted models and the replayed choice."""

    def refit(self, policy: ScalingPolicy, history: DemandSeries, profile: CapacityProfile, now: datetime) -> None:
        """Fit models and choose the setting anew from the history that had ended by `now`."""
        ...

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        """Signals for one turn from the reading, with the models of the last refit."""
        ...


class PolicySource(Protocol):
    def load(self) -> Sequence[ScalingPolicy]:
        """Every valid policy. Raises PolicyError when the set as a whole cannot be read."""
        ...


class DecisionLog(Protocol):
    """What is kept: decisions, and what a restart must not lose."""

    def append(self, records: Sequence[DecisionRecord]) -> None: ...

    def recent_turns(self, endpoint: EndpointId, since: datetime) -> Sequence[PastTurn]:
        """Turns decided at `since` or later, oldest first."""
        ...

    def scale_in_held_until(self, endpoint: EndpointId, now: datetime) -> datetime | None:
        """As the last decision up to `now` left it. None: nothing holds it."""
        ...
