"""A target as the service builds it, and policies for targets of every kind and lever."""

from collections.abc import Iterator

import pytest

from scaler.adapters.clock import SystemClock
from scaler.adapters.kubernetes.client import ClusterAccess, connect
from scaler.adapters.kubernetes.target import KubernetesTarget
from scaler.domain.policy import ScalingPolicy
from tests.adapters.kubernetes.stage import (
    KINDS,
    LEVERS,
    a_policy,
    lever_id,
    make_autoscaler,
    make_target,
    target_as,
)
from tests.servers.api import KubernetesApi
from tests.servers.cluster import Cluster
from tests.servers.http import FaultyProxy


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
