"""The last replica: keep it, let it go, have it ready again before the next request?

Decided anew each turn from the law of the next arrival (forecaster.arrivals) and one price: what a cold request is
worth in replica-seconds. A backward recursion over the next hours weighs waiting, ordering, keeping and letting go. Two
safeguards hold whatever the law says:

clamp      the replica is kept for trust x C' seconds after the last request and not beyond C' / trust, so that each gap
           costs at most (1 + 1 / trust) times the per-gap optimum min(gap, C') plus one turn (Purohit, Svitkina, Kumar,
           NeurIPS 2018; with hold time tau in [trust C', C' / trust]: a gap X < tau costs X <= tau, one X >= tau costs
           tau + C'; both are within the bound). Example: C' = 600 s, trust 0.5: hold between 5 and 20 min, never more
           than three times what hindsight would pay.
ledger     pre-warming is paid from a balance in replica-seconds that starts at C' and is capped at 5 C'; a pre-warm
           that an arrival finds ready earns C' less its waiting time, any other costs its time. The balance is never
           overdrawn, so pre-warming costs at most one cold start more than never pre-warming, over any length of time.

The functions are plain loops over arrays: the fast replay compiles these same functions.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import exp, log

import numpy as np

from forecaster.arrivals.hazard import elapsed_at, hazard_between, refresh, requests_per_burst
from forecaster.arrivals.law import LAST, WATCHED, ArrivalLaw, ArrivalPrior
from forecaster.arrivals.learning import miss, observe, observe_steps, watch
from forecaster.arrivals.start import copy_law, new_law
from forecaster.series import DemandSeries, DemandUnit, FloatArray
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import ReplicaState
from scaler.domain.snapshot import IdleAdvice

GRID_SECONDS = np.array([0.0, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 240]) * 60.0
PROBE_SECONDS = 60.0
LEDGER_CAP = 5.0
"""The balance never exceeds this many cold requests: luck of long ago does not pay for today's errors."""

BALANCE, ORDERED_AT, STOOD = range(3)
STARTUP, PRICE, TRUST, MIN_IDLE, PRE_WARM, TURN = range(6)
N_TERMS = 6
NO, YES, ASK = range(3)


def mean_survival(survival_from: float, survival_to: float) -> float:
    """Mean of an exponentially falling survival between its two ends."""
    if survival_to <= 0.0 or survival_from - survival_to < 1e-9:
        return 0.5 * (survival_from + survival_to)
    # A difference of logarithms, not the logarithm of a quotient: the quotient overflows for the smallest survivals.
    return (survival_from - survival_to) / (log(survival_from) - log(survival_to))


def soon_pays(law: ArrivalLaw, elapsed: float, cold_cost: float) -> bool:
    """Whether standing for one minute from `elapsed` on is worth it for the arrivals of that minute alone."""
    return cold_cost * (1.0 - exp(-hazard_between(law, elapsed, elapsed + PROBE_SECONDS))) > PROBE_SECONDS


