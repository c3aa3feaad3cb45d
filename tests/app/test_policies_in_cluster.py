"""`headstart run`, `doctor` and `fit` by the custom resources of a real API server."""

import sys
from pathlib import Path

import pytest
import requests

from scaler.app.bootstrap import build_service
from scaler.app.doctor import Finding, examine
from scaler.app.histories import read_histories
from scaler.app.settings import Settings, load_settings
from scaler.errors import PolicyError
from tests.servers.api import ApiError
from tests.servers.cluster import Cluster
from tests.servers.manifests import deployment
from tests.servers.processes import ServerProcess, free_port, http_status, wait_until

pytestmark = pytest.mark.usefixtures("kubectl")
BROKEN = {"replicas": {"min": 5, "max": 3}}


def path_of(namespace: str) -> str:
    return f"/apis/headstart.dev/v1alpha1/namespaces/{namespace}/inferencescalingpolicies"


def apply(cluster: Cluster, namespace: str, name: str, spec: dict) -> None:
    kind = {"apiVersion": "headstart.dev/v1alpha1", "kind": "InferenceScalingPolicy"}
    try:
        cluster.api().create(path_of(namespace), kind | {"metadata": {"name": name}, "spec": spec})
    except ApiError:
        cluster.api().patch(f"{path_of(namespace)}/{name}", {"spec": spec})


def status_of(cluster: Cluster, namespace: str, name: str) -> dict:
    return cluster.api().get(f"{path_of(namespace)}/{name}").get("status", {})


@pytest.fixture
def settings(cluster: Cluster, namespace: str, tmp_path: Path) -> Settings:
    """Nothing answers where the metrics are."""
    return load_settings(
        policies=f"cluster:{namespace}",
        store=f"sqlite:///{tmp_path}/a.db",
        prometheus_url="http://127.0.0.1:1",
        kubeconfig=cluster.kubeconfig_of("admin"),
    )


def test_the_service_waits_for_its_first_policy_and_answers_each_in_its_status(
    settings: Settings, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    service = ServerProcess(
        [
            sys.executable,
            "-m",
            "scaler",
            "run",
            f"--policies=cluster:{namespace}",
            f"--store={settings.store}",
            f"--prometheus-url={settings.prometheus_url}",
            f"--kubeconfig={settings.kubeconfig}",
            f"--http={address}",
            "--turn=1s",
        ],
        log=tmp_path / "headstart.log",
        environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    def said(path: str) -> str:
        return requests.get(f"http://{address}{path}", timeout=60).text

    def status() -> dict:
        return status_of(cluster, namespace, "chat")

    service.start()
    try:
        service.wait_ready(lambda: http_status(f"http://{address}/healthz") == 200, timeout_seconds=60)
        none = f"namespace {namespace}: no InferenceScalingPolicy found"
        wait_until(lambda: none in said("/readyz"), timeout_seconds=60, what="it says that there is no policy")
        cluster.api().create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment("chat", 2, gpus=0))
        apply(cluster, namespace, "chat", {})
        wait_until(lambda: status().get("mode") == "Observe", timeout_seconds=60, what="the status tells of a decision")
        assert status()["valid"]
        apply(cluster, namespace, "chat", BROKEN)
        wait_until(lambda: status()["valid"] is False, timeout_seconds=60, what="the status tells what is wrong")
        # The turn that answers in the status shows the rest a moment later.
        for path, words in (("/api/v1/status", "must be <= max = 3"), ("/metrics", 'stage="policy documents"')):
            wait_until(lambda path=path, words=words: words in said(path), timeout_seconds=60, what=f"{path} tells it")
        assert service.terminate() == 0
    finally:
        service.kill()
    assert "Traceback" not in service.log.read_text()


def test_a_service_is_built_while_the_cluster_is_silent_and_says_so_in_its_turns(
    settings: Settings, cluster: Cluster
) -> None:
    silent = cluster.kubeconfig_of("admin", server="http://127.0.0.1:1", name="silent")
    service = build_service(settings.model_copy(update={"kubeconfig": silent}))
    service.turn()
    assert "no usable answer from the API server" in service.board.problems["policies"]
    service.stop()


def found(settings: Settings) -> dict[str, Finding]:
    return {one.what: one for one in examine(settings)}


def test_doctor_says_what_stands_in_the_cluster_and_what_is_wrong_with_it_and_writes_nothing(
    settings: Settings, cluster: Cluster, namespace: str
) -> None:
    apply(cluster, namespace, "chat", {})
    apply(cluster, namespace, "image", BROKEN)
    seen = found(settings)
    assert (seen["policies"].fine, seen["policies"].found) == (True, f"1 in namespace {namespace} of the cluster")
    assert not seen["policy"].fine
    assert f"{namespace}/image: spec.replicas: min = 5" in seen["policy"].found
    assert status_of(cluster, namespace, "chat") == {}


def test_doctor_says_which_rights_are_missing(settings: Settings, cluster: Cluster) -> None:
    seen = found(settings.model_copy(update={"kubeconfig": cluster.kubeconfig_of("nobody")}))
    assert not seen["policies"].fine
    assert "403" in seen["policies"].found
    assert "RBAC rules" in seen["policies"].found


@pytest.mark.parametrize(("user", "fine"), [("nobody", False), ("admin", True)])
def test_doctor_says_whether_the_status_may_be_written_and_writes_none(
    settings: Settings, cluster: Cluster, namespace: str, user: str, fine: bool
) -> None:
    apply(cluster, namespace, "chat", {})
    seen = found(settings.model_copy(update={"kubeconfig": cluster.kubeconfig_of(user)}))["policy status"]
    assert seen.fine is fine
    assert ("no right to patch inferencescalingpolicies/status" in seen.found) is not fine
    assert status_of(cluster, namespace, "chat") == {}


def test_a_fit_refuses_a_broken_policy_of_the_cluster_as_it_does_a_file(
    settings: Settings, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(cluster, namespace, "chat", {})
    apply(cluster, namespace, "image", BROKEN)
    monkeypatch.setenv("HEADSTART_KUBECONFIG", str(settings.kubeconfig))
    with pytest.raises(PolicyError, match=r"image: spec\.replicas: min = 5"):
        read_histories(trace=None, policies=f"cluster:{namespace}", prometheus_url="http://127.0.0.1:1")
