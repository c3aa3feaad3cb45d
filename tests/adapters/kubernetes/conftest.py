"""A target as the service builds it, policies for targets of every kind and lever, and the rights that are shipped."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scaler.domain.policy import ScalingPolicy
from tests.adapters.kubernetes.stage import (
    KINDS,
    LEVERS,
    StagedTarget,
    a_policy,
    lever_id,
    make_autoscaler,
    make_target,
    target_as,
)
from tests.servers.api import KubernetesApi
from tests.servers.cluster import Cluster
from tests.servers.http import FaultyProxy
from tests.servers.manifests import CUSTOM_GROUP, CUSTOM_PLURAL


@pytest.fixture
def target(cluster: Cluster) -> StagedTarget:
    return target_as(cluster)


@pytest.fixture
def api(cluster: Cluster) -> KubernetesApi:
    return cluster.api()


@pytest.fixture
def proxied(cluster: Cluster) -> Iterator[tuple[StagedTarget, FaultyProxy]]:
    """A target whose every request passes a proxy that can be told to misbehave."""
    with FaultyProxy(cluster.url, context=cluster.ssl_context()) as proxy:
        yield StagedTarget(cluster, cluster.kubeconfig_of("admin", server=proxy.url, name="proxied")), proxy


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


def shipped_rights() -> list[dict[str, list[str]]]:
    """The rules of the ClusterRole that is shipped, and the line that it asks to add for a custom resource."""
    documents = yaml.safe_load_all((Path(__file__).parents[3] / "deploy" / "headstart.yaml").read_text())
    role = next(document for document in documents if document["kind"] == "ClusterRole")
    custom = {"apiGroups": [CUSTOM_GROUP], "resources": [f"{CUSTOM_PLURAL}/scale"], "verbs": ["get", "update"]}
    return [*role["rules"], custom]


@pytest.fixture(scope="session")
def granted(cluster: Cluster) -> str:
    """A user with these rights and no others."""
    cluster.grant("headstart", shipped_rights())
    return "headstart"
