"""Demand one start-up time ahead, for control: quantiles on the control grid.

Gradient-boosted quantiles of sqrt(demand at the lead) - sqrt(demand now), everything divided by the trailing weekly
mean. The square root makes counting noise about equally wide at every level; forecasting the change instead of the
level is what lets trees beat "as it is now" (docs/decisions/0009-lead-model.md). Scale-free: endpoints of 0.01/s and
5000/s may train together.

Trees are fitted by methods/learners, the one module that knows scikit-learn, and only fitted there: they are kept
as plain arrays, evaluate to the same numbers in a batch and for one row, and can be stored without pickle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import season_is_enabled
from forecaster.leadfeatures import (
    OF_FREE_DAYS,
    DemandTape,
    demand_now,
    lead_features,
    lead_targets,
    peak_targets,
    typical_demand,
)
from forecaster.methods.forest import Forest
from forecaster.methods.learners import BoostedTrees
from forecaster.series import FloatArray

FITTED_LEVELS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.998)
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.9995)
"""Published: the fitted ones, and on an exponential tail through the two highest fitted ones the others."""
PEAK_LEVEL = 0.9
_NAMES = tuple(f"q{level:g}" for level in FITTED_LEVELS)
_IS_FITTED = np.isin(LEVELS, FITTED_LEVELS)
_FITTED_DEPTH = -np.log1p(-np.array(FITTED_LEVELS))
_TAIL_DEPTH = -np.log1p(-np.array(LEVELS)[~_IS_FITTED])
MAX_ROWS = 16_000
"""More rows than this did not sharpen the quantiles of two-week histories and cost time in proportion."""
MIN_ROWS = 1_500
"""Below six hours of one row a quarter minute the trees know less than the empirical residuals."""
LEAST_SCALE = 0.05
"""Rows whose trailing weekly mean is below this share of the tape's mean are not learned from."""
WEEK = timedelta(days=7)
HIGHEST_RATIO = 1.5
"""Nothing is forecast beyond this multiple of the highest minute seen: trees do not know a ceiling."""
N_TREES, LEARNING_RATE, N_LEAVES, MIN_LEAF = 30, 0.2, 15, 60
"""Half the trees at twice the rate: as sharp as 60 at 0.1 on recorded endpoints, in 60 % of the time. Shallow, because
the noise is large against what can be known."""


