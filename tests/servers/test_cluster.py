"""The control plane of the tests while it starts."""

from pathlib import Path

import pytest

from tests.servers.cluster import Cluster

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


@pytest.mark.parametrize("written", [None, "", "-----BEGIN CERTIFICATE-----\nMIID"], ids=["none", "empty", "half"])
def test_it_is_not_ready_while_its_certificate_is_being_written(tmp_path: Path, written: str | None) -> None:
    cluster = Cluster(dict.fromkeys(PROGRAMS, Path("never-started")), tmp_path / "cluster")
    if written is not None:
        cluster.certificate_authority.write_text(written)
    assert not cluster.api_is_ready()
