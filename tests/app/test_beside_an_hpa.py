"""Where an HPA scales a target already, people are told, and what is written for them works with it."""

from pathlib import Path

import pytest
import yaml

from scaler.adapters.policies import parse_policy
from scaler.app.doctor import examine
from scaler.app.first_policy import first_policy_text, read_running
from scaler.app.settings import load_settings
from tests.servers.cluster import Cluster
from tests.servers.manifests import autoscaler, deployment


@pytest.fixture
def kubeconfig(cluster: Cluster, namespace: str) -> Path:
    """Of a cluster in which a Deployment `chat` is scaled by an HPA, `voice` by KEDA's, and `image` by nobody."""
    api = cluster.api()
    for name in ("chat", "voice", "image"):
        api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(name, 2))
    autoscalers = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    api.create(autoscalers, autoscaler("by-cpu", "chat"))
    api.create(autoscalers, autoscaler("keda-hpa-voice", "voice", scaled_object="voice"))
    return cluster.kubeconfig_of("admin")


@pytest.mark.parametrize(("name", "actuation"), [("chat", "HPAFloor"), ("voice", "KEDA"), ("image", "Scale")])
def test_a_first_policy_works_with_the_autoscaler_that_is_there(
    kubeconfig: Path, namespace: str, name: str, actuation: str
) -> None:
    running = read_running(
        name=name,
        namespace=namespace,
        kind="Deployment",
        api_version="apps/v1",
        preset="http",
        kubeconfig=kubeconfig,
        context="",
    )
    policy = parse_policy(yaml.safe_load(first_policy_text(running)), "first policy")
    assert (policy.spec.target.actuation, running.replicas) == (actuation, 2)


def test_doctor_names_the_hpa_that_would_undo_every_order(kubeconfig: Path, namespace: str, tmp_path: Path) -> None:
    policy = (
        f"apiVersion: headstart.dev/v1alpha1\nkind: InferenceScalingPolicy\nmetadata: {{namespace: {namespace}, name: "
    )
    (tmp_path / "policies").mkdir()
    for name in ("chat", "voice", "image"):
        (tmp_path / "policies" / f"{name}.yaml").write_text(f"{policy}{name}}}\n")
    settings = load_settings(
        policies=tmp_path / "policies",
        store=f"sqlite:///{tmp_path}/a.db",
        prometheus_url="http://127.0.0.1:1",
        kubeconfig=kubeconfig,
    )
    chat, voice = (one for one in examine(settings) if "HPA" in one.found)
    assert [(one.what, one.fine) for one in (chat, voice)] == [
        (f"target {namespace}/chat", False),
        (f"target {namespace}/voice", False),
    ]
    assert "HPA by-cpu scales the same target" in chat.found
    assert chat.found.endswith("take spec.target.actuation HPAFloor")
    assert voice.found.endswith("take spec.target.actuation KEDA")
