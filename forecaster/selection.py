"""How much each method of the pool counts: weights from how well it lately did, per endpoint and lead.

Everything is computed from a ledger of past forecasts and what came, by matrices: the weights at an origin use exactly
the outcomes that had been seen by then.
"""

from dataclasses import dataclass

import numpy as np

from forecaster.calendar import IntArray
from forecaster.scoring import pinball
from forecaster.series import FloatArray

TRIM = 0.35


@dataclass(frozen=True, kw_only=True)
class WeightRule:
    """Weights are prior * (best loss / loss) ** sharpness, at least `floor` each, summing to one.

    Losses are means of the pinball loss with exponential forgetting (half-life in days). A method twice as bad as the
    best gets 2 ** -sharpness of its weight. `prior_forecasts` outcomes at the mean loss of all methods stand behind
    each, so that a handful of outcomes decides little. The floor lets a method come back when the regime changes.

    The outcomes of a long lead tell late: a method that stopped fitting this morning is found out a lead later. So
    weights are also multiplied by the same ratio of the losses at a lead about a quarter as long (told_sooner), to the
    power of `sooner_sharpness`; and those of leads beyond an hour by that of the losses at an hour, quickly forgotten
    (`fresh_half_life_days`), to the power of `fresh_sharpness`. What an hour tells of a day is little: it counts for
    exp(-lead / `fresh_reach_hours`).
    """

    sharpness: float = 4.0
    sooner_sharpness: float = 1.0
    half_life_days: float = 1.5
    floor: float = 0.01
    prior_forecasts: float = 6.0
    fresh_sharpness: float = 1.0
    fresh_half_life_days: float = 0.2
    fresh_prior_forecasts: float = 2.0
    fresh_reach_hours: float = 8.0


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What is decided with a forecast: whole replicas for its quantile `level` (the nearest one there is)."""

    level: float
    demand_per_replica: float

    def __post_init__(self) -> None:
        if not (0.0 < self.level < 1.0 and self.demand_per_replica > 0.0):
            raise ValueError(
                f"operating point: need a level between 0 and 1 and a demand per replica above 0, have {self.level} "
                f"and {self.demand_per_replica}"
            )

    def losses(self, actual: FloatArray, quantiles: FloatArray, levels: FloatArray) -> FloatArray:
        """The decision loss in units of demand, (..., n_methods): what is held beyond demand costs 1 - level, demand
        beyond what is held costs level. That price makes the level the best one (newsvendor).

        Replicas of 10 held at .9 for a quantile of 12 are 20: demand of 25 costs .9 * 5, demand of 15 costs .1 * 5.
        """
        said = quantiles[..., int(np.argmin(np.abs(levels - self.level)))]
        held = np.ceil(said / self.demand_per_replica - 1e-9) * self.demand_per_replica
        short = actual[..., None] - held
        return np.asarray(np.maximum(self.level * short, (self.level - 1.0) * short))


def known_losses(
    losses: FloatArray, made: IntArray, ended: IntArray, origins: IntArray, half_life: float
) -> FloatArray:
    """Discounted mean loss of each method from what was known at each origin.

    `losses` (n_series, n_past, n_leads, n_methods), NaN where the outcome was not seen; `made` (n_past,) the bins at
    which they were issued; `ended` (n_past, n_leads) the first bin at which the outcome is known; `half_life` in bins.
    Returns sums of weights and weighted losses, (2, n_series, n_origins, n_leads, n_methods).
    """
    n_series, _, n_leads, n_methods = losses.shape
    seen = np.isfinite(losses)
    filled = np.where(seen, losses, 0.0)
    out = np.zeros((2, n_series, len(origins), n_leads, n_methods))
    age = origins[:, None] - made
    fading = 0.5 ** (np.maximum(age, 0) / half_life)
    for k in range(n_leads):
        weight = np.where(ended[:, k] <= origins[:, None], fading, 0.0)
        out[0, :, :, k] = np.einsum("op,spm->som", weight, seen[:, :, k].astype(np.float64))
        out[1, :, :, k] = np.einsum("op,spm->som", weight, filled[:, :, k])
    return out


def told_sooner(steps_ahead: IntArray) -> IntArray:
    """For each of the sorted leads, the index of the one that is nearest to a quarter of it; for the shortest ones it
    is their own."""
    log = np.log1p(steps_ahead.astype(np.float64))
    return np.asarray(np.abs(log - np.log1p(steps_ahead / 4.0)[:, None]).argmin(axis=1), dtype=np.int64)


def method_weights(
    sums: FloatArray,
    rule: WeightRule,
    prior: FloatArray | None = None,
    fresh: FloatArray | None = None,
    sooner: IntArray | None = None,
) -> FloatArray:
    """Weights (..., n_methods) that sum to one, from the sums of known_losses; `prior` (n_methods,) or equal ones.

    `fresh` are the sums at a lead of about an hour with the fresh half-life, of a shape that broadcasts to `sums`; a
    count of 0 for all methods says nothing. A method never scored while others were counts as the mean of the others.
    `sooner` (n_leads,) is what told_sooner says of the leads.
    """
    n_methods = sums.shape[-1]
    prior = np.full(n_methods, 1.0 / n_methods) if prior is None else prior / prior.sum()
    standing = _standing(sums, rule.prior_forecasts)
    weights = prior * standing**rule.sharpness
    if sooner is not None:
        weights = weights * standing[..., sooner, :] ** rule.sooner_sharpness
    if fresh is not None:
        weights = weights * _standing(fresh, rule.fresh_prior_forecasts) ** rule.fresh_sharpness
    weights /= weights.sum(axis=-1, keepdims=True)
    weights = np.maximum(weights, rule.floor)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _standing(sums: FloatArray, prior_forecasts: float) -> FloatArray:
    """The loss of the best method over that of each, in (0, 1], steadied by `prior_forecasts` at the mean loss."""
    count, total = sums
    mean = np.where(count > 0, total / np.where(count > 0, count, 1.0), np.nan)
    known = np.isfinite(mean)
    typical = np.where(known, mean, 0.0).sum(axis=-1, keepdims=True) / np.maximum(known.sum(axis=-1, keepdims=True), 1)
    steadied = (np.where(known, total, 0.0) + prior_forecasts * typical) / (count + prior_forecasts)
    tiny = 1e-12 + 1e-6 * typical
    return np.asarray((steadied.min(axis=-1, keepdims=True) + tiny) / (steadied + tiny))


def vincentised(quantiles: FloatArray, weights: FloatArray, trim: float = TRIM) -> FloatArray:
    """The weighted mean of quantiles level by level (not of probabilities: the shape of each is kept), winsorised.

    Before averaging, each method's quantile is drawn into the range of what the middle 1 - 2 * trim of the weight
    says, so that a method at the floor that is off by orders of magnitude (a day after a restart from idle) moves the
    mean by little. trim 0 is the plain mean, 0.5 the weighted median. `quantiles` (..., n_methods, n_levels), `weights`
    (..., n_methods); a method whose quantiles are NaN is left out; NaN if all are.
    """
    usable = np.asarray(np.isfinite(quantiles).all(axis=-1), dtype=np.bool_)
    weight = np.where(usable, weights, 0.0)
    total = weight.sum(axis=-1, keepdims=True)
    weight = weight / np.where(total > 0, total, 1.0)
    order = np.argsort(np.where(usable[..., None], quantiles, np.inf), axis=-2)
    ordered = np.take_along_axis(quantiles, order, axis=-2)
    reached = np.cumsum(
        np.take_along_axis(np.broadcast_to(weight[..., None], quantiles.shape), order, axis=-2), axis=-2
    )
    last = quantiles.shape[-2] - 1
    low = np.minimum((reached < trim - 1e-12).sum(axis=-2, keepdims=True), last)
    high = np.minimum((reached < 1.0 - trim - 1e-12).sum(axis=-2, keepdims=True), last)
    drawn_in = np.clip(
        np.where(usable[..., None], quantiles, 0.0),
        np.take_along_axis(ordered, low, axis=-2),
        np.take_along_axis(ordered, high, axis=-2),
    )
    mixed = np.einsum("...m,...ml->...l", weight, np.where(usable[..., None], drawn_in, 0.0))
    return np.where(total > 0, mixed, np.nan)


def mean_pinball(actual: FloatArray, quantiles: FloatArray, levels: FloatArray) -> FloatArray:
    """Pinball loss averaged over levels of each method: (..., n_methods) from (...) and (..., n_methods, n_levels)."""
    return np.asarray(pinball(actual[..., None], quantiles, levels).mean(axis=-1))
