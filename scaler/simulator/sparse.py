"""Endpoints that live on one replica or none, replayed over their requests, compiled.

The policy is not written here: the plain functions of `forecaster.arrivals` and `scaler.core.idle` are compiled as they
stand. `IdleReplay` gives the fast replay of the ordering rule its two arrays of advice in one causal pass over requests
per control step. For comparisons, `replay` plays any advice in the one-replica world: an order takes `startup_steps` to
be ready, a replica costs from its order, a request is cold if none is ready in its step, and a replica that a request
waits for is not let go.
"""

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from forecaster.arrivals import gaps, hazard, learning, season, timer
from forecaster.arrivals import law as law_module
from forecaster.arrivals.hazard import elapsed_at, hazard_between, refresh
from forecaster.arrivals.law import ArrivalLaw, ArrivalPrior
from forecaster.arrivals.learning import observe, observe_steps
from forecaster.arrivals.start import new_law
from forecaster.kernels import kernel
from forecaster.series import FloatArray
from scaler.core import idle
from scaler.core.idle import STARTUP, TURN, turn

BoolArray = NDArray[np.bool_]

ARRIVAL_ROOMS = (law_module, gaps, season, timer, learning, hazard)
"""The modules whose source decides what the compiled law of the next arrival does."""

for _function in (
    gaps.gap_class, gaps.bin_of, season.half_hour_of, season.learn_half_hours, season.refresh_season,
    timer.median_interval, timer.find_timer, timer.timer_hazard,
    learning.watch, learning.observe, learning.miss, learning.observe_steps, learning.learn_gap,
    hazard.refresh, hazard.refresh_hazards, hazard.elapsed_at, hazard.requests_per_burst, hazard.gap_hazard_integral,
    hazard.hazard_between,
    idle.mean_survival, idle.soon_pays, idle.weigh, idle.unless_law, idle.wanted_by_law, idle.price_of_cold,
    idle.settle_arrival, idle.close_pre_warm, idle.advise, idle.turn,
):  # fmt: skip
    register_jitable(_function)


HISTOGRAM_MINUTES = 240
STEPS_PER_MINUTE = 4
STANDS, READY_AT, WAITED_FOR, CAME = range(4)


def _advise_steps(
    law: ArrivalLaw, ledger: FloatArray, terms: FloatArray, start: float, requests: FloatArray, path: FloatArray
) -> tuple[BoolArray, BoolArray]:
    n = len(requests)
    keep = np.zeros(n, dtype=np.bool_)
    order = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        now = start + i * terms[TURN]
        keep[i], order[i] = turn(law, ledger, terms, now, path[CAME], path[STANDS] > 0.0)
        if path[STANDS] > 0.0:
            if not keep[i] and not (path[WAITED_FOR] > 0.0 and now <= path[READY_AT]):
                path[STANDS] = 0.0
        elif path[CAME] > 0.0 or order[i]:
            path[STANDS] = 1.0
            path[READY_AT] = now + terms[STARTUP]
            path[WAITED_FOR] = 0.0 if order[i] else 1.0
        if requests[i] > 0.0 and path[STANDS] > 0.0 and now < path[READY_AT]:
            path[WAITED_FOR] = 1.0
        path[CAME] = requests[i]
    return keep, order


