"""Child processes of the tests: started on loopback, waited for, paused, and always ended."""

import http.client
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PORTS = range(20_000, 32_000)
"""Below what systems give to outgoing connections and to servers that ask for any port (Linux from 32768 on)."""
_held: list[socket.socket] = []


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that no other call gets while this process lives.

    A server takes its port long after it was chosen. So the UDP port of the same number is held as the mark of a port
    that is given away: it is seen by every process of the machine, and goes with the process that holds it.
    """
    first = os.getpid() * 97 % len(_PORTS)
    for offset in range(len(_PORTS)):
        port = _PORTS[(first + offset) % len(_PORTS)]
        mark = socket.socket(type=socket.SOCK_DGRAM)
        try:
            mark.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        _held.append(mark)
        return port
    raise OSError(f"every port of 127.0.0.1 from {_PORTS.start} to {_PORTS.stop - 1} is taken")


def wait_until(is_true: Callable[[], bool], *, timeout_seconds: float, what: str, poll_seconds: float = 0.05) -> None:
    """Returns as soon as `is_true()` holds; raises TimeoutError naming `what` otherwise."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout_seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_seconds:g} s in vain until {what}")
        pause.wait(poll_seconds)


def http_status(
    url: str, *, headers: Mapping[str, str] | None = None, context=None, timeout_seconds: float = 30.0
) -> int | None:
    """The status of one GET, or None where nothing answers."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):  # the latter: an answer that was cut
        return None


class ServerProcess:
    """One program with its log file; the same command line each time it is started."""

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        assert not self.is_running, f"{self.command[0]} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )

    def wait_ready(self, is_ready: Callable[[], bool], *, timeout_seconds: float) -> None:
        """Returns when `is_ready()` holds; fails with the end of the log if the program ends or takes too long."""

        def ready_or_dead() -> bool:
            if not self.is_running:
                raise RuntimeError(f"{self.command[0]} ended before it was ready; its log ends:\n{self.log_tail()}")
            return is_ready()

        try:
            wait_until(ready_or_dead, timeout_seconds=timeout_seconds, what=f"{self.command[0]} is ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its log ends:\n{self.log_tail()}") from error

    def terminate(self, *, timeout_seconds: float = 60.0) -> int | None:
        """Ends the program as an operator would (SIGTERM), or kills it after the time-out; returns its exit code."""
        if self._process is None or self._process.poll() is not None:
            return self._process.returncode if self._process else None
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int | None:
        """Ends the program as a crash would (SIGKILL)."""
        if self._process is None:
            return None
        self._process.kill()
        return self._process.wait()

    def pause(self) -> None:
        """The program keeps its sockets but answers nothing (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # the signal acts a moment after it was sent

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log_tail(self, lines: int = 15) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(line[:400] for line in self.log.read_text(errors="replace").splitlines()[-lines:])
