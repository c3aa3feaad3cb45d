"""The port ScaleTarget on a real API server with real controllers and a real scheduler."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from scaler.adapters.clock import SystemClock
from scaler.adapters.keda.orders import OrderBoard
from scaler.adapters.kubernetes.client import ClusterAccess, connect
from scaler.adapters.kubernetes.hpa import Rival
from scaler.adapters.kubernetes.keda import KedaOrders
from scaler.adapters.kubernetes.knative import split
from scaler.adapters.kubernetes.target import TARGETS, KubernetesTarget, MakeLever
from scaler.domain.decision import ActuationOutcome, Decision, GuardrailVerdict, Reason
from scaler.domain.policy import Metadata, Mode, PolicySpec, Promote, Safety, ScalingPolicy, Target
from scaler.domain.replicas import ReplicaState
from scaler.errors import ClusterUnavailable, Forbidden, OrderRejected, OrderUnavailable, TargetNotFound
from tests.servers.api import ApiError, KubernetesApi
from tests.servers.cluster import Cluster
from tests.servers.http import Fault, FaultyProxy
from tests.servers.kubelet import FakeKubelet
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

pytestmark = pytest.mark.timeout(120)


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


def target_as(cluster: Cluster, user: str = "admin", orders: OrderBoard | None = None) -> KubernetesTarget:
    """`orders` is what KEDA is served, by default a board of the target's own."""
    api = connect(ClusterAccess(kubeconfig=str(cluster.kubeconfig_of(user))))
    return KubernetesTarget(api, SystemClock(), serving(orders or OrderBoard(60)))


def serving(orders: OrderBoard) -> dict[str, MakeLever]:
    return {**TARGETS, "KEDA": partial(KedaOrders, orders=orders)}


@pytest.fixture
def target(cluster: Cluster) -> KubernetesTarget:
    return target_as(cluster)


@pytest.fixture
def api(cluster: Cluster) -> KubernetesApi:
    return cluster.api()


@pytest.fixture
def proxied(cluster: Cluster) -> Iterator[tuple[KubernetesTarget, FaultyProxy]]:
    """A target whose every request passes a proxy that can be told to misbehave."""
    with FaultyProxy(cluster.url, context=cluster.ssl_context()) as proxy:
        kubeconfig = cluster.kubeconfig_of("admin", server=proxy.url, name="proxied")
        access = ClusterAccess(kubeconfig=str(kubeconfig), timeout_seconds=1.0)
        yield KubernetesTarget(connect(access), SystemClock()), proxy


def seen(target: KubernetesTarget, policy: ScalingPolicy) -> ReplicaState:
    found = target.observe([policy], datetime.now(UTC))
    assert not target.problems(), target.problems()
    return found[policy.endpoint]


def settled(target: KubernetesTarget, policy: ScalingPolicy) -> ReplicaState:
    """As `seen`, once the controllers have stopped writing the target's status: each such write is a new version."""
    versions: list[str] = []

    def is_quiet() -> bool:
        versions.append(seen(target, policy).version)
        return len(versions) > 5 and len(set(versions[-5:])) == 1

    wait_until(is_quiet, timeout_seconds=20, what="the target is quiet", poll_seconds=0.1)
    return seen(target, policy)


def make_deployment(api: KubernetesApi, namespace: str, name: str = "chat", replicas: int = 1, gpus: int = 1) -> None:
    api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(name, replicas, gpus=gpus))


def wait_for_state(
    target: KubernetesTarget, policy: ScalingPolicy, holds: Callable[[ReplicaState], bool], what: str
) -> ReplicaState:
    wait_until(lambda: holds(seen(target, policy)), timeout_seconds=20, what=what)
    return seen(target, policy)


# What is read


