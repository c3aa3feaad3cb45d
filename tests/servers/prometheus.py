"""A real Prometheus on loopback, with history back-filled from OpenMetrics text."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.servers.processes import ServerProcess, free_port, http_status, wait_until


@dataclass(frozen=True, kw_only=True)
class Series:
    """Samples of one series; a counter's metric is named without its ``_total``."""

    metric: str
    kind: str
    """``counter`` (exposed as <metric>_total) or ``gauge``."""
    labels: Mapping[str, str]
    samples: Sequence[tuple[datetime, float]]


def openmetrics_text(series: Iterable[Series]) -> str:
    """The text that `promtool tsdb create-blocks-from openmetrics` reads: families together, time stamps in seconds."""
    families: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        families.setdefault((one.metric, one.kind), []).append(one)
    lines: list[str] = []
    for (metric, kind), members in families.items():
        lines.append(f"# TYPE {metric} {kind}")
        name = f"{metric}_total" if kind == "counter" else metric
        for member in members:
            labels = ",".join(f'{key}="{value}"' for key, value in member.labels.items())
            lines += [f"{name}{{{labels}}} {value!r} {at.timestamp():.3f}" for at, value in member.samples]
    return "\n".join([*lines, "# EOF", ""])


class Prometheus:
    """One Prometheus server over one data folder; it may be stopped, paused and started again, on the same address."""

    def __init__(self, programs: Mapping[str, Path], folder: Path) -> None:
        self._promtool = programs["promtool"]
        self._folder = folder
        self._config = folder / "prometheus.yml"
        self._data = folder / "data"
        self._data.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.scrape((), interval_seconds=1.0)
        self.process = ServerProcess(
            [
                programs["prometheus"],
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._data}",
                "--storage.tsdb.retention.time=10y",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--web.enable-lifecycle",
                "--log.level=warn",
            ],
            log=folder / "prometheus.log",
        )

    def scrape(self, targets: Sequence[str], *, interval_seconds: float) -> None:
        """Writes the configuration: each target is ``host:port`` with ``/metrics``. Takes effect at the next start."""
        config = {
            "global": {
                "scrape_interval": f"{round(interval_seconds * 1000)}ms",
                "scrape_timeout": f"{round(interval_seconds * 1000)}ms",
            },
            "scrape_configs": [{"job_name": "tests", "static_configs": [{"targets": list(targets)}]}],
        }
        self._config.write_text(json.dumps(config))  # JSON is YAML

    def backfill(self, series: Iterable[Series]) -> None:
        """The samples become blocks of the data folder; a running server sees them after a restart."""
        source = self._folder / "backfill.om"
        source.write_text(openmetrics_text(series))
        command = [self._promtool, "tsdb", "create-blocks-from", "openmetrics", source, self._data]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"promtool refused the history: {done.stderr[-2000:]}")
        source.unlink()

    def start(self) -> None:
        """The server answers queries afterwards."""
        self.process.start()
        self.process.wait_ready(lambda: http_status(f"{self.url}/-/ready") == 200, timeout_seconds=60)

    def stop(self) -> None:
        self.process.terminate()

    def pause(self) -> None:
        """Connections are accepted and nothing answers: the slow server."""
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def query(self, promql: str) -> list[dict]:
        """The result of an instant query, as the HTTP API gives it."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return list(json.load(answer)["data"]["result"])

    def wait_for(self, promql: str, *, timeout_seconds: float = 60.0) -> None:
        """Returns once an instant query has a result."""
        wait_until(lambda: bool(self.query(promql)), timeout_seconds=timeout_seconds, what=f"{promql} has a result")
