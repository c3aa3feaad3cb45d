"""The chart in deploy/chart, installed, upgraded and taken away by the real helm in a real API server."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.adapters.policies.admission import NAME as ADMISSION
from tests.servers.api import ApiError, KubernetesApi
from tests.servers.cluster import Cluster
from tests.servers.helm import CHART, RELEASE, Helm, HelmRefused
from tests.servers.kubectl import POLICY_DEFINITION, Kubectl
from tests.servers.processes import wait_until

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
MANIFEST = list(yaml.safe_load_all((ROOT / "deploy" / "headstart.yaml").read_text()))
POLICY = yaml.safe_load(MANIFEST[-1]["data"]["chat-7b.yaml"])
URL = {"prometheus": {"url": "http://prometheus.monitoring:9090"}}
# The rights of the whole cluster are another test's, under the same name.
HERE_ONLY = {"rbac": {"create": False}}
FROM_FILES = {**URL, **HERE_ONLY, "policies": {"files": {"chat-7b.yaml": POLICY}}}
FROM_CLUSTER = {**URL, **HERE_ONLY, "policies": {"cluster": True}}
DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{POLICY_DEFINITION}"
ADMISSION_POLICY = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{ADMISSION}"


class Home:
    """One release in a namespace of its own, which lets in only pods of the strictest Pod Security Standard."""

    def __init__(self, helm: Helm, api: KubernetesApi, namespace: str) -> None:
        self.helm, self.api, self.namespace = helm, api, namespace
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})

    def does(self, command: str, values: dict[str, Any], *flags: str, chart: Path = CHART) -> str:
        given = self.helm.with_values(values)
        return self.helm.says(command, RELEASE, chart, f"--namespace={self.namespace}", given, *flags)

    def uninstalls(self) -> str:
        return self.helm.says("uninstall", RELEASE, f"--namespace={self.namespace}", "--wait")

    def has(self, path: str) -> dict[str, Any] | None:
        try:
            return self.api.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def core(self, plural: str, name: str = RELEASE) -> dict[str, Any] | None:
        return self.has(f"/api/v1/namespaces/{self.namespace}/{plural}/{name}")

    def deployment(self) -> dict[str, Any] | None:
        return self.has(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{RELEASE}")

    def environment(self) -> dict[str, str]:
        deployment = self.deployment()
        assert deployment is not None
        return {
            variable["name"]: variable["value"]
            for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        }

    def pods(self) -> list[dict[str, Any]]:
        return self.api.get(f"/api/v1/namespaces/{self.namespace}/pods")["items"]


@pytest.fixture
def home(helm_in_cluster: Helm, cluster: Cluster, namespace: str) -> Home:
    return Home(helm_in_cluster, cluster.api(), namespace)


@pytest.fixture
def undefined(kubectl: Kubectl, cluster: Cluster) -> Iterator[None]:
    """The server does not know the kind of the policies; afterwards it does, as the other tests take for granted."""
    kubectl.forget_policies()
    yield
    kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding"
    kubectl.says("delete", kinds, ADMISSION, "--ignore-not-found")
    kubectl.forget_policies()
    kubectl.define_policies()


def test_it_is_installed_where_pods_must_be_restricted_upgraded_and_taken_away_but_for_its_store(home: Home) -> None:
    said = home.does("install", FROM_FILES)
    assert f"deploy/{RELEASE} -- headstart doctor" in said
    wait_until(lambda: len(home.pods()) == 1, timeout_seconds=60, what="the pod was let in")
    home.does("upgrade", {**FROM_FILES, "settings": {"turn": "30s"}})
    assert home.environment()["HEADSTART_TURN"] == "30s"
    assert home.environment()["HEADSTART_PROMETHEUS_SCRAPE_INTERVAL"] == "30s"
    home.uninstalls()
    left = home.core("persistentvolumeclaims")
    assert left is not None
    gone = (home.deployment(), home.core("services"), home.core("configmaps", f"{RELEASE}-policies"))
    assert gone == (None, None, None)
    home.does("install", FROM_FILES)
    kept = home.core("persistentvolumeclaims")
    assert kept is not None
    assert kept["metadata"]["uid"] == left["metadata"]["uid"], "the next release goes on with the same store"


def test_it_takes_over_what_the_manifest_applied(home: Home, kubectl: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "here.yaml"
    own = [document for document in MANIFEST if "namespace" in document["metadata"]]
    here = [{**one, "metadata": {**one["metadata"], "namespace": home.namespace}} for one in own]
    file.write_text(yaml.safe_dump_all(here))
    kubectl.says("apply", f"--filename={file}")

    def identities() -> list[str]:
        found = [home.deployment(), home.core("persistentvolumeclaims"), home.core("services")]
        return [one["metadata"]["uid"] for one in found if one]

    before = identities()
    with pytest.raises(HelmRefused, match="invalid ownership metadata"):
        home.does("install", FROM_FILES)
    home.does("install", FROM_FILES, "--take-ownership")
    assert len(before) == 3
    assert identities() == before


@pytest.mark.usefixtures("undefined")
def test_the_definition_of_the_policies_follows_an_upgrade_and_outlives_the_release(home: Home, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(CHART, earlier)
    file = earlier / "files" / "policy.crd.yaml"
    file.write_text(file.read_text().replace("shortNames:\n    - isp", "shortNames:\n    - older"))
    home.does("install", FROM_CLUSTER, chart=earlier)
    assert short_names(home) == ["older"]
    home.does("upgrade", FROM_CLUSTER)
    assert short_names(home) == ["isp"]

    policies = f"/apis/headstart.dev/v1alpha1/namespaces/{home.namespace}/inferencescalingpolicies"
    misspelt = {**POLICY, "metadata": {"name": "misspelt"}, "spec": {"replcias": {"max": 3}}}
    wait_until(lambda: refuses(home, policies, misspelt), timeout_seconds=60, what="unknown fields are refused")
    home.api.create(policies, {**POLICY, "metadata": {"name": "chat-7b"}})

    home.uninstalls()
    assert home.has(ADMISSION_POLICY) is None
    assert home.has(f"{policies}/chat-7b") is not None


@pytest.mark.usefixtures("kubectl")
def test_a_definition_that_others_applied_is_not_touched_unasked(home: Home) -> None:
    with pytest.raises(HelmRefused, match="invalid ownership metadata"):
        home.does("install", FROM_CLUSTER)
    assert home.deployment() is None
    home.does("install", {**FROM_CLUSTER, "policies": {"cluster": True, "definition": False}})
    definition = home.has(DEFINITION)
    assert definition is not None
    assert "meta.helm.sh/release-name" not in definition["metadata"]["annotations"]


def short_names(home: Home) -> list[str]:
    definition = home.has(DEFINITION)
    assert definition is not None
    return list(definition["spec"]["names"]["shortNames"])


def refuses(home: Home, path: str, policy: dict[str, Any]) -> bool:
    """Whether the server knows the kind and refuses this one."""
    try:
        home.api.create(path, policy)
    except ApiError as error:
        return "unknown field" in str(error)
    home.api.delete(f"{path}/{policy['metadata']['name']}")
    return False
