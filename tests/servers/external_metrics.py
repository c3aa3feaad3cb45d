"""The metrics server that KEDA registers with the API server, played: an HPA's external metrics come from a function.

The API server passes `external.metrics.k8s.io` on to it over TLS, with the certificate that the API server itself made.
"""

import json
import re
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.servers.cluster import Cluster
from tests.servers.processes import wait_until

GROUP = "external.metrics.k8s.io"
_BASE = f"/apis/{GROUP}/v1beta1"
_VALUE = re.compile(rf"{_BASE}/namespaces/([^/?]+)/([^/?]+)")
_REGISTRATIONS = "/apis/apiregistration.k8s.io/v1/apiservices"
_NAME = f"v1beta1.{GROUP}"


class NoValue(Exception):
    """There is no value; the words go to the HPA."""


class ExternalMetrics:
    """`value(namespace, metric)` is asked for each value; it may raise NoValue. Registered while it is entered."""

    def __init__(self, cluster: Cluster, namespace: str, value: Callable[[str, str], int]) -> None:
        self._api = cluster.api()
        self._namespace = namespace

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = _VALUE.match(self.path)
                if found is None:
                    self._answer(200, _resources())
                    return
                try:
                    self._answer(200, _values(found[2], value(found[1], found[2])))
                except NoValue as error:
                    self._answer(500, {"kind": "Status", "apiVersion": "v1", "code": 500, "message": str(error)})

            def log_message(self, *_: object) -> None:
                pass

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = cluster.certificate_authority
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        port = self._server.server_address[1]
        # An address of loopback may not stand in Endpoints; a name may be any.
        service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
        self._api.create(
            f"/api/v1/namespaces/{self._namespace}/services",
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "keda"}, "spec": service},
        )
        registration = {
            "group": GROUP,
            "version": "v1beta1",
            "service": {"namespace": self._namespace, "name": "keda", "port": port},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        }
        self._api.create(
            _REGISTRATIONS,
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": _NAME},
                "spec": registration,
            },
        )
        wait_until(self._is_available, timeout_seconds=60, what=f"{_NAME} is available")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._api.delete(f"{_REGISTRATIONS}/{_NAME}")
        self._server.shutdown()
        self._server.server_close()

    def _is_available(self) -> bool:
        status = self._api.get(f"{_REGISTRATIONS}/{_NAME}").get("status", {})
        return any(one["type"] == "Available" and one["status"] == "True" for one in status.get("conditions", ()))


def _resources() -> dict[str, Any]:
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/v1beta1", "resources": []}


def _values(metric: str, value: int) -> dict[str, Any]:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    item = {"metricName": metric, "metricLabels": {}, "timestamp": at, "value": str(value)}
    return {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/v1beta1", "metadata": {}, "items": [item]}
