"""The contract of a forecast method."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import IntArray
from forecaster.panel import Panel
from forecaster.series import FloatArray

Arrays = dict[str, NDArray[Any]]


class FittedMethod(Protocol):
    """A method that has learnt what it needs from a history."""

    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        """Quantiles of demand, shape (n_series, n_origins, n_steps_ahead, n_levels).

        Entry [s, i, k] is about bin `origins[i] + steps_ahead[k]` (steps_ahead >= 0: 0 is the bin that begins at the
        origin) and uses nothing but `panel.values[s, :origins[i]]` and what was learnt. >= 0 and non-decreasing along
        levels; NaN for a series of which nothing was seen before the origin. The panel has the grid, the keys and the
        step of the one that the method was fitted on and the same endpoints in the same order; it may begin later and
        end later. Deterministic.
        """
        ...

    def arrays(self) -> Arrays:
        """All that was learnt, as plain arrays (no objects), for the store. Empty if nothing was."""
        ...


class Method(Protocol):
    """Something that learns from a panel. A method is registered in methods/registry.py."""

    @property
    def name(self) -> str: ...

    def fit(self, panel: Panel, steps_ahead: IntArray, previous: FittedMethod | None = None) -> FittedMethod:
        """Learn from the whole panel how to forecast the bins `steps_ahead` of it. Raises ShortHistory if it cannot.

        `previous` may be what this method learnt when the same histories ended earlier; it may save work.
        """
        ...

    def restore(self, arrays: Arrays) -> FittedMethod:
        """What `fit` gave when its `arrays()` were stored. Raises StoreError if they are not its own."""
        ...


class LearnsNothing(ABC):
    """A method that reads all it needs from the panel it is asked about: it is its own fitted method."""

    @abstractmethod
    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        """As FittedMethod.quantiles."""

    def fit(self, panel: Panel, steps_ahead: IntArray, previous: FittedMethod | None = None) -> FittedMethod:
        return self

    def restore(self, arrays: Arrays) -> FittedMethod:
        return self

    def arrays(self) -> Arrays:
        return {}


def non_crossing(values: FloatArray) -> FloatArray:
    """The same quantiles made >= 0 and non-decreasing along the last axis (sorting never raises the pinball loss;
    Chernozhukov, Fernandez-Val & Galichon 2010)."""
    return np.sort(np.maximum(values, 0.0), axis=-1)