def weigh(law: ArrivalLaw, elapsed: float, startup: float, cold_cost: float) -> tuple[bool, bool]:
    """(keep it if one stands, order one if none does), `elapsed` seconds after the last request, by expected cost.

    Backward over GRID_SECONDS with S(u) the chance of no arrival in the next u seconds and A(u) its integral: Off, On =
    least expected cost from u on with none or one standing; an arrival ends the account, cold ones at `cold_cost`.
    """
    n = len(GRID_SECONDS)
    survival = np.empty(n)
    ready_survival = np.empty(n)
    idle = np.empty(n)
    ready_idle = np.empty(n)
    hazard = 0.0
    for k in range(n):
        at = elapsed + GRID_SECONDS[k]
        if k > 0:
            hazard += hazard_between(law, elapsed + GRID_SECONDS[k - 1], at)
        survival[k] = exp(-hazard)
        idle[k] = 0.0
        if k > 0:
            width = GRID_SECONDS[k] - GRID_SECONDS[k - 1]
            idle[k] = idle[k - 1] + width * mean_survival(survival[k - 1], survival[k])
        ready_survival[k] = exp(-hazard - hazard_between(law, at, at + startup))
        ready_idle[k] = idle[k] + startup * mean_survival(survival[k], ready_survival[k])
    offs = np.zeros(n)
    ons = np.zeros(n)
    wait = order = 0.0
    for k in range(n - 2, -1, -1):
        wait = cold_cost * (survival[k] - survival[k + 1]) + offs[k + 1]
        ready_at = GRID_SECONDS[k] + startup
        after = k + 1
        while after < n - 1 and GRID_SECONDS[after] < ready_at:
            after += 1
        then = 0.0
        if GRID_SECONDS[after] > ready_at:
            held = idle[after] - ready_idle[k] + ons[after]
            dropped = cold_cost * (ready_survival[k] - survival[after]) + offs[after]
            then = max(0.0, min(held, dropped))
        elif GRID_SECONDS[after] == ready_at:
            then = ons[after]
        order = ready_idle[k] - idle[k] + cold_cost * (survival[k] - ready_survival[k]) + then
        offs[k] = min(wait, order)
        ons[k] = min(idle[k + 1] - idle[k] + ons[k + 1], offs[k])
    keep = idle[1] + ons[1] < offs[0]
    return keep, order < wait


def price_of_cold(law: ArrivalLaw, terms: FloatArray) -> float:
    """C': replica-seconds that one cold start is worth, the price of one cold request times the requests it meets."""
    return float(terms[PRICE] * requests_per_burst(law))


def settle_arrival(law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, when: float, requests: float) -> None:
    """Close an open pre-warm by the arrival at `when`, then learn the arrival."""
    if not np.isnan(ledger[ORDERED_AT]) and ledger[STOOD] > 0.0:
        spent = when - ledger[ORDERED_AT]
        cold_cost = price_of_cold(law, terms)
        earned = cold_cost if spent >= terms[STARTUP] else 0.0
        ledger[BALANCE] = min(ledger[BALANCE] + earned - spent, LEDGER_CAP * cold_cost)
    ledger[ORDERED_AT] = np.nan
    observe(law, when, requests)


def close_pre_warm(ledger: FloatArray, when: float) -> None:
    """Charge an open pre-warm that no arrival came to use; one that was not carried out and never stood is free."""
    if not np.isnan(ledger[ORDERED_AT]) and ledger[STOOD] > 0.0:
        ledger[BALANCE] -= when - ledger[ORDERED_AT]
    ledger[ORDERED_AT] = np.nan


def unless_law(law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, now: float, stands: bool) -> int:
    """What the safeguards settle without asking the law: YES or NO to having one; ASK otherwise."""
    elapsed = elapsed_at(law, now)
    cold_cost = price_of_cold(law, terms)
    if not stands:
        if np.isnan(ledger[BALANCE]):
            ledger[BALANCE] = cold_cost
        never = terms[PRE_WARM] == 0.0 or np.isnan(law.marks[LAST])
        return NO if never or ledger[BALANCE] < terms[STARTUP] + terms[TURN] else ASK
    if not np.isnan(ledger[ORDERED_AT]):
        spent = now - ledger[ORDERED_AT]
        if spent + terms[TURN] > ledger[BALANCE]:
            return NO
        return YES if spent < terms[STARTUP] else ASK
    if elapsed < terms[MIN_IDLE] or elapsed < terms[TRUST] * cold_cost:
        return YES
    return NO if elapsed * terms[TRUST] >= cold_cost else ASK


def wanted_by_law(law: ArrivalLaw, terms: FloatArray, now: float, stands: bool) -> bool:
    """Whether expected cost is least with a replica: kept if one stands, ordered if none does."""
    elapsed = elapsed_at(law, now)
    cold_cost = price_of_cold(law, terms)
    refresh(law)
    pays = soon_pays(law, elapsed if stands else elapsed + terms[STARTUP], cold_cost)
    # A kept minute that pays by itself settles it. Ordering a minute later saves a minute and loses the arrivals of the
    # first ready minute: unless these pay, wait. Only the rest needs the recursion.
    if pays == stands:
        return pays
    keep, order = weigh(law, elapsed, terms[STARTUP], cold_cost)
    return keep if stands else order


