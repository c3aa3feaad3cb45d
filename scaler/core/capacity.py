"""What one replica carries at the SLO, refined from what was seen of it.

Below saturation a rate only says that a replica carries at least that much. Capacity therefore moves down only where
replicas had work waiting, or missed the SLO, while they carried less than they were thought to; and up only where they
carried more and kept the SLO with room to spare. What replicas carried is demand less the growth of the queue: right
after a shortage demand alone would make replicas that drain a backlog at full speed look slow.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import exp, inf, isnan, log, nan

from scaler.domain.policy import Slo
from scaler.domain.replicas import CapacityProfile

BUSY = 0.7
"""Misses below this utilisation have other causes than capacity."""
FULL_SLOTS = 0.95
"""Share of maxConcurrency in flight at which a replica has no room left."""
BACKLOG = 0.2
"""A queue that takes this share of the allowed wait, a minute ago and now: no replica was without work in between."""
BACKLOG_SECONDS = 60.0
"""Of work off a backlog: with so much of it at both ends of a minute every replica was busy all the time."""
CALM = 0.5
"""Up only while waits are below this share of what the SLO allows."""
STEP_DOWN = 0.1
STEP_UP = 0.03
"""Share of the way, in logarithms, that one observation moves capacity: down fast as misses cost users, up slowly."""
MOST_FACTOR = 4.0
"""Never further from the policy's value than this factor: beyond it the policy is wrong and a person should look."""
MOST_GROWTH = 0.3
"""Of demand. A rate is read over a window and lags behind the queue: on a steep ramp the two do not fit together."""
LONGEST_GAP = timedelta(minutes=3)
"""Between two observations for the queue's growth to be known."""
SETTLING = timedelta(minutes=10)
"""After replicas were asked for more than they carry, latency still shows the backlog."""
LATEST = timedelta(days=7)
"""What was learned longer ago says nothing about the nodes of today."""
MATERIAL_CHANGE = 0.05
"""A profile that moved less keeps its old self: what was replayed with it stays valid."""


@dataclass(frozen=True, kw_only=True)
class CapacityObservation:
    """One minute of an endpoint, as it was at its end. NaN: not known.

    `demand` is the minute's mean in the series' unit (per second, or a level). `queue` is what waits, in requests: for
    tokens and concurrency leave it NaN, it is not in their unit. `in_flight` counts requests over all replicas,
    `latency_seconds` is at the policy's percentile. `version` names the terms that hold (unit and the policy's own
    value), `revision` what runs (image, model, GPU type; "": not known, which changes nothing).
    """

    at: datetime
    demand: float
    ready_replicas: int
    in_flight: float = nan
    queue: float = nan
    latency_seconds: float = nan
    version: str = ""
    revision: str = ""


@dataclass(frozen=True, kw_only=True)
class LearnedCapacity:
    """What was learned of one version so far: all that the next minute needs, however long the past was.

    `revision` is the last one that was known.
    """

    version: str
    revision: str = ""
    per_replica: float
    minutes: int = 0
    too_slow: int = 0
    carried_more: int = 0
    last: CapacityObservation
    overloaded_at: datetime | None = None


def advance(
    state: LearnedCapacity | None,
    one: CapacityObservation,
    prior: CapacityProfile,
    slo: Slo,
    off_backlog: bool = False,
) -> LearnedCapacity:
    """The state after one more minute; the first one, another version or revision, or a gap longer than LATEST begins
    at the prior.

    Example: prior 2.5 a second, latency SLO missed while each replica carried 2.0 (utilisation 0.8): one minute moves
    it to exp(ln 2.5 - 0.1 ln(2.5 / 2.0)) = 2.445, fifty such minutes to 2.003; misses at 1.5 a second (0.6) would not.

    `off_backlog`: the endpoint works off a backlog for which nobody waits. What its replicas carry while there is
    enough of it is what they can, more or less than was thought.
    """
    if state is None or _is_another(state, one) or one.at - state.last.at > LATEST:
        return LearnedCapacity(
            version=one.version, revision=one.revision, per_replica=prior.demand_per_replica, last=one
        )
    capacity = state.per_replica
    moved = _off_backlog(state, one, prior) if off_backlog else _after(state, one, prior, slo)
    overloaded = one.ready_replicas < 1 or one.demand > one.ready_replicas * capacity
    return replace(
        state,
        revision=one.revision or state.revision,
        per_replica=moved,
        minutes=state.minutes + 1,
        too_slow=state.too_slow + (moved < capacity),
        carried_more=state.carried_more + (moved > capacity),
        last=one,
        overloaded_at=one.at if overloaded else state.overloaded_at,
    )


def _is_another(state: LearnedCapacity, one: CapacityObservation) -> bool:
    """Whether what was learned is of something else than what runs now. None ready tells no revision."""
    other_revision = one.revision and state.revision and one.revision != state.revision
    return state.version != one.version or bool(other_revision)


