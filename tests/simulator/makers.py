"""Small makers for the simulator's tests, and an advisor that is as simple as one can be."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from forecaster.series import DemandSeries, DemandUnit
from scaler.cycle import prior_profile
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import CapacityProfile, ReplicaState
from scaler.domain.snapshot import ControlSignals
from scaler.ports import Advice, Reading
from scaler.simulator.baselines.base import Site, Situation
from scaler.simulator.faults import Faults
from scaler.simulator.lane import Lane
from scaler.simulator.startups import StartupModel

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
STEP = 15.0


class PresentAdvisor:
    """Plans for the demand of the last minute, nothing else."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.refits: list[tuple[datetime, datetime]] = []
        """(now, end of the history that was seen)"""

    def refit(self, policy: ScalingPolicy, history: DemandSeries, profile: CapacityProfile, now: datetime) -> None:
        self.refits.append((now, history.end))

    def advise(self, policy: ScalingPolicy, reading: Reading, replicas: ReplicaState | None, now: datetime) -> Advice:
        demand = float(np.mean(reading.recent.values[-4:])) if len(reading.recent) else 0.0
        signals = ControlSignals(
            read_at=reading.recent.end,
            demand_now=demand,
            demand_ahead=self.factor * demand,
            dip_floor=0.0,
            peak_soon=demand,
        )
        return Advice(signals=signals, choice=None, idle=None, profile=prior_profile(policy))


def present_advisor(foreseen: Mapping[EndpointId, DemandSeries], faults: Faults, reactive_only: bool) -> PresentAdvisor:
    return PresentAdvisor()


def a_series(counts: Sequence[float], step: timedelta = timedelta(minutes=1), start: datetime = MONDAY) -> DemandSeries:
    """Requests per bin as a series of rates."""
    values = np.array(counts, dtype=np.float64) / step.total_seconds()
    return DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=step, values=values)


def a_lane(
    work: Sequence[float],
    *,
    ready: int = 0,
    capacity: float = 1.0,
    startup: float = 30.0,
    model: StartupModel | None = None,
    rolling_updates: Sequence[float] = (),
    in_pool: bool = False,
) -> Lane:
    return Lane(
        np.array(work, dtype=np.float64),
        step_seconds=STEP,
        capacity_per_second=capacity,
        startup=model or StartupModel(typical=timedelta(seconds=startup)),
        rng=np.random.Generator(np.random.PCG64(1)),
        ready=ready,
        rolling_updates=rolling_updates,
        in_pool=in_pool,
    )


def played(lane: Lane, orders: Sequence[int]) -> Lane:
    for count in orders:
        lane.order(count)
        lane.advance()
    return lane


def a_site(**changes: object) -> Site:
    """One unit per second per replica, planned at 100 %, 15 s a request."""
    fields: dict[str, object] = {
        "lowest": 0,
        "highest": 100,
        "capacity_per_second": 1.0,
        "utilization": 1.0,
        "service_seconds": 15.0,
        "startup_seconds": 150.0,
        "queue_wait_seconds": 10.0,
        "step_seconds": STEP,
        "start_epoch_seconds": MONDAY.timestamp(),
        "history": np.zeros(0),
    }
    return Site(**(fields | changes))  # type: ignore[arg-type]


def a_situation(site: Site, loads: Sequence[float], *, ready: int, starting: int = 0, queue: float = 0.0) -> Situation:
    """A moment after steps of these loads (in replicas' worth), all of it in service."""
    now = Situation(site=site, ready=ready, starting=starting, queue=queue, step=len(loads))
    for load in loads:
        now.push(load * site.per_step, load)
    return now


def planned(advice: Advice) -> float:
    """Demand that the advice plans replicas for, its headroom included."""
    assert advice.signals is not None and advice.choice is not None
    return advice.signals.demand_ahead / advice.choice.setting.utilization_fraction
