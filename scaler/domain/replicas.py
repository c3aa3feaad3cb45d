"""What stands and what is on its way."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from forecaster.series import require_utc


@dataclass(frozen=True, kw_only=True)
class ReplicaState:
    """Replicas of one target as read in one turn.

    `starting` holds the time each not-yet-ready replica was ordered (pods: created), oldest first. `desired` is what
    the target's spec asks for; it may differ from ready + starting for moments. `unschedulable` of the starting ones
    wait for a node. `version` is the opaque resource version that was read: an order must name it. `revisions` are the
    versions of the model server that the ready ones run, each once (pods: the hash of their template): more than one
    during a rollout, none where it is not known. `rolling_out` is true while what stands, ready or not, is of more than
    one version.
    """

    ready: int
    starting: tuple[datetime, ...] = ()
    unschedulable: int = 0
    desired: int
    version: str = ""
    revisions: tuple[str, ...] = ()
    rolling_out: bool = False

    def __post_init__(self) -> None:
        if self.ready < 0 or self.desired < 0 or not 0 <= self.unschedulable <= len(self.starting):
            raise ValueError(f"replica state: need counts >= 0 and unschedulable <= starting, have {self}")
        for when in self.starting:
            require_utc(when, "starting replica ordered_at")
        object.__setattr__(self, "starting", tuple(sorted(self.starting)))

    @property
    def standing(self) -> int:
        """Replicas that cost: asked for, or there all the same."""
        return max(self.desired, self.ready + len(self.starting))


@dataclass(frozen=True, kw_only=True)
class StartupObservation:
    """One start of one replica. A phase that has not been reached is None; `ready_at` None means it still starts."""

    ordered_at: datetime
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class StartupLaw:
    """Order to ready, as learned. `p50 <= p95`; `mean` is what a start costs."""

    p50: timedelta
    p95: timedelta
    mean: timedelta
    n_observed: int = 0
    learned_how: str = "policy"

    def __post_init__(self) -> None:
        if not timedelta(0) < self.p50 <= self.p95 or self.mean <= timedelta(0):
            raise ValueError(f"start-up law: need 0 < p50 <= p95 and mean > 0, have {self}")


@dataclass(frozen=True, kw_only=True)
class CapacityProfile:
    """What one ready replica carries at the SLO, in the demand series' own unit."""

    demand_per_replica: float
    max_concurrency: int
    startup: StartupLaw
    gpus_per_replica: int = 1
    cost_per_replica_hour: float = 1.0
    measured_how: str = "policy"
    measured_at: datetime | None = field(default=None)

    def __post_init__(self) -> None:
        if not self.demand_per_replica > 0 or self.max_concurrency < 1:
            raise ValueError(f"capacity profile: need demand_per_replica > 0 and max_concurrency >= 1, have {self}")
