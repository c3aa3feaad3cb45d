"""What the chart in deploy/chart would apply, as the real helm renders it."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.app.settings import Settings, load_settings
from tests.servers.helm import CHART, Helm, HelmRefused

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFEST = list(yaml.safe_load_all((DEPLOY / "headstart.yaml").read_text()))
URL = "http://prometheus.monitoring:9090"
FROM_CLUSTER = {"prometheus": {"url": URL}, "policies": {"cluster": True}}
SET_BY_OTHER_VALUES = {
    "http",  # the image
    "keda",
    "policies",
    "store",
    *(f"prometheus_{name}" for name in ("url", "username", "password", "bearer_token_file")),
    *(f"prometheus_{name}_file" for name in ("ca", "cert", "key")),
}


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def pod(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return one(documents, "Deployment")["spec"]["template"]["spec"]


def environment(documents: list[dict[str, Any]]) -> dict[str, Any]:
    variables = pod(documents)["containers"][0]["env"]
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in variables}


def mounted(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Path -> the volume that is mounted there."""
    volumes = {volume["name"]: volume for volume in pod(documents)["volumes"]}
    return {mount["mountPath"]: volumes[mount["name"]] for mount in pod(documents)["containers"][0]["volumeMounts"]}


def bare(document: dict[str, Any]) -> dict[str, Any]:
    """Without what only Helm reads, or people."""
    metadata = {key: value for key, value in document["metadata"].items() if key not in ("labels", "annotations")}
    return {**document, "metadata": metadata}


def test_it_applies_what_the_manifest_does(helm: Helm) -> None:
    """With the manifest's own Prometheus and policies; the namespace is made by helm's flag."""
    documents = [document for document in MANIFEST if document["kind"] != "Namespace"]
    values = {
        "prometheus": {"url": environment(documents)["HEADSTART_PROMETHEUS_URL"]},
        "policies": {"files": one(documents, "ConfigMap")["data"]},
    }
    rendered = {document["kind"]: bare(document) for document in helm.rendered(values)}
    assert rendered == {document["kind"]: bare(document) for document in documents}


@pytest.mark.parametrize("file", sorted((CHART / "files").iterdir()), ids=lambda file: file.name)
def test_its_copies_are_the_files_beside_it(file: Path) -> None:
    """Links would not need it, but helm prints three lines about each at every command, and Windows checks out none."""
    message = f"cp deploy/{file.name} deploy/chart/files/"
    assert file.read_text() == (DEPLOY / file.name).read_text(), message


def test_it_is_of_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["appVersion"], chart["version"]) == (version, version)


