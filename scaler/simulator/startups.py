"""How long a replica takes from its order until it serves, in the simulated world."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np


@dataclass(frozen=True, kw_only=True)
class StartupModel:
    """One start takes `typical`, spread log-normally (`sigma` of the logarithm; 0: always the same).

    With `cold_node_fraction` a node has to come first, which adds `node`. An attempt fails with `failed_fraction` and
    begins anew (the replica keeps its place and its cost). All of it is `slow_factor` times slower.
    """

    typical: timedelta
    sigma: float = 0.0
    cold_node_fraction: float = 0.0
    node: timedelta = timedelta(0)
    failed_fraction: float = 0.0
    slow_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.typical <= timedelta(0) or self.sigma < 0 or self.slow_factor <= 0:
            raise ValueError(f"start-up model: need typical > 0, sigma >= 0, slow_factor > 0, have {self}")
        if not 0 <= self.failed_fraction < 1 or not 0 <= self.cold_node_fraction <= 1:
            raise ValueError(f"start-up model: need fractions in 0..1 (failed below 1), have {self}")

    @property
    def always_seconds(self) -> float:
        """The typical start, slowness included."""
        return self.typical.total_seconds() * self.slow_factor

    @property
    def always_same(self) -> bool:
        """No start differs from another."""
        return not (self.sigma or self.failed_fraction or self.cold_node_fraction)

    def draw_seconds(self, rng: np.random.Generator) -> float:
        """One start, order to ready, failures included."""
        total = self._attempt(rng)
        while self.failed_fraction and rng.random() < self.failed_fraction:
            total += self._attempt(rng)
        if self.cold_node_fraction and rng.random() < self.cold_node_fraction:
            total += self.node.total_seconds()
        return total * self.slow_factor

    def _attempt(self, rng: np.random.Generator) -> float:
        typical = self.typical.total_seconds()
        return typical * float(np.exp(self.sigma * rng.standard_normal())) if self.sigma else typical
