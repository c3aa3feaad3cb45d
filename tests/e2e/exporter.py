"""An inference gateway as a process: replays a trace in compressed time in front of the pods that are really ready.

Requests wait in one queue; each ready pod takes `--per-replica` of them a second. So what it exports answers to what
the cluster does: without ready pods the queue grows, with enough it is empty. Metrics have the generic HTTP names.
"""

import argparse
import json
import ssl
import threading
import time
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from tests.e2e.traffic import STEP, read_trace
from tests.servers.api import ApiError, KubernetesApi

TICK_SECONDS = 0.05
POLL_PODS_SECONDS = 0.1
SERVICE_SECONDS = 0.5
"""A request's latency without waiting."""
GOOD_WAIT_SECONDS = 10.0
BUCKETS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)


class Gateway:
    """The state of the queue. All times and rates are the trace's own, not the wall's."""

    def __init__(self, start: datetime, per_second: np.ndarray, per_replica: float) -> None:
        self._start = start
        self._per_second = per_second
        self._per_replica = per_replica
        self._lock = threading.Lock()
        self.ready = 0
        self._at: datetime | None = None
        self._queue = 0.0
        self._arrived = 0.0
        self._good = 0.0
        self._latency_buckets = np.zeros(len(BUCKETS) + 1)
        self._latency_sum = 0.0

    def demand(self, at: datetime) -> float:
        """Requests per second at a moment; the trace repeats its last day after its end."""
        index = int((at - self._start) / STEP)
        n = len(self._per_second)
        return float(self._per_second[index if index < n else n - 1440 + (index - n) % 1440])

    def advance(self, now: datetime) -> None:
        """Requests arrive and are served up to `now`, by the pods that are ready now."""
        with self._lock:
            if self._at is None:
                self._at = now
            seconds = (now - self._at).total_seconds()
            if seconds <= 0:
                return
            arrived = self.demand(now) * seconds
            rate = self.ready * self._per_replica
            wait_seconds = self._queue / rate if rate else np.inf if self._queue + arrived else 0.0
            served = min(self._queue + arrived, rate * seconds)
            self._queue += arrived - served
            self._arrived += arrived
            self._good += arrived if wait_seconds <= GOOD_WAIT_SECONDS and rate else 0.0
            if served:
                latency = SERVICE_SECONDS + wait_seconds
                self._latency_buckets[np.searchsorted(BUCKETS, latency)] += served
                self._latency_sum += latency * served
            self._at = now

    def metrics(self, labels: str) -> str:
        """The Prometheus text format."""
        with self._lock:
            rows = [
                "# TYPE http_requests_total counter",
                f'http_requests_total{{{labels},code="200"}} {self._arrived}',
                "# TYPE http_requests_queued gauge",
                f"http_requests_queued{{{labels}}} {self._queue}",
                "# TYPE http_requests_in_flight gauge",
                f"http_requests_in_flight{{{labels}}} {self.demand(self._at) * SERVICE_SECONDS if self._at else 0.0}",
                "# TYPE gateway_good_requests_total counter",
                f"gateway_good_requests_total{{{labels}}} {self._good}",
                "# TYPE gateway_ready_replicas gauge",
                f"gateway_ready_replicas{{{labels}}} {self.ready}",
                "# TYPE http_request_duration_seconds histogram",
            ]
            total = 0.0
            for bound, count in zip([*map(str, BUCKETS), "+Inf"], self._latency_buckets, strict=True):
                total += count
                rows.append(f'http_request_duration_seconds_bucket{{{labels},le="{bound}"}} {total}')
            rows.append(f"http_request_duration_seconds_sum{{{labels}}} {self._latency_sum}")
            rows.append(f"http_request_duration_seconds_count{{{labels}}} {total}")
        return "\n".join([*rows, ""])


def count_ready(api: KubernetesApi, namespace: str, name: str) -> int:
    """Pods of the deployment that serve: ready and not going."""
    pods = api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app={name}")["items"]
    return sum("deletionTimestamp" not in pod["metadata"] and _is_ready(pod) for pod in pods)


def _is_ready(pod: dict) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def main() -> None:
    options = _options()
    start, per_second = read_trace(options.trace)
    gateway = Gateway(start, per_second, options.per_replica)
    context = ssl.create_default_context(cafile=options.certificate_authority)
    api = KubernetesApi(options.kubernetes, options.token, context)
    halt = threading.Event()

    def follow_pods() -> None:
        while not halt.wait(POLL_PODS_SECONDS):
            try:
                gateway.ready = count_ready(api, options.namespace, options.name)
            except (ApiError, OSError):
                continue  # pods go on serving while the API server is away

    def replay() -> None:
        while not halt.wait(TICK_SECONDS):
            elapsed = timedelta(seconds=(time.time() - options.wall_origin) * options.scale)
            gateway.advance(options.trace_origin + elapsed)

    for work in (follow_pods, replay):
        threading.Thread(target=work, daemon=True).start()
    labels = f'namespace="{options.namespace}",service="{options.name}"'

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            body = gateway.metrics(labels).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    print(json.dumps({"port": options.port}), flush=True)
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--wall-origin", type=float, required=True, help="epoch seconds when the replay is at ...")
    parser.add_argument("--trace-origin", type=datetime.fromisoformat, required=True, help="... this time of the trace")
    parser.add_argument("--scale", type=float, required=True, help="trace seconds per wall second")
    parser.add_argument("--per-replica", type=float, required=True, help="requests a second that one ready pod serves")
    parser.add_argument("--kubernetes", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--certificate-authority", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--name", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
