"""Batch work replayed: in time, and at hardly more than what the work itself takes."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from forecaster.series import DemandSeries, DemandUnit
from scaler.simulator.faults import parse_faults
from scaler.simulator.own import own_advisor
from scaler.simulator.replay import OWN, run_replay
from scaler.simulator.spans import ReplayRequest
from tests.builders import a_policy

MINUTES = 1440
PER_REPLICA = 0.5


def nightly(rng):
    return np.where(np.arange(MINUTES) // 30 == 2, 400.0, 0.0)


def steady(rng):
    return np.full(MINUTES, 60.0)


def bursts(rng):
    return np.where(rng.random(MINUTES) < 0.004, rng.lognormal(7.0, 1.0, MINUTES), 0.0)


def now_and_then(rng):
    return np.where(rng.random(MINUTES) < 0.01, 10.0, 0.0)


def played(shape, deadline, faults=(), baseline="keda"):
    """One day under the policy, after one of the same for history, and the hours that its work takes one replica."""
    rng = np.random.default_rng(4)
    counts = rng.poisson(np.concatenate([shape(rng), shape(rng)]))
    series = DemandSeries(
        unit=DemandUnit.REQUESTS,
        start=datetime(2026, 3, 2, tzinfo=UTC),
        step=timedelta(minutes=1),
        values=counts / 60.0,
    )
    policy = a_policy(
        {
            "workload": "Batch",
            "slo": {"queueWait": deadline},
            "capacity": {"perReplica": PER_REPLICA},
            "startup": {"expected": "150s"},
            "replicas": {"min": 0, "max": 60},
            "scaleToZero": {"enabled": True},
        }
    )
    request = ReplayRequest(
        policies={policy.endpoint: policy},
        traces={policy.endpoint: series},
        warmup=timedelta(days=1),
        baselines=(baseline,),
        with_clairvoyant=False,
        faults=parse_faults(list(faults)),
    )
    return run_replay(request, own_advisor).endpoints[policy.endpoint], counts[MINUTES:].sum() / PER_REPLICA / 3600.0


@pytest.mark.parametrize("deadline", ["30m", "2h", "6h"])
@pytest.mark.parametrize("shape", [nightly, steady, bursts, now_and_then])
def test_a_backlog_is_done_by_its_deadline_at_little_more_than_its_work(shape, deadline):
    result, work_hours = played(shape, deadline)
    own = result.outcomes[OWN]
    assert own.attainment(result.policy.spec.slo.queue_wait.total_seconds()) == 1.0
    a_start_and_two_turns_hours = (150.0 + 2 * 15.0) / 3600.0
    assert own.replica_hours <= 1.1 * work_hours + own.starts * a_start_and_two_turns_hours
    assert own.replica_hours < result.outcomes["keda"].replica_hours


def test_starts_that_fail_and_nodes_that_are_cold_leave_it_in_time():
    result, _ = played(bursts, "1h", faults=("failed-starts:0.2", "cold-nodes:0.5/4m"))
    assert result.outcomes[OWN].attainment(3600.0) >= 0.99


def test_without_metrics_for_a_while_nothing_is_let_go_and_it_is_still_done():
    result, _ = played(nightly, "2h", faults=("metrics-outage:75m/20m",))
    own = result.outcomes[OWN]
    during = own.desired[75 * 4 + 8 : 95 * 4]
    assert len(set(during)) == 1 and during[0] > 0
    assert own.attainment(7200.0) == 1.0


def test_its_reactive_shadow_is_itself():
    result, _ = played(nightly, "2h", baseline="reactive")
    assert np.array_equal(result.outcomes["reactive"].desired, result.outcomes[OWN].desired)
