"""What the tests of scale targets share: policies, decisions, and targets of every kind made on the cluster."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from scaler.adapters.clock import SystemClock
from scaler.adapters.keda.orders import OrderBoard
from scaler.adapters.kubernetes.client import ClusterAccess, connect
from scaler.adapters.kubernetes.keda import KedaOrders
from scaler.adapters.kubernetes.target import TARGETS, KubernetesTarget, MakeLever
from scaler.domain.decision import Decision, GuardrailVerdict, Reason
from scaler.domain.policy import Metadata, Mode, PolicySpec, ScalingPolicy, Target
from scaler.domain.replicas import ReplicaState
from tests.servers.api import ApiError, KubernetesApi
from tests.servers.cluster import Cluster
from tests.servers.manifests import (
    CUSTOM_GROUP,
    CUSTOM_PLURAL,
    autoscaler,
    custom_resource_definition,
    deployment,
    model_server,
    open_definition,
    stateful_set,
)
from tests.servers.processes import wait_until


def a_policy(
    namespace: str,
    name: str = "chat",
    kind: str = "apps/v1/Deployment",
    mode: Mode = Mode.ENFORCE,
    actuation: str = "Scale",
) -> ScalingPolicy:
    api_version, _, kind = kind.rpartition("/")
    target = Target.model_validate({"apiVersion": api_version, "kind": kind, "actuation": actuation})
    spec = PolicySpec(mode=mode, target=target)
    return ScalingPolicy(metadata=Metadata(namespace=namespace, name=name), spec=spec)


def a_decision(policy: ScalingPolicy, *, final: int, at: datetime, current: int = 1) -> Decision:
    verdict = GuardrailVerdict(
        guardrail="reactive-floor", before=1, after=final, reason_code=Reason.REACTIVE_FLOOR, reason="queue is long"
    )
    return Decision(
        id=f"d{at.timestamp():.0f}",
        decided_at=at,
        endpoint=policy.endpoint,
        mode=policy.spec.mode,
        current=current,
        ready=current,
        starting=0,
        proposed=final,
        recommended=final,
        final=final,
        plan=None,
        verdicts=(verdict,),
    )


PATIENCE_SECONDS = 60.0
"""For one request: longer than a busy machine keeps the API server, or a proxy before it, waiting for its turn."""


class StagedTarget(KubernetesTarget):
    """As the service builds it, but patient; what the controllers have done is asked past it."""

    def __init__(
        self,
        cluster: Cluster,
        kubeconfig: Path,
        *,
        orders: OrderBoard | None = None,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        access = ClusterAccess(kubeconfig=str(kubeconfig), timeout_seconds=timeout_seconds)
        super().__init__(connect(access), SystemClock(), serving(orders or OrderBoard(60)))
        self.beside = cluster.api()


def target_as(cluster: Cluster, user: str = "admin", orders: OrderBoard | None = None) -> StagedTarget:
    """`orders` is what KEDA is served, by default a board of the target's own."""
    return StagedTarget(cluster, cluster.kubeconfig_of(user), orders=orders)


def serving(orders: OrderBoard) -> dict[str, MakeLever]:
    return {**TARGETS, "KEDA": partial(KedaOrders, orders=orders)}


def seen(target: KubernetesTarget, policy: ScalingPolicy) -> ReplicaState:
    found = target.observe([policy], datetime.now(UTC))
    assert not target.problems(), target.problems()
    return found[policy.endpoint]


def settled(target: StagedTarget, policy: ScalingPolicy) -> ReplicaState:
    """As `seen`, once the controllers have nothing left to write of the target: each of their writes is a new version,
    and makes an order under the one before a conflict."""
    states: list[ReplicaState] = []

    def is_quiet() -> bool:
        at_rest = bool(states) and nothing_left_to_write(target.beside, policy, states[-1])
        states.append(seen(target, policy))  # after the look at the controllers: their last write is in it
        return at_rest and len(states) > 5 and len({state.version for state in states[-5:]}) == 1

    wait_until(is_quiet, timeout_seconds=60, what="the target is quiet", poll_seconds=0.1)
    return states[-1]


