"""A backlog with a deadline: as few replicas as finish everything in time.

At every turn the cheapest schedule of what waits now: the work that is due by a time over the time that is left, the
highest over all such times (Yao, Demers and Shenker 1995: "Optimal Available"; what comes later changes it when it
comes). Nothing is forecast: who has hours needs no head start.
"""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

import numpy as np

from forecaster.series import FloatArray
from scaler.domain.decision import CapacityPlan
from scaler.domain.replicas import ReplicaState
from scaler.domain.snapshot import Snapshot

MINUTE = timedelta(minutes=1)
RESERVE_FRACTION = 0.1
"""Of the deadline, left over for what goes wrong: a slow start, a failed one, requests that are larger than usual."""
FIRST_REPLICA_NEED = 0.5
"""Half a replica's need: from there on the first one has work for half of the time that is left, or more. Less than
that waits for more to come, until its time is up."""
NOTHING = 1e-6
"""A backlog below this is rounding of sums."""
SLACK_REPLICAS = 0.15
"""A need of 2.1 is left to two until it grows: they are busy meanwhile, and a third one would start for little."""


@dataclass(frozen=True, kw_only=True)
class Urgency:
    """That part of a backlog that asks for most: `requests` within `seconds_left` are `per_second`. `is_late`:
    some have no time left."""

    requests: float
    seconds_left: float
    is_late: bool

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds_left


def most_urgent(backlog: float, arrived: FloatArray, deadline_seconds: float, least_seconds: float) -> Urgency:
    """Of all parts of a backlog, by how long they have waited.

    `arrived` (n_minutes,) requests that came in each of the last minutes, the newest last; NaN (not seen) counts as 0,
    so that the backlog is taken for older. Requests are served in order: what waits longer than a minutes is the
    backlog less what came in the last a minutes. No time left counts as `least_seconds`.

    Example: 600 wait, 100 came in each of the last 5 minutes, the deadline is 10 minutes. 100 are older than those and
    have 5 minutes left, 1/3 a second; all 600 have 10, 1 a second: that is the most.
    """
    back = np.concatenate([[0.0], np.cumsum(np.nan_to_num(arrived[::-1]))])
    ages = 60.0 * np.arange(len(back))
    waiting = np.maximum(backlog - back, 0.0)
    left = np.maximum(deadline_seconds - ages, least_seconds)
    worst = int(np.argmax(waiting / left))
    is_late = bool((waiting[ages >= deadline_seconds] > NOTHING).any())
    return Urgency(requests=float(waiting[worst]), seconds_left=float(left[worst]), is_late=is_late)


def plan_backlog(snapshot: Snapshot, replicas: ReplicaState, usable_per_replica: float) -> CapacityPlan:
    """Replicas for the backlog of `snapshot.queue` requests, which is known. Those that stand are kept while each has
    work for a start-up time."""
    startup = snapshot.profile.startup
    deadline = snapshot.policy.spec.slo.queue_wait
    starts_in = startup.p95.total_seconds()
    planned_seconds = (1.0 - RESERVE_FRACTION) * deadline.total_seconds() - starts_in
    arrived = np.array(snapshot.demand_lately, dtype=np.float64) * MINUTE.total_seconds()
    urgent = most_urgent(snapshot.queue, arrived, planned_seconds, starts_in)
    need = urgent.per_second / usable_per_replica
    waits = need < FIRST_REPLICA_NEED and not urgent.is_late
    busy = ceil(snapshot.queue / (usable_per_replica * startup.mean.total_seconds()) - 1e-9)
    return CapacityPlan(
        needed=(),
        order_now=0 if waits else max(1, ceil(need - SLACK_REPLICAS)),
        keep=min(replicas.desired, busy),
        binding_at=snapshot.now + timedelta(seconds=urgent.seconds_left + starts_in),
        demand_at_binding=urgent.per_second,
        due=urgent.requests,
    )
