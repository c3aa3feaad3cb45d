"""The tests' own Prometheus: what the other tests lean on."""

from datetime import UTC, datetime, timedelta

from tests.servers.http import Fault, FaultyProxy
from tests.servers.processes import http_status
from tests.servers.prometheus import Prometheus, Series

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)


def history() -> list[Series]:
    minutes = [HOUR + timedelta(minutes=minute) for minute in range(60)]
    labels = {"namespace": "prod", "endpoint": "chat"}
    return [
        Series(
            metric="requests", kind="counter", labels=labels, samples=[(at, 60.0 * i) for i, at in enumerate(minutes)]
        ),
        Series(metric="queue_depth", kind="gauge", labels=labels, samples=[(at, 3.0) for at in minutes]),
    ]


def test_backfilled_history_can_be_queried(prometheus: Prometheus) -> None:
    prometheus.backfill(history())
    prometheus.start()
    at = (HOUR + timedelta(minutes=40)).timestamp()
    rate = prometheus.query(f"sum by (endpoint) (rate(requests_total[10m] @ {at}))")
    assert rate[0]["metric"] == {"endpoint": "chat"}
    assert float(rate[0]["value"][1]) == 1.0  # 60 a minute


def test_it_scrapes_and_answers_again_after_a_stop_and_a_pause(prometheus: Prometheus) -> None:
    prometheus.scrape([f"127.0.0.1:{prometheus.port}"], interval_seconds=1.0)
    prometheus.start()
    prometheus.wait_for("up == 1")
    prometheus.stop()
    assert http_status(f"{prometheus.url}/-/ready") is None
    prometheus.start()
    prometheus.pause()
    assert http_status(f"{prometheus.url}/-/ready", timeout_seconds=1.0) is None
    prometheus.resume()
    prometheus.wait_for("up == 1")


def test_the_faulty_proxy_strikes_as_often_as_asked_and_then_lets_pass(prometheus: Prometheus) -> None:
    prometheus.start()
    with FaultyProxy(prometheus.url) as proxy:
        proxy.strike(Fault(path_contains="/-/ready", status=503, times=2))
        statuses = [http_status(f"{proxy.url}/-/ready") for _ in range(3)]
        assert statuses == [503, 503, 200]
        proxy.strike(Fault(lose_answer=True, times=1))
        assert http_status(f"{proxy.url}/-/ready") is None
        assert [one.status for one in proxy.seen] == [503, 503, 200, 0]
