"""Everything one decision may read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import nan

from forecaster.series import require_utc
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile, ReplicaState
from scaler.domain.setting import Choice


@dataclass(frozen=True, kw_only=True)
class ControlSignals:
    """Demand as the ordering rule sees it, in the series' unit (per second, or a level); NaN where not known.

    `demand_now` is the mean of the last full minute. `demand_ahead` is the playing setting's demand one start-up time
    ahead, held over its hold window. `dip_floor` is the playing setting's dip guard (0: none). `peak_soon` is the .9
    quantile of the highest minute within the next four. `ahead` is the playing quantile per minute from now on, for the
    plan and its explanation; it may be empty.
    """

    read_at: datetime
    demand_now: float
    demand_ahead: float
    dip_floor: float
    peak_soon: float
    ahead: tuple[float, ...] = ()
    forecast_issued_at: datetime | None = None
    forecast_method: str = ""
    fell_back_from: str = ""
    baseline_ahead: float = nan
    """`demand_ahead` of the shadow reactive policy: what a decision without any forecast would plan for."""


@dataclass(frozen=True, kw_only=True)
class IdleAdvice:
    """About the last replica, from the law of the next arrival. `last_arrival` None: none was ever seen.

    `keep` answers "one stands: keep it?", `pre_warm` answers "none stands: order one now?".
    """

    last_arrival: datetime | None
    keep: bool
    pre_warm: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class PastTurn:
    """What one earlier turn recommended (before stabilisation), had before it, and ordered. `standing`: replicas that
    cost, also above a floor (None: not known). `promoted`: its policy observes, and it acted because the gate had
    opened."""

    decided_at: datetime
    recommended: int
    current: int
    ordered: int
    standing: int | None = None
    promoted: bool = False


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One frozen picture: `decide` reads nothing else, so every decision can be replayed.

    `replicas` None: the cluster did not answer. `signals` None: demand is not known. `queue` is what waits: requests,
    or their tokens where demand is in tokens; `in_flight` are the requests being served (NaN: not known). `reactive`
    maps each threshold signal to its value per ready replica (NaN: not known). `recent` are earlier turns, oldest
    first, as far back as the policy's windows reach. `demand_lately` is demand per second by minute, oldest first, for
    triggers. `problem` says in words what could not be read ("": nothing).
    """

    now: datetime
    endpoint: EndpointId
    policy: ScalingPolicy
    profile: CapacityProfile
    replicas: ReplicaState | None
    signals: ControlSignals | None
    queue: float = nan
    in_flight: float = nan
    reactive: Mapping[str, float] = field(default_factory=dict)
    choice: Choice | None = None
    idle: IdleAdvice | None = None
    recent: tuple[PastTurn, ...] = ()
    demand_lately: tuple[float, ...] = ()
    held_in_until: datetime | None = None
    """A trigger that fired earlier, or a signal that was above its threshold, holds scale-in until then."""
    spent_replica_hours: float | None = None
    """Since the local day began; None where the policy has no budget."""
    turn: timedelta = timedelta(seconds=15)
    """The time between two decisions."""
    problem: str = ""

    def __post_init__(self) -> None:
        require_utc(self.now, "snapshot now")
