"""The statsforecast pool gives the same on one machine and on a cluster's workers."""

import importlib.util
from datetime import timedelta

import numpy as np
import pytest

from forecaster.fleet import statistical_pool
from forecaster.methods.statistical import MODELS
from tests.forecaster.samples import a_panel, daily_counts

HOUR = timedelta(hours=1)
PANEL = a_panel(np.stack([daily_counts(16, HOUR, seed=i) for i in range(3)]), HOUR)
TWO = ("seasonal_window_average", "imapa")


def test_every_model_gives_a_day_of_hours_for_every_endpoint():
    paths = statistical_pool(PANEL)
    assert set(paths) == set(MODELS)
    assert all(path.shape == (3, 24) and np.all(np.isfinite(path)) and np.all(path >= 0) for path in paths.values())


def test_an_endpoint_never_seen_gives_nothing():
    values = np.vstack([PANEL.values[:1], np.full((1, PANEL.n_steps), np.nan)])
    paths = statistical_pool(a_panel(values, HOUR), names=TWO)
    assert np.isnan(paths["imapa"][1]).all()
    assert np.isfinite(paths["imapa"][0]).all()


def dask_cluster():
    from dask.distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
    return Client(cluster), cluster


@pytest.mark.filterwarnings("ignore")  # of the clusters' own libraries, about their own internals
@pytest.mark.timeout(280)
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_local_cluster_gives_what_one_process_gives(engine):
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"the extra is not installed: pip install 'headstart[{engine}]'")
    alone = statistical_pool(PANEL, names=TWO)
    if engine == "dask":
        client, cluster = dask_cluster()
        with cluster, client:
            shared = statistical_pool(PANEL, names=TWO, engine="dask")
    else:
        import ray

        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
        try:
            shared = statistical_pool(PANEL, names=TWO, engine="ray")
        finally:
            ray.shutdown()
    for name in TWO:
        np.testing.assert_allclose(shared[name], alone[name])
