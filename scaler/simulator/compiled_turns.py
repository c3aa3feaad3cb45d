"""Turns of a rarely used endpoint, compiled: the law of the next arrival and the ordering rule, one step after another.

Nothing is decided here: the kernels are those of `scaler.core.idle` (made compilable by scaler.simulator.sparse) and
of the compiled replay. A test holds that the orders equal those of the whole cycle in the simulated world.
"""

import inspect
from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
from numba import njit

from scaler.core import idle, rule
from scaler.core.idle import turn
from scaler.simulator import compiled, sparse
from scaler.simulator.compiled import Outcomes, Signals, _replay


def _compiled() -> Callable[..., Any]:
    """The kernel, cached on disk. The compiler's cache looks at this file only; a digest of the sources that the kernel
    calls, closed over, keeps stale code from running."""
    sources = (*sparse.ARRIVAL_ROOMS, idle, rule, compiled, sparse)
    digest = crc32("".join(inspect.getsource(module) for module in sources).encode())

    def play(  # type: ignore[no-untyped-def]
        signals, columns, plays, rules, state, law, ledger, terms, start_seconds, requests, before, orders
    ):
        outcomes = Outcomes(np.zeros(1), np.zeros(1), np.zeros(1))
        one = np.zeros((1, 1), dtype=np.int64)
        keep, pre_warm = np.zeros(1, dtype=np.bool_), np.zeros(1, dtype=np.bool_)
        came = before
        for t in range(len(signals.now)):
            stands = state.ready[0] + state.starting[0].sum() > 0
            kept, ordered = True, False
            if not came < 0.0:
                kept, ordered = turn(law, ledger, terms, start_seconds + t * rules.step_seconds, came, stands)
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
            _replay(row, columns, plays, rules, state, outcomes, one)
            orders[t] = one[0, 0]
            came = requests[t]
        return digest

    made: Callable[..., Any] = njit(cache=True, error_model="numpy")(play)
    return made


play_turns = _compiled()
"""play_turns(signals, columns, plays, rules, state, law, ledger, terms, start_seconds, requests, before, orders): fill
`orders` (n_steps,) and move `state`, `law` and `ledger` on. `requests` (n_steps,) are what came in each step (NaN: not
seen), `before` what came in the step before the first; below 0: nothing was read since the law was learned, so that the
first turn asks nothing of it. `signals.keep` says where a request was seen less than minIdle ago."""
