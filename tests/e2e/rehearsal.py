"""A whole world in compressed time: gateway -> Prometheus -> `headstart run` -> API server -> pods -> gateway.

Everything is a process of its own except the fake kubelet. One wall second is `scale` seconds of the trace.
"""

import csv
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.e2e.traffic import STEP, write_trace
from tests.servers.api import ApiError
from tests.servers.cluster import TOKENS, Cluster
from tests.servers.kubelet import FakeKubelet
from tests.servers.manifests import deployment
from tests.servers.processes import ServerProcess, free_port, http_status, wait_until
from tests.servers.prometheus import Prometheus, Series

NAME = "chat"
SCRAPE_SECONDS = 1.0
"""At sixty times the speed this is a minute of the trace: rates are means over the last four minutes."""
PER_REPLICA = 2.5
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was to be seen at one moment of the trace."""

    at: datetime
    demand: float
    ready: int
    desired: int


class Rehearsal:
    """Built, then `start_world`, then `start_service`; `stop` ends whatever runs."""

    def __init__(
        self,
        *,
        folder: Path,
        cluster: Cluster,
        kubelet: FakeKubelet,
        prometheus: Prometheus,
        namespace: str,
        trace: tuple[list[datetime], np.ndarray],
        begin: datetime,
        scale: float,
        startup: timedelta,
    ) -> None:
        self.folder, self.cluster, self.kubelet, self.prometheus = folder, cluster, kubelet, prometheus
        self.namespace, self.scale, self.startup, self._trace = namespace, scale, startup, trace
        self.trace_file = folder / "trace.csv"
        write_trace(self.trace_file, *trace)
        self.samples: list[Sample] = []
        self.begin = begin
        self._wall_origin = 0.0
        self._halt = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._exporter: ServerProcess | None = None
        self._exporter_port = free_port()
        self.service: ServerProcess | None = None
        self.url = f"http://127.0.0.1:{free_port()}"

    # The world

    def start_world(self, *, replicas: int) -> None:
        """Gateway, history and scrapes, and a deployment whose `replicas` are ready; the trace stands at `begin`."""
        api = self.cluster.api()
        self.kubelet.startup_seconds = self.startup.total_seconds() / self.scale
        api.create(f"/apis/apps/v1/namespaces/{self.namespace}/deployments", deployment(NAME, replicas))
        wait_until(lambda: self.ready() == replicas, timeout_seconds=60, what=f"{replicas} replicas are ready")
        self._wall_origin = time.time()
        self._exporter = self._gateway()
        self._exporter.start()
        metrics = f"http://127.0.0.1:{self._exporter_port}/metrics"
        self._exporter.wait_ready(lambda: http_status(metrics) == 200, timeout_seconds=60)
        self.prometheus.scrape([f"127.0.0.1:{self._exporter_port}"], interval_seconds=SCRAPE_SECONDS)
        self.prometheus.backfill(self._history())
        self.prometheus.start()
        self.prometheus.wait_for("rate(gateway_good_requests_total[5s])")
        self._watcher.start()

    def now(self) -> datetime:
        """The trace's time."""
        return self.begin + timedelta(seconds=(time.time() - self._wall_origin) * self.scale)

    def wait_for_time(self, moment: datetime) -> None:
        """Returns when the trace stands at `moment`; fails at once if a process has ended."""

        def reached() -> bool:
            for process in (self._exporter, self.service):
                if process is not None and not process.is_running:
                    raise RuntimeError(f"{process.command[0]} has ended; its log ends:\n{process.log_tail()}")
            return self.now() >= moment

        wall = (moment - self.now()).total_seconds() / self.scale
        wait_until(reached, timeout_seconds=max(wall, 0) + 10, what=f"the trace stands at {moment}", poll_seconds=0.2)

    def ready(self) -> int:
        return int(self._deployment().get("status", {}).get("readyReplicas", 0))

    def desired(self) -> int:
        return int(self._deployment()["spec"]["replicas"])

    def between(self, start: datetime, end: datetime) -> list[Sample]:
        """What was seen from `start` to `end`, and the first that was seen after it: never nothing."""
        after: list[Sample] = []

        def is_seen_to_the_end() -> bool:
            after[:] = [sample for sample in list(self.samples) if sample.at >= end]
            return bool(after)

        wait_until(is_seen_to_the_end, timeout_seconds=60, what=f"it was looked at the replicas after {end}")
        return [*(sample for sample in self.samples if start <= sample.at < end), after[0]]

    # The service

    def start_service(
        self,
        spec: Mapping[str, Any],
        *,
        prometheus_url: str | None = None,
        kubernetes_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        store: Path | None = None,
    ) -> None:
        """`headstart run` enforces a policy for the deployment, with its first turn done."""
        policies = self.folder / "policies"
        policies.mkdir(exist_ok=True)
        policy = {
            "apiVersion": "headstart.dev/v1alpha1",
            "kind": "InferenceScalingPolicy",
            "metadata": {"name": NAME, "namespace": self.namespace},
            "spec": dict(spec),
        }
        (policies / f"{NAME}.yaml").write_text(yaml.safe_dump(policy))
        kubeconfig = self.cluster.kubeconfig_of("admin", server=kubernetes_url, name=f"service-{self.namespace}")
        self.service = ServerProcess(
            [
                Path(sys.executable).parent / "headstart",
                "run",
                f"--policies={policies}",
                f"--store=sqlite:///{store or self.folder / 'headstart.db'}",
                f"--prometheus-url={prometheus_url or self.prometheus.url}",
                f"--kubeconfig={kubeconfig}",
                f"--http={self.url.removeprefix('http://')}",
                f"--time-scale={self.scale:g}",
            ],
            log=self.folder / "headstart.log",
            environment={
                "OMP_NUM_THREADS": "1",
                "HEADSTART_PROMETHEUS_SCRAPE_INTERVAL": f"{round(SCRAPE_SECONDS * 1000)}ms",
                **(environment or {}),
            },
        )
        self.service.start()
        self.service.wait_ready(lambda: http_status(f"{self.url}/readyz") == 200, timeout_seconds=60)

    def end_service(self) -> None:
        """As an operator would: its last turn is finished, and nothing is ordered from then on."""
        assert self.service is not None
        assert self.service.terminate(timeout_seconds=60) == 0

    def decisions(self) -> list[dict[str, Any]]:
        """The service's own last decisions, newest first, as its API tells them."""
        url = f"{self.url}/api/v1/endpoints/{self.namespace}/{NAME}/decisions"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return list(json.load(answer))

    def metric(self, name: str, **labels: str) -> float:
        """One of the service's own counters or gauges, summed over what `labels` leave open; 0 while absent."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            rows = [row for row in answer.read().decode().splitlines() if row.startswith((f"{name}{{", f"{name} "))]
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(row.split()[-1]) for row in rows if all(label in row for label in wanted))

    def events(self) -> list[dict[str, Any]]:
        found = self.cluster.api().get(f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [event for event in found if event["source"].get("component") == "headstart"]

    def stop(self) -> None:
        self._halt.set()
        if self._watcher.is_alive():
            self._watcher.join(timeout=10)
        for process in (self.service, self._exporter):
            if process is not None:
                process.terminate(timeout_seconds=10)
        self.prometheus.process.kill()

    def write_samples(self) -> Path:
        """What was seen, as CSV beside the logs: for a person who asks why a run failed."""
        path = self.folder / "samples.csv"
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["at", "demand", "ready", "desired"])
            rows.writerows((one.at.isoformat(), f"{one.demand:.3f}", one.ready, one.desired) for one in self.samples)
        return path

    def _watch(self) -> None:
        start, per_second = self._trace[0][0], self._trace[1]
        while not self._halt.wait(0.2):
            try:
                found = self._deployment()
            except (OSError, ApiError):
                continue  # the API server is away, or on its way out
            at = self.now()
            self.samples.append(
                Sample(
                    at=at,
                    demand=float(per_second[min(int((at - start) / STEP), len(per_second) - 1)]),
                    ready=int(found.get("status", {}).get("readyReplicas", 0)),
                    desired=int(found["spec"]["replicas"]),
                )
            )

    def _deployment(self) -> dict[str, Any]:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{NAME}"
        return dict(self.cluster.api().get(path))

    def _gateway(self) -> ServerProcess:
        return ServerProcess(
            [
                sys.executable,
                "-m",
                "tests.e2e.exporter",
                f"--port={self._exporter_port}",
                f"--trace={self.trace_file}",
                f"--wall-origin={self._wall_origin}",
                f"--trace-origin={self.begin.isoformat()}",
                f"--scale={self.scale}",
                f"--per-replica={PER_REPLICA}",
                f"--kubernetes={self.cluster.url}",
                f"--token={TOKENS['admin']}",
                f"--certificate-authority={self.cluster.certificate_authority}",
                f"--namespace={self.namespace}",
                f"--name={NAME}",
            ],
            log=self.folder / "exporter.log",
            environment={"PYTHONPATH": str(ROOT)},
        )

    def _history(self) -> list[Series]:
        """The trace before `begin`, as scrapes of the same gateway would have left it."""
        starts, per_second = self._trace
        n = int((self.begin - starts[0]) / STEP)
        arrived = np.concatenate([[0.0], np.cumsum(per_second[:n])]) * STEP.total_seconds()
        elapsed = np.arange(0.0, n * STEP.total_seconds(), SCRAPE_SECONDS * self.scale)
        counted = np.interp(elapsed, np.arange(n + 1) * STEP.total_seconds(), arrived)
        labels = {"namespace": self.namespace, "service": NAME, "code": "200"}
        first = starts[0]
        samples = [
            (self.wall(first + timedelta(seconds=float(after))), float(count))
            for after, count in zip(elapsed, counted, strict=True)
        ]
        return [Series(metric="http_requests", kind="counter", labels=labels, samples=samples)]

    def wall(self, at: datetime) -> datetime:
        """When the trace stands, or stood, at a moment of its own."""
        seconds = self._wall_origin + (at - self.begin).total_seconds() / self.scale
        return datetime.fromtimestamp(seconds, at.tzinfo)
