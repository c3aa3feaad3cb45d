"""What one replica carries at the SLO, refined from what was seen of it.

Below saturation a rate only says that a replica carries at least that much. Capacity therefore moves down only on
evidence that replicas could not keep up although they were asked for less than they were thought to carry, and up only
on evidence that they carried more and kept up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import exp, isnan, log, nan

from scaler.domain.policy import Slo
from scaler.domain.replicas import CapacityProfile

BUSY = 0.7
"""Misses below this utilisation have other causes than capacity."""
FULL_SLOTS = 0.95
"""Share of maxConcurrency in flight at which a replica has no room left."""
CALM = 0.5
"""Up only while waits are below this share of what the SLO allows: a queue that fills hides what is not served."""
STEP_DOWN = 0.1
STEP_UP = 0.03
"""Share of the way, in logarithms, that one observation moves capacity: down fast as misses cost users, up slowly."""
MOST_FACTOR = 4.0
"""Never further from the policy's value than this factor: beyond it the policy is wrong and a person should look."""
LATEST = timedelta(days=7)
"""What was learned longer ago says nothing about the nodes of today."""
MATERIAL_CHANGE = 0.05
"""A profile that moved less keeps its old self: what was replayed with it stays valid."""


@dataclass(frozen=True, kw_only=True)
class CapacityObservation:
    """One minute of an endpoint whose ready replicas did not change. NaN: not known.

    `demand` is in the series' unit (per second, or a level), `in_flight` and `queue` in requests over all replicas,
    `latency_seconds` at the policy's percentile. `version` names what runs: image, model, GPU type.
    """

    at: datetime
    demand: float
    ready_replicas: int
    in_flight: float = nan
    queue: float = nan
    latency_seconds: float = nan
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class LearnedCapacity:
    """What was learned of one version so far: all that the next minute needs, whatever the past was."""

    version: str
    per_replica: float
    at: datetime
    minutes: int = 0
    too_slow: int = 0
    carried_more: int = 0


def advance(
    state: LearnedCapacity | None, one: CapacityObservation, prior: CapacityProfile, slo: Slo
) -> LearnedCapacity:
    """The state after one more minute; another version, or a gap longer than LATEST, begins at the prior."""
    if state is None or state.version != one.version or one.at - state.at > LATEST:
        state = LearnedCapacity(version=one.version, per_replica=prior.demand_per_replica, at=one.at)
    moved = _after(one, state.per_replica, prior, slo)
    return replace(
        state,
        per_replica=moved,
        at=one.at,
        minutes=state.minutes + 1,
        too_slow=state.too_slow + (moved < state.per_replica),
        carried_more=state.carried_more + (moved > state.per_replica),
    )


def profile_of(
    state: LearnedCapacity | None, prior: CapacityProfile, previous: CapacityProfile | None = None
) -> CapacityProfile:
    """The prior with what was learned in it; `previous` itself unless its capacity moved by MATERIAL_CHANGE."""
    learned = prior
    if state is not None and state.too_slow + state.carried_more:
        how = f"learned from {state.minutes} minutes: {state.too_slow} too slow, {state.carried_more} carried more"
        learned = replace(prior, demand_per_replica=state.per_replica, measured_how=how, measured_at=state.at)
    return previous if previous is not None and _same(previous, learned) else learned


def learned_capacity(
    prior: CapacityProfile,
    slo: Slo,
    seen: Sequence[CapacityObservation],
    now: datetime,
    previous: CapacityProfile | None = None,
) -> CapacityProfile:
    """The profile after these minutes; `previous` itself unless its capacity moved by MATERIAL_CHANGE.

    Only minutes of the version that runs now and of the last week count, oldest first. Example: prior 2.5 a second, SLO
    missed while each replica was asked for 2.0 (utilisation 0.8): one minute moves it to
    exp(ln 2.5 - 0.1 ln(2.5 / 2.0)) = 2.445, fifty such minutes to 2.003; misses at 1.5 a second (0.6) would not.
    """
    state: LearnedCapacity | None = None
    for one in sorted(seen, key=lambda one: one.at):
        if now - LATEST < one.at <= now:
            state = advance(state, one, prior, slo)
    return profile_of(state, prior, previous)


def _after(one: CapacityObservation, capacity: float, prior: CapacityProfile, slo: Slo) -> float:
    """Capacity after one minute."""
    if one.ready_replicas < 1 or isnan(one.demand) or one.demand <= 0:
        return capacity
    carried = one.demand / one.ready_replicas
    utilization = carried / capacity
    strain = _strain(one, capacity, slo)
    slots = one.in_flight / (one.ready_replicas * prior.max_concurrency)
    if utilization < 1.0 and ((strain > 1.0 and utilization > BUSY) or slots >= FULL_SLOTS):
        share = STEP_DOWN
    elif utilization > 1.0 and strain < CALM and not slots >= FULL_SLOTS:
        share = STEP_UP
    else:
        return capacity
    own = prior.demand_per_replica
    goal = min(max(carried, own / MOST_FACTOR), own * MOST_FACTOR)
    return exp(log(capacity) + share * (log(goal) - log(capacity)))


def _strain(one: CapacityObservation, capacity: float, slo: Slo) -> float:
    """The worst of latency and wait as a share of what the SLO allows; NaN when neither is known.

    The wait of a request that comes now is the queue over what all replicas carry (Little's law).
    """
    worst = nan
    if slo.latency is not None and not isnan(one.latency_seconds):
        worst = one.latency_seconds / slo.latency.below.total_seconds()
    allowed = slo.queue_wait.total_seconds()
    if not isnan(one.queue) and allowed > 0:
        wait = one.queue / (one.ready_replicas * capacity) / allowed
        worst = wait if isnan(worst) else max(worst, wait)
    return worst


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
