"""Policies as custom resources, on a real API server with the definition that is shipped."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.adapters.kubernetes.client import ClusterAccess, connect
from scaler.adapters.kubernetes.client import KubernetesApi as KubernetesClient
from scaler.adapters.kubernetes.policies import PolicyResources
from scaler.adapters.policies import load_policy
from scaler.adapters.policies.documents import parse_yaml
from scaler.core.decide import decide
from scaler.domain.decision import Actuation, ActuationOutcome
from scaler.domain.policy import ScalingPolicy
from scaler.domain.record import DecisionRecord
from scaler.errors import PolicyError
from tests.adapters.kubernetes.stage import PATIENCE_SECONDS
from tests.adapters.policy_source_contract import PolicySourceContract
from tests.adapters.test_policies import RICH
from tests.builders import a_snapshot, some_replicas
from tests.servers.api import ApiError, KubernetesApi
from tests.servers.cluster import Cluster
from tests.servers.http import Fault, FaultyProxy
from tests.servers.kubectl import Kubectl
from tests.servers.processes import wait_until

pytestmark = pytest.mark.usefixtures("kubectl")

FILES = sorted((Path(__file__).parents[3] / "policies").glob("*.yaml"))
BROKEN = {"replicas": {"min": 5, "max": 3}}


class NamespaceOfPolicies:
    """A home of policies: one custom resource each, in one namespace of a cluster."""

    def __init__(self, api: KubernetesApi, namespace: str, source: PolicyResources) -> None:
        self._api = api
        self._path = f"/apis/headstart.dev/v1alpha1/namespaces/{namespace}/inferencescalingpolicies"
        self.source = source

    def put(self, name: str, spec: dict[str, Any]) -> None:
        kind = {"apiVersion": "headstart.dev/v1alpha1", "kind": "InferenceScalingPolicy"}
        resource = kind | {"metadata": {"name": name}, "spec": spec}
        try:
            resource["metadata"]["resourceVersion"] = self.read(name)["metadata"]["resourceVersion"]
        except ApiError:
            self._api.create(self._path, resource)
        else:
            self._api.replace(f"{self._path}/{name}", resource)

    def remove(self, name: str) -> None:
        self._api.delete(f"{self._path}/{name}")

    def read(self, name: str) -> dict[str, Any]:
        return self._api.get(f"{self._path}/{name}")

    def status(self, name: str) -> dict[str, Any]:
        return self.read(name)["status"]


def reading_as(cluster: Cluster, user: str, namespace: str) -> PolicyResources:
    return PolicyResources(patient_api(cluster.kubeconfig_of(user)), namespace)


def patient_api(kubeconfig: Path) -> KubernetesClient:
    return connect(ClusterAccess(kubeconfig=str(kubeconfig), timeout_seconds=PATIENCE_SECONDS))


@pytest.fixture
def home(cluster: Cluster, namespace: str) -> NamespaceOfPolicies:
    return NamespaceOfPolicies(cluster.api(), namespace, reading_as(cluster, "admin", namespace))


@pytest.fixture
def proxied(cluster: Cluster, namespace: str) -> Iterator[tuple[NamespaceOfPolicies, FaultyProxy]]:
    """A home whose source reads and writes through a proxy that can be told to misbehave."""
    with FaultyProxy(cluster.url, context=cluster.ssl_context()) as proxy:
        kubeconfig = cluster.kubeconfig_of("admin", server=proxy.url, name="proxied-policies")
        yield NamespaceOfPolicies(cluster.api(), namespace, PolicyResources(patient_api(kubeconfig), namespace)), proxy


class TestPolicyResources(PolicySourceContract):
    pass


def decided(policies: Sequence[ScalingPolicy], ready: int = 2) -> list[DecisionRecord]:
    snapshots = [a_snapshot(policy, replicas=some_replicas(ready)) for policy in policies]
    observed = Actuation(outcome=ActuationOutcome.OBSERVED)
    return [DecisionRecord(snapshot=one, decision=decide(one), actuation=observed) for one in snapshots]


# What the server takes, and what it refuses


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_policy_file_says_the_same_as_a_custom_resource(home: NamespaceOfPolicies, file: Path) -> None:
    home.put("the-same", next(parse_yaml(file.read_text(), file.name)).body["spec"])
    (read,) = home.source.load()
    assert read.spec == load_policy(file).spec


def test_every_field_written_out_is_taken_and_nulls_where_nothing_may_stand(home: NamespaceOfPolicies) -> None:
    whole = ScalingPolicy.model_validate({"metadata": {"name": "whole"}, "spec": RICH})
    home.put("whole", whole.document()["spec"])
    (read,) = home.source.load()
    assert read.spec == whole.spec


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("replicas: three", "spec.replicas"),
        ("replicas: {max: many}", "spec.replicas.max"),
        ("replicas: {max: 2.5}", "spec.replicas.max"),
        ("replicas: {min: -1}", "spec.replicas.min"),
        ("mode: enforce", "spec.mode"),
        ("slo: {objective: 99}", "spec.slo.objective"),
        ("slo: {objective: 1}", "spec.slo.objective"),
        ("startup: {expected: 150}", "spec.startup.expected"),
        ("startup: {expected: soon}", "spec.startup.expected"),
        ("forecast: {risk: 1.5}", "spec.forecast.risk"),
        ("behavior: {scaleDown: {stabilizationWindow: never}}", "spec.behavior.scaleDown.stabilizationWindow"),
        ("demand: {selector: {app: 3}}", "spec.demand.selector.app"),
        ("triggers: {name: a}", "spec.triggers"),
        ("reactive: {thresholds: [{signal: queue_depth}]}", "spec.reactive.thresholds[0].above"),
        ("safety: {paused: perhaps}", "spec.safety.paused"),
    ],
)
def test_the_server_refuses_what_is_of_another_type_or_out_of_bounds(
    home: NamespaceOfPolicies, spec: str, field: str
) -> None:
    with pytest.raises(ApiError) as refused:
        home.put("chat", yaml.safe_load(spec))
    assert refused.value.status == 422
    assert field in str(refused.value)


def test_the_server_keeps_a_field_that_it_does_not_know_and_headstart_refuses_it(home: NamespaceOfPolicies) -> None:
    spec = {"scaleToZero": {"minIdel": "5m"}, "slo": {"colour": "red"}}
    home.put("chat", spec)
    assert home.read("chat")["spec"] == spec
    with pytest.raises(PolicyError):
        home.source.load()
    home.source.tell([])
    assert home.status("chat")["problems"] == [
        "spec.slo.colour: unknown field; known here: latency, objective, queueWait",
        "spec.scaleToZero.minIdel: unknown field; did you mean minIdle?",
    ]


def test_the_server_writes_no_default_into_a_document(home: NamespaceOfPolicies) -> None:
    home.put("chat", {"scaleToZero": {}})
    assert home.read("chat")["spec"] == {"scaleToZero": {}}


def test_kubectl_explains_fields_shows_columns_and_waits_for_the_status(
    kubectl: Kubectl, home: NamespaceOfPolicies, namespace: str
) -> None:
    wait_until(
        lambda: (
            "Share of requests that must be good. Default: 0.99." in kubectl.says("explain", "isp.spec.slo.objective")
        ),
        timeout_seconds=60,
        what="the field is explained",
    )
    home.put("chat", {})
    home.source.tell(decided(home.source.load()))
    shown = kubectl.says("get", "isp", f"--namespace={namespace}").splitlines()
    assert shown[0].split() == ["NAME", "VALID", "MODE", "READY", "DECIDED", "AGE"]
    assert shown[1].split()[:5] == ["chat", "true", "Observe", "2", "2"]
    is_valid = "--for=jsonpath={.status.valid}=true"
    assert "condition met" in kubectl.says("wait", "isp/chat", is_valid, f"--namespace={namespace}", "--timeout=60s")


# What is written


def test_the_status_says_what_became_of_the_policy_and_is_written_when_it_changes_only(
    proxied: tuple[NamespaceOfPolicies, FaultyProxy],
) -> None:
    home, proxy = proxied
    home.put("chat", {"mode": "Recommend"})
    for _ in range(3):
        home.source.tell(decided(home.source.load()))
    assert home.status("chat") == {
        "observedGeneration": 1,
        "valid": True,
        "problems": [],
        "mode": "Recommend",
        "ready": 2,
        "decided": 2,
    }
    assert len(proxy.requests("PATCH")) == 1
    home.source.tell(decided(home.source.load(), ready=3))
    assert home.status("chat")["ready"] == 3
    assert len(proxy.requests("PATCH")) == 2


def test_the_status_of_a_broken_one_says_why_and_that_the_last_good_version_still_decides(
    home: NamespaceOfPolicies,
) -> None:
    home.put("chat", {})
    home.source.tell(decided(home.source.load()))
    home.put("chat", BROKEN)
    home.source.tell(decided(home.source.load()))
    status = home.status("chat")
    assert (status["valid"], status["observedGeneration"], status["mode"]) == (False, 2, "Observe")
    assert status["problems"] == ["spec.replicas: min = 5, must be <= max = 3"]
    home.put("chat", {"replicas": {"max": 7}})
    home.source.tell(decided(home.source.load()))
    assert (home.status("chat")["valid"], home.status("chat")["problems"]) == (True, [])


def test_what_is_no_longer_known_leaves_the_status(home: NamespaceOfPolicies) -> None:
    home.put("chat", {})
    home.source.tell(decided(home.source.load()))
    home.source.load()
    home.source.tell([])
    assert home.status("chat").keys() == {"observedGeneration", "valid", "problems"}


def test_many_news_come_over_several_turns_those_of_another_version_first(
    home: NamespaceOfPolicies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaler.adapters.kubernetes.policies.STATUSES_PER_TURN", 1)
    for name in ("chat", "image"):
        home.put(name, {})
        home.source.tell(decided(home.source.load()))
    home.put("image", {"mode": "Recommend"})
    home.source.tell(decided(home.source.load(), ready=3))
    assert [home.status(name)["ready"] for name in ("chat", "image")] == [2, 3]
    home.source.tell(decided(home.source.load(), ready=3))
    assert [home.status(name)["ready"] for name in ("chat", "image")] == [3, 3]


def test_one_that_is_deleted_while_a_turn_decides_is_no_problem(home: NamespaceOfPolicies) -> None:
    home.put("chat", {})
    found = home.source.load()
    home.remove("chat")
    home.source.tell(decided(found))
    assert home.source.problems() == ()


# Namespaces


def test_policies_of_all_namespaces_are_read_and_each_is_of_its_own(
    cluster: Cluster, home: NamespaceOfPolicies, namespace: str
) -> None:
    other = f"{namespace}-b"
    cluster.make_namespace(other)
    NamespaceOfPolicies(cluster.api(), other, home.source).put("chat", {})
    home.put("chat", {})
    everywhere = {str(policy.endpoint) for policy in reading_as(cluster, "admin", "").load()}
    cluster.api().delete(f"/api/v1/namespaces/{other}")
    assert everywhere >= {f"{namespace}/chat", f"{other}/chat"}
    assert [str(policy.endpoint) for policy in home.source.load()] == [f"{namespace}/chat"]


def test_a_name_that_the_server_made_up_is_a_name(cluster: Cluster, home: NamespaceOfPolicies, namespace: str) -> None:
    path = f"/apis/headstart.dev/v1alpha1/namespaces/{namespace}/inferencescalingpolicies"
    kind = {"apiVersion": "headstart.dev/v1alpha1", "kind": "InferenceScalingPolicy"}
    made = cluster.api().create(path, kind | {"metadata": {"generateName": "chat-"}})
    assert [policy.metadata.name for policy in home.source.load()] == [made["metadata"]["name"]]


# Silence and rights


def test_while_the_server_is_silent_the_policies_that_were_read_last_go_on_and_that_is_said(
    cluster: Cluster, home: NamespaceOfPolicies
) -> None:
    home.put("chat", {})
    before = home.source.load()
    cluster.stop_api_server()
    try:
        assert home.source.load() == before
        assert home.source.problems()[0].startswith("the policies that were read last go on: ")
        home.source.tell(decided(before))
        assert len(home.source.problems()) == 1
    finally:
        cluster.start_api_server()
    home.put("chat", {"mode": "Recommend"})
    (after,) = home.source.load()
    assert (after.spec.mode.value, home.source.problems()) == ("Recommend", ())


def test_when_rights_are_taken_away_the_policies_that_were_read_last_go_on_and_that_is_said(
    proxied: tuple[NamespaceOfPolicies, FaultyProxy],
) -> None:
    home, proxy = proxied
    home.put("chat", {})
    before = home.source.load()
    proxy.strike(Fault(method="GET", status=403))
    assert home.source.load() == before
    (problem,) = home.source.problems()
    assert problem.startswith("the policies that were read last go on: ")
    assert "RBAC rules" in problem


def test_of_a_server_that_never_answered_no_policy_is_made_up(
    proxied: tuple[NamespaceOfPolicies, FaultyProxy],
) -> None:
    home, proxy = proxied
    home.put("chat", {})
    proxy.strike(Fault(status=503, headers={"Retry-After": "60"}))
    with pytest.raises(PolicyError, match="the API server answered 503"):
        home.source.load()
    assert home.source.problems() == ()
    proxy.clear()
    assert len(home.source.load()) == 1
    assert home.source.problems() == ()


def test_a_status_that_cannot_be_written_is_said_once_a_turn_and_costs_no_policy(
    proxied: tuple[NamespaceOfPolicies, FaultyProxy],
) -> None:
    home, proxy = proxied
    for name in ("chat", "image"):
        home.put(name, {})
    proxy.strike(Fault(method="PATCH", status=503))
    found = home.source.load()
    home.source.tell(decided(found))
    (problem,) = home.source.problems()
    assert "the status of policies is not up to date: patch of the status" in problem
    assert len(proxy.requests("PATCH")) == 1
    proxy.clear()
    home.source.tell(decided(home.source.load()))
    assert home.source.problems() == ()
    assert home.status("image")["valid"]


def test_missing_rights_are_said_with_what_to_check(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(PolicyError, match=r"inferencescalingpolicies in all namespaces: .* 403: .*RBAC rules"):
        reading_as(cluster, "nobody", "").load()


def test_rights_to_read_alone_are_enough_to_go_by_them_and_the_missing_ones_are_said(
    cluster: Cluster, home: NamespaceOfPolicies, namespace: str
) -> None:
    readable = {"apiGroups": ["headstart.dev"], "resources": ["inferencescalingpolicies"], "verbs": ["list"]}
    cluster.grant("reader", [readable])
    home.put("chat", {})
    source = reading_as(cluster, "reader", namespace)
    wait_until(lambda: can_load(source), timeout_seconds=60, what="the API server knows the new rights")
    source.tell(decided(source.load()))
    (problem,) = source.problems()
    assert "403" in problem
    assert "RBAC rules" in problem


def test_the_shipped_rights_are_enough(
    cluster: Cluster, granted: str, home: NamespaceOfPolicies, namespace: str
) -> None:
    home.put("chat", {})
    source = reading_as(cluster, granted, namespace)
    wait_until(lambda: can_load(source), timeout_seconds=60, what="the API server knows the new rights")
    source.tell(decided(source.load()))
    assert source.problems() == ()
    assert home.status("chat")["valid"]


def can_load(source: PolicyResources) -> bool:
    try:
        return bool(source.load())
    except PolicyError:
        return False


def test_a_cluster_that_does_not_know_the_kind_is_told_what_to_apply(
    kubectl: Kubectl, home: NamespaceOfPolicies
) -> None:
    home.put("chat", {})
    home.source.load()
    kubectl.forget_policies()
    try:
        with pytest.raises(
            PolicyError, match=r"^[^\n]* apply deploy/policy\.crd\.yaml \(what headstart schema --crd prints\)"
        ):
            home.source.load()
        assert home.source.problems() == ()
    finally:
        kubectl.define_policies()
