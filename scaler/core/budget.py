"""A day's budget: what was spent of it, and how many replicas can still be paid for.

The day is the local one of the policy's calendar. A replica costs from its order until it is let go.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from math import floor, inf
from zoneinfo import ZoneInfo

import numpy as np

from scaler.core.bounds import bounds_of
from scaler.domain.policy import ScalingPolicy
from scaler.domain.snapshot import Snapshot

HOUR = timedelta(hours=1)
AHEAD = HOUR
"""An order must be affordable for so long, with the minimum after it: the last of a budget goes slowly, not at once."""


@dataclass(frozen=True, kw_only=True)
class Spend:
    """Replica-hours of one local day up to `until`, and the replicas that cost since then."""

    day: date
    replica_hours: float
    until: datetime
    standing: int


def spent(before: Spend | None, policy: ScalingPolicy, now: datetime, standing: int | None) -> Spend:
    """The spend at `now`, from where on `standing` replicas cost (None: not known, as many as before). What stood
    before the first look of all is not known, and left out."""
    day = _local(policy, now).date()
    if before is None:
        return Spend(day=day, replica_hours=0.0, until=now, standing=0 if standing is None else standing)
    since = before.until if before.day == day else max(before.until, midnight(policy, now))
    hours = (before.replica_hours if before.day == day else 0.0) + before.standing * ((now - since) / HOUR)
    return replace(
        before, day=day, replica_hours=hours, until=now, standing=before.standing if standing is None else standing
    )


def midnight(policy: ScalingPolicy, now: datetime) -> datetime:
    """When the present local day began."""
    return datetime.combine(_local(policy, now).date(), time(), ZoneInfo(policy.spec.forecast.calendar.timezone))


def limit_replica_hours(policy: ScalingPolicy) -> float:
    """Replica-hours that a day's budget pays for, the tighter of the two; infinite without one."""
    budget, target = policy.spec.budget, policy.spec.target
    limits = [inf]
    if budget.gpu_hours_per_day is not None and target.gpus_per_replica > 0:
        limits.append(budget.gpu_hours_per_day / target.gpus_per_replica)
    if budget.cost_per_day is not None:
        limits.append(budget.cost_per_day / target.cost_per_replica_hour)
    return min(limits)


def affordable(snapshot: Snapshot, least: int) -> int | None:
    """The most replicas that what is left of the day's budget pays for AHEAD, with each later minimum to midnight;
    never below `least`, the minimum now. None without a budget, or before it is known what was spent.

    Example: 10 replica-hours left three hours before midnight, at least one stands: 8, as 8 + 2 x 1 = 10.
    """
    limit = limit_replica_hours(snapshot.policy)
    if limit == inf or snapshot.spent_replica_hours is None:
        return None
    tomorrow = midnight(snapshot.policy, midnight(snapshot.policy, snapshot.now) + 26 * HOUR)
    after_hours = max((tomorrow - snapshot.now - AHEAD) / HOUR, 0.0)
    left = limit - snapshot.spent_replica_hours - _minimum_replica_hours(snapshot, after_hours)
    return max(least, floor(left / (AHEAD / HOUR) + 1e-9))


def _minimum_replica_hours(snapshot: Snapshot, after_hours: float) -> float:
    """What the minimum takes in so many hours after AHEAD, each hour by the overrides that are active as it begins."""
    begins = np.arange(0.0, after_hours)
    lowest, _ = bounds_of(snapshot.policy, [snapshot.now + AHEAD + hours * HOUR for hours in begins.tolist()])
    return float(lowest @ np.minimum(1.0, after_hours - begins))


def _local(policy: ScalingPolicy, now: datetime) -> datetime:
    return now.astimezone(ZoneInfo(policy.spec.forecast.calendar.timezone))
