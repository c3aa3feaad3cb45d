"""Boosted trees as plain arrays: the same numbers for one row and for many, and nothing to unpickle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecaster.kernels import kernel
from forecaster.series import FloatArray


@dataclass(frozen=True, eq=False)
class Forest:
    """One boosted regression: `baseline` plus one leaf of each tree, summed in order.

    Node arrays have shape (n_trees, most nodes of a tree); leaves have `left` = their own index.
    """

    baseline: float
    feature: NDArray[np.int32]
    threshold: FloatArray
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: FloatArray

    def predict(self, features: FloatArray) -> FloatArray:
        """One value per row of `features` (n_rows, n_features); NaN features follow the learned branch."""
        return np.asarray(
            _sum_of_leaves(
                np.ascontiguousarray(features, dtype=np.float64),
                self.baseline,
                self.feature,
                self.threshold,
                self.missing_left,
                self.left,
                self.right,
                self.value,
            )
        )


@kernel()
def _sum_of_leaves(
    features: FloatArray,
    baseline: float,
    feature: NDArray[np.int32],
    threshold: FloatArray,
    missing_left: NDArray[np.bool_],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    value: FloatArray,
) -> FloatArray:
    out = np.empty(len(features))
    for row in range(len(features)):
        total = baseline
        for tree in range(len(feature)):
            at = 0
            while left[tree, at] != at:
                seen = features[row, feature[tree, at]]
                goes_left = missing_left[tree, at] if np.isnan(seen) else seen <= threshold[tree, at]
                at = left[tree, at] if goes_left else right[tree, at]
            total += value[tree, at]
        out[row] = total
    return out
