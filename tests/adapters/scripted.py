"""A loopback HTTP server that answers as a test says and remembers what it was asked."""

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, kw_only=True)
class Asked:
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


class ScriptedServer:
    """`answer` is what comes next, `times` how often before it turns into `then`."""

    def __init__(self, *, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.status, self.body = 200, b"{}"
        self._later: list[tuple[int, bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                server.asked.append(
                    Asked(path=parts.path, params=dict(parse_qsl(parts.query)), headers=dict(self.headers.items()))
                )
                status, body = server._next()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if context is not None:
            scheme = "https"
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def always(self, body: Any, status: int = 200) -> None:
        self._later.clear()
        self.status, self.body = status, body if isinstance(body, bytes) else json.dumps(body).encode()

    def first(self, body: Any, status: int) -> None:
        """One answer before what `always` says."""
        self._later.append((status, body if isinstance(body, bytes) else json.dumps(body).encode()))

    def _next(self) -> tuple[int, bytes]:
        return self._later.pop(0) if self._later else (self.status, self.body)


def a_result(*series: tuple[Mapping[str, str], list[tuple[float, str]]], kind: str = "matrix") -> dict[str, Any]:
    """What the query API answers for these series."""
    entries = [
        {"metric": dict(labels), "values": values} if kind == "matrix" else {"metric": dict(labels), "value": values[0]}
        for labels, values in series
    ]
    return {"status": "success", "data": {"resultType": kind, "result": entries}}