def turn(
    law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, now: float, requests: float, stands: bool
) -> tuple[bool, bool]:
    """(keep, pre_warm) for the turn at `now`; `requests` arrived since the turn before (NaN: not seen).

    Changes `law` and `ledger` in place. A request that arrived keeps or orders a replica whatever this says. While
    demand is not seen, what stands is kept and nothing is ordered.
    """
    if np.isnan(requests):
        miss(law)
        return True, False
    if requests > 0.0:
        settle_arrival(law, ledger, terms, now - terms[TURN], requests)
        return True, False
    return advise(law, ledger, terms, now, stands)


def advise(law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, now: float, stands: bool) -> tuple[bool, bool]:
    """(keep, pre_warm) when no request came in this turn. Changes `ledger` in place."""
    if stands:
        ledger[STOOD] = 1.0
    else:
        close_pre_warm(ledger, now)
    settled = unless_law(law, ledger, terms, now, stands)
    wanted = bool(settled == YES or (settled == ASK and wanted_by_law(law, terms, now, stands)))
    if stands:
        if not wanted:
            close_pre_warm(ledger, now)
        return wanted, False
    if wanted:
        ledger[ORDERED_AT] = now
        ledger[STOOD] = 0.0
    return wanted, wanted


# What the cycle calls.


@dataclass(frozen=True, kw_only=True, eq=False)
class IdleState:
    """What is remembered of one endpoint between turns: arrival law (in which time zone), pre-warm ledger, and how far
    demand was read.

    A value: `advance` returns a new one. `law_arrays(state.law)`, `state.ledger` and `state.read_until` are all that a
    store must keep for a restart to go on where it stopped.
    """

    law: ArrivalLaw
    ledger: FloatArray
    read_until: datetime | None = None
    timezone: str = "UTC"


def new_ledger() -> FloatArray:
    """Balance not yet opened (it opens at C'), no pre-warm under way; shape (3,), see BALANCE, ORDERED_AT, STOOD."""
    return np.array([np.nan, np.nan, 0.0])


def new_state(startup: timedelta, prior: ArrivalPrior | None = None, timezone: str = "UTC") -> IdleState:
    """Nothing seen yet. `prior` is what a fleet taught (forecaster.arrivals.prior.pooled_prior); the law's days are
    those of `timezone`."""
    law = new_law(startup.total_seconds(), prior, timezone)
    return IdleState(law=law, ledger=new_ledger(), timezone=timezone)


def terms_of(policy: ScalingPolicy, startup: timedelta, turn_length: timedelta) -> FloatArray:
    """The policy's terms as the array that the plain functions read: see STARTUP ... TURN.

    C = coldRequestCost / costPerReplicaHour x 3600 replica-seconds. Example: 0.05 against 2.5 an hour: 72 s.
    """
    spec = policy.spec
    terms = np.zeros(N_TERMS)
    terms[STARTUP] = startup.total_seconds()
    terms[PRICE] = spec.scale_to_zero.cold_request_cost / spec.target.cost_per_replica_hour * 3600.0
    terms[TRUST] = spec.scale_to_zero.trust
    terms[MIN_IDLE] = spec.scale_to_zero.min_idle.total_seconds()
    terms[PRE_WARM] = float(spec.scale_to_zero.pre_warm)
    terms[TURN] = turn_length.total_seconds()
    return terms


def requests_per_step(series: DemandSeries) -> FloatArray:
    """Requests in each bin, whole; NaN where not seen. Tokens and concurrency do not count requests: 1 in each bin with
    demand.

    A request that a rate over a longer window smears over several bins counts once, in the first: over a run of bins
    with demand, requests are its running total, rounded, and at least 1. Example: .25 .25 .25 .25 is 1 0 0 0.
    """
    seen = ~np.isnan(series.values)
    counts = np.where(seen, series.counts(), 0.0)
    if series.unit is not DemandUnit.REQUESTS:
        return np.where(seen, np.sign(counts), np.nan)
    total = np.cumsum(counts)
    before_run = np.maximum.accumulate(np.where(counts == 0, total, 0.0)) if len(counts) else total
    so_far = np.where(counts > 0, np.maximum(np.rint(total - before_run), 1.0), 0.0)
    earlier = np.concatenate([[0.0], so_far[:-1]])
    return np.where(seen, np.where(counts > 0, so_far - earlier, 0.0), np.nan)


