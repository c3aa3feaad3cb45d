"""Unknown fields of a policy refused by a real API server, for every client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler.adapters.policies.admission import NAME, admission, admission_text
from scaler.adapters.policies.documents import parse_yaml
from scaler.domain.policy import ScalingPolicy
from tests.adapters.test_policies import RICH
from tests.servers.api import ApiError
from tests.servers.cluster import Cluster
from tests.servers.kubectl import Kubectl
from tests.servers.processes import wait_until

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[3]
KIND = {"apiVersion": "headstart.dev/v1alpha1", "kind": "InferenceScalingPolicy"}
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"


def test_the_shipped_file_is_the_models() -> None:
    assert (ROOT / "deploy" / "policy.admission.yaml").read_text() == admission_text()


class Door:
    """Where policies of one namespace come in."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._api, self._path = cluster.api(), f"/apis/headstart.dev/v1alpha1/namespaces/{namespace}/"
        self._path += "inferencescalingpolicies"

    def put(self, spec: dict[str, Any], name: str = "chat", **more: Any) -> None:
        self._api.create(self._path, KIND | {"metadata": {"name": name}, "spec": spec} | more)

    def refusal(self, spec: dict[str, Any], **more: Any) -> str:
        with pytest.raises(ApiError) as refused:
            self.put(spec, **more)
        return str(refused.value)

    def let_go(self, name: str) -> None:
        """Also of one that has finalizers."""
        self._api.delete(f"{self._path}/{name}")
        self._api.patch(f"{self._path}/{name}", {"metadata": {"finalizers": None}})

    def names(self) -> list[str]:
        return [one["metadata"]["name"] for one in self._api.get(self._path)["items"]]

    def is_watched(self) -> bool:
        try:
            self.put({"colour": "red"}, name="probe")
        except ApiError:
            return True
        self._api.delete(f"{self._path}/probe")
        return False


@pytest.fixture
def door(cluster: Cluster, kubectl: Kubectl, namespace: str) -> Iterator[Door]:
    """The shipped file is in force, and gone afterwards: other tests look at a server without it."""
    door = Door(cluster, namespace)
    door.put({"colour": "red"}, metadata={"name": "old", "finalizers": ["example.com/kept"]})
    plurals = ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
    for plural, resource in zip(plurals, admission(), strict=True):
        cluster.api().create(f"{REGISTRATION}/{plural}", resource)
    try:
        wait_until(door.is_watched, timeout_seconds=30, what="the server goes by the admission policy")
        yield door
    finally:
        door.let_go("old")
        assert "old" not in door.names()  # while it was watched
        for plural in reversed(plurals):
            cluster.api().delete(f"{REGISTRATION}/{plural}/{NAME}")
        wait_until(lambda: not door.is_watched(), timeout_seconds=30, what="the server no longer goes by it")


def test_a_misspelt_field_is_refused_wherever_it_stands_and_every_known_one_is_taken(door: Door) -> None:
    said = door.refusal({"scaleToZero": {"minIdel": "5m"}})
    assert "spec.scaleToZero: unknown field; known here: coldRequestCost" in said
    assert "spec: unknown field" in door.refusal({"replcias": {"max": 3}})
    assert "document: unknown field" in door.refusal({}, sepc={})
    assert "spec.slo.latency: unknown field" in door.refusal({"slo": {"latency": {"below": "2s", "p": 0.9}}})
    limit = {"type": "Replicas", "value": 1, "period": "15s"}
    down = {"scaleDown": {"policies": [limit, limit | {"perod": "15s"}]}}
    assert "spec.behavior.scaleDown.policies[]: unknown field" in door.refusal({"behavior": down})
    trigger = {"name": "a", "when": {"growth": 3.0, "within": "2m"}, "then": {"atLeast": 6}}
    assert "spec.triggers[].then: unknown field" in door.refusal({"triggers": [trigger]})
    whole = ScalingPolicy.model_validate({"metadata": {"name": "whole"}, "spec": RICH})
    door.put(whole.document()["spec"], name="whole")
    for number, file in enumerate(sorted((ROOT / "policies").glob("*.yaml"))):
        door.put(next(parse_yaml(file.read_text(), file.name)).body["spec"], name=f"shipped-{number}")
