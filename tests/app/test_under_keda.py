"""The service under KEDA: its turns order, KEDA asks and scales, and nobody else touches the replicas.

KEDA's operator and its HPA are played by what they would do: ask over gRPC, and set the scale to the answer.
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
import structlog
import yaml

from scaler.adapters.clock import SystemClock
from scaler.adapters.keda.orders import OrderBoard
from scaler.adapters.keda.server import KedaServer
from scaler.adapters.kubernetes.client import ClusterAccess, connect
from scaler.adapters.kubernetes.keda import KedaOrders
from scaler.adapters.kubernetes.target import TARGETS, KubernetesTarget
from scaler.adapters.store.store import SqlStore
from scaler.app.bootstrap import Outside, assemble, build_orders
from scaler.app.doctor import examine
from scaler.app.service import Service
from scaler.app.settings import Settings, load_settings
from scaler.domain.policy import ScalingPolicy
from scaler.errors import SettingsError, SourceUnavailable
from tests.adapters.keda_client import KedaClient
from tests.app.fakes import TURN, FakeClock, FakePolicies, FakeSource, PlainAdvisor
from tests.servers.cluster import Cluster
from tests.servers.external_metrics import ExternalMetrics, NoValue
from tests.servers.kubelet import FakeKubelet
from tests.servers.manifests import deployment, keda_autoscaler
from tests.servers.processes import ServerProcess, free_port, wait_until

NAME = "chat"


def a_document(namespace: str, **spec: object) -> dict[str, object]:
    """Enforced under KEDA, two requests a second for each replica."""
    return {
        "apiVersion": "headstart.dev/v1alpha1",
        "kind": "InferenceScalingPolicy",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "mode": "Enforce",
            "target": {"actuation": "KEDA"},
            "capacity": {"perReplica": 2.0},
            "replicas": {"min": 0, "max": 10},
            **spec,
        },
    }


class World:
    """A service on a real cluster, with demand that is set by hand, and KEDA."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.clock, self.source, self.wall_seconds = FakeClock(), FakeSource(), 0.0
        self.policies = FakePolicies([])
        self.policy_is()
        self.settings = load_settings(store=f"sqlite:///{folder}/store.db", keda="127.0.0.1:0")
        self.path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{NAME}"
        self.start()

    def start(self) -> None:
        self.orders = OrderBoard(self.settings.stalled_after_seconds, lambda: self.wall_seconds)
        access = ClusterAccess(kubeconfig=str(self.cluster.kubeconfig_of("admin")), timeout_seconds=60.0)
        targets = {**TARGETS, "KEDA": partial(KedaOrders, orders=self.orders)}
        target = KubernetesTarget(connect(access), SystemClock(), targets)
        outside = Outside(clock=self.clock, policies=self.policies, source=self.source, target=target)
        self.service: Service = assemble(self.settings, outside, SqlStore.open(self.settings.store), PlainAdvisor)
        self.server = KedaServer(self.orders, "127.0.0.1", 0)
        self.keda = KedaClient(self.server.start())

    def stop(self) -> None:
        self.keda.__exit__(None, None, None)
        self.server.stop()
        self.service.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def turn(self) -> str:
        """One turn later: what came of it."""
        self.service.turn()
        self.clock.move(TURN)
        self.wall_seconds += TURN.total_seconds()
        (policy,) = self.policies.policies
        return str(self.service.store.last_rows(policy.endpoint, 1)[0]["outcome"])

    def follow(self) -> int:
        """KEDA's part: the scale becomes what is served, and so many pods are ready. Returns it."""
        served = self.keda.replicas(NAME, self.namespace)
        self.cluster.api().patch(self.path, {"spec": {"replicas": served}})
        wait_until(lambda: self.ready() == served, timeout_seconds=60, what=f"{served} are ready")
        return served

    def ready(self) -> int:
        return int(self.cluster.api().get(self.path)["status"].get("readyReplicas", 0))

    def policy_is(self, **spec: object) -> None:
        """From the next turn on this is the policy."""
        self.policies.policies = [ScalingPolicy.model_validate(a_document(self.namespace, **spec))]

    def replicas(self) -> int:
        return int(self.cluster.api().get(self.path)["spec"]["replicas"])

    def refusal(self) -> grpc.StatusCode:
        return self.keda.refusal(NAME, self.namespace)[0]


