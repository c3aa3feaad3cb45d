"""Metrics and API server misbehave while `headstart run` is at work: it holds, says why, and goes on by itself."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

import pytest

from tests.e2e.rehearsal import PER_REPLICA, Rehearsal
from tests.servers.cluster import Cluster
from tests.servers.http import Fault, FaultyProxy
from tests.servers.processes import wait_until

SCALE = 60.0
SPEC = {
    "mode": "Enforce",
    "demand": {"preset": "http"},
    "capacity": {"perReplica": PER_REPLICA, "maxConcurrency": 8},
    "startup": {"expected": "2m", "learn": False},
    "replicas": {"min": 1, "max": 16},
    "forecast": {"history": "14d"},
}
FAULT_LASTS = timedelta(minutes=4)
QUICK = {"HEADSTART_PROMETHEUS_TIMEOUT": "500ms"}


def not_a_number(answer: bytes) -> bytes:
    return re.sub(rb'"[0-9.e+-]+"\]', b'"NaN"]', answer)


def nothing(answer: bytes) -> bytes:
    told = json.loads(answer)
    told["data"]["result"] = []
    return json.dumps(told).encode()


@contextmanager
def struck(proxy: FaultyProxy, fault: Fault) -> Iterator[None]:
    proxy.strike(fault)
    yield
    proxy.clear()


@contextmanager
def stopped(rehearsal: Rehearsal) -> Iterator[None]:
    rehearsal.prometheus.stop()
    yield
    rehearsal.prometheus.start()


@contextmanager
def paused(rehearsal: Rehearsal) -> Iterator[None]:
    rehearsal.prometheus.pause()
    yield
    rehearsal.prometheus.resume()


@pytest.mark.timeout(600)
def test_whatever_prometheus_does_replicas_are_held_the_reason_is_told_and_planning_resumes(
    rehearse: Callable[..., Rehearsal],
) -> None:
    rehearsal = rehearse(begin=timedelta(hours=8), scale=SCALE, startup=timedelta(minutes=2))
    rehearsal.start_world(replicas=9)
    with FaultyProxy(rehearsal.prometheus.url) as proxy:
        rehearsal.start_service(SPEC, prometheus_url=proxy.url, environment=QUICK)
        wait_until_planning(rehearsal)
        faults: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "stopped": lambda: stopped(rehearsal),
            "answering too slowly": lambda: paused(rehearsal),
            "answering NaN": lambda: struck(proxy, Fault(rewrite=not_a_number)),
            "answering nothing": lambda: struck(proxy, Fault(rewrite=nothing)),
            "answering 500": lambda: struck(proxy, Fault(status=500, body=b"{}")),
        }
        for label, fault in faults.items():
            holds_before = rehearsal.metric("headstart_holds_total", reason="StaleMetrics")
            with fault():
                wait_until(
                    lambda: newest(rehearsal)["plan"] is None, timeout_seconds=60, what=f"it holds with metrics {label}"
                )
                began, held = rehearsal.now(), rehearsal.desired()
                rehearsal.wait_for_time(began + FAULT_LASTS)
                assert newest(rehearsal)["problem"], label
                assert {s.desired for s in rehearsal.between(began, began + FAULT_LASTS)} == {held}, label
            assert rehearsal.metric("headstart_holds_total", reason="StaleMetrics") > holds_before, label
            wait_until_planning(rehearsal)
        assert "StaleMetrics" in {event["reason"] for event in rehearsal.events() if event["type"] == "Warning"}


@pytest.mark.timeout(600)
def test_whatever_the_api_server_does_no_order_is_lost_or_doubled(
    rehearse: Callable[..., Rehearsal], cluster: Cluster
) -> None:
    rehearsal = rehearse(begin=timedelta(hours=5, minutes=40), scale=SCALE, startup=timedelta(minutes=2))
    rehearsal.start_world(replicas=1)
    with FaultyProxy(cluster.url, context=cluster.ssl_context()) as proxy:
        rehearsal.start_service(SPEC, kubernetes_url=proxy.url)
        wait_until_planning(rehearsal)
        midnight = rehearsal.begin.replace(hour=0, minute=0)
        # All before the ramp: however few orders it takes on a busy machine, the first ones meet every fault.
        proxy.strike(Fault(method="PUT", lose_answer=True, times=1))
        for status in (409, 429, 500):
            proxy.strike(Fault(method="PUT", status=status, body=b"{}", times=2))
        wait_until(
            lambda: {409, 429, 500, 0} <= answered(proxy), timeout_seconds=120, what="each fault has struck an order"
        )
        rehearsal.wait_for_time(midnight + timedelta(hours=6, minutes=20))
        cluster.stop_api_server()
        cluster.start_api_server()
        rehearsal.wait_for_time(midnight + timedelta(hours=7, minutes=10))
        wait_until(
            lambda: rehearsal.desired() * PER_REPLICA >= 20.0, timeout_seconds=60, what="none is missing in the end"
        )
        wait_until(
            lambda: rehearsal.ready() == rehearsal.desired(), timeout_seconds=60, what="what was ordered is ready"
        )
        rehearsal.end_service()
        # One that met the server as it stopped was cut as well, and written by nobody.
        written = [one for one in proxy.requests("PUT", "/scale") if one.upstream_status == 200]
        assert 200 in answered(proxy)
    assert generation(rehearsal) - 1 == len(written), "each order that was written was written once"


def answered(proxy: FaultyProxy) -> set[int]:
    return {one.status for one in proxy.requests("PUT", "/scale")}


def newest(rehearsal: Rehearsal) -> dict:
    return rehearsal.decisions()[0]


def wait_until_planning(rehearsal: Rehearsal) -> None:
    wait_until(
        lambda: newest(rehearsal)["plan"] is not None and not newest(rehearsal)["problem"],
        timeout_seconds=60,
        what="the service plans from fresh metrics",
    )


def generation(rehearsal: Rehearsal) -> int:
    path = f"/apis/apps/v1/namespaces/{rehearsal.namespace}/deployments/chat"
    return int(rehearsal.cluster.api().get(path)["metadata"]["generation"])
