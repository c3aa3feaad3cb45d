"""Demand from a real Prometheus: what was seen, as it was, and what was not seen as unknown."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from forecaster.series import DemandSeries
from scaler.adapters.clock import ScaledClock
from scaler.adapters.prometheus.client import PrometheusClient
from scaler.adapters.prometheus.connection import Connection
from scaler.adapters.prometheus.presets import PRESETS, QueryContext, fill
from scaler.adapters.prometheus.source import PrometheusSource, SourceSettings
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.errors import QueryRejected, SourceUnavailable
from tests.builders import MINUTE, SECOND, a_policy
from tests.servers.http import Fault, FaultyProxy
from tests.servers.prometheus import Prometheus, Series

HOUR = timedelta(hours=1)
SCRAPE = 15 * SECOND
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 30 * HOUR
END = START + 3 * HOUR
RESET = START + HOUR
GAP = (START + 2 * HOUR, START + 2 * HOUR + 10 * MINUTE)


def counter(name: str, labels: dict[str, str], per_second: float, **more: datetime) -> Series:
    """A counter scraped every 15 s; `reset_at`: it starts anew there."""
    samples = []
    at, total = START, 1000.0
    while at <= END:
        if at == more.get("reset_at"):
            total = 0.0
        if not ("gap" in more and GAP[0] < at < GAP[1]):
            samples.append((at, round(total, 6)))
        at, total = at + SCRAPE, total + per_second * 15
    return Series(metric=name, kind="counter", labels=labels, samples=samples)


def gauge(name: str, labels: dict[str, str], value: float) -> Series:
    n = int((END - START) / SCRAPE) + 1
    return Series(metric=name, kind="gauge", labels=labels, samples=[(START + i * SCRAPE, value) for i in range(n)])


def growing_gauge(name: str, labels: dict[str, str], per_second: float) -> Series:
    n = int((END - START) / SCRAPE) + 1
    samples = [(START + i * SCRAPE, per_second * 15 * i) for i in range(n)]
    return Series(metric=name, kind="gauge", labels=labels, samples=samples)


def http(service: str, per_second: float, **more: datetime) -> Series:
    return counter("http_requests", {"namespace": "prod", "service": service, "code": "200"}, per_second, **more)


def a_history() -> list[Series]:
    model = {"namespace": "prod", "model_name": "llm"}
    return [
        http("chat", 2.0, reset_at=RESET, gap=GAP[0]),
        counter("http_requests", {"namespace": "prod", "service": "chat", "code": "503"}, 1.0, gap=GAP[0]),
        http("image", 0.0),
        http("embed", 5.0),
        http('odd\\".name', 4.0),  # the text format wants the quote escaped
        gauge("http_requests_queued", {"namespace": "prod", "service": "chat"}, 7.0),
        counter("vllm:time_to_first_token_seconds_count", {**model, "pod": "a"}, 1.5),
        counter("vllm:time_to_first_token_seconds_count", {**model, "pod": "b"}, 1.5),
        growing_gauge("vllm:num_requests_waiting", {**model, "pod": "a"}, 0.25),
        gauge("vllm:num_requests_waiting", {**model, "pod": "b"}, 4.0),
        counter("vllm:prompt_tokens", model, 1500.0),
        counter("vllm:generation_tokens", model, 600.0),
        counter("vllm:request_prompt_tokens_sum", model, 1000.0),
        counter("vllm:request_prompt_tokens_count", model, 2.0),
        counter("vllm:request_generation_tokens_sum", model, 400.0),
        counter("vllm:request_generation_tokens_count", model, 2.0),
        gauge("vllm:num_requests_running", {**model, "pod": "a"}, 10.0),
        gauge("vllm:num_requests_running", {**model, "pod": "b"}, 16.0),
        gauge("vllm:kv_cache_usage_perc", {**model, "pod": "a"}, 0.5),
        gauge("vllm:kv_cache_usage_perc", {**model, "pod": "b"}, 0.9),
        counter("sglang:prompt_tokens", {**model, "model_name": "first"}, 50.0),
        counter("sglang:generation_tokens", {**model, "model_name": "first"}, 5.0),
        gauge("sglang:num_queue_reqs", {**model, "model_name": "first"}, 3.0),
        *(
            Series(
                metric="vllm:time_to_first_token_seconds_bucket",
                kind="gauge",  # text that promtool takes as it stands
                labels={**model, "le": le},
                samples=[(START + i * SCRAPE, share * i) for i in range(721)],
            )
            for le, share in (("1.0", 90.0), ("2.0", 100.0), ("+Inf", 100.0))
        ),
    ]


@pytest.fixture(scope="module")
def server(prometheus_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    running = Prometheus(prometheus_programs, tmp_path_factory.mktemp("prometheus"))
    running.backfill(rename_counts(a_history()))
    running.start()
    yield running
    running.process.kill()


def rename_counts(series: list[Series]) -> list[Series]:
    """Counts and sums of histograms have no suffix of their own: they are back-filled as plain samples."""
    return [
        Series(metric=one.metric, kind="gauge", labels=one.labels, samples=one.samples)
        if one.metric.endswith(("_count", "_sum"))
        else one
        for one in series
    ]


@pytest.fixture
def proxy(server: Prometheus) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.url) as running:
        yield running


def a_source(url: str, **more: object) -> PrometheusSource:
    connection = Connection(url=url, timeout_seconds=30.0, attempts=1, backoff_seconds=0.001)
    settings = SourceSettings(scrape_interval=SCRAPE, recent_span=10 * MINUTE)
    return PrometheusSource(PrometheusClient(connection), settings, **more)  # type: ignore[arg-type]


def http_policy(name: str, **demand: object) -> ScalingPolicy:
    return a_policy({"demand": demand}, name=name)


def own_query(name: str, query: str) -> ScalingPolicy:
    return http_policy(name, query=query)


def between(series: DemandSeries, start: datetime, end: datetime) -> np.ndarray:
    return series.since(start).until(end).values


CHAT, IMAGE, EMBED = (EndpointId("prod", name) for name in ("chat", "image", "embed"))
ALL = [http_policy(name) for name in ("chat", "image", "embed", "ghost")]


def test_one_range_query_brings_the_history_of_all_endpoints(proxy: FaultyProxy) -> None:
    found = a_source(proxy.url).history(ALL, START, END, MINUTE)
    assert len(proxy.requests("GET", "/api/v1/query_range")) == 1
    assert set(found) == {CHAT, IMAGE, EMBED}
    np.testing.assert_allclose(between(found[EMBED], START + 5 * MINUTE, END), 5.0, rtol=1e-6)
    assert found[EMBED].step == MINUTE


def test_rejected_requests_are_demand(proxy: FaultyProxy) -> None:
    found = a_source(proxy.url).history(ALL, START, END, MINUTE)
    np.testing.assert_allclose(between(found[CHAT], START + 5 * MINUTE, RESET - 5 * MINUTE), 3.0, rtol=1e-6)


def test_a_counter_that_stands_still_is_zero_and_an_endpoint_without_series_is_absent(server: Prometheus) -> None:
    found = a_source(server.url).history(ALL, START + 5 * MINUTE, END, MINUTE)
    assert found[IMAGE].values.tolist() == [0.0] * 175
    assert EndpointId("prod", "ghost") not in found


def test_a_gap_is_nan_and_never_zero(server: Prometheus) -> None:
    chat = a_source(server.url).history(ALL, START, END, MINUTE)[CHAT]
    assert np.isnan(between(chat, GAP[0] + 2 * MINUTE, GAP[1] - MINUTE)).all()
    around = np.concatenate([between(chat, START + 5 * MINUTE, GAP[0]), between(chat, GAP[1] + 2 * MINUTE, END)])
    assert not np.isnan(around).any()
    seen = chat.values[~np.isnan(chat.values)]
    assert (seen > 1.9).all()


def test_a_counter_reset_is_no_spike(server: Prometheus) -> None:
    chat = a_source(server.url).history(ALL, START, END, MINUTE)[CHAT]
    around = between(chat, RESET - 5 * MINUTE, RESET + 5 * MINUTE)
    assert 2.3 < around.min() <= around.max() < 3.1  # one scrape's growth is lost, nothing is added


def test_the_unfinished_bin_is_left_out_and_the_grid_is_aligned(server: Prometheus) -> None:
    found = a_source(server.url).history(
        ALL, START + 25 * MINUTE + SECOND, START + 59 * MINUTE + 59 * SECOND, 5 * MINUTE
    )
    assert found[EMBED].start == START + 30 * MINUTE
    assert found[EMBED].end == START + 55 * MINUTE
    np.testing.assert_allclose(found[EMBED].values, 5.0, rtol=1e-6)


def test_long_histories_are_asked_in_chunks_below_the_servers_limit(proxy: FaultyProxy) -> None:
    found = a_source(proxy.url).history(ALL, END - 40 * HOUR, END, 10 * SECOND)
    assert len(proxy.requests("GET", "/api/v1/query_range")) == 2
    assert len(found[EMBED]) == 14_400
    seen = found[EMBED].values[~np.isnan(found[EMBED].values)]
    assert 0.99 * 1080 <= len(seen) <= 1080
    np.testing.assert_allclose(seen[4:], 5.0, rtol=1e-6)  # the first window is not full


def test_without_chunks_the_server_would_refuse(server: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler.adapters.prometheus.client.MOST_POINTS", 20_000)
    with pytest.raises(QueryRejected, match="11,000 points"):
        a_source(server.url).history(ALL, END - 40 * HOUR, END, 10 * SECOND)


def test_selectors_with_other_labels_make_one_query_each_and_values_are_quoted(proxy: FaultyProxy) -> None:
    by_service = http_policy("a", selector={"service": "embed"})
    other = http_policy("b", selector={"service": "embed"})
    odd = http_policy("c", selector={"service": 'odd".name', "namespace": "prod"})
    found = a_source(proxy.url).history([by_service, other, odd, *ALL], START + HOUR, START + 2 * HOUR, MINUTE)
    assert len(proxy.requests("GET", "/api/v1/query_range")) == 2
    for policy, rate in ((by_service, 5.0), (other, 5.0), (odd, 4.0)):
        np.testing.assert_allclose(found[policy.endpoint].values, rate, rtol=1e-6)


def test_thousands_of_endpoints_fit_into_one_address(proxy: FaultyProxy) -> None:
    many = [*ALL, *(http_policy(f"endpoint-number-{i}") for i in range(2000))]
    found = a_source(proxy.url).history(many, END - 10 * MINUTE, END, MINUTE)
    assert set(found) == {CHAT, IMAGE, EMBED}
    assert len(proxy.requests("GET", "/api/v1/query_range")) == 1


def test_a_query_of_its_own_is_sent_as_given(proxy: FaultyProxy) -> None:
    one_series = own_query("one", 'sum(rate(http_requests_total{service="embed"}[2m])) * 2')
    scalar = own_query("two", "scalar(vector(3))")
    found = a_source(proxy.url).history([one_series, scalar], START + HOUR, START + 2 * HOUR, MINUTE)
    np.testing.assert_allclose(found[one_series.endpoint].values, 10.0, rtol=1e-6)
    np.testing.assert_allclose(found[scalar.endpoint].values, 3.0)
    assert len(proxy.requests("GET", "/api/v1/query_range")) == 2


def test_vllm_arrivals_are_first_tokens_plus_the_growth_of_the_queue(server: Prometheus) -> None:
    policy = a_policy({"demand": {"preset": "vllm"}}, name="llm")
    found = a_source(server.url).history([policy], START + HOUR, END, MINUTE)
    np.testing.assert_allclose(found[policy.endpoint].values, 3.25, rtol=1e-3)


def test_concurrency_is_a_level(server: Prometheus) -> None:
    policy = a_policy({"demand": {"preset": "vllm", "unit": "concurrency"}}, name="llm")
    found = a_source(server.url).history([policy], START + HOUR, START + HOUR + MINUTE, MINUTE)
    np.testing.assert_allclose(found[policy.endpoint].values, 10 + 16 + 4 + 0.25 * 3660, rtol=1e-6)


def test_a_reading_holds_the_live_signals_each_from_one_query(proxy: FaultyProxy) -> None:
    policy = a_policy(
        {
            "demand": {"preset": "vllm"},
            "slo": {"latency": {"percentile": 0.9, "below": "2s"}},
            "reactive": {
                "thresholds": [{"signal": "kv_cache_usage", "above": 0.8}, {"signal": "queue_depth", "above": 5}]
            },
        },
        name="llm",
    )
    twin = a_policy(
        {"demand": {"preset": "vllm", "selector": {"namespace": "prod", "model_name": "none"}}}, name="twin"
    )
    reading = a_source(proxy.url).read([policy, twin], END)[policy.endpoint]
    assert reading.recent.end == END
    assert len(reading.recent) == 40
    np.testing.assert_allclose(reading.recent.values, 3.25, rtol=1e-3)
    assert reading.in_flight == 26
    assert reading.queue == pytest.approx(4 + 0.25 * 3 * 3600)
    assert reading.latency_seconds == pytest.approx(1.0)
    assert reading.reactive["kv_cache_usage"] == pytest.approx(0.7)
    assert reading.reactive["queue_depth"] == pytest.approx(reading.queue / 2)
    assert len(proxy.requests("GET", "/api/v1/query_range")) == 1
    assert len(proxy.requests("GET", "/api/v1/query?")) == 5


def test_where_demand_is_in_tokens_so_is_the_queue(server: Prometheus) -> None:
    policy = a_policy({"demand": {"preset": "vllm", "unit": "tokens"}}, name="llm")
    reading = a_source(server.url).read([policy], END)[policy.endpoint]
    np.testing.assert_allclose(reading.recent.values, 2100.0, rtol=1e-3)
    assert reading.queue == pytest.approx((4 + 0.25 * 3 * 3600) * (500 + 200), rel=1e-3)


def test_until_a_request_has_ended_each_that_waits_is_a_token(server: Prometheus) -> None:
    policy = a_policy({"demand": {"preset": "sglang", "unit": "tokens"}}, name="first")
    assert a_source(server.url).read([policy], END)[policy.endpoint].queue == 3


def test_the_next_reading_asks_only_for_what_is_new(proxy: FaultyProxy) -> None:
    source = a_source(proxy.url)
    source.read(ALL, END - MINUTE)
    first = proxy.requests("GET", "/api/v1/query_range")[0]
    readings = source.read(ALL, END)
    second = proxy.requests("GET", "/api/v1/query_range")[1]
    assert steps_asked(first.path) == 40
    assert steps_asked(second.path) == 9  # a minute of 15 s turns, one rate window over again, and one
    np.testing.assert_allclose(readings[EMBED].recent.values, 5.0, rtol=1e-6)
    assert readings[EMBED].recent.end == END


def steps_asked(path: str) -> int:
    params = dict(parse_qsl(urlsplit(path).query))
    return int((float(params["end"]) - float(params["start"])) / float(params["step"])) + 1


def test_a_changed_query_forgets_the_past_of_the_old_one(server: Prometheus) -> None:
    source = a_source(server.url)
    source.read([own_query("one", "vector(1)")], END - MINUTE)
    reading = source.read([own_query("one", "vector(2)")], END)[EndpointId("prod", "one")]
    assert set(reading.recent.values) == {2.0}


def test_a_late_answer_fills_in_what_was_not_known(server: Prometheus) -> None:
    """The reading keeps old values where the server has none any more, and takes new ones where it has."""
    source = a_source(server.url)
    before = source.read(ALL, GAP[0])[CHAT].recent
    after = source.read(ALL, GAP[0] + 2 * MINUTE)[CHAT].recent
    np.testing.assert_array_equal(after.until(GAP[0]).values, before.since(after.start).values)


def test_an_endpoint_that_fell_silent_is_absent_and_the_reason_is_said(server: Prometheus) -> None:
    source = a_source(server.url)
    assert set(source.read(ALL, END + MINUTE)) == {CHAT, IMAGE, EMBED}
    assert source.read(ALL, END + 5 * MINUTE) == {}
    assert "unknown, not zero" in source.problems()[CHAT]


def test_a_stale_gauge_is_unknown(server: Prometheus) -> None:
    reading = a_source(server.url).read([own_query("chat", "vector(1)")], END)[CHAT]
    assert reading.queue == 7
    reading = a_source(server.url).read([own_query("chat", "vector(1)")], END + 3 * MINUTE)[CHAT]
    assert np.isnan(reading.queue)


@pytest.mark.parametrize("query", ["vector(0) / 0", "-vector(1)", "vector(1) / 0", "absent_metric"])
def test_nan_negative_infinite_and_empty_answers_are_unknown(query: str, server: Prometheus) -> None:
    source = a_source(server.url)
    policy = own_query("own", query)
    assert source.history([policy], START, END, MINUTE) == {}
    assert source.read([policy], END) == {}
    assert "unknown" in source.problems()[policy.endpoint]


def test_a_refused_query_touches_no_other_endpoint(server: Prometheus) -> None:
    source = a_source(server.url)
    wrong = own_query("wrong", "sum(rate(")
    several = own_query("several", "http_requests_total")
    assert set(source.read([*ALL, wrong, several], END)) == {CHAT, IMAGE, EMBED}
    assert "parse error" in source.problems()[wrong.endpoint]
    assert "sum(...)" in source.problems()[several.endpoint]


def test_when_every_query_is_refused_the_turn_is_told(server: Prometheus) -> None:
    with pytest.raises(QueryRejected, match="parse error"):
        a_source(server.url).read([own_query("wrong", "sum(rate(")], END)


FAULTS = {
    "down": Fault(status=503),
    "broken": Fault(status=500, body=b"oops"),
    "malformed": Fault(status=200, body=b"{not json"),
    "slow": Fault(until=threading.Event()),
    "cut": Fault(lose_answer=True),
}


@pytest.mark.parametrize("label", FAULTS)
def test_a_server_in_trouble_is_unavailable_and_the_next_turn_goes_on(label: str, proxy: FaultyProxy) -> None:
    timeout_seconds = 2.0 if label == "slow" else 30.0
    connection = Connection(
        url=proxy.url, timeout_seconds=timeout_seconds, history_timeout_seconds=timeout_seconds, attempts=1
    )
    source = PrometheusSource(PrometheusClient(connection), SourceSettings(scrape_interval=SCRAPE))
    proxy.strike(FAULTS[label])
    with pytest.raises(SourceUnavailable):
        source.read(ALL, END)
    with pytest.raises(SourceUnavailable):
        source.history(ALL, START, END, MINUTE)
    proxy.clear()
    assert set(source.read(ALL, END)) == {CHAT, IMAGE, EMBED}


def test_a_moment_of_trouble_is_bridged_by_asking_again(proxy: FaultyProxy) -> None:
    source = PrometheusSource(
        PrometheusClient(Connection(url=proxy.url, attempts=3, backoff_seconds=0.01)), SourceSettings(turn=MINUTE)
    )
    proxy.strike(Fault(status=503, times=2))
    assert set(source.read(ALL, END)) == {CHAT, IMAGE, EMBED}


def test_a_paused_and_a_killed_server_are_unavailable_until_they_are_back(server: Prometheus) -> None:
    connection = Connection(url=server.url, timeout_seconds=3.0, attempts=1)
    source = PrometheusSource(PrometheusClient(connection), SourceSettings(scrape_interval=SCRAPE))
    server.pause()
    with pytest.raises(SourceUnavailable, match="no answer in time"):
        source.read(ALL, END)
    server.resume()
    server.process.kill()
    with pytest.raises(SourceUnavailable, match="refused"):
        source.read(ALL, END)
    server.start()
    assert set(source.read(ALL, END)) == {CHAT, IMAGE, EMBED}


def test_in_scaled_time_queries_go_out_in_wall_time_and_rates_come_back_per_service_second(server: Prometheus) -> None:
    """Three wall hours at factor 60 are 180 service hours: five requests a wall second are 5/60 a service second."""
    origin = datetime(2026, 3, 2, tzinfo=UTC)
    clock = ScaledClock(wall_origin=START, service_origin=origin, factor=60.0)
    source = a_source(server.url, time_scale=clock)
    found = source.history(ALL, origin, origin + 180 * HOUR, 15 * MINUTE)
    assert found[EMBED].start == origin
    assert len(found[EMBED]) == 720
    np.testing.assert_allclose(found[EMBED].values[5:], 5.0 / 60, rtol=1e-6)
    gap = found[CHAT].since(clock.to_service(GAP[0]) + HOUR * 2).until(clock.to_service(GAP[1]) - HOUR)
    assert np.isnan(gap.values).all()
    assert source.read(ALL, clock.to_service(END))[CHAT].queue == 7


def test_every_preset_is_promql_that_the_server_takes(server: Prometheus) -> None:
    client = PrometheusClient(Connection(url=server.url, attempts=1))
    context = QueryContext(by=("a", "b"), matchers='a="x",b=~"y|z"', window_seconds=60, fresh_seconds=120)
    for preset in PRESETS.values():
        signals = [*preset.demand.values(), *preset.per_replica.values()]
        others = [preset.completions, preset.queue, preset.tokens_per_request, preset.in_flight, preset.latency]
        for signal in filter(None, [*signals, *others]):
            query = fill(signal, context)
            assert "$" not in query
            assert client.instant(query, at=END.timestamp()) == []


ARRIVALS = {
    # preset: series that say 3 requests a second, whichever way
    "istio": [
        ("istio_requests_total", {"reporter": "source", "response_code": "200"}, 2.0),
        ("istio_requests_total", {"reporter": "source", "response_code": "503"}, 1.0),
        ("istio_requests_total", {"reporter": "destination", "response_code": "200"}, 2.0),
    ],
    "sglang": [("sglang:num_requests_total", {}, 3.0)],
    "triton": [("nv_inference_request_success", {}, 2.0), ("nv_inference_request_failure", {}, 1.0)],
    "ray-serve": [("ray_serve_deployment_request_counter_total", {}, 3.0)],
    "knative": [("activator_request_count", {}, 3.0), ("revision_request_count", {}, 2.0)],
}


def test_arrivals_of_each_preset_count_what_was_turned_away_and_nothing_twice(
    prometheus_programs: dict[str, Path], tmp_path: Path
) -> None:
    series, policies = [], []
    for name, members in ARRIVALS.items():
        policy = a_policy({"demand": {"preset": name}}, name=f"by-{name}")
        policies.append(policy)
        selector = PRESETS[name].default_selector("prod", policy.metadata.name)
        series += [
            Series(metric=metric, kind="gauge", labels={**selector, **labels}, samples=growth(per_second))
            for metric, labels, per_second in members
        ]
    series.append(
        Series(
            metric="nv_inference_pending_request_count",
            kind="gauge",
            labels=PRESETS["triton"].default_selector("prod", "by-triton"),
            samples=[(at, 6.0) for at, _ in growth(0.0)],
        )
    )
    running = Prometheus(prometheus_programs, tmp_path)
    running.backfill(series)
    running.start()
    try:
        found = a_source(running.url).history(policies, START + 10 * MINUTE, START + 20 * MINUTE, MINUTE)
    finally:
        running.process.kill()
    assert {str(endpoint): one.values.round(6).tolist() for endpoint, one in found.items()} == {
        f"prod/by-{name}": [3.0] * 10 for name in ARRIVALS
    }


def growth(per_second: float) -> list[tuple[datetime, float]]:
    return [(START + i * SCRAPE, per_second * 15 * i) for i in range(120)]