@pytest.fixture
def world(cluster: Cluster, kubelet: FakeKubelet, namespace: str, tmp_path: Path) -> Iterator[World]:
    structlog.reset_defaults()  # a command that ran here before logs to its own captured stderr
    kubelet.register_node(f"{namespace}-a", gpus=8)
    cluster.api().create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(NAME, 2))
    made = World(cluster, namespace, tmp_path)
    wait_until(lambda: made.ready() == 2, timeout_seconds=60, what="two are ready")
    yield made
    made.stop()


def test_a_morning_under_keda(world: World) -> None:
    assert world.refusal() is grpc.StatusCode.UNAVAILABLE, "before the first turn"

    world.source.demand = 3.4
    assert world.turn() == "ordered", "two stand and two are needed: the order is given all the same"
    assert world.follow() == 2
    assert world.turn() == "unchanged"

    world.source.demand = 8.5
    assert world.turn() == "ordered"
    assert world.replicas() == 2, "Headstart writes nothing"
    ordered = world.follow()
    assert ordered > 4, "KEDA does"

    world.source.error = SourceUnavailable("metrics: no answer in 5 s")
    for _ in range(20):  # five minutes
        world.turn()
    assert world.follow() == ordered, "while it holds for lack of metrics the order stands"

    world.wall_seconds += 61
    assert world.refusal() is grpc.StatusCode.UNAVAILABLE, "the turns have stopped: KEDA's fallback"
    world.turn()
    assert world.follow() == ordered, "they go on"

    world.restart()
    assert world.refusal() is grpc.StatusCode.UNAVAILABLE, "a new process, before its first turn"
    assert world.turn() == "ordered"
    assert world.follow() == ordered, "what stands is held, still without metrics"


def test_the_last_replica_goes_and_comes_back_by_a_push(world: World) -> None:
    closed = {"name": "closed", "start": "2026-03-02T00:00:00Z", "end": "2026-03-03T00:00:00Z", "max": 0}
    world.policy_is(overrides=[closed])
    world.turn()
    assert not world.keda.is_active(NAME, world.namespace), "KEDA lets the last one go"
    assert world.follow() == 0
    stream = world.keda.stream(NAME, world.namespace)
    world.turn()
    assert stream.is_silent()
    world.policy_is()
    world.turn()
    assert stream.next() is True
    assert world.follow() > 0
    stream.close()


def test_a_policy_that_stops_enforcing_is_no_longer_served_and_paused_keeps_its_order(world: World) -> None:
    world.source.demand = 3.4
    world.turn()
    world.policy_is(safety={"paused": True})
    world.source.demand = 12.0
    world.turn()
    assert world.keda.replicas(NAME, world.namespace) == 2
    world.policy_is(mode="Observe")
    world.turn()
    assert world.refusal() is grpc.StatusCode.UNAVAILABLE


