"""The last replica: keep it, let it go, have it ready again before the next request?

Decided anew each turn from the law of the next arrival (forecaster.arrivals) and one price: what a cold request is worth
in replica-seconds. A backward recursion over the next hours weighs waiting, ordering, keeping and letting go. Two
safeguards hold whatever the law says:

clamp      the replica is kept for trust x C' seconds after the last request and not beyond C' / trust, so that each gap
           costs at most (1 + 1 / trust) times the per-gap optimum min(gap, C') plus one turn (Purohit, Svitkina, Kumar,
           NeurIPS 2018; with hold time tau in [trust C', C' / trust]: a gap X < tau costs X <= tau, one X >= tau costs
           tau + C'; both are within the bound). Example: C' = 600 s, trust 0.5: hold between 5 and 20 min, never more
           than three times what hindsight would pay.
ledger     pre-warming is paid from a balance in replica-seconds that starts at C' and is capped at 5 C'; a pre-warm that
           an arrival finds ready earns C' less its waiting time, any other costs its time. The balance is never
           overdrawn, so pre-warming costs at most one cold request more than never pre-warming, over any length of time.

The functions are plain loops over arrays: the fast replay compiles these same functions.
"""

from math import exp, log

import numpy as np

from forecaster.arrivals import LAST, ArrivalLaw, hazard_between, miss, observe, requests_per_burst
from forecaster.series import FloatArray

GRID_SECONDS = np.array([0.0, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 240]) * 60.0
PROBE_SECONDS = 60.0
LEDGER_CAP = 5.0
"""The balance never exceeds this many cold requests: luck of long ago does not pay for today's errors."""

BALANCE, ORDERED_AT, N_LEDGER = 0, 1, 2
STARTUP, PRICE, TRUST, MIN_IDLE, PRE_WARM, TURN, N_TERMS = 0, 1, 2, 3, 4, 5, 6


def mean_survival(survival_from: float, survival_to: float) -> float:
    """Mean of an exponentially falling survival between its two ends."""
    if survival_to <= 0.0 or survival_from - survival_to < 1e-9:
        return 0.5 * (survival_from + survival_to)
    return (survival_from - survival_to) / log(survival_from / survival_to)


def soon_pays(law: ArrivalLaw, elapsed: float, cold_cost: float) -> bool:
    """Whether standing for one minute from `elapsed` on is worth it for the arrivals of that minute alone."""
    return cold_cost * (1.0 - exp(-hazard_between(law, elapsed, elapsed + PROBE_SECONDS))) > PROBE_SECONDS


def weigh(law: ArrivalLaw, elapsed: float, startup: float, cold_cost: float) -> tuple[bool, bool]:
    """(keep it if one stands, order one if none does), `elapsed` seconds after the last request, as expected cost has it.

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
    off = 0.0
    on = 0.0
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


def worth_keeping_on(law: ArrivalLaw, elapsed: float, startup: float, cold_cost: float) -> bool:
    """The recursion's answer on keeping; the next minute alone often settles it."""
    return soon_pays(law, elapsed, cold_cost) or weigh(law, elapsed, startup, cold_cost)[0]


def price_of_cold(law: ArrivalLaw, terms: FloatArray) -> float:
    """C': replica-seconds that one cold start is worth, the price of one cold request times the requests it meets."""
    return float(terms[PRICE] * requests_per_burst(law))


def settle_arrival(law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, when: float, requests: float) -> None:
    """Close an open pre-warm by the arrival at `when`, then learn the arrival."""
    if not np.isnan(ledger[ORDERED_AT]):
        spent = when - ledger[ORDERED_AT]
        cold_cost = price_of_cold(law, terms)
        earned = cold_cost if spent >= terms[STARTUP] else 0.0
        ledger[BALANCE] = min(ledger[BALANCE] + earned - spent, LEDGER_CAP * cold_cost)
        ledger[ORDERED_AT] = np.nan
    observe(law, when, requests)


def let_go(ledger: FloatArray, when: float) -> None:
    """Charge an open pre-warm that no arrival came to use."""
    if not np.isnan(ledger[ORDERED_AT]):
        ledger[BALANCE] -= when - ledger[ORDERED_AT]
        ledger[ORDERED_AT] = np.nan


def keep_standing(law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, now: float) -> bool:
    """Whether the one replica that stands (or starts) is kept over this turn."""
    elapsed = now - law.marks[LAST]
    cold_cost = price_of_cold(law, terms)
    if not np.isnan(ledger[ORDERED_AT]):
        spent = now - ledger[ORDERED_AT]
        if spent + terms[TURN] > ledger[BALANCE]:
            return False
        return spent < terms[STARTUP] or worth_keeping_on(law, elapsed, terms[STARTUP], cold_cost)
    if elapsed < terms[MIN_IDLE] or elapsed < terms[TRUST] * cold_cost:
        return True
    if elapsed * terms[TRUST] >= cold_cost:
        return False
    return worth_keeping_on(law, elapsed, terms[STARTUP], cold_cost)


def pre_warm_now(law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, now: float) -> bool:
    """Whether one is ordered although no request waits. It is, only if the balance covers the start."""
    if terms[PRE_WARM] == 0.0 or np.isnan(law.marks[LAST]):
        return False
    cold_cost = price_of_cold(law, terms)
    if np.isnan(ledger[BALANCE]):
        ledger[BALANCE] = cold_cost
    if ledger[BALANCE] < terms[STARTUP] + 2.0 * terms[TURN]:
        return False
    elapsed = now - law.marks[LAST]
    # Ordering a minute later saves a minute and loses the arrivals of the first ready minute: unless these pay, wait.
    if not soon_pays(law, elapsed + terms[STARTUP], cold_cost):
        return False
    return weigh(law, elapsed, terms[STARTUP], cold_cost)[1]


def turn(
    law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, now: float, requests: float, stands: bool
) -> tuple[bool, bool]:
    """(keep, pre_warm) for the turn at `now`; `requests` arrived since the turn before (NaN: not seen).

    Changes `law` and `ledger` in place. A request that arrived keeps or orders a replica whatever this says.
    """
    if np.isnan(requests):
        miss(law)
        return True, False
    if requests > 0.0:
        settle_arrival(law, ledger, terms, now - terms[TURN], requests)
        return True, False
    if stands:
        keep = keep_standing(law, ledger, terms, now)
        if not keep:
            let_go(ledger, now)
        return keep, False
    let_go(ledger, now)
    order = pre_warm_now(law, ledger, terms, now)
    if order:
        ledger[ORDERED_AT] = now
    return order, order
