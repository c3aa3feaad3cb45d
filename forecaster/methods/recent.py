"""What the last hours brought, whatever the time of day: for demand that comes in bursts and follows no clock.

The sample of a target are the bins of the last SPAN, newer ones counting more, with a half-life of twice the lead: what
is far ahead is told by what goes far back.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from forecaster.calendar import IntArray
from forecaster.methods.base import LearnsNothing
from forecaster.methods.climate import weighted_quantiles
from forecaster.methods.residual import last_seen
from forecaster.panel import Panel
from forecaster.series import FloatArray

SPAN = timedelta(days=3)
SHORTEST_HALF_LIFE = timedelta(hours=1)
LEADS_PER_HALF_LIFE = 2.0
SAMPLE_SIZE = 200


@dataclass(frozen=True)
class Recent(LearnsNothing):
    """The method. Nothing is learnt beforehand."""

    name: str

    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        # Dense at first and wider behind, each bin standing for those that are left out before it.
        back = np.unique(np.round(np.geomspace(1, panel.steps(SPAN), SAMPLE_SIZE)).astype(np.int64))
        stands_for = np.diff(back, prepend=0)
        source = origins[:, None] - back
        sample = np.where(source >= 0, panel.values[:, np.maximum(source, 0)], np.nan)
        out = np.empty((panel.n_series, len(origins), len(steps_ahead), len(levels)))
        for k, lead in enumerate(steps_ahead):
            half_life = max(panel.steps(SHORTEST_HALF_LIFE), LEADS_PER_HALF_LIFE * int(lead))
            weight = np.where(np.isnan(sample), 0.0, stands_for * 0.5 ** (back / half_life))
            out[:, :, k] = weighted_quantiles(sample, weight, levels)
        flat = last_seen(panel, origins)[..., None, None]
        return np.where(np.isnan(out), np.broadcast_to(flat, out.shape), out)
