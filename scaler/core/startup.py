"""How long a start takes, learned from the starts that were seen.

A log-normal law, shrunk towards what the policy expects and told about starts that are still under way: a start that has
lasted c seconds so far is known to be longer than c, and leaving it out would bias the law towards the quick ones.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import erfc, exp, log, pi, sqrt

from scaler.domain.replicas import StartupLaw, StartupObservation

PRIOR_STARTS = 3.0
"""The policy's expectation weighs as much as this many starts."""
PRIOR_SIGMA = 0.1
LATEST = 200
"""Older starts are of other nodes and images."""
Z95 = 1.6448536
ROUNDS = 25
MATERIAL_CHANGE = 0.1
"""A law that moved less keeps its old self: what was replayed with it stays valid."""


def learned_startup(
    prior: StartupLaw, seen: Sequence[StartupObservation], now: datetime, previous: StartupLaw | None = None
) -> StartupLaw:
    """The law after these starts; `previous` itself unless its p50 or p95 moved by MATERIAL_CHANGE.

    Normal-inverse-gamma shrinkage of the logarithms, right-censored by expectation maximisation (Dempster, Laird, Rubin
    1977). Failed starts do not count. Example: prior 150 s, three starts of 300 s each: the p50 is
    exp((3 ln 150 + 3 ln 300) / 6) = 212 s.
    """
    finished, running = _logarithms(seen, now)
    if not finished and all(c <= log(prior.p95.total_seconds()) for c in running):
        law = prior
    else:
        mean, sigma = _fit(log(prior.p50.total_seconds()), finished, running)
        law = StartupLaw(
            p50=timedelta(seconds=exp(mean)),
            p95=timedelta(seconds=exp(mean + Z95 * sigma)),
            mean=timedelta(seconds=exp(mean + 0.5 * sigma**2)),
            n_observed=len(finished),
            learned_how=f"{len(finished)} starts seen, {len(running)} under way",
        )
    return previous if previous is not None and not _moved(previous, law) else law


def _logarithms(seen: Sequence[StartupObservation], now: datetime) -> tuple[list[float], list[float]]:
    """Logarithms of the seconds of finished starts, and of those that running starts have lasted so far."""
    latest = sorted((start for start in seen if not start.failed), key=lambda start: start.ordered_at)[-LATEST:]
    finished = [(start.ready_at - start.ordered_at).total_seconds() for start in latest if start.ready_at is not None]
    running = [(now - start.ordered_at).total_seconds() for start in latest if start.ready_at is None]
    return [log(max(s, 1.0)) for s in finished], [log(s) for s in running if s > 1.0]


def _fit(prior_mean: float, finished: Sequence[float], running: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm."""
    mean, variance = prior_mean, PRIOR_SIGMA**2
    n = PRIOR_STARTS + len(finished) + len(running)
    for _ in range(ROUNDS):
        sigma = sqrt(variance)
        total = PRIOR_STARTS * prior_mean + sum(finished)
        spread = PRIOR_STARTS * PRIOR_SIGMA**2
        expected = []
        for c in running:
            z = (c - mean) / sigma
            hazard = _hazard(z)
            expected.append(mean + sigma * hazard)
            spread += variance * max(1.0 + z * hazard - hazard**2, 0.0)
        new_mean = (total + sum(expected)) / n
        spread += PRIOR_STARTS * (prior_mean - new_mean) ** 2
        spread += sum((x - new_mean) ** 2 for x in finished) + sum((x - new_mean) ** 2 for x in expected)
        mean, variance = new_mean, max(spread / n, 1e-6)
    return mean, sqrt(variance)


def _hazard(z: float) -> float:
    """Density over upper tail of the standard normal at z: the mean of what lies above it."""
    tail = 0.5 * erfc(z / sqrt(2.0))
    return z + 1.0 / z if tail < 1e-300 else exp(-0.5 * z * z) / sqrt(2.0 * pi) / tail


def _moved(previous: StartupLaw, law: StartupLaw) -> bool:
    pairs = ((previous.p50, law.p50), (previous.p95, law.p95))
    return any(abs(new / old - 1.0) > MATERIAL_CHANGE for old, new in pairs)
