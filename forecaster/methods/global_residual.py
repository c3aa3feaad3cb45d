"""One gradient-boosted quantile model over all endpoints: the forecast of the next minutes to hours.

Its target is the scaled residual to the last value, (y[t+h] - y[t]) / scale. Trained on the level instead, boosting
loses to persistence on such data; on the residual it wins. The lead is a feature, so one set of models serves all
leads.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from forecaster.calendar import IntArray
from forecaster.errors import ShortHistory, StoreError
from forecaster.methods.analogues import Base, from_root, highest_credible, training_rows
from forecaster.methods.base import Arrays, FittedMethod, non_crossing
from forecaster.methods.features import known_at
from forecaster.methods.learners import QuantileBoosting
from forecaster.panel import Panel
from forecaster.scoring import pinball
from forecaster.series import FloatArray

LEVELS = (0.1, 0.5, 0.8, 0.9, 0.95, 0.99)
MAX_ROWS = 30_000
MIN_ROWS = 200
SHADOW_SPAN = timedelta(days=1)
SHADOW_EVERY = timedelta(minutes=30)


@dataclass(frozen=True)
class GlobalResidual:
    """The method: one model over all the series of the panel."""

    name: str = "global_residual"

    def fit(self, panel: Panel, steps_ahead: IntArray, previous: FittedMethod | None = None) -> "FittedGlobalResidual":
        """Learn from all series together. Raises ShortHistory with fewer than MIN_ROWS rows.

        `previous` stays unless it is beaten on the last day, which neither it nor a challenger fitted before has seen.
        """
        if isinstance(previous, FittedGlobalResidual):
            first = panel.n_steps - panel.steps(SHADOW_SPAN)
            origins = np.arange(max(first, 1), panel.n_steps, panel.steps(SHADOW_EVERY), dtype=np.int64)
            challenger = self._fit(panel.until(int(origins[0])), steps_ahead)
            if not wins_shadow_test(challenger, previous, panel, origins, steps_ahead):
                return previous
        return self._fit(panel, steps_ahead)

    def _fit(self, panel: Panel, steps_ahead: IntArray) -> "FittedGlobalResidual":
        features, target = training_rows(panel, steps_ahead, base=Base.LAST, max_rows=MAX_ROWS)
        if len(target) < MIN_ROWS:
            raise ShortHistory(f"{self.name}: have {len(target)} situations with their outcome, need {MIN_ROWS}")
        return FittedGlobalResidual(model=QuantileBoosting(features=features, target=target, levels=LEVELS))

    def restore(self, arrays: Arrays) -> "FittedGlobalResidual":
        try:
            features, target = arrays["features"], arrays["target"].astype(np.float64)
        except KeyError as error:
            raise StoreError(f"{self.name}: stored arrays are {sorted(arrays)}, need features and target") from error
        return FittedGlobalResidual(model=QuantileBoosting(features=features, target=target, levels=LEVELS))


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedGlobalResidual:
    """The fitted models; levels between theirs are interpolated, levels beyond take the outermost."""

    model: QuantileBoosting

    def arrays(self) -> Arrays:
        return {"features": self.model.features, "target": self.model.target}

    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        known = known_at(panel, origins, steps_ahead)
        flat = known.features.reshape(-1, known.features.shape[-1])
        own = self.model.quantiles(flat)
        asked = np.stack([_at_level(own, float(level)) for level in levels], axis=1)
        demand = from_root(asked.reshape(*known.profile.shape, len(levels)), known, base=Base.LAST)
        return non_crossing(np.minimum(demand, highest_credible(panel, origins)[..., None, None]))


def _at_level(own: FloatArray, level: float) -> FloatArray:
    levels = np.array(LEVELS)
    right = int(np.clip(np.searchsorted(levels, level), 1, len(levels) - 1))
    share = float(np.clip((level - levels[right - 1]) / (levels[right] - levels[right - 1]), 0.0, 1.0))
    return own[:, right - 1] * (1.0 - share) + own[:, right] * share


def wins_shadow_test(
    challenger: FittedGlobalResidual, champion: FittedGlobalResidual, panel: Panel, origins: IntArray, leads: IntArray
) -> bool:
    """Whether the challenger's mean scaled pinball loss on the outcomes of `origins` is below the champion's.

    The origins should lie after both were fitted. Without any outcome seen the champion stays.
    """
    levels = np.array(LEVELS)
    targets = origins[:, None] + leads
    actual = np.where(targets < panel.n_steps, panel.values[:, np.minimum(targets, panel.n_steps - 1)], np.nan)
    scale = np.nan_to_num(np.nanmean(np.where(np.isnan(actual), 0.0, actual), axis=(1, 2), keepdims=True)) + 1e-9
    losses = [
        np.nanmean(pinball(actual, model.quantiles(panel, origins, leads, levels), levels) / scale[..., None])
        for model in (challenger, champion)
        if np.any(np.isfinite(actual))
    ]
    return len(losses) == 2 and bool(losses[0] < losses[1])
