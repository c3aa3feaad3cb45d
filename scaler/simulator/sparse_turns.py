"""The product's own strategy on a rarely used endpoint, without turning the whole cycle.

Weeks of turns of hundreds of endpoints that one replica serves would take hours through the cycle. On such an
endpoint the orders follow from the law of the next arrival and one fixed setting, and both are compiled. Played here
only while the advisor itself would call the endpoint sparse at every refit, with a start-up time that is always the
same and without faults; else the whole cycle turns.
"""

from datetime import timedelta
from math import inf

import numpy as np

from forecaster.arrivals.law import ArrivalPrior
from forecaster.series import DemandSeries
from scaler.core import idle
from scaler.core.budget import limit_replica_hours
from scaler.cycle import prior_profile
from scaler.domain.policy import ScalingPolicy, Workload
from scaler.simulator.arrivals import StepDemand

BLOCK = timedelta(days=1)
"""Rows are made in blocks to bound memory."""


def sparse_orders(
    policy: ScalingPolicy, demand: StepDemand, first: int, standing: int, prior: ArrivalPrior | None = None
) -> "np.typing.NDArray[np.int64] | None":
    """Orders for the grid's steps from `first` on, shape (n_steps - first,); None where the endpoint is not sparse.

    `standing` replicas are ready at the start. The same as the whole cycle orders (held by a test).
    """
    spec = policy.spec
    if spec.workload is Workload.BATCH or spec.safety.paused or limit_replica_hours(policy) < inf:
        return None
    if not spec.scale_to_zero.enabled or spec.triggers or spec.reactive.thresholds or spec.forecast.calendar.events:
        return None
    # The replay's modules compile when they are imported: only where they are needed.
    from scaler.simulator.compiled import new_state
    from scaler.simulator.compiled_turns import Came, Idle, Player, play_turns
    from scaler.simulator.selfreplay.replayer import EndpointReplay
    from scaler.simulator.sparse import IdleReplay

    grid = demand.grid
    profile = prior_profile(policy)
    series = DemandSeries(unit=policy.spec.demand.unit, start=grid.start, step=grid.step, values=demand.values())
    replay = EndpointReplay(policy, profile, grid.start, grid.step)
    replay.rows.append(series)
    every = max(1, round(policy.spec.forecast.refit / grid.step))
    for replay.replayed in range(first, grid.n_steps, every):
        replay.is_sparse = replay.looks_sparse()
        if not replay.is_sparse:
            return None
    terms = idle.terms_of(policy, profile.startup.mean, grid.step)
    requests = idle.requests_per_step(series)
    learned = IdleReplay(terms, prior, policy.spec.forecast.calendar.timezone)
    learned.learn(grid.start.timestamp(), requests[:first])
    state = new_state(1, replay.rules, standing)
    player = Player(replay.playing(first), replay.family.columns, replay.rules, state)
    last = Idle(learned.law, idle.new_ledger(), terms)
    orders = np.zeros(grid.n_steps - first, dtype=np.int64)
    replay.rows.start_at(first)
    begin, block = first, BLOCK // grid.step
    while begin < grid.n_steps:
        end = min(begin + block, grid.n_steps)
        replay.rows.make(end)
        before = requests[begin - 1] if begin > first else -1.0
        came = Came(grid.time(begin).timestamp(), requests[begin:end], before)
        play_turns(replay.rows.signals(begin, end), player, last, came, orders[begin - first : end - first])
        replay.rows.forget(end)
        begin = end
    return orders