def test_the_hpa_itself_comes_to_the_order_beside_another_trigger(world: World) -> None:
    """A real HPA as KEDA makes it (tolerance 0, no windows); only KEDA's passing on of the value is played."""
    other_trigger = 1

    def value(namespace: str, metric: str) -> int:
        if metric == "s1-cron":
            return other_trigger
        try:
            return world.keda.replicas(NAME, namespace)
        except grpc.RpcError as error:
            raise NoValue(str(error)) from error

    def comes_to(replicas: int) -> None:
        wait_until(lambda: world.replicas() == replicas, timeout_seconds=60, what=f"the HPA comes to {replicas}")

    def hpa_says(reason: str) -> bool:
        conditions = world.cluster.api().get(f"{autoscalers}/keda-hpa-chat").get("status", {}).get("conditions", ())
        return any(one["reason"] == reason for one in conditions)

    autoscalers = f"/apis/autoscaling/v2/namespaces/{world.namespace}/horizontalpodautoscalers"
    (policy,) = world.policies.policies
    with ExternalMetrics(world.cluster, world.namespace, value):
        world.cluster.api().create(autoscalers, keda_autoscaler(NAME, "s0-headstart-replicas", "s1-cron"))
        wait_until(lambda: hpa_says("FailedGetExternalMetric"), timeout_seconds=60, what="the HPA is told of no order")
        assert world.replicas() == 2, "before the first order what stands is kept"
        for ordered in (5, 3, 12, 13, 12):
            world.orders.place(policy.endpoint, ordered)
            comes_to(ordered)
        other_trigger = 14
        comes_to(14)
        world.orders.withdraw(policy.endpoint)
        other_trigger = 1
        wait_until(lambda: hpa_says("FailedGetExternalMetric"), timeout_seconds=60, what="the HPA is told of no order")
        assert world.replicas() == 14, "without an order nothing is let go"
        world.orders.place(policy.endpoint, 2)
        comes_to(2)


# The command, and what people are told


@pytest.fixture
def settings(cluster: Cluster, namespace: str, tmp_path: Path) -> Settings:
    """Without an address for KEDA."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "chat.yaml").write_text(yaml.safe_dump(a_document(namespace)))
    cluster.api().create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(NAME, 3))
    return load_settings(
        policies=tmp_path / "policies",
        store=f"sqlite:///{tmp_path}/a.db",
        prometheus_url="http://127.0.0.1:1",
        kubeconfig=cluster.kubeconfig_of("admin"),
    )


def test_the_command_serves_keda_and_ends_cleanly(settings: Settings, namespace: str, tmp_path: Path) -> None:
    port = free_port()
    service = ServerProcess(
        [
            sys.executable,
            "-m",
            "scaler",
            "run",
            f"--policies={settings.policies}",
            f"--store={settings.store}",
            f"--prometheus-url={settings.prometheus_url}",
            f"--kubeconfig={settings.kubeconfig}",
            f"--http=127.0.0.1:{free_port()}",
            f"--keda=127.0.0.1:{port}",
        ],
        log=tmp_path / "headstart.log",
        environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with KedaClient(port) as keda:

        def is_held() -> bool:
            try:
                return keda.replicas(NAME, namespace) == 3
            except grpc.RpcError:
                return False

        service.start()
        service.wait_ready(is_held, timeout_seconds=60)
        assert service.terminate() == 0
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize(
    ("address", "fine", "said"),
    [
        (None, False, "set HEADSTART_KEDA or --keda to HOST:PORT"),
        (("0.0.0.0", 8081), True, "served on 0.0.0.0:8081 for"),
    ],
    ids=["not set", "set"],
)
def test_doctor_says_whether_keda_can_ask(
    settings: Settings, namespace: str, address: tuple[str, int] | None, fine: bool, said: str
) -> None:
    given = settings.model_copy(update={"keda": address})
    findings = examine(given)
    (keda,) = (one for one in findings if one.what == "KEDA")
    assert (keda.fine, said in keda.found) == (fine, True)
    target, heard = (one for one in findings if one.what == f"target {namespace}/{NAME}")
    assert target.fine is fine
    assert (heard.fine, heard.found[:33]) == (False, "no ScaledObject of KEDA scales it")


def test_the_extra_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scaler.adapters.keda.server", None)
    with pytest.raises(SettingsError, match=r"pip install 'headstart\[keda\]'"):
        build_orders(load_settings(keda="127.0.0.1:8081"))
    assert build_orders(load_settings()) is None


def test_an_order_is_good_for_as_long_as_the_loop_counts_as_alive() -> None:
    assert load_settings().stalled_after_seconds == 60
    assert load_settings(turn="1m").stalled_after_seconds == 240
    assert load_settings(turn="1m", time_scale=60).stalled_after_seconds == 60
