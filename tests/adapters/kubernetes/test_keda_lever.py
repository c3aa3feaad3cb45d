"""The lever KEDA: orders are served, nothing is written."""

from datetime import UTC, datetime, timedelta

import pytest

from scaler.adapters.clock import SystemClock
from scaler.adapters.keda.orders import OrderBoard
from scaler.adapters.kubernetes.client import ClusterAccess, connect
from scaler.adapters.kubernetes.hpa import Rival
from scaler.adapters.kubernetes.target import KubernetesTarget
from scaler.domain.decision import ActuationOutcome
from scaler.domain.policy import Mode, Safety
from scaler.errors import OrderUnavailable
from tests.adapters.kubernetes.stage import (
    a_policy,
    make_autoscaler,
    make_deployment,
    scale_of,
    seen,
    target_as,
)
from tests.servers.api import KubernetesApi
from tests.servers.cluster import Cluster


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
