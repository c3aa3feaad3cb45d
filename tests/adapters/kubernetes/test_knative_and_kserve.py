"""The levers of Knative and KServe, on the objects that their controllers read, without the controllers."""

from datetime import UTC, datetime

import pytest

from scaler.adapters.kubernetes.knative import split
from scaler.domain.decision import ActuationOutcome
from tests.adapters.kubernetes.stage import (
    KNATIVE,
    KNATIVE_AUTOSCALERS,
    StagedTarget,
    a_policy,
    make_deployment,
    make_inference_service,
    make_knative_service,
    make_target,
    settled,
    wait_for_state,
)
from tests.servers.api import KubernetesApi
from tests.servers.kubelet import FakeKubelet
from tests.servers.manifests import (
    deployment,
)


def min_scales(api: KubernetesApi, namespace: str) -> dict[str, tuple[str, str]]:
    """By revision: min-scale as the autoscaler has it, and as the revision has."""
    key = "autoscaling.knative.dev/min-scale"
    autoscalers = api.get(f"{KNATIVE_AUTOSCALERS}/{namespace}/podautoscalers")["items"]
    revisions = api.get(f"{KNATIVE}/{namespace}/revisions")["items"]
    return {
        one["metadata"]["name"]: (one["metadata"]["annotations"][key], other["metadata"]["annotations"][key])
        for one, other in zip(autoscalers, revisions, strict=True)
    }


def test_a_split_of_the_traffic_splits_the_floor(target: StagedTarget, api: KubernetesApi, namespace: str) -> None:
    make_knative_service(api, namespace, {"chat-00001": 90, "chat-00002": 10})
    policy = a_policy(namespace, kind="serving.knative.dev/v1/Service", actuation="KnativeMinScale")
    assert settled(target, policy).desired == 2
    assert target.order(policy, 8, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    assert min_scales(api, namespace) == {"chat-00001": ("7", "7"), "chat-00002": ("1", "1")}


def test_an_order_made_before_the_traffic_moved_is_a_conflict(
    target: StagedTarget, api: KubernetesApi, namespace: str
) -> None:
    make_knative_service(api, namespace, {"chat-00001": 90, "chat-00002": 10})
    policy = a_policy(namespace, kind="serving.knative.dev/v1/Service", actuation="KnativeMinScale")
    before = settled(target, policy)
    moved = [{"revisionName": "chat-00002", "percent": 100}]
    api.patch(f"{KNATIVE}/{namespace}/services/chat/status", {"status": {"traffic": moved}})
    assert target.order(policy, 8, before).outcome is ActuationOutcome.CONFLICT
    assert target.order(policy, 8, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    assert min_scales(api, namespace) == {"chat-00001": ("1", "1"), "chat-00002": ("8", "8")}


def test_a_floor_that_stays_follows_the_traffic(target: StagedTarget, api: KubernetesApi, namespace: str) -> None:
    make_knative_service(api, namespace, {"chat-00001": 90, "chat-00002": 10})
    policy = a_policy(namespace, kind="serving.knative.dev/v1/Service", actuation="KnativeMinScale")
    target.order(policy, 10, settled(target, policy))
    assert target.order(policy, 10, settled(target, policy)).outcome is ActuationOutcome.UNCHANGED
    moved = [{"revisionName": "chat-00001", "percent": 20}, {"revisionName": "chat-00002", "percent": 80}]
    api.patch(f"{KNATIVE}/{namespace}/services/chat/status", {"status": {"traffic": moved}})
    assert target.order(policy, 10, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    assert min_scales(api, namespace) == {"chat-00001": ("2", "2"), "chat-00002": ("8", "8")}


def test_no_revision_gets_a_floor_above_its_own_maximum(
    target: StagedTarget, api: KubernetesApi, namespace: str
) -> None:
    make_knative_service(api, namespace, {"chat-00001": 90, "chat-00002": 10}, most="5")
    policy = a_policy(namespace, kind="serving.knative.dev/v1/Service", actuation="KnativeMinScale")
    assert "asked for 5, the most" in target.order(policy, 9, settled(target, policy)).detail
    assert min_scales(api, namespace) == {"chat-00001": ("5", "5"), "chat-00002": ("0", "0")}


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


def test_a_service_without_traffic_yet_says_so(target: StagedTarget, api: KubernetesApi, namespace: str) -> None:
    make_knative_service(api, namespace, {})
    policy = a_policy(namespace, kind="serving.knative.dev/v1/Service", actuation="KnativeMinScale")
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert "no revision takes its traffic yet" in target.problems()[policy.endpoint]


@pytest.mark.parametrize("mode", ["Serverless", "Knative", ""])
def test_an_inference_service_whose_floor_would_make_revisions_is_refused(
    target: StagedTarget, api: KubernetesApi, namespace: str, mode: str
) -> None:
    make_inference_service(api, namespace, mode)
    policy = a_policy(namespace, kind="serving.kserve.io/v1beta1/InferenceService", actuation="KServeMinReplicas")
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert "need Standard" in target.problems()[policy.endpoint]


def test_a_floor_of_an_inference_service_stays_within_its_own_bounds(
    target: StagedTarget, api: KubernetesApi, namespace: str
) -> None:
    make_inference_service(api, namespace, most=4)
    policy = a_policy(namespace, kind="serving.kserve.io/v1beta1/InferenceService", actuation="KServeMinReplicas")
    for _ in range(2):  # as often as it is ordered: rates and holds go by what was asked for
        most = target.order(policy, 9, settled(target, policy))
        assert ("asked for 4, the most" in most.detail, most.asked) == (True, 4)
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
    target: StagedTarget,
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
