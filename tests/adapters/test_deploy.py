"""What is shipped for a cluster fits the product."""

from pathlib import Path

import yaml

from scaler.adapters.policies import parse_policy
from scaler.app.settings import Settings
from scaler.domain.policy import Mode

ROOT = Path(__file__).parents[2]
DOCUMENTS = list(yaml.safe_load_all((ROOT / "deploy" / "headstart.yaml").read_text()))


def one(kind):
    return next(document for document in DOCUMENTS if document["kind"] == kind)


def test_its_policies_are_valid_and_only_observe():
    for name, text in one("ConfigMap")["data"].items():
        assert parse_policy(yaml.safe_load(text), name).spec.mode is Mode.OBSERVE


def test_its_environment_names_settings_that_exist():
    container = one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    known = {f"HEADSTART_{name}".upper() for name in Settings.model_fields}
    assert {variable["name"] for variable in container["env"]} <= known


def test_one_replica_decides():
    assert one("Deployment")["spec"]["replicas"] == 1
    assert one("Deployment")["spec"]["strategy"]["type"] == "Recreate"


def test_keda_asks_in_the_documented_example_where_it_is_served():
    container = one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    served = next(variable["value"] for variable in container["env"] if variable["name"] == "HEADSTART_KEDA")
    port = next(port for port in container["ports"] if port["name"] == "keda")["containerPort"]
    service = one("Service")
    offered = next(port for port in service["spec"]["ports"] if port["name"] == "keda")
    assert (served, offered["targetPort"]) == (f"0.0.0.0:{port}", "keda")
    text = (ROOT / "docs" / "keda.md").read_text()
    scaled_object = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    asked = scaled_object["spec"]["triggers"][0]["metadata"]["scalerAddress"]
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert asked == f"{name}.{namespace}:{offered['port']}"