def nothing_left_to_write(api: KubernetesApi, policy: ScalingPolicy, state: ReplicaState) -> bool:
    """As far as the controllers that are here tell: a busy machine may keep one of them waiting for seconds."""
    namespace, kind = policy.endpoint.namespace, policy.spec.target.kind
    if kind not in ("Deployment", "StatefulSet"):
        return True
    target = api.get(f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s/{policy.endpoint.name}")
    wanted, status = target["spec"]["replicas"], target.get("status", {})
    counted = {name: status.get(name, 0) for name in ("replicas", "updatedReplicas")}
    ready = {name: status.get(name, 0) for name in ("readyReplicas", "availableReplicas")}
    if status.get("observedGeneration") != target["metadata"]["generation"]:
        return False
    if set(counted.values()) != {wanted} or set(ready.values()) != {state.ready}:
        return False
    autoscalers = api.get(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers")["items"]
    return all(autoscaler_is_at_rest(one, wanted) for one in autoscalers)


def autoscaler_is_at_rest(autoscaler: dict[str, Any], replicas: int) -> bool:
    """It has looked at the replicas that are, they are within its bounds, and it has written that down."""
    spec, status = autoscaler["spec"], autoscaler.get("status", {})
    reasons = {one["type"]: one["reason"] for one in status.get("conditions") or ()}
    has_looked = status.get("currentReplicas") == replicas and reasons.get("AbleToScale") == "SucceededGetScale"
    return has_looked and spec["minReplicas"] <= replicas <= spec["maxReplicas"]


def make_deployment(api: KubernetesApi, namespace: str, name: str = "chat", replicas: int = 1, gpus: int = 1) -> None:
    api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(name, replicas, gpus=gpus))


def wait_for_state(
    target: KubernetesTarget, policy: ScalingPolicy, holds: Callable[[ReplicaState], bool], what: str
) -> ReplicaState:
    """The state that holds, and not one that was read a moment later."""
    states: list[ReplicaState] = []

    def found() -> bool:
        states.append(seen(target, policy))
        return holds(states[-1])

    wait_until(found, timeout_seconds=60, what=what)
    return states[-1]


KINDS = ("apps/v1/Deployment", "apps/v1/StatefulSet", f"{CUSTOM_GROUP}/v1/ModelServer")
VERSIONED = [
    *(("Scale", kind) for kind in KINDS),
    ("HPAFloor", "apps/v1/Deployment"),
    ("KnativeMinScale", "serving.knative.dev/v1/Service"),
    ("KServeMinReplicas", "serving.kserve.io/v1beta1/InferenceService"),
]
LEVERS = [*VERSIONED, ("KEDA", "apps/v1/Deployment")]
"""KEDA's orders are kept in our own memory: nobody else writes them, so no version of them is ever stale."""
KNATIVE = "/apis/serving.knative.dev/v1/namespaces"
KNATIVE_AUTOSCALERS = "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces"
KSERVE = "/apis/serving.kserve.io/v1beta1/namespaces"


def lever_id(param: tuple[str, str]) -> str:
    return f"{param[0]} {param[1]}"


def make_target(api: KubernetesApi, namespace: str, kind: str) -> None:
    if kind.endswith("Deployment"):
        make_deployment(api, namespace)
    elif kind.endswith("StatefulSet"):
        api.create(f"/apis/apps/v1/namespaces/{namespace}/statefulsets", stateful_set("chat", 1))
    elif kind.startswith("serving.knative.dev"):
        make_knative_service(api, namespace, {"chat-00001": 100})
    elif kind.startswith("serving.kserve.io"):
        make_inference_service(api, namespace)
    else:
        make_model_server(api, namespace)


def make_autoscaler(
    api: KubernetesApi, namespace: str, name: str = "chat-by-cpu", most: int = 10, scaled_object: str = ""
) -> None:
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    api.create(path, autoscaler(name, "chat", most=most, scaled_object=scaled_object))


def make_model_server(api: KubernetesApi, namespace: str) -> None:
    """A custom resource; its controller is played by one write of the status."""
    define(api, custom_resource_definition())
    path = f"/apis/{CUSTOM_GROUP}/v1/namespaces/{namespace}/{CUSTOM_PLURAL}"
    api.create(path, model_server("chat", 1))
    api.patch(f"{path}/chat/status", {"status": {"replicas": 1, "selector": "app=chat"}})


def make_knative_service(api: KubernetesApi, namespace: str, traffic: dict[str, int], most: str = "") -> None:
    """What Knative keeps of a Service whose traffic goes to these revisions; its controllers are not here."""
    for plural, kind in (("services", "Service"), ("revisions", "Revision")):
        define(api, open_definition("serving.knative.dev", "v1", plural, kind))
    define(api, open_definition("autoscaling.internal.knative.dev", "v1alpha1", "podautoscalers", "PodAutoscaler"))
    annotations = {"autoscaling.knative.dev/min-scale": "1"}
    if most:
        annotations["autoscaling.knative.dev/max-scale"] = most
    for revision in traffic:
        metadata = {"name": revision, "annotations": annotations}
        api.create(
            f"{KNATIVE}/{namespace}/revisions",
            {"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": metadata},
        )
        api.create(
            f"{KNATIVE_AUTOSCALERS}/{namespace}/podautoscalers",
            {
                "apiVersion": "autoscaling.internal.knative.dev/v1alpha1",
                "kind": "PodAutoscaler",
                "metadata": metadata,
            },
        )
    service = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "chat"}}
    api.create(f"{KNATIVE}/{namespace}/services", service)
    targets = [{"revisionName": revision, "percent": percent} for revision, percent in traffic.items()]
    api.patch(f"{KNATIVE}/{namespace}/services/chat/status", {"status": {"traffic": targets}})


def make_inference_service(api: KubernetesApi, namespace: str, mode: str = "Standard", most: int = 0) -> None:
    define(api, open_definition("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService"))
    body = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "chat", "annotations": {"serving.kserve.io/deploymentMode": mode}},
        "spec": {"predictor": {"minReplicas": 1, "model": {"modelFormat": {"name": "vllm"}}}},
    }
    if most:
        body["spec"]["predictor"]["maxReplicas"] = most
    api.create(f"{KSERVE}/{namespace}/inferenceservices", body)


def define(api: KubernetesApi, definition: dict[str, Any]) -> None:
    """Have a custom resource, once in the cluster's life."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    if definition["metadata"]["name"] not in {item["metadata"]["name"] for item in api.get(definitions)["items"]}:
        api.create(definitions, definition)
    wait_until(lambda: is_served(api, definition), timeout_seconds=60, what="the custom resource is served")


def is_served(api: KubernetesApi, definition: dict[str, Any]) -> bool:
    """Discovery and the resource itself appear moments apart."""
    spec = definition["spec"]
    (version,) = spec["versions"]
    path, plural = f"/apis/{spec['group']}/{version['name']}", spec["names"]["plural"]
    try:
        served = {resource["name"] for resource in api.get(path)["resources"]}
        api.get(f"{path}/{plural}")
    except ApiError:
        return False
    return {f"{plural}/{part}" for part in version["subresources"]} <= served


def scale_of(api: KubernetesApi, namespace: str) -> int:
    return int(api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/chat")["spec"]["replicas"])
