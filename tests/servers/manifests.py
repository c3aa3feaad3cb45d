"""Workloads for the tests: pods that ask for GPUs, behind a Deployment, a StatefulSet or a custom resource."""

from typing import Any

CUSTOM_GROUP = "serving.example.com"
CUSTOM_PLURAL = "modelservers"


def deployment(name: str, replicas: int, *, gpus: int = 1) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": _pod_template(name, gpus),
        },
    }


def stateful_set(name: str, replicas: int, *, gpus: int = 1) -> dict[str, Any]:
    spec = deployment(name, replicas, gpus=gpus)["spec"]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": spec | {"serviceName": name, "podManagementPolicy": "Parallel"},
    }


def keda_autoscaler(target: str, *metrics: str, most: int = 20) -> dict[str, Any]:
    """The HPA that KEDA makes for a ScaledObject: one replica for each unit of the highest metric."""
    made = autoscaler(f"keda-hpa-{target}", target, most=most, scaled_object=target)
    made["spec"]["metrics"] = [
        {
            "type": "External",
            "external": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": "1"}},
        }
        for name in metrics
    ]
    any_step = {"type": "Percent", "value": 1000, "periodSeconds": 15}
    at_once = {"stabilizationWindowSeconds": 0, "tolerance": "0", "policies": [any_step]}
    made["spec"]["behavior"] = {"scaleUp": at_once, "scaleDown": at_once}
    return made


def autoscaler(name: str, target: str, *, least: int = 1, most: int = 10, scaled_object: str = "") -> dict[str, Any]:
    """A HorizontalPodAutoscaler of a Deployment by its use of processor time, which nobody here measures: it only keeps
    replicas within its own bounds. `scaled_object`: the name of KEDA's that made it."""
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": scaled_object, "uid": "1"}
    processor = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "ownerReferences": [owner] if scaled_object else []},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": processor}],
        },
    }


def custom_resource_definition() -> dict[str, Any]:
    """`ModelServer`, with a scale subresource and a rule of its own: replicas may not be 13."""
    replicas = {"type": "integer", "minimum": 0}
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {"replicas": replicas},
                "x-kubernetes-validations": [{"rule": "self.replicas != 13", "message": "replicas may not be 13"}],
            },
            "status": {
                "type": "object",
                "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}},
            },
        },
    }
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    subresources = {"status": {}, "scale": scale}
    return _definition(CUSTOM_GROUP, "v1", CUSTOM_PLURAL, "ModelServer", schema, subresources)


def open_definition(group: str, version: str, plural: str, kind: str) -> dict[str, Any]:
    """A custom resource of any content, with a status of its own: stands for one whose controller is not here."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return _definition(group, version, plural, kind, anything, {"status": {}})


def _definition(
    group: str, version: str, plural: str, kind: str, schema: dict[str, Any], subresources: dict[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                }
            ],
        },
    }


def model_server(name: str, replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": f"{CUSTOM_GROUP}/v1",
        "kind": "ModelServer",
        "metadata": {"name": name},
        "spec": {"replicas": replicas},
    }


def _pod_template(name: str, gpus: int) -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    container = {"name": "engine", "image": "engine:test", "resources": resources}
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
