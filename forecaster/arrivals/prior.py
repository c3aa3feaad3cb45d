"""What is believed of an endpoint without a past of its own: by default, or as a fleet's arrival laws teach it."""

from collections.abc import Sequence

import numpy as np

from forecaster.arrivals.gaps import N_CLASSES, gap_edges
from forecaster.arrivals.law import N_GAPS, N_HALF_HOURS, ArrivalLaw, ArrivalPrior
from forecaster.calendar import DAY_SECONDS

POOL_WEIGHT_EVENTS = 5.0
"""Events that the default prior's hazard is worth per bin."""
POOL_WEIGHT_STARTS = 20.0
"""Session starts that an even season is worth per half hour."""


def default_prior() -> ArrivalPrior:
    """No fleet known: hazard max(0.40 / (t + 33 s), 1 / 3 days) at the middle of each bin, no classes, no season."""
    edges = gap_edges()
    middle = (edges[:-1] + edges[1:]) / 2
    hazard = np.maximum(0.40 / (middle + 33.0), 1.0 / (3 * DAY_SECONDS))
    return ArrivalPrior(hazard, np.ones((N_CLASSES, len(middle))), np.ones(N_HALF_HOURS))


def pooled_prior(laws: Sequence[ArrivalLaw]) -> ArrivalPrior:
    """What a fleet teaches about an endpoint without a past of its own; with no gaps seen, the default prior.

    Each law weighs its gaps to the power -1/2, so that neither its busiest members nor their number rule the pool. The
    laws may only hold what was known when the prior is used.
    """
    default = default_prior()
    counts = np.array([law.marks[N_GAPS] for law in laws])
    known = [law for law, n in zip(laws, counts, strict=True) if n > 0]
    if not known:
        return default
    weights = counts[counts > 0] ** -0.5
    weights /= weights.mean()
    events = np.tensordot(weights, [law.events for law in known], axes=1)
    exposure = np.tensordot(weights, [law.exposure_seconds for law in known], axes=1)
    hazard = (events[0] + POOL_WEIGHT_EVENTS) / (exposure[0] + POOL_WEIGHT_EVENTS / default.hazard)
    ratio = (events[1:] + POOL_WEIGHT_EVENTS) / (exposure[1:] * hazard + POOL_WEIGHT_EVENTS)
    season = np.tensordot(weights, [law.season for law in known], axes=1)
    rates = [law.season[0].sum() / max(law.season[1].sum(), 1.0) for law in known]
    expected = np.tensordot(weights * rates, [law.season[1] for law in known], axes=1)
    factor = (season[0] + POOL_WEIGHT_STARTS) / (expected + POOL_WEIGHT_STARTS)
    return ArrivalPrior(hazard, ratio, factor)
