"""One endpoint of the simulated world: a first-in-first-out queue before replicas that take time to start.

Fluid: a step's arrivals flow in evenly over the step; a ready replica serves `capacity` units per second, first come
first served; what finds no room waits. A row of the outcome is one step: the order is given at its start, everything
else is as at its end. A replica is paid from its order until it is let go. Scale-in is instant and lets starting
replicas go first, the newest first.

A rolling update replaces the ready replicas one by one: a further replica starts beside those that were asked for, and
when it is ready an outdated one goes. Starting replicas begin anew. Scale-in lets outdated replicas go first.

Concurrency is served the same way in unit-seconds: a level d over a step of s seconds is d x s units of work, a replica
that holds c at once does c per second, and what exceeds the room is carried on, as open requests are.

In a pool (pool.py) a replica that is ordered is pending until GPUs are free for it: meanwhile it neither starts nor
costs. Scale-in lets pending replicas go first of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecaster.series import FloatArray
from scaler.simulator.startups import StartupModel

Counts = NDArray[np.int32]
Amounts = NDArray[np.float32]
"""What is kept of a run is kept small: a fleet's weeks have millions of rows."""
NOTHING = 1e-9
"""A queue below this is rounding of sums, not work."""


class Lane:
    """Mutable by design: the world moves when told, one step at a time. All times are seconds since the lane's
    start."""

    def __init__(
        self,
        work: FloatArray,
        *,
        step_seconds: float,
        capacity_per_second: float,
        startup: StartupModel,
        rng: np.random.Generator,
        ready: int,
        rolling_updates: Sequence[float] = (),
        in_pool: bool = False,
    ) -> None:
        n = len(work)
        self.work = work
        self.step_seconds = step_seconds
        self.capacity = capacity_per_second
        self.ready = ready
        self.starting: list[tuple[float, float]] = []
        """(ordered, ready) of each starting replica that was asked for, oldest order first."""
        self.pending: list[float] = []
        """When each replica that has no GPUs yet was ordered, oldest first; none without a pool."""
        self.replacement: tuple[float, float] | None = None
        """(ordered, ready) of the one that takes an outdated one's place."""
        self.outdated = 0
        self._rolling_updates = sorted(rolling_updates)
        self.queue = 0.0
        self.step = 0
        self.starts = 0
        self.cancelled = 0
        """Of the starts, those that were let go before they were ready."""
        self.finished: list[tuple[float, float]] = []
        """(ordered, ready) of every start that came to its end."""
        self.rows = np.zeros((n, 5))
        """desired, starting, ready, queue, units that could be served: one row a step, filled up to `step`."""
        self.startup, self._rng, self._in_pool = startup, rng, in_pool
        self._listed = work.tolist()

    @property
    def now_seconds(self) -> float:
        return self.step * self.step_seconds

    @property
    def total(self) -> int:
        """Replicas that were asked for: a replacement stands beside them."""
        return self.placed + len(self.pending)

    @property
    def placed(self) -> int:
        """Of these, those that have their GPUs."""
        return self.ready + len(self.starting)

    def order(self, replicas: int) -> None:
        """Have `replicas` ready, starting or pending from now on."""
        del self.pending[max(0, replicas - self.placed) :]
        total = self.total
        if replicas > total:
            now = self.step * self.step_seconds
            if self._in_pool:
                self.pending += [now] * (replicas - total)
            else:
                self.starting += [self._start(now) for _ in range(replicas - total)]
        elif replicas < total:
            kept = max(0, len(self.starting) - (total - replicas))
            self.outdated = max(0, self.outdated - max(0, self.ready - replicas))
            if self.outdated == 0 and self.replacement is not None:
                self.cancelled += 1
                self.replacement = None
            self.ready = min(self.ready, replicas)
            self.cancelled += len(self.starting) - kept
            del self.starting[kept:]

    def place(self) -> None:
        """The oldest pending replica has its GPUs: it starts now."""
        _, ready_at = self._start(self.step * self.step_seconds)
        self.starting.append((self.pending.pop(0), ready_at))

    def _start(self, now: float) -> tuple[float, float]:
        self.starts += 1
        return now, now + self.startup.draw_seconds(self._rng)

    def advance(self) -> None:
        """One step passes."""
        dt = self.step_seconds
        if self._rolling_updates or self.outdated:
            self._roll_out(self.step * dt)
        desired = self.total
        end = (self.step + 1) * dt
        room = self.ready * self.capacity * dt
        if self.starting:
            room += self._became_ready(end)
        left = self.queue + self._listed[self.step] - room
        self.queue = left if left > NOTHING else 0.0
        starting = len(self.starting) + (self.replacement is not None)
        self.rows[self.step] = (desired, starting, self.ready, self.queue, room)
        self.step += 1
        if self.starting:
            self._became_ready(end, at_end=True)
        if self.replacement is not None and self.replacement[1] <= end + NOTHING:
            self.finished.append(self.replacement)
            self.outdated -= 1
            self.replacement = None

    def _roll_out(self, now: float) -> None:
        """Begin the rolling update that is due, and the next replacement of one under way."""
        if self._rolling_updates and self._rolling_updates[0] <= now + NOTHING:
            self._rolling_updates.pop(0)
            self.cancelled += len(self.starting) + (self.replacement is not None)
            self.outdated, self.replacement = self.ready, None
            self.starting = [self._start(now) for _ in self.starting]
        if self.outdated and self.replacement is None:
            self.replacement = self._start(now)

    def _became_ready(self, end: float, at_end: bool = False) -> float:
        """Move the replicas that are ready before `end` (or at it) over; the units that they could serve until then."""
        room = 0.0
        still = []
        for ordered, ready_at in self.starting:
            if ready_at < end - NOTHING or (at_end and ready_at <= end + NOTHING):
                room += max(0.0, end - ready_at) * self.capacity
                self.ready += 1
                self.finished.append((ordered, ready_at))
            else:
                still.append((ordered, ready_at))
        self.starting = still
        return room

    def served(self, k: int) -> float:
        """Units served in step k (which must have passed)."""
        before = self.rows[k - 1, 3] if k else 0.0
        return float(before + self.work[k] - self.rows[k, 3])


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came of one strategy on one endpoint: arrays of shape (n_steps,), one entry a control step.

    `demand` is units per step (concurrency: the level); `queue` the same unit. `wait_seconds` is the wait, for a ready
    replica with room, of a request that arrives at the end of the step (the last of the step's own).
    `cancelled_starts` are those of `starts` that were let go before they were ready. `asked` is what each
    turn would have ordered, from what stood then, if the pool had no end; None: played without a pool. Replicas that
    wait for GPUs are in `desired` only.
    """

    demand: FloatArray
    desired: Counts
    starting: Counts
    ready: Counts
    queue: Amounts
    wait_seconds: Amounts
    starts: int
    cancelled_starts: int
    step_seconds: float
    asked: Counts | None = None

    @property
    def replica_hours(self) -> float:
        return float((self.ready + self.starting).sum() * self.step_seconds / 3600)

    def attainment(self, queue_wait_seconds: float) -> float:
        """Share of demand in steps whose wait is within the promise; 1 when nothing was asked."""
        total = self.demand.sum()
        return float(self.demand[self.wait_seconds <= queue_wait_seconds].sum() / total) if total > 0 else 1.0

    @property
    def cold_requests(self) -> float:
        """Demand of the steps that ended without a ready replica."""
        return float(self.demand[self.ready == 0].sum())

    def wasted_replica_hours(self, below: float) -> float:
        """Of ready replicas in steps with less demand than `below` for each of them."""
        return float(self.ready[self.demand < below * self.ready].sum() * self.step_seconds / 3600)

    def p95_wait_seconds(self) -> float:
        """The wait that 95 % of demand did not exceed; 0 when nothing was asked."""
        total = self.demand.sum()
        if total <= 0:
            return 0.0
        by_wait = np.argsort(self.wait_seconds, kind="stable")
        share = np.cumsum(self.demand[by_wait]) / total
        return float(self.wait_seconds[by_wait[min(int(np.searchsorted(share, 0.95 - 1e-12)), len(by_wait) - 1)]])


def outcome_of(lane: Lane, *, is_rate: bool, asked: Counts | None = None) -> Outcome:
    """The outcome of a lane that has come to its end."""
    unit = 1.0 if is_rate else lane.step_seconds
    desired, starting, ready, queue, _ = lane.rows.T
    return Outcome(
        demand=lane.work if is_rate else lane.work / unit,
        desired=desired.astype(np.int32),
        starting=starting.astype(np.int32),
        ready=ready.astype(np.int32),
        queue=(queue / unit).astype(np.float32),
        wait_seconds=waits(lane).astype(np.float32),
        starts=lane.starts,
        cancelled_starts=lane.cancelled,
        step_seconds=lane.step_seconds,
        asked=asked,
    )


def waits(lane: Lane) -> FloatArray:
    """Per step, the seconds from its end until all that had arrived by then was served, in order; shape (n_steps,).

    Example: 30 units queue at the end of a step before 2 replicas of 1 unit per second: 15 s. Work that still queues at
    the end of the span is served by the replicas that stand or start then; without any, one start-up time later.
    """
    n, dt = len(lane.work), lane.step_seconds
    queue, room = lane.rows[:, 3], lane.rows[:, 4]
    arrived = np.cumsum(lane.work)
    served = arrived - queue
    result = np.zeros(n)
    waiting = np.flatnonzero(queue > 0)
    if len(waiting) == 0:
        return result
    step = np.searchsorted(served, arrived[waiting] - NOTHING * np.maximum(1.0, arrived[waiting]))
    inside = step < n
    k, j = waiting[inside], step[inside]
    share = (arrived[k] - served[j - 1]) / np.maximum(room[j], NOTHING)
    result[k] = (j - k - 1) * dt + np.clip(share, 0.0, 1.0) * dt
    for k in waiting[~inside]:
        result[k] = (n - 1 - k) * dt + _drain_seconds(lane, float(arrived[k] - served[-1]))
    return result


def _drain_seconds(lane: Lane, units: float) -> float:
    """Seconds from the end of the span until `units` more are served, if nothing else is ordered or arrives."""
    end = len(lane.work) * lane.step_seconds
    coming = sorted(ready_at - end for _, ready_at in lane.starting)
    serving, now = lane.ready, 0.0
    if serving + len(coming) == 0:
        coming = [lane.startup.typical.total_seconds()]
    for at in coming:
        step = (at - now) * serving * lane.capacity
        if step >= units:
            break
        units, now, serving = units - step, at, serving + 1
    return now + units / (serving * lane.capacity)
