"""Which bounds hold now: the policy's own and those of the active overrides."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from cronsim import CronSim, CronSimError
from numpy.typing import NDArray

from scaler.domain.policy import Override, ScalingPolicy

_FOLD = timedelta(hours=2)
"""No zone sets its clocks back by more: before so long no hour that stands twice has begun."""


@dataclass(frozen=True, kw_only=True)
class ActiveBounds:
    """`min <= max`; `names` are the overrides that are active, in the policy's order."""

    min: int
    max: int
    names: tuple[str, ...] = ()

    def clip(self, replicas: int) -> int:
        return min(max(replicas, self.min), self.max)


def cron_problem(expression: str) -> str:
    """Why the expression is no cron of five fields that ever comes due; "" when it is one."""
    if len(expression.split()) != 5:
        return f"{len(expression.split())} fields"
    try:
        next(CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        return str(error)
    except StopIteration:
        return "it never comes due"
    return ""


def is_active(override: Override, now: datetime) -> bool:
    """True within [start, end), or within `duration` after a cron time in the override's own zone."""
    if override.start is not None and override.end is not None:
        return override.start <= now < override.end
    if override.duration is None:
        return False
    # The first cron time after (now - duration), at the latest now, began a span that still lasts.
    after = now - override.duration
    begin = after.astimezone(ZoneInfo(override.timezone))
    if begin.fold:  # the hour that clocks show twice: from before it, what came due the first time comes no second time
        begin = (after - _FOLD).astimezone(begin.tzinfo)
    return next(due for due in CronSim(override.cron, begin) if due > after) <= now


def active_bounds(policy: ScalingPolicy, now: datetime) -> ActiveBounds:
    """The highest min and the lowest max of the policy and its active overrides; where they cross, max holds.

    Max wins because it caps spend and quota: a floor that cannot be paid for is no floor.
    """
    replicas = policy.spec.replicas
    lowest, highest = replicas.min, replicas.max
    active = tuple(override for override in policy.spec.overrides if is_active(override, now))
    for override in active:
        lowest = max(lowest, override.min if override.min is not None else lowest)
        highest = min(highest, override.max if override.max is not None else highest)
    return ActiveBounds(min=min(lowest, highest), max=highest, names=tuple(override.name for override in active))


def bounds_of(policy: ScalingPolicy, times: Sequence[datetime]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The lowest and the highest count allowed at each of `times`, overrides included."""
    if not policy.spec.overrides:
        replicas = policy.spec.replicas
        return np.full(len(times), replicas.min), np.full(len(times), replicas.max)
    active = [active_bounds(policy, when) for when in times]
    return np.array([bounds.min for bounds in active]), np.array([bounds.max for bounds in active])
