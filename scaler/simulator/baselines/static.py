"""A fixed number of replicas for the peak: what teams do who were burnt by start-up times."""

from math import ceil

import numpy as np

from scaler.simulator.baselines.base import Baseline, Site, Situation

DEFAULT_FACTOR = 1.0


class Static:
    """`factor` times the highest minute of the history, at the target utilization. Example: peak 10/s, 2/s a replica at
    0.8: ceil(10 / 1.6) = 7."""

    def __init__(self, site: Site, factor: float | None = None):
        n = site.steps(60.0)
        whole = len(site.history) // n * n
        minutes = site.history[len(site.history) - whole :].reshape(-1, n).mean(axis=1) if whole else np.zeros(1)
        peak = float(minutes.max()) / site.per_step
        self._replicas = ceil(peak / site.utilization * (factor if factor is not None else DEFAULT_FACTOR) - 1e-9)

    def desired(self, now: Situation) -> int:
        return self._replicas


FACTORS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)
BASELINE = Baseline(name="static", make=Static, knob="factor on the peak", knob_values=FACTORS)