@pytest.mark.parametrize("values", [{}, FROM_CLUSTER], ids=["as it stands", "with values"])
def test_helm_finds_nothing_to_complain_of(helm: Helm, values: dict[str, Any]) -> None:
    assert "0 chart(s) failed" in helm.says("lint", "--strict", CHART, helm.with_values(values))


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_what_the_documentation_installs_can_be_had(helm: Helm, page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^    helm (?:install|upgrade --install) (.+)$", text, flags=re.MULTILINE)
    arguments = shlex.split(command)
    if "mine.yaml" in arguments:
        mine = tmp_path / "mine.yaml"
        mine.write_text(text.partition("## With Helm")[2].partition("```yaml\n")[2].partition("```")[0])
        arguments[arguments.index("mine.yaml")] = str(mine)
    rendered = [one for one in yaml.safe_load_all(helm.says("template", *arguments)) if one]
    assert pod(rendered)["containers"][0]["image"] == "registry.example.com/headstart:0.1.0"


# Values


def names(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """The names that a part of the schema knows, and below each those that it knows; None where any will do."""
    if "$ref" in schema:
        return names(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    known = schema.get("properties")
    return {name: names(part, definitions) for name, part in known.items()} if known else None


def in_the_form_of(known: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The names among the values, as deep as `known` goes."""
    return {name: in_the_form_of(known[name], value) if known.get(name) else None for name, value in values.items()}


def test_its_schema_knows_every_value_and_every_setting_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = names(schema, schema["definitions"])
    assert known is not None
    known.pop("global")  # helm's own, of charts that contain this one
    assert known["settings"].keys() == Settings.model_fields.keys() - SET_BY_OTHER_VALUES
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values.pop("settings").keys() <= known.pop("settings").keys()
    assert in_the_form_of(known, values) == known


TOKEN = {"prometheus": {"url": URL, "secret": {"bearerToken": "token"}}}
TWO_STORES = {"store": {"existingClaim": "a", "postgresql": {"secret": "b"}}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"policies": {"cluster": True}}, "prometheus.url: found nothing; need the address of the metrics server"),
        ({"prometheus": {"url": "prometheus:9090"}}, "/prometheus/url': 'prometheus:9090' does not match"),
        ({"prometheus": {"url": URL}}, "policies: found none; need exactly one of policies.files,"),
        (
            FROM_CLUSTER | {"policies": {"cluster": True, "existingConfigMap": "mine"}},
            "policies: found policies.existingConfigMap and policies.cluster; need exactly one of",
        ),
        ({"policies": {"files": {"chat": "text"}}}, "'chat' does not match pattern"),
        (FROM_CLUSTER | {"settings": {"trun": "15s"}}, "at '/settings': additional properties 'trun' not allowed"),
        (FROM_CLUSTER | {"settings": {"store": "x"}}, "at '/settings': additional properties 'store' not allowed"),
        (
            FROM_CLUSTER | {"rbac": {"namespaces": ["prod", "dev"]}},
            "policies.cluster: found true, and rbac.namespaces gives rights in prod, dev only; need one of them",
        ),
        (FROM_CLUSTER | TOKEN, 'prometheus.secret.bearerToken: found the key "token" and no Secret; need'),
        (
            FROM_CLUSTER | {"prometheus": {"url": URL, "secret": {"name": "auth"}}},
            'prometheus.secret: found the Secret "auth" and none of its keys; need one at least',
        ),
        (FROM_CLUSTER | {"podLabels": {"app": "mine"}}, 'podLabels.app: found "mine"; need it left out'),
        (FROM_CLUSTER | {"fullnameOverride": "123"}, "/fullnameOverride': '123' does not match"),
        (FROM_CLUSTER | {"rbac": {"namespaces": ["prod", "prod"]}}, "/rbac/namespaces': items at 0 and 1 are equal"),
        (FROM_CLUSTER | TWO_STORES, 'store: found existingClaim "a" and postgresql.secret "b"; need one store'),
    ],
)
def test_values_that_cannot_be_used_are_refused_with_what_to_do(helm: Helm, values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmRefused, match=re.escape(said)):
        helm.rendered(values)


def test_settings_become_the_environment_and_the_service_reads_them(
    helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "turn": "30s",
        "time_scale": 2,
        "log_level": "debug",
        "pools": {"a100": 64, "h100": 1_000_000},
        "prometheus_headers": {"X-Scope-OrgID": "team-a"},
    }
    told = environment(helm.rendered(FROM_CLUSTER | {"settings": settings}))
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    read = load_settings()
    assert (read.turn.total_seconds(), read.time_scale, read.log_level) == (30, 2, "debug")
    assert (read.pools, read.prometheus_headers) == ({"a100": 64, "h100": 1_000_000}, {"X-Scope-OrgID": "team-a"})
    assert read.prometheus_scrape_interval.total_seconds() == 30  # a value that is given leaves the others
    assert (read.prometheus_url, str(read.policies)) == (URL, "the cluster")


def test_secrets_stay_in_their_secret(helm: Helm) -> None:
    keys = {name: name for name in ("bearerToken", "username", "password", "headers", "ca", "cert", "key")}
    rendered = helm.rendered(FROM_CLUSTER | {"prometheus": {"url": URL, "secret": {"name": "auth", **keys}}})
    told = environment(rendered)
    for variable in ("username", "password", "headers"):
        assert told[f"HEADSTART_PROMETHEUS_{variable.upper()}"] == {"secretKeyRef": {"name": "auth", "key": variable}}
    files = {"BEARER_TOKEN": "bearerToken", "CA": "ca", "CERT": "cert", "KEY": "key"}
    for variable, key in files.items():
        assert told[f"HEADSTART_PROMETHEUS_{variable}_FILE"] == f"/secrets/prometheus/{key}"
    assert mounted(rendered)["/secrets/prometheus"]["secret"] == {"secretName": "auth"}
    assert told.keys() <= {f"HEADSTART_{name.upper()}" for name in Settings.model_fields}


def test_a_database_takes_the_place_of_the_claim(helm: Helm) -> None:
    rendered = helm.rendered(FROM_CLUSTER | {"store": {"postgresql": {"secret": "database"}}})
    assert environment(rendered)["HEADSTART_STORE"] == {"secretKeyRef": {"name": "database", "key": "url"}}
    assert "PersistentVolumeClaim" not in {document["kind"] for document in rendered}
    assert "/data" not in mounted(rendered)


def test_a_claim_that_exists_is_used(helm: Helm) -> None:
    rendered = helm.rendered(FROM_CLUSTER | {"store": {"existingClaim": "mine"}})
    assert mounted(rendered)["/data"]["persistentVolumeClaim"] == {"claimName": "mine"}
    assert "PersistentVolumeClaim" not in {document["kind"] for document in rendered}


# Policies


def test_policies_may_be_text_or_stand_among_the_values(helm: Helm) -> None:
    text = (ROOT / "policies" / "chat-7b.yaml").read_text()
    files = {"as-text.yaml": text, "as-values.yaml": yaml.safe_load(text)}
    rendered = helm.rendered({"prometheus": {"url": URL}, "policies": {"files": files}})
    written = one(rendered, "ConfigMap")["data"]
    assert written["as-text.yaml"] == text
    assert yaml.safe_load(written["as-values.yaml"]) == yaml.safe_load(text)


def test_a_config_map_that_exists_is_mounted(helm: Helm) -> None:
    rendered = helm.rendered({"prometheus": {"url": URL}, "policies": {"existingConfigMap": "mine"}})
    assert mounted(rendered)["/policies"]["configMap"] == {"name": "mine"}
    assert "ConfigMap" not in {document["kind"] for document in rendered}


def test_policies_of_the_cluster_come_with_the_definition_and_the_admission_policy_of_this_release(helm: Helm) -> None:
    rendered = helm.rendered(FROM_CLUSTER)
    assert environment(rendered)["HEADSTART_POLICIES"] == "cluster"
    assert "/policies" not in mounted(rendered)
    definition = one(rendered, "CustomResourceDefinition")
    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert bare(definition) == bare(yaml.safe_load((DEPLOY / "policy.crd.yaml").read_text()))
    for document in yaml.safe_load_all((DEPLOY / "policy.admission.yaml").read_text()):
        assert document in rendered


@pytest.mark.parametrize(
    ("flag", "policies", "kinds"),
    [
        ("--kube-version=1.30.0", {}, {"CustomResourceDefinition", "ValidatingAdmissionPolicy"}),
        ("--kube-version=1.29.9", {}, {"CustomResourceDefinition"}),
        ("--kube-version=1.36.0", {"definition": False}, set()),
    ],
)
def test_what_the_server_does_not_know_or_others_keep_is_left_out(
    helm: Helm, flag: str, policies: dict[str, Any], kinds: set[str]
) -> None:
    rendered = helm.rendered(FROM_CLUSTER | {"policies": {"cluster": True, **policies}}, flag)
    cluster_wide = {"CustomResourceDefinition", "ValidatingAdmissionPolicy"}
    assert {document["kind"] for document in rendered} & cluster_wide == kinds


# Rights


def test_rights_may_be_given_in_some_namespaces_only(helm: Helm) -> None:
    custom = {"apiGroups": ["serving.example.com"], "resources": ["modelservers/scale"], "verbs": ["get", "update"]}
    rbac = {"namespaces": ["prod", "dev"], "extraRules": [custom]}
    rendered = helm.rendered({**FROM_CLUSTER, "policies": {"cluster": "prod"}, "rbac": rbac})
    assert environment(rendered)["HEADSTART_POLICIES"] == "cluster:prod"
    roles = [document for document in rendered if document["kind"] == "Role"]
    bindings = [document for document in rendered if document["kind"] == "RoleBinding"]
    for documents in (roles, bindings):
        assert [document["metadata"]["namespace"] for document in documents] == ["prod", "dev"]
    shipped = one(MANIFEST, "ClusterRole")["rules"]
    assert [role["rules"] for role in roles] == [[*shipped, custom]] * 2
    for binding in bindings:
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["subjects"] == one(MANIFEST, "ClusterRoleBinding")["subjects"]
    assert not {"ClusterRole", "ClusterRoleBinding"} & {document["kind"] for document in rendered}


def test_rights_may_be_left_to_others(helm: Helm) -> None:
    rendered = helm.rendered(FROM_CLUSTER | {"rbac": {"create": False}})
    assert not {document["kind"] for document in rendered if "Role" in document["kind"]}
    assert pod(rendered)["serviceAccountName"] == one(rendered, "ServiceAccount")["metadata"]["name"]


# The pod, and what looks at it


def test_the_pod_takes_what_a_cluster_asks_for(helm: Helm) -> None:
    values = {
        "image": {"repository": "registry.example.com/headstart", "tag": "1.2.3"},
        "imagePullSecrets": [{"name": "registry"}],
        "keda": {"enabled": False},
        "resources": {"limits": {"memory": "8Gi"}},
        "podSecurityContext": {"runAsUser": None},
        "podLabels": {"sidecar.istio.io/inject": "false"},
        "podAnnotations": {"team": "inference"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "roots", "configMap": {"name": "roots"}}],
        "extraVolumeMounts": [{"name": "roots", "mountPath": "/roots"}],
    }
    rendered = helm.rendered(FROM_CLUSTER | values)
    spec, container = pod(rendered), pod(rendered)["containers"][0]
    for name in ("imagePullSecrets", "priorityClassName", "nodeSelector", "tolerations", "affinity"):
        assert spec[name] == values[name]
    assert container["image"] == "registry.example.com/headstart:1.2.3"
    assert container["resources"]["limits"] == {"memory": "8Gi"}
    assert "runAsUser" not in spec["securityContext"] and spec["securityContext"]["runAsNonRoot"]
    metadata = one(rendered, "Deployment")["spec"]["template"]["metadata"]
    assert metadata["labels"] == {"app": "headstart", "sidecar.istio.io/inject": "false"}
    assert metadata["annotations"] == {"team": "inference"}
    assert environment(rendered)["HTTPS_PROXY"] == "http://proxy:3128"
    assert mounted(rendered)["/roots"]["configMap"] == {"name": "roots"}
    for ports in (container["ports"], one(rendered, "Service")["spec"]["ports"]):
        assert [port["name"] for port in ports] == ["http"]
    assert "HEADSTART_KEDA" not in environment(rendered)


def test_operators_find_the_service_the_alerts_and_the_dashboard(helm: Helm) -> None:
    enabled = {"enabled": True, "labels": {"release": "prometheus"}}
    values = dict.fromkeys(("serviceMonitor", "prometheusRule", "grafanaDashboard"), enabled)
    rendered = helm.rendered(FROM_CLUSTER | values)
    monitor, service = one(rendered, "ServiceMonitor"), one(rendered, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"] == [{"port": service["spec"]["ports"][0]["name"], "honorLabels": True}]
    assert one(rendered, "PrometheusRule")["spec"] == yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
    dashboard = one(rendered, "ConfigMap")
    assert dashboard["data"] == {"headstart.json": (DEPLOY / "grafana-dashboard.json").read_text()}
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    for document in (monitor, one(rendered, "PrometheusRule"), dashboard):
        assert document["metadata"]["labels"]["release"] == "prometheus"


def test_releases_of_other_names_do_not_meet(helm: Helm) -> None:
    def applied(**values: str) -> set[tuple[str, str]]:
        policies = {"cluster": True, "definition": False}
        rendered = helm.rendered(FROM_CLUSTER | {"policies": policies} | values)
        return {(document["kind"], document["metadata"]["name"]) for document in rendered}

    assert not applied() & applied(fullnameOverride="green")
