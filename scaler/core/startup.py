"""How long it takes from an order to a ready replica, learned from the starts that were seen.

A log-normal law, shrunk towards what the policy expects and told about starts that are still under way: a start that
has lasted c seconds so far is known to be longer than c, and leaving it out would bias the law towards the quick ones.
Where many starts were seen, what was seen outweighs the shape: starts on warm and on cold nodes are two humps, and one
log-normal through both puts the .95 quantile between them. A start that fails costs a whole further one.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import erfc, exp, log, pi, sqrt

from scaler.domain.replicas import StartupLaw, StartupObservation

PRIOR_STARTS = 3.0
"""The policy's expectation weighs as much as this many starts."""
PRIOR_SIGMA = 0.1
SHAPE_STARTS = 8.0
"""Up to this many finished starts the log-normal speaks alone, beyond it only for as many."""
PRIOR_TRIES = 20.0
"""A failed start counts against this many good ones more than were seen: one failure is no failure rate."""
MOST_FAILURES = 0.5
LATEST = 200
"""Older starts are of other nodes and images."""
ROUNDS = 25
MATERIAL_CHANGE = 0.1
"""A law that moved less keeps its old self: what was replayed with it stays valid."""


def learned_startup(
    prior: StartupLaw, seen: Sequence[StartupObservation], now: datetime, previous: StartupLaw | None = None
) -> StartupLaw:
    """The law after these starts; `previous` itself unless its p50 or p95 moved by MATERIAL_CHANGE.

    Normal-inverse-gamma shrinkage of the logarithms, right-censored by expectation maximisation (Dempster, Laird, Rubin
    1977), blended with the product-limit estimate (Kaplan, Meier 1958). Failures are geometric: each adds a median
    start. Example: prior 150 s, three starts of 300 s each: the p50 is exp((3 ln 150 + 3 ln 300) / 6) = 212 s.
    """
    latest = sorted(seen, key=lambda start: start.ordered_at)[-LATEST:]
    finished, running = _logarithms(latest, now)
    n_failed = sum(start.failed for start in latest)
    if not finished and not n_failed and all(c <= log(prior.p95.total_seconds()) for c in running):
        law = prior
    else:
        mean, sigma = _fit(log(prior.p50.total_seconds()), finished, running)
        one = _OneStart(mean=mean, sigma=sigma, steps=_product_limit(finished, running), n_finished=len(finished))
        law = _law(one, min(n_failed / (len(latest) + PRIOR_TRIES), MOST_FAILURES), len(running), n_failed)
    return previous if previous is not None and not _moved(previous, law) else law


@dataclass(frozen=True, kw_only=True)
class _OneStart:
    """The law of one start that succeeds. `steps`: logarithms of seconds, ascending, and the share of starts within."""

    mean: float
    sigma: float
    steps: tuple[tuple[float, ...], tuple[float, ...]]
    n_finished: int

    @property
    def shape_weight(self) -> float:
        return min(1.0, SHAPE_STARTS / max(self.n_finished, 1))

    def share_within(self, seconds: float) -> float:
        """P(start <= seconds)."""
        if seconds <= 0:
            return 0.0
        x = log(seconds)
        shape = 0.5 * erfc((self.mean - x) / (self.sigma * sqrt(2.0)))
        if self.shape_weight == 1.0:
            return shape
        times, shares = self.steps
        position = bisect_right(times, x)
        return self.shape_weight * shape + (1.0 - self.shape_weight) * (shares[position - 1] if position else 0.0)

    def quantile(self, level: float) -> float:
        return _first(lambda seconds: self.share_within(seconds) >= level)

    def mean_seconds(self) -> float:
        shape = exp(self.mean + 0.5 * self.sigma**2)
        times, shares = self.steps
        seen = sum(exp(t) * (b - a) for t, a, b in zip(times, (0.0, *shares), shares, strict=False))
        # what is still under way lies beyond the last finished start: there the shape speaks
        known = shares[-1] if shares else 0.0
        return self.shape_weight * shape + (1.0 - self.shape_weight) * (seen + (1.0 - known) * shape)


def _law(one: _OneStart, failing: float, n_running: int, n_failed: int) -> StartupLaw:
    retry = one.quantile(0.5)

    def ready_within(seconds: float) -> float:
        """P(ready): the k-th try begins k medians later, if all before it failed."""
        total, weight, left = 0.0, 1.0 - failing, seconds
        while left > 0 and weight > 1e-6:
            total += weight * one.share_within(left)
            weight, left = weight * failing, left - retry
        return total

    p50 = _first(lambda seconds: ready_within(seconds) >= 0.5)
    p95 = _first(lambda seconds: ready_within(seconds) >= 0.95)
    how = f"{one.n_finished} starts seen, {n_running} under way" + (f", {n_failed} failed" if n_failed else "")
    return StartupLaw(
        p50=timedelta(seconds=p50),
        p95=timedelta(seconds=max(p50, p95)),
        mean=timedelta(seconds=one.mean_seconds() + retry * failing / (1.0 - failing)),
        n_observed=one.n_finished,
        learned_how=how,
    )


def _logarithms(starts: Sequence[StartupObservation], now: datetime) -> tuple[list[float], list[float]]:
    """Logarithms of the seconds of finished starts, and of those that running starts have lasted so far."""
    good = [start for start in starts if not start.failed]
    finished = [(start.ready_at - start.ordered_at).total_seconds() for start in good if start.ready_at is not None]
    running = [(now - start.ordered_at).total_seconds() for start in good if start.ready_at is None]
    return sorted(log(max(s, 1.0)) for s in finished), sorted(log(s) for s in running if s > 1.0)


def _product_limit(finished: Sequence[float], running: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Ascending times and the share of starts within each; running starts leave the count where they stand."""
    times, shares, surviving = [], [], 1.0
    for position, time in enumerate(finished):
        at_risk = len(finished) - position + len(running) - bisect_right(running, time - 1e-12)
        surviving *= 1.0 - 1.0 / at_risk
        times.append(time)
        shares.append(1.0 - surviving)
    return tuple(times), tuple(shares)


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


def _first(reached: Callable[[float], bool]) -> float:
    """The least seconds, up to a week, at which `reached` holds; it holds ever after. By bisection of the logarithm."""
    low, high = log(0.1), log(7 * 86400.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if reached(exp(middle)) else (middle, high)
    return exp(high)


def _moved(previous: StartupLaw, law: StartupLaw) -> bool:
    pairs = ((previous.p50, law.p50), (previous.p95, law.p95))
    return any(abs(new / old - 1.0) > MATERIAL_CHANGE for old, new in pairs)
