"""One rehearsal per test, on the session's control plane."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.rehearsal import Rehearsal
from tests.e2e.traffic import diurnal
from tests.servers.cluster import Cluster
from tests.servers.kubelet import FakeKubelet
from tests.servers.prometheus import Prometheus

DAY_ZERO = datetime(2026, 3, 2, tzinfo=UTC)
HISTORY_DAYS = 14


@pytest.fixture
def rehearse(
    cluster: Cluster, kubelet: FakeKubelet, prometheus: Prometheus, namespace: str, tmp_path: Path
) -> Iterator[Callable[..., Rehearsal]]:
    """Makes a rehearsal that begins at a time of the day after two weeks of history; stops it at the end."""
    made: list[Rehearsal] = []

    def make(*, begin: timedelta, scale: float, startup: timedelta, seed: int = 7) -> Rehearsal:
        for letter in "ab":
            kubelet.register_node(f"{namespace}-{letter}", gpus=8)
        made.append(
            Rehearsal(
                folder=tmp_path,
                cluster=cluster,
                kubelet=kubelet,
                prometheus=prometheus,
                namespace=namespace,
                trace=diurnal(DAY_ZERO, HISTORY_DAYS + 2, seed=seed),
                begin=DAY_ZERO + timedelta(days=HISTORY_DAYS) + begin,
                scale=scale,
                startup=startup,
            )
        )
        return made[-1]

    yield make
    for rehearsal in made:
        rehearsal.stop()
        print(f"samples: {rehearsal.write_samples()}")
