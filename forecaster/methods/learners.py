"""The learners behind learnt methods: the only module here that knows scikit-learn.

Both are refitted from their rows where they are restored, bit for bit (fixed seeds, one thread): what is stored is
data, never a pickled object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecaster.series import FloatArray

FloatMatrix = NDArray[np.float32]
ROWS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class ForestOfAnalogues:
    """A quantile regression forest (Meinshausen 2006) of extremely randomised trees.

    It does not predict a number: for a new situation it weighs the past situations (rows) by how often they share a
    leaf with it, and reads quantiles off what followed them. `features` (n_rows, n_features), `target` (n_rows,) on
    the scale on which splits are chosen.
    """

    features: FloatMatrix
    target: FloatArray
    n_trees: int = 50
    min_rows_in_leaf: int = 10
    max_features: float = 0.5

    @cached_property
    def _trees(self) -> list[Any]:
        # Single trees, as an ensemble object spends more time on checking and dispatching than such trees take to grow.
        from sklearn.tree import ExtraTreeRegressor

        rows_in_leaf = min(self.min_rows_in_leaf, max(len(self.target) // 4, 1))
        return [
            ExtraTreeRegressor(min_samples_leaf=rows_in_leaf, max_features=self.max_features, random_state=seed)
            .fit(self.features, self.target, check_input=False)
            .tree_
            for seed in range(self.n_trees)
        ]

    @cached_property
    def _leaves(self) -> NDArray[np.int64]:
        """The leaf of each row in each tree, (n_trees, n_rows)."""
        return np.stack([tree.apply(self.features) for tree in self._trees])

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.target, kind="stable")

    def quantiles(self, features: FloatMatrix, levels: FloatArray) -> FloatArray:
        """Quantiles of the target for each row of `features`, shape (n_rows, n_levels)."""
        features = np.ascontiguousarray(features, dtype=np.float32)
        parts = [
            self._quantiles(features[first : first + ROWS_AT_ONCE], levels)
            for first in range(0, len(features), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(levels)))

    def _quantiles(self, features: FloatMatrix, levels: FloatArray) -> FloatArray:
        here = np.stack([tree.apply(features) for tree in self._trees])
        weights = np.zeros((len(features), len(self.target)))
        for leaves_there, leaves_here in zip(self._leaves, here, strict=True):
            sizes = np.bincount(leaves_there)
            shares = 1.0 / np.maximum(sizes[leaves_here], 1)
            weights += (leaves_here[:, None] == leaves_there) * shares[:, None]
        cumulative = np.cumsum(weights[:, self._order], axis=1)
        cumulative /= cumulative[:, -1:]
        ordered = self.target[self._order]
        at = np.stack([(cumulative < level - 1e-9).sum(axis=1) for level in levels], axis=1)
        return np.asarray(ordered[np.minimum(at, len(ordered) - 1)])


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantileBoosting:
    """Histogram gradient boosting of the pinball loss, one model for each of `levels`."""

    features: FloatMatrix
    target: FloatArray
    levels: Sequence[float]
    n_rounds: int = 100
    learning_rate: float = 0.08
    max_leaves: int = 15
    min_rows_in_leaf: int = 80

    @cached_property
    def _models(self) -> list[Any]:
        from sklearn.ensemble import HistGradientBoostingRegressor

        return [
            HistGradientBoostingRegressor(
                loss="quantile",
                quantile=level,
                max_iter=self.n_rounds,
                learning_rate=self.learning_rate,
                max_leaf_nodes=self.max_leaves,
                min_samples_leaf=min(self.min_rows_in_leaf, max(len(self.target) // 20, 5)),
                early_stopping=False,
                random_state=0,
            ).fit(self.features, self.target)
            for level in self.levels
        ]

    def quantiles(self, features: FloatMatrix) -> FloatArray:
        """Quantiles at `levels` for each row, sorted, shape (n_rows, n_levels)."""
        return np.sort(np.stack([model.predict(features) for model in self._models], axis=1), axis=1)


class BoostedTrees:
    """Gradient-boosted regression trees on the pinball loss, one fit after the other on the same `features`.

    `size` are scikit-learn's own names. The features are sorted into bins once: that takes a fifth of each fit, and
    always comes to the same.
    """

    def __init__(self, features: FloatArray, **size: float) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        bins: list[Any] = []

        # A private name, as there is no public way: each fit bins anew, a warm start too, and features that are bins
        # already are sorted again. Without the name fits are slower and the same; a test compares them with plain ones.
        class InKnownBins(HistGradientBoostingRegressor):  # type: ignore[misc]
            _bin_mapper: Any

            def _bin_data(self, *args: Any, **kwargs: Any) -> Any:
                if not bins:
                    binned = super()._bin_data(*args, **kwargs)
                    bins.extend([self._bin_mapper, binned])
                self._bin_mapper, binned = bins
                return binned

        self._features, self._size, self._regressor = features, size, InKnownBins

    def fit(self, target: FloatArray, level: float) -> Any:
        """The fitted regressor of the quantile `level` of `target`."""
        model = self._regressor(loss="quantile", quantile=level, early_stopping=False, random_state=0, **self._size)
        return model.fit(self._features, target)