def _chances(law: ArrivalLaw, start: float, requests: FloatArray, every: int, horizon: float) -> FloatArray:
    n = len(requests) // every
    chance = np.full(n, np.nan)
    for i in range(n * every):
        now = start + i * 60.0 / STEPS_PER_MINUTE
        if i % every == 0:
            refresh(law)
            elapsed = elapsed_at(law, now)
            chance[i // every] = 1.0 - np.exp(-hazard_between(law, elapsed, elapsed + horizon))
        if requests[i] > 0.0:
            observe(law, now, requests[i])
    return chance


def _replay(requests: FloatArray, keep: BoolArray, order: BoolArray, startup_steps: int) -> tuple[float, float]:
    stands = False
    waited_for = False
    ready_at = 0
    cold = 0.0
    standing_steps = 0
    came = 0.0
    for i in range(len(requests)):
        if stands:
            if not keep[i] and came == 0.0 and not (waited_for and i <= ready_at):
                stands = False
        elif came > 0.0 or order[i]:
            stands = True
            ready_at = i + startup_steps
            waited_for = came > 0.0
        came = requests[i]
        if came > 0.0 and (not stands or i < ready_at):
            cold += came
            waited_for = True
        if stands:
            standing_steps += 1
    return cold, standing_steps


def _keep_alive(requests: FloatArray, keep_steps: int) -> BoolArray:
    keep = np.zeros(len(requests), dtype=np.bool_)
    last = -(10**9)
    for i in range(len(requests)):
        if i > 0 and requests[i - 1] > 0.0:
            last = i - 1
        keep[i] = i - last < keep_steps
    return keep


def _clairvoyant(requests: FloatArray, worth_steps: int) -> BoolArray:
    n = len(requests)
    keep = np.zeros(n, dtype=np.bool_)
    following = n + worth_steps
    last = np.full(n + 1, -(10**9))
    for i in range(n):
        last[i + 1] = i if requests[i] > 0.0 else last[i]
    for i in range(n - 1, -1, -1):
        if requests[i] > 0.0:
            following = i
        keep[i] = following - last[i] <= worth_steps
    return keep


def _hybrid_histogram(past: FloatArray, requests: FloatArray, startup_steps: int) -> tuple[BoolArray, BoolArray]:
    n = len(requests)
    keep = np.zeros(n, dtype=np.bool_)
    order = np.zeros(n, dtype=np.bool_)
    counts = np.zeros(HISTOGRAM_MINUTES)
    outside = 0.0
    last = -1
    head, tail = 0, HISTOGRAM_MINUTES * STEPS_PER_MINUTE
    for k in range(len(past) + n):
        i = k - len(past)
        if i >= 0 and last >= 0:
            keep[i] = head - startup_steps <= k - last < tail
            order[i] = keep[i] and head > startup_steps
        if (past[k] if i < 0 else requests[i]) > 0.0:
            minutes = (k - last) // STEPS_PER_MINUTE
            if last >= 0 and minutes < HISTOGRAM_MINUTES:
                counts[minutes] += 1.0
            elif last >= 0:
                outside += 1.0
            last = k
            if i >= -1:
                head, tail = _histogram_window(counts, outside)
    return keep, order


def _histogram_window(counts: FloatArray, outside: float) -> tuple[int, int]:
    total = counts.sum()
    whole = (0, len(counts) * STEPS_PER_MINUTE)
    if total == 0.0 or outside > 0.5 * (total + outside) or counts.std() <= 2.0 * counts.mean():
        return whole
    seen = 0.0
    head, tail = -1, 0
    for minute in range(len(counts)):
        seen += counts[minute]
        if head < 0 and seen >= 0.05 * total:
            head = minute
        if seen >= 0.99 * total:
            tail = minute + 1
            break
    return int(0.9 * head * STEPS_PER_MINUTE), int(np.ceil(1.1 * tail * STEPS_PER_MINUTE))


register_jitable(_histogram_window)
_advise_compiled = kernel(*ARRIVAL_ROOMS, idle)(_advise_steps)
_chances_compiled = kernel(*ARRIVAL_ROOMS)(_chances)
_replay_compiled = kernel()(_replay)
_keep_alive_compiled = kernel()(_keep_alive)
_clairvoyant_compiled = kernel()(_clairvoyant)
_histogram_compiled = kernel()(_hybrid_histogram)


@kernel(*ARRIVAL_ROOMS)
def _learn_compiled(law: ArrivalLaw, start: float, step_seconds: float, requests: FloatArray) -> None:
    observe_steps(law, start, step_seconds, requests)


class IdleReplay:
    """The idle policy of one endpoint, ready to run over its past: `learn` a past without advice, then `advise` block
    by block; law, ledger and the one replica's own path go on from block to block.

    `advise(start, requests)` returns `keep` and `pre_warm`, bool (n_steps,) each: row i is what the cycle's IdleAdvice
    says at the step that starts at start + i x turn ("one stands: keep it?", "none stands: order one?"), from the steps
    before i only. `requests` are counts per control step, NaN where not seen (`core.idle.requests_per_step`); `terms`
    come from `core.idle.terms_of(policy, startup, turn)`; `prior` from `forecaster.arrivals.prior.pooled_prior` of a
    fleet's past; the law's days are those of `timezone`. Requests in a step keep or order a replica whatever the
    advice. About 0.01 s a day of 15-s steps.
    """

    def __init__(self, terms: FloatArray, prior: ArrivalPrior | None = None, timezone: str = "UTC") -> None:
        self.terms = terms
        self.law: ArrivalLaw = new_law(float(terms[STARTUP]), prior, timezone)
        self.ledger = idle.new_ledger()
        self._path = np.zeros(4)

    def learn(self, start_seconds: float, requests: FloatArray) -> None:
        """Read requests per step, the first step starting at `start_seconds` since the epoch, without deciding."""
        _learn_compiled(self.law, start_seconds, float(self.terms[TURN]), requests)

    def advise(self, start_seconds: float, requests: FloatArray) -> tuple[BoolArray, BoolArray]:
        """(keep, pre_warm) per step, causally, learning on the way."""
        keep, order = _advise_compiled(
            self.law, self.ledger, self.terms, start_seconds, np.asarray(requests, dtype=np.float64), self._path
        )
        return keep, order


def replay(requests: FloatArray, keep: BoolArray, pre_warm: BoolArray, startup_steps: int) -> tuple[float, float]:
    """(cold requests, steps that a replica was paid for) of one endpoint under the advice; none stands at the start."""
    cold, steps = _replay_compiled(requests, keep, pre_warm, startup_steps)
    return float(cold), float(steps)


def keep_alive(requests: FloatArray, keep_steps: int) -> BoolArray:
    """Advice of a fixed keep-alive whose idle clock runs from the last arrival; (n_steps,)."""
    keep: BoolArray = _keep_alive_compiled(requests, keep_steps)
    return keep


def clairvoyant(requests: FloatArray, worth_steps: int) -> BoolArray:
    """Advice of one who knows the next arrival and never pre-warms: a gap of at most `worth_steps` is kept through."""
    keep: BoolArray = _clairvoyant_compiled(requests, worth_steps)
    return keep


def hybrid_histogram(past: FloatArray, requests: FloatArray, startup_steps: int) -> tuple[BoolArray, BoolArray]:
    """(keep, pre_warm) of the hybrid histogram policy over `requests` after `past`, both per 15-s step.

    Idle times in 1-min bins over 4 h; ready from the 5th percentile less 10 % to the 99th plus 10 %; a histogram that
    says little (coefficient of variation of its bins <= 2, or most gaps outside) keeps for 4 h. Without the paper's
    ARIMA branch for gaps outside. Source: Shahrad et al., Serverless in the Wild, USENIX ATC 2020, section 4.2.
    """
    keep, order = _histogram_compiled(past, requests, startup_steps)
    return keep, order


def arrival_chances(
    law: ArrivalLaw, start_seconds: float, requests: FloatArray, every: int, horizon: float
) -> FloatArray:
    """P(an arrival within `horizon` seconds) at every `every`-th 15-s step, from the steps before it only.

    The law learns on the way and must have been watching (forecaster.arrivals.learning.watch). Shape
    (n_steps // every,).
    """
    return np.asarray(_chances_compiled(law, start_seconds, requests, every, horizon))
