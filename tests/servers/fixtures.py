"""Fixtures with real servers. A test that asks for one is marked `servers` by itself.

Where the programs are absent and cannot be built, the test is skipped with the reason; with ``CI=true`` it fails.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import pytest

from tests.servers import binaries
from tests.servers.cluster import Cluster
from tests.servers.helm import Helm
from tests.servers.kubectl import Kubectl
from tests.servers.kubelet import FakeKubelet
from tests.servers.postgres import running_postgres
from tests.servers.prometheus import Prometheus

_PROGRAM_FIXTURES = {
    "prometheus_programs": binaries.PROMETHEUS,
    "kubernetes_programs": binaries.KUBERNETES,
    "helm_programs": binaries.HELM,
}
_ON_REAL_SERVERS = ("real_servers", "yes")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers: runs against a real Prometheus, PostgreSQL, Helm or control plane")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {*_PROGRAM_FIXTURES, "postgres_url"}:
            item.add_marker("servers")
            item.user_properties.append(_ON_REAL_SERVERS)
        if "kubernetes_programs" in fixtures:
            item.add_marker(pytest.mark.xdist_group("cluster"))  # one worker, one control plane


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what ran on real servers."""
    outcomes = Counter(
        outcome
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if _ON_REAL_SERVERS in map(tuple, getattr(report, "user_properties", ()))
    )
    if not outcomes:
        return
    terminalreporter.section("on real servers")
    terminalreporter.line(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    for suite in binaries.SUITES.values():
        for program, path in binaries.locate(suite).items():
            terminalreporter.line(f"{program:24} {path}")


@pytest.fixture(scope="session")
def prometheus_programs() -> dict[str, Path]:
    return _programs(binaries.PROMETHEUS)


@pytest.fixture(scope="session")
def kubernetes_programs() -> dict[str, Path]:
    return _programs(binaries.KUBERNETES)


@pytest.fixture(scope="session")
def helm_programs() -> dict[str, Path]:
    return _programs(binaries.HELM)


@pytest.fixture
def prometheus(prometheus_programs: dict[str, Path], tmp_path: Path) -> Iterator[Prometheus]:
    """Not started yet, so that a test may choose scrape targets and back-fill history first."""
    server = Prometheus(prometheus_programs, tmp_path / "prometheus")
    yield server
    server.process.kill()


@pytest.fixture(scope="session")
def cluster(kubernetes_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One running control plane for the whole session; tests take namespaces of their own."""
    _claim_for_this_worker(tmp_path_factory)
    control_plane = Cluster(kubernetes_programs, tmp_path_factory.mktemp("cluster"))
    try:
        control_plane.start()
        yield control_plane
    finally:
        control_plane.stop()


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster, kubernetes_programs: dict[str, Path]) -> Kubectl:
    """The server knows the kind of the policies."""
    program = Kubectl(kubernetes_programs, cluster)
    program.define_policies()
    return program


@pytest.fixture(scope="session")
def helm(helm_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Knows no cluster."""
    return Helm(helm_programs, tmp_path_factory.mktemp("helm"))


@pytest.fixture
def helm_in_cluster(helm_programs: dict[str, Path], cluster: Cluster, tmp_path: Path) -> Helm:
    return Helm(helm_programs, tmp_path / "helm", kubeconfig=cluster.kubeconfig)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own; its contents are deleted afterwards."""
    name = f"test-{uuid4().hex[:12]}"
    cluster.make_namespace(name)
    yield name
    cluster.api().delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def kubelet(cluster: Cluster) -> Iterator[FakeKubelet]:
    """Runs, without nodes yet."""
    with FakeKubelet(cluster.api()) as playing:
        yield playing


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database of a PostgreSQL that runs for these tests alone."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(running_postgres())
        except binaries.ServersAbsent as absent:
            _without(absent)
        yield url


def _claim_for_this_worker(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two control planes side by side are slow enough to fail what is timed: that must not pass for bad luck."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_all_workers = tmp_path_factory.getbasetemp().parent
        try:
            (of_all_workers / "control-plane").touch(exist_ok=False)
        except FileExistsError:
            pytest.fail("another worker runs a control plane: --dist loadgroup, and a pytest that keeps it")


def _programs(suite: binaries.Suite) -> dict[str, Path]:
    try:
        return binaries.provide(suite, lambda line: print(line, flush=True))
    except binaries.ServersAbsent as absent:
        _without(absent)


def _without(absent: binaries.ServersAbsent) -> NoReturn:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(str(absent))
    pytest.skip(str(absent))
