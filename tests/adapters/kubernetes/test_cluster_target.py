"""The port ScaleTarget on a real API server with real controllers and a real scheduler."""

import threading
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from scaler.adapters.kubernetes.client import PARALLEL_REQUESTS
from scaler.adapters.kubernetes.target import TARGETS
from scaler.domain.decision import ActuationOutcome
from scaler.domain.policy import Mode, Promote, Safety, ScalingPolicy, Target
from scaler.domain.replicas import ReplicaState
from scaler.errors import ClusterUnavailable, Forbidden, OrderRejected, TargetNotFound
from tests.adapters.kubernetes.stage import (
    LEVERS,
    VERSIONED,
    StagedTarget,
    a_decision,
    a_policy,
    lever_id,
    make_deployment,
    make_model_server,
    scale_of,
    seen,
    settled,
    target_as,
    wait_for_state,
)
from tests.servers.api import KubernetesApi
from tests.servers.cluster import Cluster
from tests.servers.http import Fault, FaultyProxy
from tests.servers.kubelet import FakeKubelet
from tests.servers.manifests import (
    CUSTOM_GROUP,
)
from tests.servers.processes import wait_until

# What is read


def test_replicas_are_starting_since_their_pods_were_created_and_then_ready(
    target: StagedTarget, api: KubernetesApi, namespace: str, kubelet: FakeKubelet
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
        assert timedelta(seconds=1) <= start.ready_at - start.ordered_at <= datetime.now(UTC) - before


def test_the_ninth_pod_of_an_eight_gpu_node_is_seen_as_unschedulable(
    target: StagedTarget, api: KubernetesApi, namespace: str, kubelet: FakeKubelet
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
    target: StagedTarget, api: KubernetesApi, namespace: str, kubelet: FakeKubelet
) -> None:
    kubelet.register_node("going-1", gpus=8)
    make_deployment(api, namespace, replicas=3)
    policy = a_policy(namespace)
    state = wait_for_state(target, policy, lambda state: state.ready == 3, "three are ready")
    target.order(policy, 0, settled(target, policy))
    state = wait_for_state(target, policy, lambda state: state.ready == 0, "none counts")
    assert (state.starting, state.desired) == ((), 0)


def test_one_target_that_is_missing_does_not_hide_the_others(
    target: StagedTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    here, gone = a_policy(namespace), a_policy(namespace, name="gone")
    states = target.observe([here, gone], datetime.now(UTC))
    assert set(states) == {here.endpoint}
    assert "not found" in target.problems()[gone.endpoint]


# Orders: every lever, every kind


def test_every_actuation_of_a_policy_has_a_lever() -> None:
    assert set(TARGETS) == set(get_args(Target.model_fields["actuation"].annotation))
    assert set(TARGETS) == {actuation for actuation, _ in LEVERS}


def test_an_order_is_carried_out_and_repeating_it_writes_nothing(
    target: StagedTarget, any_target: ScalingPolicy
) -> None:
    before = settled(target, any_target)
    assert target.order(any_target, 3, before).outcome is ActuationOutcome.ORDERED
    after = settled(target, any_target)
    assert after.desired == 3
    assert target.order(any_target, 3, after).outcome is ActuationOutcome.UNCHANGED


def test_zero_can_be_ordered_and_is_read_as_zero(target: StagedTarget, any_kind: ScalingPolicy) -> None:
    target.order(any_kind, 0, settled(target, any_kind))
    assert settled(target, any_kind).desired == 0


@pytest.mark.parametrize("any_target", VERSIONED, indirect=True, ids=lever_id)
def test_an_order_under_a_version_that_is_no_longer_newest_is_a_conflict_and_writes_nothing(
    target: StagedTarget, any_target: ScalingPolicy
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
    target: StagedTarget, any_target: ScalingPolicy, mode: Mode
) -> None:
    spec = any_target.spec.model_copy(update={"mode": mode})
    policy = any_target.model_copy(update={"spec": spec})
    before = settled(target, policy)
    assert target.order(policy, 5, before).outcome.value in ("observed", "recommended")
    assert seen(target, policy).desired == before.desired


def test_a_policy_whose_gate_from_observe_has_opened_is_ordered_for(
    target: StagedTarget, any_kind: ScalingPolicy
) -> None:
    gated = any_kind.spec.model_copy(update={"mode": Mode.OBSERVE, "safety": Safety(promote=Promote())})
    policy = any_kind.model_copy(update={"spec": gated})
    assert target.order(policy, 3, settled(target, policy)).outcome is ActuationOutcome.ORDERED


def test_a_target_that_was_deleted_since_it_was_read_is_not_found(
    target: StagedTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    before = settled(target, policy)
    api.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments/chat")
    with pytest.raises(TargetNotFound, match="404"):
        target.order(policy, 2, before)


def test_an_order_that_the_targets_own_rules_refuse_is_permanent(
    target: StagedTarget, api: KubernetesApi, namespace: str
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
def test_a_kind_that_cannot_be_scaled_says_why(target: StagedTarget, namespace: str, kind: str, said: str) -> None:
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


# Faults of the API server


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refused_write_is_not_repeated_by_itself_and_the_next_turn_succeeds(
    proxied: tuple[StagedTarget, FaultyProxy], api: KubernetesApi, namespace: str, status: int
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
    proxied: tuple[StagedTarget, FaultyProxy], api: KubernetesApi, namespace: str
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    proxy.strike(Fault(method="PUT", status=409, times=1))
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.CONFLICT
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.ORDERED
    assert scale_of(api, namespace) == 4


def hasty(cluster: Cluster, proxy: FaultyProxy, timeout_seconds: float) -> StagedTarget:
    """Through the proxy, and soon at the end of its patience."""
    kubeconfig = cluster.kubeconfig_of("admin", server=proxy.url, name="hasty")
    return StagedTarget(cluster, kubeconfig, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize(
    "too_late", [False, True], ids=["connection cut after the write", "answer later than the time-out"]
)
def test_a_write_whose_answer_is_lost_is_not_done_twice(
    proxied: tuple[StagedTarget, FaultyProxy], cluster: Cluster, api: KubernetesApi, namespace: str, too_late: bool
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    policy, given_up = a_policy(namespace), threading.Event()
    if too_late:
        target = hasty(cluster, proxy, timeout_seconds=3.0)
        proxy.strike(Fault(method="PUT", until=given_up, times=1))
    else:
        proxy.strike(Fault(method="PUT", lose_answer=True, times=1))
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.FAILED
    given_up.set()
    wait_until(lambda: scale_of(api, namespace) == 4, timeout_seconds=60, what="the write has happened after all")
    assert target.order(policy, 4, settled(target, policy)).outcome is ActuationOutcome.UNCHANGED
    assert len(proxy.requests("PUT")) == 1


def test_reads_are_tried_again_for_a_moment(
    proxied: tuple[StagedTarget, FaultyProxy], api: KubernetesApi, namespace: str
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    proxy.strike(Fault(method="GET", path_contains="/scale", status=429, headers={"Retry-After": "1"}, times=1))
    proxy.strike(Fault(method="GET", path_contains="/pods", status=500, times=2))
    assert seen(target, a_policy(namespace)).desired == 1


def test_a_server_that_asks_for_a_long_pause_is_left_alone_for_this_turn(
    proxied: tuple[StagedTarget, FaultyProxy], api: KubernetesApi, namespace: str
) -> None:
    target, proxy = proxied
    make_deployment(api, namespace)
    policy = a_policy(namespace)
    proxy.strike(Fault(method="GET", path_contains="/scale", status=429, headers={"Retry-After": "60"}))
    assert target.observe([policy], datetime.now(UTC)) == {}
    assert "429" in target.problems()[policy.endpoint]
    assert len(proxy.requests("GET", "/scale")) == 1


def test_a_silent_server_costs_one_time_out_for_all_targets_together(
    proxied: tuple[StagedTarget, FaultyProxy], cluster: Cluster, namespace: str
) -> None:
    _, proxy = proxied
    target = hasty(cluster, proxy, timeout_seconds=0.5)
    proxy.strike(Fault(until=threading.Event()))
    policies = [a_policy(namespace, name=f"chat-{number}") for number in range(40)]
    with pytest.raises(ClusterUnavailable):
        target.observe(policies, datetime.now(UTC))
    assert proxy.n_arrived <= PARALLEL_REQUESTS, "those that were under way together, and none after them"


def test_pods_come_in_pages(
    proxied: tuple[StagedTarget, FaultyProxy], api: KubernetesApi, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, proxy = proxied
    monkeypatch.setattr("scaler.adapters.kubernetes.client.PODS_PER_PAGE", 2)
    make_deployment(api, namespace, replicas=5, gpus=0)
    wait_for_state(target, a_policy(namespace), lambda state: len(state.starting) == 5, "five pods exist")
    assert any("continue=" in one.path for one in proxy.requests("GET", "/pods"))


def test_a_restart_of_the_api_server_loses_and_doubles_no_order(
    cluster: Cluster, target: StagedTarget, api: KubernetesApi, namespace: str
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


def test_a_decision_shows_on_its_target(target: StagedTarget, api: KubernetesApi, namespace: str) -> None:
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
    proxied: tuple[StagedTarget, FaultyProxy], api: KubernetesApi, namespace: str
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
    target: StagedTarget, api: KubernetesApi, namespace: str
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
    cluster: Cluster, target: StagedTarget, api: KubernetesApi, namespace: str
) -> None:
    make_deployment(api, namespace)
    quiet = a_policy(namespace, mode=Mode.OBSERVE)
    target.announce(quiet, a_decision(quiet, final=3, at=datetime.now(UTC)))
    loud = a_policy(namespace)
    target_as(cluster, "nobody").announce(loud, a_decision(loud, final=3, at=datetime.now(UTC)))
    assert events_of(api, namespace) == []


# Rights


@pytest.fixture
def with_needed_rights(cluster: Cluster, granted: str) -> StagedTarget:
    return target_as(cluster, granted)


def test_these_rights_are_enough_for_everything(
    with_needed_rights: StagedTarget, api: KubernetesApi, any_target: ScalingPolicy
) -> None:
    policy = any_target
    wait_until(
        lambda: bool(with_needed_rights.observe([policy], datetime.now(UTC))),
        timeout_seconds=60,
        what="the API server knows the new rights",
    )
    assert with_needed_rights.order(policy, 2, settled(with_needed_rights, policy)).outcome.value == "ordered"
    start = datetime.now(UTC)
    for turn in range(2):
        news = a_decision(policy, final=3 + turn, at=start + timedelta(minutes=turn))
        with_needed_rights.announce(policy, news)
    events = api.get(f"/api/v1/namespaces/{policy.endpoint.namespace}/events")["items"]
    assert [event["count"] for event in events if event["source"].get("component") == "headstart"] == [2]
