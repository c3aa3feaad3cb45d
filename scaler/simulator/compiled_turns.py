"""Turns of a rarely used endpoint, compiled: the law of the next arrival and the ordering rule, one step after another.

Nothing is decided here: the kernels are those of `scaler.core.idle` (made compilable by scaler.simulator.sparse) and
of the compiled replay. A test holds that the orders equal those of the whole cycle in the simulated world.
"""

from typing import NamedTuple

import numpy as np

from forecaster.arrivals.law import ArrivalLaw
from forecaster.kernels import kernel
from forecaster.series import FloatArray
from scaler.core import idle, rule
from scaler.core.idle import turn
from scaler.simulator import compiled, sparse
from scaler.simulator.compiled import Columns, IntArray, Outcomes, Rules, Signals, State, new_scratch, play_run


class Player(NamedTuple):
    """Who orders: the one setting that plays, its rules, and where it stands."""

    setting: int
    columns: Columns
    rules: Rules
    state: State


class Idle(NamedTuple):
    """What decides about the last replica; `law` and `ledger` are moved on."""

    law: ArrivalLaw
    ledger: FloatArray
    terms: FloatArray


class Came(NamedTuple):
    """`requests` (n_steps,) came in each step (NaN: not seen), the first of which starts at `start_seconds`; `before`
    came in the step before it. Below 0: nothing was read since the law was learned, so that the first turn asks
    nothing of it."""

    start_seconds: float
    requests: FloatArray
    before: float


@kernel(*sparse.ARRIVAL_ROOMS, idle, rule, compiled, sparse, error_model="numpy")
def play_turns(signals: Signals, player: Player, last: Idle, came: Came, orders: IntArray) -> None:
    """Fill `orders` (n_steps,), and move the player's state, the law and the ledger on.

    `signals.keep` says where a request was seen less than minIdle ago.
    """
    setting, columns, rules, state = player
    law, ledger, terms = last
    start_seconds, requests, before = came
    scratch = new_scratch(signals, state)
    outcomes = Outcomes(np.zeros(1), np.zeros(1), np.zeros(1))
    one = np.zeros((1, 1), dtype=np.int64)
    keep, pre_warm = np.zeros(1, dtype=np.bool_), np.zeros(1, dtype=np.bool_)
    arrived = before
    for t in range(len(signals.now)):
        stands = state.ready[0] + state.starting[0].sum() > 0
        kept, ordered = True, False
        if not arrived < 0.0:
            kept, ordered = turn(law, ledger, terms, start_seconds + t * rules.step_seconds, arrived, stands)
        keep[0] = kept or signals.keep[t]
        pre_warm[0] = ordered
        row = Signals(
            signals.arrivals[t : t + 1],
            signals.now[t : t + 1],
            signals.ahead[:, t : t + 1],
            signals.floors[:, t : t + 1],
            signals.peaks[:, t : t + 1],
            keep,
            pre_warm,
            signals.lowest[t : t + 1],
            signals.highest[t : t + 1],
            signals.least[t : t + 1],
            signals.held[t : t + 1],
            signals.panic[t : t + 1],
        )
        play_run(0, setting, row, columns, rules, state, outcomes, one, scratch)
        orders[t] = one[0, 0]
        arrived = requests[t]
