"""The only place that builds things."""

from dataclasses import dataclass
from forecaster.forecast import DemandForecast
from scaler.adapters.clock import ScaledClock, SystemClock
from scaler.adapters.store.store import SqlStore
from scaler.adapters.telemetry import Telemetry
from scaler.app.board import Board
from scaler.app.demo.world import Demo, build_demo
from scaler.app.scheduler import Jobs
from scaler.app.service import Service
from scaler.app.settings import Settings
from scaler.app.watch import WatchedAdvisor
from scaler.cycle import Cycle
from scaler.domain.endpoint import EndpointId
from scaler.errors import HeadstartError
from scaler.ports import Advice, Advisor, Clock, DemandSource, PolicySource, ScaleTarget


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The outside of one service: what differs between a cluster, a rehearsal and the demonstration."""

    clock: Clock
    policies: PolicySource
    source: DemandSource
    target: ScaleTarget


def open_store(url: str) -> SqlStore:
    """Raises SettingsError, StoreUnavailable or UnknownVersion as SqlStore.open."""
    return SqlStore.open(url)


def existing_store(url: str) -> SqlStore:
    """As `open_store`, for commands that only read: raises SettingsError rather than making a new SQLite file."""
    return SqlStore.open(url, must_exist=True)


def assemble(settings: Settings, outside: Outside, store: SqlStore, advisor: Advisor) -> Service:
    """A service that is not started yet."""
    board, telemetry = Board(), Telemetry()

    def failed(job: str, error: Exception) -> None:
        telemetry.error(type(error).__name__ if isinstance(error, HeadstartError) else job)

    def seen(endpoint: EndpointId, forecast: DemandForecast, advice: Advice) -> None:
        board.forecast(endpoint, forecast)
        telemetry.forecast(endpoint, forecast, advice.profile.startup.p95 // forecast.step)

    jobs = Jobs(failed)
    cycle = Cycle(
        clock=outside.clock,
        policies=outside.policies,
        source=outside.source,
        target=outside.target,
        advisor=WatchedAdvisor(advisor, seen, board.history, jobs.stopping),
        log=store,
        turn_length=settings.turn,
    )
    return Service(
        settings=settings,
        clock=outside.clock,
        cycle=cycle,
        store=store,
        board=board,
        telemetry=telemetry,
        jobs=jobs,
    )


def build_clock(settings: Settings) -> SystemClock | ScaledClock:
    return SystemClock() if settings.time_scale == 1 else ScaledClock.from_now(settings.time_scale)


def build_demo_service(settings: Settings) -> tuple[Service, Demo]:
    """The demonstration: the real cycle on a simulated cluster that moves one step after each turn."""
    demo = build_demo(SystemClock().now())
    outside = Outside(clock=demo.world.clock, policies=demo.policies, source=demo.source, target=demo.target)
    service = assemble(settings, outside, open_store(settings.store), build_advisor(settings))
    service.after_turn = demo.step
    return service, demo


def build_advisor(settings: Settings) -> Advisor:
    from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor  # compiles on import

    return SelfReplayAdvisor(turn=settings.turn)
