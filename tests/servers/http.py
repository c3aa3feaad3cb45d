"""A loopback proxy in front of a real server that misbehaves on demand: error answers, delays, cut connections.

The service under test talks to it over real sockets; what no fault matches goes to the real server and comes back.
"""

import http.client
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "host", "content-length", "accept-encoding"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to a request that matches, in place of (or before) the real answer."""

    method: str = ""
    """Empty: any."""
    path_contains: str = ""
    status: int | None = None
    """Answer this status without asking the real server."""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    until: threading.Event | None = None
    """Wait first until this is set, or the proxy stops: slower than any time-out, on any machine."""
    rewrite: Callable[[bytes], bytes] | None = None
    """The real server's answer with its body changed."""
    lose_answer: bool = False
    """The real server does what was asked, and the connection is cut before the answer: the ambiguous failure."""
    times: int | None = None
    """Strike this often, then let pass; None: until cleared."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request as it arrived, the status that was answered (0: the connection was cut), and what the real server
    had answered (0: it was not asked, or gave no answer)."""

    method: str
    path: str
    status: int
    upstream_status: int = 0


class FaultyProxy:
    """`url` stands in for the real server at `upstream`, from `start` to `stop`."""

    def __init__(self, upstream: str, *, context: ssl.SSLContext | None = None) -> None:
        self._upstream = urlsplit(upstream)
        self._context = context
        self._lock = threading.Lock()
        self._faults: list[list[Any]] = []
        self._halt = threading.Event()
        self.seen: list[Seen] = []
        """In the order of the answers."""
        self.n_arrived = 0
        """Requests, also those that are not answered yet."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                proxy._serve(self)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def strike(self, fault: Fault) -> None:
        """Later faults are asked first."""
        with self._lock:
            self._faults.insert(0, [fault, fault.times])

    def clear(self) -> None:
        """Everything passes again."""
        with self._lock:
            self._faults.clear()

    def requests(self, method: str, path_contains: str = "") -> list[Seen]:
        return [one for one in self.seen if one.method == method and path_contains in one.path]

    def _matching(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.n_arrived += 1
            for entry in self._faults:
                fault, left = entry
                if fault.method in ("", method) and fault.path_contains in path and left != 0:
                    entry[1] = None if left is None else left - 1
                    return fault
        return None

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        fault = self._matching(handler.command, handler.path)
        while fault and fault.until and not fault.until.is_set() and not self._halt.is_set():
            fault.until.wait(0.05)
        if fault and fault.status is not None:
            self._answer(handler, fault.status, fault.headers, fault.body)
            return
        try:
            status, headers, answer = self._ask_upstream(handler, body)
        except (OSError, http.client.HTTPException):
            self._cut(handler)
            return
        if fault and fault.lose_answer:
            self._cut(handler, status)
            return
        body = fault.rewrite(answer) if fault and fault.rewrite else answer
        self._answer(handler, status, headers, body, status)

    def _ask_upstream(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        secure = self._upstream.scheme == "https"
        connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(self._upstream.netloc, timeout=60, context=self._context)
            if secure
            else http.client.HTTPConnection(self._upstream.netloc, timeout=60)
        )
        headers = {key: value for key, value in handler.headers.items() if key.lower() not in _HOP_BY_HOP}
        try:
            connection.request(handler.command, handler.path, body or None, headers)
            answer = connection.getresponse()
            kept = {key: value for key, value in answer.getheaders() if key.lower() not in _HOP_BY_HOP}
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _answer(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        upstream_status: int = 0,
    ) -> None:
        self._note(handler, status, upstream_status)
        try:
            handler.send_response(status)
            for key, value in {"Content-Type": "application/json", **headers}.items():
                handler.send_header(key, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            handler.close_connection = True  # the client gave up first

    def _cut(self, handler: BaseHTTPRequestHandler, upstream_status: int = 0) -> None:
        self._note(handler, 0, upstream_status)
        handler.close_connection = True

    def _note(self, handler: BaseHTTPRequestHandler, status: int, upstream_status: int) -> None:
        seen = Seen(method=handler.command, path=handler.path, status=status, upstream_status=upstream_status)
        self.seen.append(seen)
