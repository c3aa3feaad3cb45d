"""The gateway of the end-to-end test answers to the replicas it sees."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.e2e.exporter import Gateway
from tests.e2e.traffic import IDLE, PEAK_PER_SECOND, RAMP, diurnal

START = datetime(2026, 3, 2, tzinfo=UTC)


def gateway(ready: int) -> Gateway:
    """Ten requests a second for ever, 2.5 of them for one replica."""
    made = Gateway(START, np.full(2880, 10.0), per_replica=2.5)
    made.ready = ready
    return made


def value(gateway: Gateway, metric: str) -> float:
    (line,) = [line for line in gateway.metrics('service="chat"').splitlines() if line.startswith(f"{metric}{{")]
    return float(line.split()[-1])


def run(gateway: Gateway, seconds: int) -> None:
    for second in range(seconds + 1):
        gateway.advance(START + timedelta(seconds=second))


def test_enough_replicas_leave_no_queue() -> None:
    enough = gateway(ready=4)
    run(enough, 60)
    assert value(enough, "http_requests_total") == pytest.approx(600)
    assert value(enough, "http_requests_queued") == 0
    assert value(enough, "gateway_good_requests_total") == pytest.approx(600)


def test_too_few_replicas_let_the_queue_and_the_latency_grow() -> None:
    few = gateway(ready=2)
    run(few, 60)
    assert value(few, "http_requests_queued") == pytest.approx(300)
    assert value(few, "gateway_good_requests_total") < 300
    assert value(few, "http_request_duration_seconds_sum") / value(few, "http_request_duration_seconds_count") > 5


def test_without_replicas_everything_waits_and_is_served_later() -> None:
    cold = gateway(ready=0)
    run(cold, 10)
    assert value(cold, "http_requests_queued") == pytest.approx(100)
    cold.ready = 40
    cold.advance(START + timedelta(seconds=12))
    assert value(cold, "http_requests_queued") == 0


def test_the_day_has_an_idle_night_and_a_steep_ramp() -> None:
    _, rate = diurnal(START, 2)
    idle = slice(int(IDLE[0].total_seconds() // 60), int(IDLE[1].total_seconds() // 60))
    assert rate[idle].max() == 0
    assert rate[idle.stop + 2] > 0
    ramp = [int(moment.total_seconds() // 60) for moment in RAMP]
    assert rate[ramp[0]] < 1.2
    assert rate[ramp[1] + 1] == pytest.approx(PEAK_PER_SECOND, rel=0.15)