@dataclass(frozen=True, eq=False)
class LeadModel:
    """Quantiles of demand one lead ahead and of the highest minute soon, fitted once.

    `forests` go with FITTED_LEVELS, `peak` is the PEAK_LEVEL quantile. `highest` is the highest minute of the tapes it
    was fitted on (of several tapes: infinity), `n_rows` how many rows.
    """

    lead_steps: int
    forests: tuple[Forest, ...]
    peak: Forest
    highest: float
    n_rows: int

    def predict(self, tape: DemandTape, first: int, last: int) -> tuple[FloatArray, FloatArray]:
        """For the rows first..last-1: quantiles at LEVELS (n_rows, n_levels), non-decreasing, and the peak soon
        (n_rows,).

        In the tape's unit, >= 0. NaN where demand now is not known.
        """
        rows = np.arange(first, last)
        features = lead_features(tape, first, last, self.lead_steps)
        scale, demand = typical_demand(tape, rows), demand_now(tape, rows)
        now = np.sqrt(demand / scale)
        changes = with_tail(np.array([forest.predict(features) for forest in self.forests]).T)
        ceiling = HIGHEST_RATIO * np.maximum(self.highest, demand)
        quantiles = np.maximum(now[:, None] + changes, 0.0) ** 2 * scale[:, None]
        soon = np.maximum(now + self.peak.predict(features), 0.0) ** 2 * scale
        return np.minimum(quantiles, ceiling[:, None]), np.minimum(soon, ceiling)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything as named arrays, for storing."""
        arrays: dict[str, NDArray[np.generic]] = {
            "lead_steps": np.array(self.lead_steps),
            "n_rows": np.array(self.n_rows),
        }
        arrays["highest"] = np.array(self.highest)
        for name, forest in [*zip(_NAMES, self.forests, strict=True), ("peak", self.peak)]:
            arrays |= {f"{name}.{field.name}": np.asarray(getattr(forest, field.name)) for field in fields(forest)}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """The model that gave `to_arrays`."""

        def forest(name: str) -> Forest:
            parts: dict[str, Any] = {field.name: arrays[f"{name}.{field.name}"] for field in fields(Forest)}
            return Forest(**(parts | {"baseline": float(parts["baseline"])}))

        return cls(
            lead_steps=int(arrays["lead_steps"]),
            forests=tuple(forest(name) for name in _NAMES),
            peak=forest("peak"),
            highest=float(arrays["highest"]),
            n_rows=int(arrays["n_rows"]),
        )


def with_tail(fitted: FloatArray) -> FloatArray:
    """Quantiles at LEVELS from those at FITTED_LEVELS (n_rows, n_fitted), sorted against crossing.

    The other levels lie on the exponential tail through the two highest fitted ones: linear in -log(1 - level).
    """
    ordered = np.sort(fitted, axis=1)
    slope = (ordered[:, -1] - ordered[:, -2]) / (_FITTED_DEPTH[-1] - _FITTED_DEPTH[-2])
    published = np.empty((len(ordered), len(LEVELS)))
    published[:, _IS_FITTED] = ordered
    published[:, ~_IS_FITTED] = ordered[:, -2:-1] + slope[:, None] * (_TAIL_DEPTH - _FITTED_DEPTH[-2])
    return published


def fit_lead_model(tapes: Sequence[DemandTape], lead_steps: int, peak_seconds: float) -> LeadModel | None:
    """A model fitted on all bins of the tapes together; None if fewer than MIN_ROWS rows are known.

    Rows are taken evenly over time so that at most MAX_ROWS remain. Deterministic.
    """
    parts = [_training_rows(tape, lead_steps, peak_seconds, MAX_ROWS // max(len(tapes), 1)) for tape in tapes]
    features = np.concatenate([part[0] for part in parts])
    lead, peak = np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])
    if len(features) < MIN_ROWS:
        return None
    features[:, np.isnan(features).all(axis=0)] = (
        0.0  # a column never seen cannot be binned; constant, it is never split
    )
    trees = BoostedTrees(
        features, max_iter=N_TREES, learning_rate=LEARNING_RATE, max_leaf_nodes=N_LEAVES, min_samples_leaf=MIN_LEAF
    )
    return LeadModel(
        lead_steps=lead_steps,
        forests=tuple(_as_arrays(trees.fit(lead, level)) for level in FITTED_LEVELS),
        peak=_as_arrays(trees.fit(peak, PEAK_LEVEL)),
        highest=float(np.nanmax(demand_now(tapes[0], np.arange(len(tapes[0]) + 1)))) if len(tapes) == 1 else np.inf,
        n_rows=len(features),
    )


def _training_rows(
    tape: DemandTape, lead_steps: int, peak_seconds: float, most: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Features, and changes of sqrt demand to the lead and to the highest minute soon, where all are known. Free days
    are not known before two full weeks were, as for any weekly season."""
    n = len(tape)
    stride = max(1, -(-n // max(most, 1)))
    rows = np.arange(n % stride, n, stride)
    scale, now = typical_demand(tape, rows), demand_now(tape, rows)
    start = np.sqrt(now / scale)
    lead = np.sqrt(lead_targets(tape, rows, lead_steps) / scale) - start
    peak = np.sqrt(peak_targets(tape, 0, n, peak_seconds)[rows] / scale) - start
    # Before demand had a level, every change is enormous in its units.
    known = np.isfinite(lead) & np.isfinite(peak) & (scale > LEAST_SCALE * np.nanmean(tape.values))
    features = lead_features(tape, 0, n, lead_steps)[rows[known]]
    if not season_is_enabled(n, timedelta(seconds=tape.step_seconds), WEEK):
        features[:, OF_FREE_DAYS] = np.nan  # one weekend is any two days
    return features, lead[known], peak[known]


def _as_arrays(model: Any) -> Forest:
    """The fitted trees as padded arrays; what they give equals model.predict (held by a test)."""
    trees = [tree.nodes for (tree,) in model._predictors]
    widest = max(len(nodes) for nodes in trees)
    shape = (len(trees), widest)
    own = np.broadcast_to(np.arange(widest, dtype=np.int32), shape)
    forest = Forest(
        baseline=float(model._baseline_prediction.ravel()[0]),
        feature=np.zeros(shape, dtype=np.int32),
        threshold=np.zeros(shape),
        missing_left=np.zeros(shape, dtype=np.bool_),
        left=own.copy(),
        right=own.copy(),
        value=np.zeros(shape),
    )
    for i, nodes in enumerate(trees):
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        forest.feature[i, inner] = nodes["feature_idx"][inner]
        forest.threshold[i, inner] = nodes["num_threshold"][inner]
        forest.missing_left[i, inner] = nodes["missing_go_to_left"][inner]
        forest.left[i, inner], forest.right[i, inner] = nodes["left"][inner], nodes["right"][inner]
        forest.value[i, : len(nodes)] = nodes["value"]
    return forest