def unread(state: IdleState, demand: DemandSeries) -> tuple[FloatArray, float]:
    """Requests in the bins from `read_until` on, and the start of the first of them in seconds since the epoch."""
    skip = 0
    if state.read_until is not None:
        skip = min(max(-((demand.start - state.read_until) // demand.step), 0), len(demand))
    return requests_per_step(demand)[skip:], demand.start.timestamp() + skip * demand.step_seconds


def learn(state: IdleState, demand: DemandSeries) -> IdleState:
    """The state after reading the bins of `demand` that were not read before. No advice, no ledger: for a past."""
    requests, start = unread(state, demand)
    if len(requests) == 0:
        return state
    law = copy_law(state.law)
    observe_steps(law, start, demand.step_seconds, requests)
    return replace(state, law=law, read_until=demand.end)


def advance(
    state: IdleState, recent: DemandSeries, terms: FloatArray, replicas: ReplicaState | None, now: datetime
) -> tuple[IdleState, IdleAdvice]:
    """The state after this turn, and the advice for it.

    `recent` is demand on the control grid up to the last finished bin; bins already read are skipped, so it may
    overlap. `replicas` None (the cluster did not answer): keep. Example, each turn: `state, advice = advance(state,
    reading.recent, terms_of(policy, startup.mean, turn), replicas, now)`.
    """
    requests, start = unread(state, recent)
    step, at = recent.step_seconds, now.timestamp()
    law, ledger = state.law, state.ledger.copy()
    if len(requests) and (np.isnan(law.marks[WATCHED]) or not np.all(requests == 0.0)):
        law = copy_law(law)
        watch(law, start)
        for i in range(len(requests)):
            if np.isnan(requests[i]):
                miss(law)
            elif requests[i] > 0.0:
                settle_arrival(law, ledger, terms, start + i * step, float(requests[i]))
    after = replace(state, law=law, ledger=ledger, read_until=recent.end if len(requests) else state.read_until)
    if replicas is None or len(requests) == 0 or np.isnan(requests[-1]):
        return after, _advice(law, True, False, "demand or replicas were not seen this turn")
    if requests[-1] > 0.0:
        return after, _advice(law, True, False, "requests are coming in")
    stands = replicas.ready + len(replicas.starting) > 0
    keep, order = advise(law, ledger, terms, at, stands)
    return after, _advice(law, keep, order, explain(law, ledger, terms, at, stands))


def _advice(law: ArrivalLaw, keep: bool, order: bool, reason: str) -> IdleAdvice:
    last = float(law.marks[LAST])
    when = None if np.isnan(last) else datetime.fromtimestamp(last, UTC)
    return IdleAdvice(last_arrival=when, keep=keep, pre_warm=order, reason=reason)


def explain(law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, now: float, stands: bool) -> str:
    """Why, in words, with the numbers that decided."""
    elapsed = elapsed_at(law, now)
    if np.isnan(elapsed):
        return "no demand was ever seen"
    cold_cost, trust = price_of_cold(law, terms), terms[TRUST]
    refresh(law)
    soon = 1.0 - exp(-hazard_between(law, elapsed, elapsed + terms[STARTUP]))
    chance = f"a request comes within the start-up time with probability {soon:.2f}"
    if not np.isnan(ledger[ORDERED_AT]):
        return f"ordered ahead of the predicted next request: {chance}, balance {ledger[BALANCE]:.0f} replica-seconds"
    hold = f"idle for {elapsed:.0f} s, a cold start is worth {cold_cost:.0f} s"
    if stands and elapsed < max(terms[MIN_IDLE], trust * cold_cost):
        return f"{hold}: held at least {max(terms[MIN_IDLE], trust * cold_cost):.0f} s"
    if stands and elapsed * trust >= cold_cost:
        return f"{hold}: not held beyond {cold_cost / trust:.0f} s"
    return f"{hold}; {chance}"
