"""The lever HPAFloor beside the real HPA controller."""

from datetime import UTC, datetime

import pytest

from scaler.adapters.kubernetes.hpa import Rival
from scaler.domain.decision import ActuationOutcome
from tests.adapters.kubernetes.stage import (
    StagedTarget,
    a_policy,
    make_autoscaler,
    make_deployment,
    scale_of,
    settled,
    wait_for_state,
)
from tests.servers.api import KubernetesApi
from tests.servers.kubelet import FakeKubelet
from tests.servers.processes import wait_until


def test_the_hpa_brings_the_replicas_up_to_the_floor(target: StagedTarget, api: KubernetesApi, namespace: str) -> None:
    make_deployment(api, namespace)
    make_autoscaler(api, namespace)
    policy = a_policy(namespace, actuation="HPAFloor")
    target.order(policy, 3, settled(target, policy))
    wait_until(lambda: scale_of(api, namespace) == 3, timeout_seconds=60, what="the HPA holds its floor")


def test_what_the_hpa_holds_above_the_floor_is_left_to_it(
    target: StagedTarget, api: KubernetesApi, namespace: str, kubelet: FakeKubelet
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
    target: StagedTarget, api: KubernetesApi, namespace: str, ordered: int, floor: int, said: str
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
    target: StagedTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    make_autoscaler(api, namespace)
    policy = a_policy(namespace, actuation="HPAFloor")
    assert target.order(policy, 2, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    api.delete(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/chat-by-cpu")
    make_autoscaler(api, namespace, name="chat-by-queue")
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    wait_until(lambda: scale_of(api, namespace) == 4, timeout_seconds=60, what="the new HPA keeps the floor")


@pytest.mark.parametrize(
    ("names", "owner", "said"),
    [
        ((), "", "no HorizontalPodAutoscaler"),
        (("one", "two"), "", "scaled by 2 HPAs (one, two); keep one"),
        (("keda-hpa-chat",), "chat", "belongs to the ScaledObject chat"),
    ],
)
def test_without_one_hpa_of_its_own_the_floor_says_what_is_wrong(
    target: StagedTarget, api: KubernetesApi, namespace: str, names: tuple[str, ...], owner: str, said: str
) -> None:
    make_deployment(api, namespace)
    for name in names:
        make_autoscaler(api, namespace, name=name, scaled_object=owner)
    policy = a_policy(namespace, actuation="HPAFloor")
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert said in target.problems()[policy.endpoint]


def test_an_hpa_that_would_undo_every_order_is_told(target: StagedTarget, api: KubernetesApi, namespace: str) -> None:
    make_deployment(api, namespace)
    make_deployment(api, namespace, name="image")
    make_autoscaler(api, namespace)
    own, image = a_policy(namespace), a_policy(namespace, name="image")
    floor = a_policy(namespace, actuation="HPAFloor")
    assert target.rivals([own, image]) == {own.endpoint: Rival(name="chat-by-cpu", scaled_object="")}
    assert target.rivals([floor]) == {}