def test_replicas_are_starting_since_their_pods_were_created_and_then_ready(
    target: KubernetesTarget, api: KubernetesApi, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.startup_seconds = 2.0
    kubelet.register_node("starting-1", gpus=8)
    before = datetime.now(UTC).replace(microsecond=0)
    make_deployment(api, namespace, replicas=2)
    policy = a_policy(namespace)
    state = wait_for_state(target, policy, lambda state: len(state.starting) == 2, "two are starting")
    assert state.ready == 0
    assert all(before <= created <= datetime.now(UTC) for created in state.starting)
    state = wait_for_state(target, policy, lambda state: state.ready == 2, "two are ready")
    assert state.starting == ()
    assert state.desired == 2
    for start in target.startups([policy])[policy.endpoint]:
        assert start.scheduled_at is not None
        assert start.started_at is not None
        assert start.ready_at is not None
        assert start.ordered_at <= start.scheduled_at <= start.started_at <= start.ready_at
        assert 1 <= (start.ready_at - start.ordered_at).total_seconds() <= 10


def test_the_ninth_pod_of_an_eight_gpu_node_is_seen_as_unschedulable(
    target: KubernetesTarget, api: KubernetesApi, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.register_node("eight-gpus", gpus=8)
    make_deployment(api, namespace, replicas=9)
    state = wait_for_state(
        target,
        a_policy(namespace),
        lambda state: state.ready == 8 and state.unschedulable == 1,
        "the ninth has no room",
    )
    assert len(state.starting) == 1


def test_pods_that_are_going_no_longer_count(
    target: KubernetesTarget, api: KubernetesApi, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.register_node("going-1", gpus=8)
    make_deployment(api, namespace, replicas=3)
    policy = a_policy(namespace)
    state = wait_for_state(target, policy, lambda state: state.ready == 3, "three are ready")
    target.order(policy, 0, settled(target, policy))
    state = wait_for_state(target, policy, lambda state: state.ready == 0, "none counts")
    assert (state.starting, state.desired) == ((), 0)


def test_one_target_that_is_missing_does_not_hide_the_others(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    here, gone = a_policy(namespace), a_policy(namespace, name="gone")
    states = target.observe([here, gone], datetime.now(UTC))
    assert set(states) == {here.endpoint}
    assert "not found" in target.problems()[gone.endpoint]


# Orders: every lever, every kind


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


@pytest.fixture(params=LEVERS, ids=lever_id)
def any_target(request: pytest.FixtureRequest, api: KubernetesApi, namespace: str) -> ScalingPolicy:
    """A policy whose target of some kind exists with one replica, and what its lever works on."""
    actuation, kind = request.param
    make_target(api, namespace, kind)
    if actuation == "HPAFloor":
        make_autoscaler(api, namespace)
    return a_policy(namespace, kind=kind, actuation=actuation)


@pytest.fixture(params=KINDS)
def any_kind(request: pytest.FixtureRequest, api: KubernetesApi, namespace: str) -> ScalingPolicy:
    """A policy that sets the replicas of a target of some kind, which has one."""
    make_target(api, namespace, request.param)
    return a_policy(namespace, kind=request.param)


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
    wait_until(lambda: is_served(api, definition), timeout_seconds=20, what="the custom resource is served")


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


def test_every_actuation_of_a_policy_has_a_lever() -> None:
    assert set(TARGETS) == set(get_args(Target.model_fields["actuation"].annotation))
    assert set(TARGETS) == {actuation for actuation, _ in LEVERS}


def test_an_order_is_carried_out_and_repeating_it_writes_nothing(
    target: KubernetesTarget, any_target: ScalingPolicy
) -> None:
    before = settled(target, any_target)
    assert target.order(any_target, 3, before).outcome is ActuationOutcome.ORDERED
    after = settled(target, any_target)
    assert after.desired == 3
    assert target.order(any_target, 3, after).outcome is ActuationOutcome.UNCHANGED


def test_zero_can_be_ordered_and_is_read_as_zero(target: KubernetesTarget, any_kind: ScalingPolicy) -> None:
    target.order(any_kind, 0, settled(target, any_kind))
    assert settled(target, any_kind).desired == 0


@pytest.mark.parametrize("any_target", VERSIONED, indirect=True, ids=lever_id)
def test_an_order_under_a_version_that_is_no_longer_newest_is_a_conflict_and_writes_nothing(
    target: KubernetesTarget, any_target: ScalingPolicy
) -> None:
    policy = any_target
    stale = settled(target, policy)
    target.order(policy, 2, stale)
    outcome = target.order(policy, 7, stale)
    assert outcome.outcome is ActuationOutcome.CONFLICT
    assert outcome.detail
    assert settled(target, policy).desired == 2


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND])
def test_a_policy_that_does_not_enforce_never_writes_an_order(
    target: KubernetesTarget, any_target: ScalingPolicy, mode: Mode
) -> None:
    spec = any_target.spec.model_copy(update={"mode": mode})
    policy = any_target.model_copy(update={"spec": spec})
    before = settled(target, policy)
    assert target.order(policy, 5, before).outcome.value in ("observed", "recommended")
    assert seen(target, policy).desired == before.desired


def test_a_policy_whose_gate_from_observe_has_opened_is_ordered_for(
    target: KubernetesTarget, any_kind: ScalingPolicy
) -> None:
    gated = any_kind.spec.model_copy(update={"mode": Mode.OBSERVE, "safety": Safety(promote=Promote())})
    policy = any_kind.model_copy(update={"spec": gated})
    assert target.order(policy, 3, settled(target, policy)).outcome is ActuationOutcome.ORDERED


def test_a_target_that_was_deleted_since_it_was_read_is_not_found(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    before = settled(target, policy)
    api.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments/chat")
    with pytest.raises(TargetNotFound, match="404"):
        target.order(policy, 2, before)


def test_an_order_that_the_targets_own_rules_refuse_is_permanent(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_model_server(api, namespace)
    policy = a_policy(namespace, kind=f"{CUSTOM_GROUP}/v1/ModelServer")
    with pytest.raises(OrderRejected, match="replicas may not be 13"):
        target.order(policy, 13, settled(target, policy))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("apps/v1/DaemonSet", "has no scale subresource; those with one are: Deployment, ReplicaSet, StatefulSet"),
        ("apps/v1/Deploymint", "is not served"),
        ("nowhere.example.com/v1/Thing", "404"),
        ("v1/Pod", "need an apiVersion with a group"),
    ],
)
def test_a_kind_that_cannot_be_scaled_says_why(target: KubernetesTarget, namespace: str, kind: str, said: str) -> None:
    policy = a_policy(namespace, kind=kind)
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert said in target.problems()[policy.endpoint]


def test_missing_rights_are_said_and_name_rbac(cluster: Cluster, api: KubernetesApi, namespace: str) -> None:
    make_deployment(api, namespace)
    policy, nobody = a_policy(namespace), target_as(cluster, "nobody")
    assert nobody.observe([policy], datetime.now(UTC)) == {}
    assert "RBAC" in nobody.problems()[policy.endpoint]
    with pytest.raises(Forbidden):
        nobody.order(policy, 2, ReplicaState(ready=1, desired=1, version="1"))


# Beside an HPA


def test_the_hpa_brings_the_replicas_up_to_the_floor(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    make_autoscaler(api, namespace)
    policy = a_policy(namespace, actuation="HPAFloor")
    target.order(policy, 3, settled(target, policy))
    wait_until(lambda: scale_of(api, namespace) == 3, timeout_seconds=20, what="the HPA holds its floor")


def test_what_the_hpa_holds_above_the_floor_is_left_to_it(
    target: KubernetesTarget, api: KubernetesApi, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.register_node("beside-an-hpa", gpus=8)
    make_deployment(api, namespace, replicas=5)
    make_autoscaler(api, namespace)
    policy = a_policy(namespace, actuation="HPAFloor")
    state = wait_for_state(target, policy, lambda state: state.ready == 5, "five are ready")
    assert state.desired == 1
    target.order(policy, 3, settled(target, policy))
    assert settled(target, policy).desired == 3
    assert scale_of(api, namespace) == 5


@pytest.mark.parametrize(
    ("ordered", "floor", "said"), [(14, 6, "asked for 6, the most"), (0, 1, "asked for 1, the least")]
)
def test_a_floor_stays_within_what_the_hpa_allows_and_that_is_said(
    target: KubernetesTarget, api: KubernetesApi, namespace: str, ordered: int, floor: int, said: str
) -> None:
    make_deployment(api, namespace, replicas=2)
    make_autoscaler(api, namespace, most=6)
    policy = a_policy(namespace, actuation="HPAFloor")
    target.order(policy, 2, settled(target, policy))
    carried_out = target.order(policy, ordered, settled(target, policy))
    assert (carried_out.outcome, settled(target, policy).desired) == (ActuationOutcome.ORDERED, floor)
    again = target.order(policy, ordered, settled(target, policy))
    assert (again.outcome, said in again.detail) == (ActuationOutcome.UNCHANGED, True)


def test_an_hpa_that_was_made_anew_under_another_name_is_found(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    make_autoscaler(api, namespace)
    policy = a_policy(namespace, actuation="HPAFloor")
    assert target.order(policy, 2, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    api.delete(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/chat-by-cpu")
    make_autoscaler(api, namespace, name="chat-by-queue")
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    wait_until(lambda: scale_of(api, namespace) == 4, timeout_seconds=20, what="the new HPA keeps the floor")


@pytest.mark.parametrize(
    ("names", "owner", "said"),
    [
        ((), "", "no HorizontalPodAutoscaler"),
        (("one", "two"), "", "scaled by 2 HPAs (one, two); keep one"),
        (("keda-hpa-chat",), "chat", "belongs to the ScaledObject chat"),
    ],
)
def test_without_one_hpa_of_its_own_the_floor_says_what_is_wrong(
    target: KubernetesTarget, api: KubernetesApi, namespace: str, names: tuple[str, ...], owner: str, said: str
) -> None:
    make_deployment(api, namespace)
    for name in names:
        make_autoscaler(api, namespace, name=name, scaled_object=owner)
    policy = a_policy(namespace, actuation="HPAFloor")
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert said in target.problems()[policy.endpoint]


def test_an_hpa_that_would_undo_every_order_is_told(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    make_deployment(api, namespace, name="image")
    make_autoscaler(api, namespace)
    own, image = a_policy(namespace), a_policy(namespace, name="image")
    floor = a_policy(namespace, actuation="HPAFloor")
    assert target.rivals([own, image]) == {own.endpoint: Rival(name="chat-by-cpu", scaled_object="")}
    assert target.rivals([floor]) == {}


# Under KEDA


@pytest.fixture
def orders() -> OrderBoard:
    return OrderBoard(60)


@pytest.fixture
def under_keda(cluster: Cluster, orders: OrderBoard) -> KubernetesTarget:
    return target_as(cluster, orders=orders)


def test_an_order_for_keda_is_served_and_nothing_is_written_to_the_cluster(
    under_keda: KubernetesTarget, orders: OrderBoard, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    policy = a_policy(namespace, actuation="KEDA")
    for ordered in (4, 0):
        assert under_keda.order(policy, ordered, seen(under_keda, policy)).outcome is ActuationOutcome.ORDERED
        assert (orders.served(policy.endpoint), seen(under_keda, policy).desired) == (ordered, ordered)
    assert scale_of(api, namespace) == 1


def test_the_first_order_is_given_also_where_as_many_stand_already(
    under_keda: KubernetesTarget, orders: OrderBoard, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace, replicas=3)
    policy = a_policy(namespace, actuation="KEDA")
    found = seen(under_keda, policy)
    with pytest.raises(OrderUnavailable, match="nothing is ordered"):
        orders.served(policy.endpoint)
    assert found.desired == 3
    assert under_keda.order(policy, 3, found).outcome is ActuationOutcome.ORDERED
    assert under_keda.order(policy, 3, seen(under_keda, policy)).outcome is ActuationOutcome.UNCHANGED
    assert orders.served(policy.endpoint) == 3


@pytest.mark.parametrize(
    ("mode", "promote", "still_served"),
    [
        (Mode.OBSERVE, None, False),
        (Mode.RECOMMEND, None, False),
        (Mode.OBSERVE, {"after": timedelta(days=3)}, True),
    ],
    ids=["observes", "recommends", "observes until its gate holds"],
)
def test_what_was_ordered_is_withdrawn_once_the_policy_may_order_nothing(
    under_keda: KubernetesTarget,
    orders: OrderBoard,
    api: KubernetesApi,
    namespace: str,
    mode: Mode,
    promote: dict[str, object] | None,
    still_served: bool,
) -> None:
    make_deployment(api, namespace)
    policy = a_policy(namespace, actuation="KEDA")
    under_keda.order(policy, 4, seen(under_keda, policy))
    safety = Safety.model_validate({"promote": promote})
    spec = policy.spec.model_copy(update={"mode": mode, "safety": safety})
    found = seen(under_keda, policy.model_copy(update={"spec": spec}))
    assert found.desired == (4 if still_served else 1)
    if not still_served:
        with pytest.raises(OrderUnavailable, match="nothing is ordered"):
            orders.served(policy.endpoint)


def test_an_order_ages_while_its_target_cannot_be_read(cluster: Cluster, api: KubernetesApi, namespace: str) -> None:
    now_seconds = 0.0
    orders = OrderBoard(60, lambda: now_seconds)
    target = target_as(cluster, orders=orders)
    make_deployment(api, namespace)
    policy = a_policy(namespace, actuation="KEDA")
    target.order(policy, 4, seen(target, policy))
    now_seconds = 59.0
    seen(target, policy)
    api.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments/chat")
    now_seconds = 119.0
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert orders.served(policy.endpoint) == 4
    now_seconds = 120.0
    with pytest.raises(OrderUnavailable, match="no turn has read its target for 61 s"):
        orders.served(policy.endpoint)


def test_without_an_address_a_policy_for_keda_says_what_to_set(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    target = KubernetesTarget(connect(ClusterAccess(kubeconfig=str(cluster.kubeconfig))), SystemClock())
    policy = a_policy(namespace, actuation="KEDA")
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert "set HEADSTART_KEDA or --keda" in target.problems()[policy.endpoint]


def test_an_hpa_that_keda_made_is_told_as_such(target: KubernetesTarget, api: KubernetesApi, namespace: str) -> None:
    make_deployment(api, namespace)
    make_autoscaler(api, namespace, name="keda-hpa-chat", scaled_object="chat")
    own = a_policy(namespace)
    assert target.rivals([own]) == {own.endpoint: Rival(name="keda-hpa-chat", scaled_object="chat")}


def test_an_endpoint_that_no_scaled_object_scales_is_unheard(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    for name in ("chat", "image"):
        make_deployment(api, namespace, name=name)
    make_autoscaler(api, namespace, name="keda-hpa-chat", scaled_object="chat")
    chat, image = (a_policy(namespace, name=name, actuation="KEDA") for name in ("chat", "image"))
    assert target.unheard([chat, image]) == [image.endpoint]
    assert target.rivals([chat, image]) == {}
    assert target.unheard([a_policy(namespace, name="image")]) == []


# Knative and KServe: the objects that their controllers read, without the controllers


def min_scales(api: KubernetesApi, namespace: str) -> dict[str, tuple[str, str]]:
    """By revision: min-scale as the autoscaler has it, and as the revision has."""
    key = "autoscaling.knative.dev/min-scale"
    autoscalers = api.get(f"{KNATIVE_AUTOSCALERS}/{namespace}/podautoscalers")["items"]
    revisions = api.get(f"{KNATIVE}/{namespace}/revisions")["items"]
    return {
        one["metadata"]["name"]: (one["metadata"]["annotations"][key], other["metadata"]["annotations"][key])
        for one, other in zip(autoscalers, revisions, strict=True)
    }


def test_a_split_of_the_traffic_splits_the_floor(target: KubernetesTarget, api: KubernetesApi, namespace: str) -> None:
    make_knative_service(api, namespace, {"chat-00001": 90, "chat-00002": 10})
    policy = a_policy(namespace, kind="serving.knative.dev/v1/Service", actuation="KnativeMinScale")
    assert settled(target, policy).desired == 2
    assert target.order(policy, 8, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    assert min_scales(api, namespace) == {"chat-00001": ("7", "7"), "chat-00002": ("1", "1")}


def test_an_order_made_before_the_traffic_moved_is_a_conflict(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_knative_service(api, namespace, {"chat-00001": 90, "chat-00002": 10})
    policy = a_policy(namespace, kind="serving.knative.dev/v1/Service", actuation="KnativeMinScale")
    before = settled(target, policy)
    moved = [{"revisionName": "chat-00002", "percent": 100}]
    api.patch(f"{KNATIVE}/{namespace}/services/chat/status", {"status": {"traffic": moved}})
    assert target.order(policy, 8, before).outcome is ActuationOutcome.CONFLICT
    assert target.order(policy, 8, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    assert min_scales(api, namespace) == {"chat-00001": ("1", "1"), "chat-00002": ("8", "8")}


@pytest.mark.parametrize(
    ("replicas", "percents", "shares"),
    [
        (8, (90, 10), [7, 1]),
        (1, (90, 10), [1, 0]),
        (0, (50, 50), [0, 0]),
        (3, (50, 50), [2, 1]),
        (5, (34, 33, 33), [2, 2, 1]),
    ],
)
def test_a_floor_is_split_without_remainder(replicas: int, percents: tuple[int, ...], shares: list[int]) -> None:
    assert split(replicas, percents) == shares


def test_a_service_without_traffic_yet_says_so(target: KubernetesTarget, api: KubernetesApi, namespace: str) -> None:
    make_knative_service(api, namespace, {})
    policy = a_policy(namespace, kind="serving.knative.dev/v1/Service", actuation="KnativeMinScale")
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert "no revision takes its traffic yet" in target.problems()[policy.endpoint]


@pytest.mark.parametrize("mode", ["Serverless", "Knative", ""])
def test_an_inference_service_whose_floor_would_make_revisions_is_refused(
    target: KubernetesTarget, api: KubernetesApi, namespace: str, mode: str
) -> None:
    make_inference_service(api, namespace, mode)
    policy = a_policy(namespace, kind="serving.kserve.io/v1beta1/InferenceService", actuation="KServeMinReplicas")
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert "need Standard" in target.problems()[policy.endpoint]


def test_a_floor_of_an_inference_service_stays_within_its_own_bounds(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_inference_service(api, namespace, most=4)
    policy = a_policy(namespace, kind="serving.kserve.io/v1beta1/InferenceService", actuation="KServeMinReplicas")
    assert "asked for 4, the most" in target.order(policy, 9, settled(target, policy)).detail
    assert "asked for 1, the least" in target.order(policy, 0, settled(target, policy)).detail
    assert settled(target, policy).desired == 1


@pytest.mark.parametrize(
    ("kind", "actuation", "labels"),
    [
        (
            "serving.knative.dev/v1/Service",
            "KnativeMinScale",
            {"serving.knative.dev/service": "chat", "serving.knative.dev/revision": "chat-00001"},
        ),
        (
            "serving.kserve.io/v1beta1/InferenceService",
            "KServeMinReplicas",
            {"serving.kserve.io/inferenceservice": "chat", "component": "predictor"},
        ),
    ],
)
def test_the_pods_of_a_service_are_told_by_their_labels(
    target: KubernetesTarget,
    api: KubernetesApi,
    namespace: str,
    kubelet: FakeKubelet,
    kind: str,
    actuation: str,
    labels: dict[str, str],
) -> None:
    kubelet.register_node(f"of-{actuation.lower()}", gpus=8)
    make_target(api, namespace, kind)
    behind = deployment("behind", 2)
    behind["spec"]["template"]["metadata"]["labels"] |= labels
    api.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", behind)
    make_deployment(api, namespace, name="other", replicas=1)
    policy = a_policy(namespace, kind=kind, actuation=actuation)
    state = wait_for_state(target, policy, lambda state: state.ready == 2, "both are ready")
    assert (state.starting, state.rolling_out) == ((), False)


# Faults of the API server


def scale_of(api: KubernetesApi, namespace: str) -> int:
    return int(api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/chat")["spec"]["replicas"])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refused_write_is_not_repeated_by_itself_and_the_next_turn_succeeds(
    proxied: tuple[KubernetesTarget, FaultyProxy], api: KubernetesApi, namespace: str, status: int
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    proxy.strike(Fault(method="PUT", status=status, headers={"Retry-After": "1"}, times=1))
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.FAILED
    assert len(proxy.requests("PUT")) == 1
    assert scale_of(api, namespace) == 1
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    assert scale_of(api, namespace) == 4


def test_a_conflict_answer_is_reported_and_the_next_turn_succeeds(
    proxied: tuple[KubernetesTarget, FaultyProxy], api: KubernetesApi, namespace: str
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    proxy.strike(Fault(method="PUT", status=409, times=1))
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.CONFLICT
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    assert scale_of(api, namespace) == 4


@pytest.mark.parametrize(
    "fault",
    [Fault(method="PUT", lose_answer=True, times=1), Fault(method="PUT", delay_seconds=1.5, times=1)],
    ids=["connection cut after the write", "answer later than the time-out"],
)
def test_a_write_whose_answer_is_lost_is_not_done_twice(
    proxied: tuple[KubernetesTarget, FaultyProxy], api: KubernetesApi, namespace: str, fault: Fault
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    proxy.strike(fault)
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.FAILED
    wait_until(lambda: scale_of(api, namespace) == 4, timeout_seconds=10, what="the write has happened after all")
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.UNCHANGED
    assert len(proxy.requests("PUT")) == 1


def test_reads_are_tried_again_for_a_moment(
    proxied: tuple[KubernetesTarget, FaultyProxy], api: KubernetesApi, namespace: str
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    proxy.strike(Fault(method="GET", path_contains="/scale", status=429, headers={"Retry-After": "1"}, times=1))
    proxy.strike(Fault(method="GET", path_contains="/pods", status=500, times=2))
    assert seen(target, a_policy(namespace)).desired == 1


def test_a_server_that_asks_for_a_long_pause_is_left_alone_for_this_turn(
    proxied: tuple[KubernetesTarget, FaultyProxy], api: KubernetesApi, namespace: str
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    proxy.strike(Fault(method="GET", path_contains="/scale", status=429, headers={"Retry-After": "60"}))
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert "429" in target.problems()[policy.endpoint]
    assert len(proxy.requests("GET", "/scale")) == 1


def test_a_silent_server_costs_one_time_out_for_all_targets_together(
    proxied: tuple[KubernetesTarget, FaultyProxy], namespace: str
) -> None:
    target, proxy = proxied
    proxy.strike(Fault(delay_seconds=3.0))
    policies = [a_policy(namespace, name=f"chat-{number}") for number in range(40)]
    began = datetime.now(UTC)
    with pytest.raises(ClusterUnavailable):
        target.observe(policies, datetime.now(UTC))
    assert datetime.now(UTC) - began < timedelta(seconds=5)  # 40 targets at 1 s each, 8 at a time, would be 5 s


def test_pods_come_in_pages(
    proxied: tuple[KubernetesTarget, FaultyProxy], api: KubernetesApi, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, proxy = proxied
    monkeypatch.setattr("scaler.adapters.kubernetes.client.PODS_PER_PAGE", 2)
    make_deployment(api, namespace, replicas=5, gpus=0)
    wait_for_state(target, a_policy(namespace), lambda state: len(state.starting) == 5, "five pods exist")
    assert any("continue=" in one.path for one in proxy.requests("GET", "/pods"))


def test_a_restart_of_the_api_server_loses_and_doubles_no_order(
    cluster: Cluster, target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    assert target.order(policy, 2, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    before = settled(target, policy)
    cluster.stop_api_server()
    assert target.order(policy, 5, before).outcome is ActuationOutcome.FAILED
    with pytest.raises(ClusterUnavailable):
        target.observe([policy], datetime.now(UTC))
    cluster.start_api_server()
    after = settled(target, policy)
    assert after.desired == 2
    assert target.order(policy, 5, after).outcome is ActuationOutcome.ORDERED
    assert target.order(policy, 5, settled(target, policy)).outcome is ActuationOutcome.UNCHANGED


# Events


def events_of(api: KubernetesApi, namespace: str) -> list[dict]:
    selector = "involvedObject.name=chat,involvedObject.kind=Deployment"
    found = api.get(f"/api/v1/namespaces/{namespace}/events", fieldSelector=selector)["items"]
    return [event for event in found if event["source"].get("component") == "headstart"]


def test_a_decision_shows_on_its_target(target: KubernetesTarget, api: KubernetesApi, namespace: str) -> None:
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    seen(target, policy)
    target.announce(policy, a_decision(policy, final=3, at=datetime.now(UTC)))
    uid = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/chat")["metadata"]["uid"]
    (event,) = events_of(api, namespace)
    assert event["involvedObject"]["uid"] == uid
    assert event["reason"] == "ReactiveFloor"
    assert "1 -> 3 replicas" in event["message"]


def test_the_same_news_again_is_folded_into_one_event(
    proxied: tuple[KubernetesTarget, FaultyProxy], api: KubernetesApi, namespace: str
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    policy, start = a_policy(namespace), datetime.now(UTC)
    for turn in range(81):  # 20 minutes of turns
        target.announce(policy, a_decision(policy, final=3, at=start + timedelta(seconds=15 * turn)))
    (event,) = events_of(api, namespace)
    assert event["count"] == 81
    assert len(proxy.requests("POST", "/events")) + len(proxy.requests("PATCH", "/events")) == 3


def test_an_event_that_the_server_dropped_is_made_anew(
    target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    policy, start = a_policy(namespace), datetime.now(UTC)
    target.announce(policy, a_decision(policy, final=3, at=start))
    (event,) = events_of(api, namespace)
    api.delete(f"/api/v1/namespaces/{namespace}/events/{event['metadata']['name']}")
    target.announce(policy, a_decision(policy, final=4, at=start + timedelta(minutes=1)))
    (event,) = events_of(api, namespace)
    assert "1 -> 4 replicas" in event["message"]


def test_an_observing_policy_leaves_no_event_and_a_failed_event_costs_nothing(
    cluster: Cluster, target: KubernetesTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    quiet = a_policy(namespace, mode=Mode.OBSERVE)
    target.announce(quiet, a_decision(quiet, final=3, at=datetime.now(UTC)))
    loud = a_policy(namespace)
    target_as(cluster, "nobody").announce(loud, a_decision(loud, final=3, at=datetime.now(UTC)))
    assert events_of(api, namespace) == []


# Rights


def shipped_rights() -> list[dict[str, list[str]]]:
    """The rules of the ClusterRole that is shipped, and the line that it asks to add for a custom resource."""
    documents = yaml.safe_load_all((Path(__file__).parents[3] / "deploy" / "headstart.yaml").read_text())
    role = next(document for document in documents if document["kind"] == "ClusterRole")
    custom = {"apiGroups": [CUSTOM_GROUP], "resources": [f"{CUSTOM_PLURAL}/scale"], "verbs": ["get", "update"]}
    return [*role["rules"], custom]


@pytest.fixture(scope="session")
def with_needed_rights(cluster: Cluster) -> KubernetesTarget:
    cluster.grant("headstart", shipped_rights())
    return target_as(cluster, "headstart")


def test_these_rights_are_enough_for_everything(
    with_needed_rights: KubernetesTarget, api: KubernetesApi, any_target: ScalingPolicy
) -> None:
    policy = any_target
    wait_until(
        lambda: bool(with_needed_rights.observe([policy], datetime.now(UTC))),
        timeout_seconds=10,
        what="the API server knows the new rights",
    )
    assert with_needed_rights.order(policy, 2, settled(with_needed_rights, policy)).outcome.value == "ordered"
    start = datetime.now(UTC)
    for turn in range(2):
        news = a_decision(policy, final=3 + turn, at=start + timedelta(minutes=turn))
        with_needed_rights.announce(policy, news)
    events = api.get(f"/api/v1/namespaces/{policy.endpoint.namespace}/events")["items"]
    assert [event["count"] for event in events if event["source"].get("component") == "headstart"] == [2]
