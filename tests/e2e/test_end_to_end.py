"""The whole loop as processes: a gateway's metrics in Prometheus, `headstart run`, a real control plane, pods, latency.

One minute of the trace is one second on the wall. The trace is the same each day but for noise: an idle hour and a half
at night, then a ramp that is steeper than a replica starts.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.rehearsal import PER_REPLICA, Rehearsal, Sample, shortfall_share
from tests.e2e.traffic import IDLE, RAMP

SCALE = 60.0
STARTUP = timedelta(minutes=12)
BEGIN = timedelta(hours=2, minutes=40)
SETTLED = timedelta(minutes=20)
"""After the ramp's end a reactive scaler may still be behind for a start-up time and a bit."""
SPEC = {
    "mode": "Enforce",
    "target": {"gpusPerReplica": 1, "costPerReplicaHour": 2.5},
    "demand": {"preset": "http"},
    "capacity": {"perReplica": PER_REPLICA, "maxConcurrency": 8},
    "startup": {"expected": "12m"},
    "replicas": {"min": 0, "max": 16},
    "forecast": {"history": "14d"},
    "scaleToZero": {"enabled": True, "minIdle": "10m"},
}


@pytest.mark.timeout(600)
def test_replicas_are_ready_before_the_ramp_and_zero_in_the_idle_window(
    rehearse: Callable[..., Rehearsal], tmp_path: Path
) -> None:
    rehearsal = rehearse(begin=BEGIN, scale=SCALE, startup=STARTUP)
    midnight = rehearsal.begin.replace(hour=0, minute=0)
    idle_start, idle_end = (midnight + moment for moment in IDLE)
    ramp_start, ramp_end = (midnight + moment for moment in RAMP)
    rehearsal.start_world(replicas=0)
    assert waiting(rehearsal) > 0, "without replicas requests wait"
    rehearsal.start_service(SPEC)

    rehearsal.wait_for_time(idle_start)
    assert waiting(rehearsal) == 0, "replicas came and served the queue"
    assert p95_latency_seconds(rehearsal) < 1.0, "the gateway's latency has fallen"

    rehearsal.wait_for_time(ramp_end + SETTLED)
    idle = rehearsal.between(idle_start, idle_end)
    assert min(sample.ready for sample in idle) == 0, "the endpoint reaches zero in its idle window"
    returns = rehearsal.between(idle_end, idle_end + timedelta(minutes=5))
    assert min(sample.ready for sample in returns) >= 1, "and one is ready again before the traffic returns"

    ramp = rehearsal.between(ramp_start, ramp_end + SETTLED)
    ours = shortfall_share(ramp, lambda sample: sample.ready * PER_REPLICA)
    hpa = shortfall_share(hpa_samples(rehearsal, tmp_path, ramp_start, ramp_end), lambda one: one.ready * PER_REPLICA)
    assert ours < 0.02, f"replicas are ready before the ramp: short of {ours:.1%} of the demand"
    assert hpa > 0.05, f"the HPA is not: short of only {hpa:.1%} of the demand"

    assert orders_written(rehearsal) == orders_decided(rehearsal), "no order is lost and none doubled"
    assert rehearsal.events(), "decisions show on the deployment"


def waiting(rehearsal: Rehearsal) -> float:
    """Requests in the gateway's queue, as Prometheus knows it."""
    (found,) = rehearsal.prometheus.query("http_requests_queued")
    return float(found["value"][1])


def p95_latency_seconds(rehearsal: Rehearsal) -> float:
    promql = "histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[5s])))"
    (found,) = rehearsal.prometheus.query(promql)
    return float(found["value"][1])


def orders_written(rehearsal: Rehearsal) -> int:
    """Every change of a deployment's spec is one more generation; it was made with the first."""
    path = f"/apis/apps/v1/namespaces/{rehearsal.namespace}/deployments/chat"
    return int(rehearsal.cluster.api().get(path)["metadata"]["generation"]) - 1


def orders_decided(rehearsal: Rehearsal) -> int:
    return int(rehearsal.metric("headstart_actuations_total", outcome="ordered"))


def hpa_samples(rehearsal: Rehearsal, folder: Path, ramp_start: datetime, ramp_end: datetime) -> list[Sample]:
    """What an HPA would have had ready on the same trace with the same start-up time."""
    out = folder / "replay"
    command = [
        str(Path(sys.executable).parent / "headstart"),
        "replay",
        f"--policy={rehearsal.folder / 'policies' / 'chat.yaml'}",
        f"--trace={rehearsal.trace_file}",
        f"--out={out}",
        "--warmup=14d",
        "--baseline=hpa",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert "hpa" in json.dumps(json.loads((out / "summary.json").read_text()))
    with (out / "timeline-hpa.csv").open() as file:
        rows = [(_moment(row["timestamp"]), row) for row in csv.DictReader(file)]
    return [
        Sample(at=at, demand=float(row["demand"]), ready=int(row["ready"]), desired=int(row["desired"]))
        for at, row in rows
        if ramp_start <= at < ramp_end + SETTLED
    ]


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(float(text), UTC) if text.replace(".", "").isdigit() else datetime.fromisoformat(text)