def profile_of(
    state: LearnedCapacity | None, prior: CapacityProfile, previous: CapacityProfile | None = None
) -> CapacityProfile:
    """The prior with what was learned in it; `previous` itself unless its capacity moved by MATERIAL_CHANGE."""
    if state is None or not state.too_slow + state.carried_more:
        return prior
    how = f"learned from {state.minutes} minutes: {state.too_slow} too slow, {state.carried_more} carried more"
    learned = replace(prior, demand_per_replica=state.per_replica, measured_how=how, measured_at=state.last.at)
    return previous if previous is not None and _same(previous, learned) else learned


def _after(state: LearnedCapacity, one: CapacityObservation, prior: CapacityProfile, slo: Slo) -> float:
    """Capacity after one minute."""
    capacity = state.per_replica
    carried = _carried(state.last, one, most_growth=MOST_GROWTH * one.demand)
    if isnan(carried) or carried <= 0:
        return capacity
    wait = _wait(one, capacity, slo)
    strain = _worst(wait, _latency(one, slo))
    full = one.in_flight >= FULL_SLOTS * one.ready_replicas * prior.max_concurrency
    backlog = wait >= BACKLOG and _wait(state.last, capacity, slo) >= BACKLOG
    settled = not isnan(wait) or state.overloaded_at is None or one.at - state.overloaded_at >= SETTLING
    missed = strain > 1.0 and carried > BUSY * capacity and settled
    if carried < capacity and (backlog or full or missed):
        share = STEP_DOWN
    elif carried > capacity and strain < CALM and not full:
        share = STEP_UP
    else:
        return capacity
    return _towards(carried, capacity, share, prior)


def _off_backlog(state: LearnedCapacity, one: CapacityObservation, prior: CapacityProfile) -> float:
    """Capacity after one minute of working off a backlog, where it lasted all through it."""
    capacity, before = state.per_replica, state.last
    enough = BACKLOG_SECONDS * capacity * one.ready_replicas
    if not (one.queue >= enough and before.queue >= enough) or one.queue - before.queue > MOST_GROWTH * before.queue:
        return capacity  # NaN among them
    carried = _carried(before, one, most_growth=inf)
    if isnan(carried) or carried <= 0:
        return capacity
    return _towards(carried, capacity, STEP_DOWN if carried < capacity else STEP_UP, prior)


def _towards(carried: float, capacity: float, share: float, prior: CapacityProfile) -> float:
    """A share of the way from `capacity` to what was carried, in logarithms, within MOST_FACTOR of the policy's."""
    own = prior.demand_per_replica
    goal = min(max(carried, own / MOST_FACTOR), own * MOST_FACTOR)
    return exp(log(capacity) + share * (log(goal) - log(capacity)))


def _carried(before: CapacityObservation, one: CapacityObservation, most_growth: float) -> float:
    """What each replica carried in this minute; NaN where replicas or the queue cannot be told, or the queue grew or
    shrank by more than `most_growth` requests a second.

    Example: demand 10 a second, the queue shrank by 120 requests in a minute, three replicas: (10 + 2) / 3 = 4.
    """
    if one.ready_replicas < 1 or isnan(one.demand) or before.ready_replicas != one.ready_replicas:
        return nan
    if isnan(one.queue):
        return one.demand / one.ready_replicas
    span = one.at - before.at
    if isnan(before.queue) or not timedelta(0) < span <= LONGEST_GAP:
        return nan
    growth = (one.queue - before.queue) / span.total_seconds()
    if abs(growth) > most_growth:
        return nan
    return max(one.demand - growth, 0.0) / one.ready_replicas


def _wait(one: CapacityObservation, capacity: float, slo: Slo) -> float:
    """How long a request that comes now will wait, as a share of what the SLO allows (Little's law); NaN: not known."""
    allowed = max(slo.queue_wait.total_seconds(), 1.0)
    return one.queue / (one.ready_replicas * capacity) / allowed if one.ready_replicas else nan


def _latency(one: CapacityObservation, slo: Slo) -> float:
    """Measured latency as a share of what the SLO allows; NaN: not known."""
    return one.latency_seconds / slo.latency.below.total_seconds() if slo.latency is not None else nan


def _worst(a: float, b: float) -> float:
    """The larger of those that are known."""
    return b if isnan(a) else a if isnan(b) else max(a, b)


def _same(previous: CapacityProfile, learned: CapacityProfile) -> bool:
    """Nothing but a small move of the capacity lies between them."""
    ratio = learned.demand_per_replica / previous.demand_per_replica
    alike = replace(
        learned,
        demand_per_replica=previous.demand_per_replica,
        measured_how=previous.measured_how,
        measured_at=previous.measured_at,
    )
    return abs(ratio - 1.0) <= MATERIAL_CHANGE and alike == previous
