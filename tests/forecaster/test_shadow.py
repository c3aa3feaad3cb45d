"""The model across endpoints is changed only for one that was better on a day that neither had seen."""

from datetime import timedelta

import numpy as np

from forecaster.methods.registry import METHODS
from tests.forecaster.samples import a_panel, daily_counts

STEP = timedelta(minutes=30)
LEADS = np.array([1, 4])
DEMAND = np.stack([daily_counts(8, STEP, mean_per_bin=40, seed=seed) for seed in (1, 2)])
METHOD = METHODS["global_residual"]


def test_one_that_knows_the_day_already_stays():
    champion = METHOD.fit(a_panel(DEMAND, STEP), LEADS)
    assert METHOD.fit(a_panel(DEMAND, STEP), LEADS, champion) is champion


def test_one_of_another_world_goes():
    noise = np.random.default_rng(0).permuted(DEMAND, axis=1)
    champion = METHOD.fit(a_panel(noise, STEP), LEADS)
    assert METHOD.fit(a_panel(DEMAND, STEP), LEADS, champion) is not champion
