"""Runs a service until it is told to stop."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog

from scaler.app.http import HttpServer, build_app, listen
from scaler.app.service import Service

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_until_stopped(
    service: Service,
    *,
    status: Callable[[], Mapping[str, Any]] = dict,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serves HTTP and runs the jobs until SIGTERM or SIGINT; the turn under way is finished, everything is closed.

    KEDA is served as well where the settings say so. `on_ready` gets the address once HTTP answers.
    Raises SettingsError when an address cannot be listened on.
    """
    log = structlog.get_logger("headstart")
    with _stop_event() as asked_to_stop, _serving_keda(service):
        listener = listen(*service.settings.http)
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        server = HttpServer(build_app(service, status), listener)
        server.start()
        try:
            log.info("serving", url=url, turn_seconds=service.settings.turn.total_seconds())
            service.restore()
            on_ready(url)
            service.start()
            asked_to_stop.wait()
        finally:
            log.info("stopping")
            service.jobs.stopping.set()
            server.stop()
            service.stop()
            log.info("stopped")


@contextmanager
def _serving_keda(service: Service) -> Iterator[None]:
    """KEDA is served at the address of the settings, if there is one."""
    if service.orders is None or service.settings.keda is None:
        yield
        return
    from scaler.adapters.keda.server import KedaServer  # needs the extra [keda]

    host, port = service.settings.keda
    server = KedaServer(service.orders, host, port)
    structlog.get_logger("headstart").info("serving KEDA", host=host, port=server.start())
    try:
        yield
    finally:
        server.stop()


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """An event that the first stop signal sets; a second one ends the process the ordinary way."""
    event = threading.Event()

    def heard(number: int, _: FrameType | None) -> None:
        if event.is_set():
            signal.signal(number, signal.SIG_DFL)
        event.set()

    before = {number: signal.signal(number, heard) for number in STOP_SIGNALS}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
