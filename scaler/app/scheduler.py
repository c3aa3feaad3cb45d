"""The only module that knows APScheduler, and the only place that catches everything."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from forecaster.errors import ForecasterError
from scaler.errors import HeadstartError

FAREWELL_SECONDS = 3.0
"""How long a stop waits for work that may be abandoned."""
_LOG = structlog.get_logger("headstart")


class Jobs:
    """Periodic jobs: at most one run of each at a time, late runs folded into one, an error counted and survived."""

    def __init__(self, on_error: Callable[[str, Exception], None], n_threads: int = 4) -> None:
        # A run that is skipped because the last one still works is normal for us (the turn says its own duration).
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._on_error = on_error
        self._stopping = threading.Event()
        self._long: dict[str, threading.Thread] = {}
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(n_threads)},
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        )

    @property
    def stopping(self) -> threading.Event:
        """Set once a stop was asked for; long jobs look at it between two pieces of work."""
        return self._stopping

    def every(
        self, seconds: float, name: str, work: Callable[[], None], first: datetime, *, may_be_abandoned: bool = False
    ) -> None:
        """`work` runs each `seconds` of wall time from the wall time `first` on.

        Work that `may_be_abandoned` runs in a thread of its own that a stop does not wait for: it must leave nothing
        half done that anybody reads.
        """
        run = self._guarded(name, work)
        if may_be_abandoned:
            run = self._detached(name, run)
        self._scheduler.add_job(run, "interval", seconds=seconds, id=name, next_run_time=first)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        """Returns when no job runs any more (but those that may be abandoned) and none will."""
        self._stopping.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        for thread in self._long.values():
            thread.join(timeout=FAREWELL_SECONDS)

    def _detached(self, name: str, run: Callable[[], None]) -> Callable[[], None]:
        def start() -> None:
            before = self._long.get(name)
            if before is None or not before.is_alive():
                self._long[name] = threading.Thread(target=run, name=name, daemon=True)
                self._long[name].start()

        return start

    def _guarded(self, name: str, work: Callable[[], None]) -> Callable[[], None]:
        """`work` as a job: nothing once a stop was asked for; an error is logged and counted, never raised."""

        def run() -> None:
            if self._stopping.is_set():
                return
            try:
                work()
            except Exception as error:  # noqa: BLE001  (a job must survive anything; it is counted)
                if not self._stopping.is_set():
                    foreseen = isinstance(error, (HeadstartError, ForecasterError))
                    text = f"{type(error).__name__}: {error}"
                    _LOG.error("job failed", job=name, error=text, exc_info=not foreseen)
                self._on_error(name, error)

        return run
