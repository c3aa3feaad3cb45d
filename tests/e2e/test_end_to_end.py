"""The whole loop as processes: a gateway's metrics in Prometheus, `headstart run`, a real control plane, pods, latency.

One minute of the trace is one second on the wall. The trace is the same each day but for noise: an idle hour and a half
at night, then a ramp that is steeper than a replica starts.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import yaml

from scaler.adapters.traces import read_single
from scaler.domain.policy import ScalingPolicy
from scaler.simulator.replay import run_replay
from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor
from scaler.simulator.spans import ReplayRequest
from scaler.simulator.startups import StartupModel
from tests.e2e.rehearsal import PER_REPLICA, Rehearsal
from tests.e2e.traffic import IDLE, RAMP
from tests.servers.processes import wait_until

SCALE = 60.0
STARTUP = timedelta(minutes=9)
"""Of a pod, once it has a node. The policy expects what nearly every start keeps within, as a learned p95 would be:
also on a machine that is busy for some seconds, which are minutes of this trace."""
BEGIN = timedelta(hours=2, minutes=20)
"""Time enough for a busy machine to start the service and serve the queue before nobody asks."""
SCRAPES_LOST = "15s"
"""So long a busy machine may keep the gateway from answering a scrape in time; what it said before then counts."""
SETTLED = timedelta(minutes=10)
"""After the ramp's end a reactive scaler may still be behind for a start-up time and a bit."""
SPEC = {
    "mode": "Enforce",
    "target": {"gpusPerReplica": 1, "costPerReplicaHour": 2.5},
    "demand": {"preset": "http"},
    "capacity": {"perReplica": PER_REPLICA, "maxConcurrency": 8},
    # The API server stamps whole seconds, which are minutes of this trace: too coarse to learn a start-up time from.
    "startup": {"expected": "15m", "learn": False},
    "replicas": {"min": 0, "max": 16},
    "forecast": {"history": "14d"},
    "scaleToZero": {"enabled": True, "minIdle": "10m"},
}


@pytest.mark.timeout(600)
def test_replicas_are_ready_before_the_ramp_and_zero_in_the_idle_window(
    rehearse: Callable[..., Rehearsal],
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
    assert p95_latency_seconds(rehearsal, idle_start) < 1.0, "the gateway's latency has fallen"

    rehearsal.wait_for_time(ramp_end + SETTLED)
    idle = rehearsal.between(idle_start, idle_end)
    assert min(sample.ready for sample in idle) == 0, "the endpoint reaches zero in its idle window"
    returns = rehearsal.between(idle_end, idle_end + timedelta(minutes=5))
    assert min(sample.ready for sample in returns) >= 1, "and one is ready again before the traffic returns"

    ours = good_share(rehearsal, ramp_start, ramp_end + SETTLED)
    hpa = hpa_good_share(rehearsal, ramp_start, ramp_end + SETTLED)
    print(f"requests of the ramp that waited no longer than promised: ours {ours:.3f}, HPA {hpa:.3f}")
    assert ours > 0.9, "replicas are ready before the ramp"
    assert hpa < 0.8, "on the same trace the HPA's are not"

    # An order is written a moment before it is counted; one that is lost or doubled stays so.
    wait_until(
        lambda: orders_written(rehearsal) == orders_decided(rehearsal),
        timeout_seconds=60,
        what="no order is lost and none doubled",
    )
    assert rehearsal.events(), "decisions show on the deployment"


def waiting(rehearsal: Rehearsal) -> float:
    """Requests in the gateway's queue, as Prometheus knows it."""
    (found,) = rehearsal.prometheus.query(f"last_over_time(http_requests_queued[{SCRAPES_LOST}])")
    return float(found["value"][1])


def p95_latency_seconds(rehearsal: Rehearsal, at: datetime) -> float:
    """Of the requests of the five minutes before."""
    rates = f"rate(http_request_duration_seconds_bucket[5s] @ {rehearsal.wall(at).timestamp():.3f})"
    (found,) = rehearsal.prometheus.query(f"histogram_quantile(0.95, sum by (le) ({rates}))")
    return float(found["value"][1])


def orders_written(rehearsal: Rehearsal) -> int:
    """Every change of a deployment's spec is one more generation; it was made with the first."""
    path = f"/apis/apps/v1/namespaces/{rehearsal.namespace}/deployments/chat"
    return int(rehearsal.cluster.api().get(path)["metadata"]["generation"]) - 1


def orders_decided(rehearsal: Rehearsal) -> int:
    return int(rehearsal.metric("headstart_actuations_total", outcome="ordered"))


def good_share(rehearsal: Rehearsal, start: datetime, end: datetime) -> float:
    """Share of the requests between two moments that waited no longer than promised, as the gateway saw it."""

    def count(metric: str, at: datetime) -> float:
        moment = f"{rehearsal.wall(at).timestamp():.3f}"
        promql = f'last_over_time({metric}{{job="tests"}}[{SCRAPES_LOST}] @ {moment})'
        (found,) = rehearsal.prometheus.query(promql)
        return float(found["value"][1])

    good, asked = (
        count(metric, end) - count(metric, start) for metric in ("gateway_good_requests_total", "http_requests_total")
    )
    return good / asked


def hpa_good_share(rehearsal: Rehearsal, start: datetime, end: datetime) -> float:
    """The same share for an HPA in the simulator, on the same trace with the same start-up time."""
    policy = ScalingPolicy.model_validate(yaml.safe_load((rehearsal.folder / "policies" / "chat.yaml").read_text()))
    trace = read_single(rehearsal.trace_file)
    midnight = start.replace(hour=0, minute=0)
    request = ReplayRequest(
        policies={policy.endpoint: policy},
        traces={policy.endpoint: trace},
        warmup=midnight - trace.start,
        length=end - midnight,
        baselines=("hpa",),
        startup=StartupModel(typical=STARTUP),
        with_own=False,
        with_clairvoyant=False,
    )
    outcome = run_replay(request, lambda *_: SelfReplayAdvisor()).endpoints[policy.endpoint].outcomes["hpa"]
    first = round((start - midnight).total_seconds() / outcome.step_seconds)
    demand, waits = outcome.demand[first:], outcome.wait_seconds[first:]
    return float(demand[waits <= policy.spec.slo.queue_wait.total_seconds()].sum() / demand.sum())
