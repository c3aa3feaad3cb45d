"""deploy/headstart.yaml, shown to a real API server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.servers.api import KubernetesApi
from tests.servers.kubectl import Kubectl

MANIFEST = Path(__file__).parents[3] / "deploy" / "headstart.yaml"


@pytest.fixture
def strict_home(api: KubernetesApi) -> Iterator[None]:
    """The manifest's own namespace, which lets in only pods of the strictest Pod Security Standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "headstart", "labels": labels}}
    api.create("/api/v1/namespaces", namespace)
    yield
    api.delete("/api/v1/namespaces/headstart")


@pytest.mark.usefixtures("strict_home")
def test_it_is_taken_as_it_stands_where_pods_must_be_restricted(kubectl: Kubectl) -> None:
    said = kubectl.says("apply", f"--filename={MANIFEST}", "--dry-run=server")
    n_documents = len(list(yaml.safe_load_all(MANIFEST.read_text())))
    assert said.count("(server dry run)") == n_documents, said
    assert "PodSecurity" not in said
