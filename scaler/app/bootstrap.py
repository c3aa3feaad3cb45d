"""The only place that builds things."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING

from scaler.adapters.clock import ScaledClock, SystemClock
from scaler.adapters.keda.orders import OrderBoard
from scaler.adapters.kubernetes.client import ClusterAccess, KubernetesApi, connect
from scaler.adapters.kubernetes.keda import KedaOrders
from scaler.adapters.kubernetes.policies import PolicyResources
from scaler.adapters.kubernetes.target import TARGETS, KubernetesTarget
from scaler.adapters.policies import PolicyFiles
from scaler.adapters.prometheus.client import PrometheusClient
from scaler.adapters.prometheus.connection import Connection
from scaler.adapters.prometheus.source import PrometheusSource, SourceSettings
from scaler.adapters.store.store import SqlStore
from scaler.adapters.telemetry import Telemetry
from scaler.app.advice import FleetAdvisor
from scaler.app.board import Board
from scaler.app.demo.world import Demo, build_demo
from scaler.app.scheduler import Jobs
from scaler.app.service import Service
from scaler.app.settings import InCluster, Settings
from scaler.cycle import Cycle
from scaler.errors import SettingsError, StoreUnavailable
from scaler.ports import Advisor, Clock, DemandSource, PolicySource, ScaleTarget

if TYPE_CHECKING:
    from scaler.simulator.selfreplay.experience import FleetExperience


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The outside of one service: what differs between a cluster, a rehearsal and the demonstration."""

    clock: Clock
    policies: PolicySource
    source: DemandSource
    target: ScaleTarget


def build_service(settings: Settings) -> Service:
    """The service on Prometheus and a cluster. Raises SettingsError, PolicyError, StoreUnavailable, UnknownVersion."""
    orders = build_orders(settings)
    policies = build_policies(settings)
    if isinstance(policies, PolicyFiles):
        policies.load()  # refused at once; a cluster may be silent for a while, or have no policy yet
    outside = build_outside(settings, policies, orders)
    service = assemble(settings, outside, SqlStore.open(settings.store), self_replay(settings))
    service.orders = orders
    service.policy_problems = policies.problems
    if isinstance(policies, PolicyResources):
        service.tell_policies = policies.tell
    return service


def build_demo_service(settings: Settings) -> tuple[Service, Demo]:
    """The demonstration: the real cycle on a simulated cluster that moves one step after each turn. On a store that was
    kept it goes on after the last turn there: no time is recorded twice."""
    store = SqlStore.open(settings.store)
    turns = [row["decided_at"] for endpoint in store.endpoints() for row in store.last_rows(endpoint, limit=1)]
    demo = build_demo(SystemClock().now(), max(map(datetime.fromisoformat, turns), default=None))
    outside = Outside(clock=demo.world.clock, policies=demo.policies, source=demo.source, target=demo.target)
    service = assemble(settings, outside, store, self_replay(settings))
    service.after_turn = demo.step
    return service, demo


def build_outside(settings: Settings, policies: PolicySource, orders: OrderBoard | None) -> Outside:
    """Policies, metrics and cluster; nothing has been asked yet."""
    clock = build_clock(settings)
    return Outside(
        clock=clock,
        policies=policies,
        source=build_source(settings, clock),
        target=build_target(settings, clock, orders),
    )


def build_clock(settings: Settings) -> SystemClock | ScaledClock:
    return SystemClock() if settings.time_scale == 1 else ScaledClock.from_now(settings.time_scale)


def build_policies(settings: Settings) -> PolicyFiles | PolicyResources:
    """Raises SettingsError where they are in a cluster and there are no credentials to be had."""
    if isinstance(settings.policies, InCluster):
        return PolicyResources(build_api(settings), settings.policies.namespace)
    return PolicyFiles([settings.policies])


def build_api(settings: Settings) -> KubernetesApi:
    """Raises SettingsError where there are no credentials to be had."""
    return connect(ClusterAccess(kubeconfig=str(settings.kubeconfig or ""), context=settings.kube_context))


def build_orders(settings: Settings) -> OrderBoard | None:
    """What KEDA is served; None where it is not. Raises SettingsError where the extra is absent."""
    if settings.keda is None:
        return None
    try:
        import scaler.adapters.keda.server  # noqa: F401  (the extra [keda])
    except ImportError as error:
        raise SettingsError("--keda: gRPC is not installed: pip install 'headstart[keda]'") from error
    return OrderBoard(settings.stalled_after_seconds)


def build_target(settings: Settings, clock: SystemClock | ScaledClock, orders: OrderBoard | None) -> KubernetesTarget:
    """Raises SettingsError where there are no credentials to be had."""
    return KubernetesTarget(build_api(settings), clock, {**TARGETS, "KEDA": partial(KedaOrders, orders=orders)})


def build_source(settings: Settings, clock: SystemClock | ScaledClock) -> PrometheusSource:
    connection = Connection(
        url=settings.prometheus_url,
        headers=settings.prometheus_headers,
        bearer_token_file=settings.prometheus_bearer_token_file,
        username=settings.prometheus_username,
        password=settings.prometheus_password.get_secret_value(),
        ca_certificate=settings.prometheus_ca_file,
        client_certificate=settings.prometheus_cert_file,
        client_key=settings.prometheus_key_file,
        timeout_seconds=settings.prometheus_timeout.total_seconds(),
    )
    reading = SourceSettings(turn=settings.turn, scrape_interval=settings.prometheus_scrape_interval)
    return PrometheusSource(PrometheusClient(connection), reading, clock)


def self_replay(settings: Settings) -> Callable[[], Advisor]:
    """Makes the advisor of one endpoint; what it learns teaches the new ones of the same fleet."""

    @cache
    def fleet() -> "FleetExperience":
        from scaler.simulator.selfreplay.experience import FleetExperience

        return FleetExperience()

    def make() -> Advisor:
        from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor  # compiles when it is first used

        return SelfReplayAdvisor(turn=settings.turn, fleet=fleet())

    return make


def assemble(settings: Settings, outside: Outside, store: SqlStore, make_advisor: Callable[[], Advisor]) -> Service:
    """A service that is not started yet."""
    telemetry = Telemetry()

    def failed(job: str, error: Exception) -> None:
        telemetry.error("store" if isinstance(error, StoreUnavailable) else job)

    jobs = Jobs(failed)
    advisor = FleetAdvisor(make_advisor, jobs.stopping)
    cycle = Cycle(
        clock=outside.clock,
        policies=outside.policies,
        source=outside.source,
        target=outside.target,
        advisor=advisor,
        log=store,
        turn_length=settings.turn,
        pools=settings.pools,
        learns_capacity=True,
    )
    return Service(
        settings=settings,
        clock=outside.clock,
        cycle=cycle,
        store=store,
        board=Board(),
        telemetry=telemetry,
        jobs=jobs,
    )
