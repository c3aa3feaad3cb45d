"""The service on a world that is set by hand: what it holds, says and counts when parts of it fail."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from math import isnan
from pathlib import Path

import pytest
import requests
import structlog

from scaler.adapters.store.store import Learned, SqlStore
from scaler.app.bootstrap import Outside, assemble, build_demo_service
from scaler.app.http import HttpServer, build_app, listen
from scaler.app.service import Service
from scaler.app.settings import load_settings
from scaler.domain.decision import ActuationOutcome
from scaler.domain.endpoint import EndpointId
from scaler.errors import ClusterUnavailable, PolicyError, SourceUnavailable
from tests.app.fakes import TURN, FakeClock, FakePolicies, FakeSource, FakeTarget, PlainAdvisor, a_policy

CHAT = EndpointId("prod", "chat")


class Client:
    def __init__(self, address: str) -> None:
        self.address = address
        """HOST:PORT."""

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://{self.address}{path}", timeout=60)


class World:
    """A service with its outside in reach."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.source, self.target = FakeClock(), FakeSource(), FakeTarget()
        self.policies = FakePolicies([a_policy()])
        self.settings = load_settings(store=f"sqlite:///{folder}/store.db")
        self.service = self.new_service()
        listener = listen("127.0.0.1", 0)
        self.client = Client(f"127.0.0.1:{listener.getsockname()[1]}")
        self.server = HttpServer(build_app(self.service), listener)
        self.server.start()

    def new_service(self) -> Service:
        outside = Outside(clock=self.clock, policies=self.policies, source=self.source, target=self.target)
        return assemble(self.settings, outside, SqlStore.open(self.settings.store), PlainAdvisor)

    def restart(self) -> None:
        """Another process on the same store."""
        self.service.stop()
        self.service = self.new_service()
        self.service.restore()

    def turn(self) -> dict[str, object]:
        """One turn later: the row that was recorded."""
        self.service.turn()
        self.clock.move(TURN)
        return dict(self.service.store.last_rows(CHAT, 1)[0])

    def metric(self, line_start: str) -> float:
        page = self.client.get("/metrics").text
        return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(line_start))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    structlog.reset_defaults()  # a command that ran here before logs to its own captured stderr
    made = World(tmp_path)
    yield made
    made.server.stop()
    made.service.stop()


# When things fail


@pytest.mark.parametrize(
    ("fail", "why"),
    [
        (lambda source: setattr(source, "error", SourceUnavailable("metrics: no answer in 5 s")), "no answer in 5 s"),
        (lambda source: setattr(source, "silent", True), ""),
    ],
    ids=["the source is down", "the source answers nothing"],
)
def test_without_metrics_replicas_are_held_and_it_says_why_and_goes_on(world: World, fail: object, why: str) -> None:
    world.source.demand = 8.0
    before = world.turn()["final"]
    assert callable(fail)
    fail(world.source)
    world.clock.move(timedelta(minutes=5))
    held = world.turn()
    assert held["final"] == before == world.target.replicas[CHAT]
    assert held["plan"] is None
    assert why in json.dumps(held["verdicts"])
    assert world.metric('headstart_holds_total{name="chat",namespace="prod",reason="StaleMetrics"}') == 1
    assert world.target.announced[-1].held_for_lack_of_knowledge()

    world.source.error, world.source.silent, world.source.demand = None, False, 12.0
    recovered = world.turn()
    assert recovered["plan"] is not None
    assert world.target.replicas[CHAT] > 4


def test_a_silent_cluster_is_held_and_counted(world: World) -> None:
    world.turn()
    world.target.error = ClusterUnavailable("cluster: connection refused")
    row = world.turn()
    assert row["plan"] is None
    assert row["outcome"] == "failed"
    assert world.metric('headstart_errors_total{stage="cluster"}') == 1
    world.target.error = None
    assert world.turn()["outcome"] != "failed"


def test_of_a_cluster_that_never_answered_page_and_metrics_know_no_count(world: World) -> None:
    world.target.error = ClusterUnavailable("cluster: connection refused")
    row = world.turn()
    (told,) = world.client.get("/api/v1/endpoints").json()
    assert {told[name] for name in ("ready", "starting", "desired", "decided")} == {None}
    assert "keep what stands" in told["sentence"]
    assert {row[name] for name in ("current", "ready", "final")} == {None}
    gauges = [line for line in world.client.get("/metrics").text.splitlines() if line.startswith("headstart_replicas{")]
    assert [line.split()[-1] for line in gauges] == ["NaN"] * 4


def test_a_forecast_that_does_not_play_has_no_age(world: World) -> None:
    world.turn()
    assert isnan(world.metric("headstart_forecast_age_seconds{"))


def test_a_conflict_is_an_outcome_and_the_next_turn_orders_again(world: World) -> None:
    world.source.demand = 12.0
    world.target.refuse = ActuationOutcome.CONFLICT
    assert world.turn()["outcome"] == "conflict"
    assert world.target.orders == []
    world.target.refuse = None
    assert world.turn()["outcome"] == "ordered"
    assert len(world.target.orders) == 1


def test_policies_that_cannot_be_read_order_nothing_and_are_named(world: World) -> None:
    world.turn()
    world.policies.error = PolicyError("policies: no such folder")
    world.service.turn()
    assert world.client.get("/api/v1/status").json()["problems"] == {"policies": "policies: no such folder"}
    assert [row["name"] for row in world.client.get("/api/v1/endpoints").json()] == ["chat"]


def test_a_policy_that_is_gone_takes_its_endpoint_and_its_gauges_along(world: World) -> None:
    world.turn()
    world.policies.policies = [a_policy("other")]
    world.service.turn()
    assert [row["name"] for row in world.client.get("/api/v1/endpoints").json()] == ["other"]
    assert 'headstart_replicas{name="chat"' not in world.client.get("/metrics").text


# What a restart keeps


def queued_minutes(world: World, minutes: int = 60) -> None:
    """Two replicas that are thought to carry 2 a second each carry 1.5, and the queue never ends."""
    world.source.demand, world.source.queue = 3.0, 80.0
    for _ in range(minutes):
        world.target.replicas[CHAT] = 2
        world.service.turn()
        world.clock.move(timedelta(minutes=1))


def capacity_in_use(world: World) -> float:
    """Capacity that a turn decides with, once it was refitted."""
    world.service.refit_due()
    row = world.turn()
    assert isinstance(row["demand_per_replica"], float)
    return row["demand_per_replica"]


def test_learned_capacity_is_still_there_after_a_restart(world: World) -> None:
    world.target.revisions = ("7c9",)
    queued_minutes(world)
    learned = capacity_in_use(world)
    assert learned == pytest.approx(1.5, rel=0.02)
    world.restart()
    assert capacity_in_use(world) == pytest.approx(learned, rel=0.01)


def test_a_model_version_that_came_while_the_service_was_down_begins_at_the_policy(world: World) -> None:
    world.target.revisions = ("7c9",)
    queued_minutes(world)
    world.restart()
    world.target.revisions = ("d41",)
    queued_minutes(world, minutes=1)
    assert capacity_in_use(world) == 2.0


def test_what_another_release_learned_is_not_read_and_is_learned_anew(world: World) -> None:
    world.service.store.save_learned("capacity", 99, Learned(document={}), world.clock.now())
    restarted = world.new_service()
    restarted.restore()
    assert restarted.cycle.capacities == {}
    restarted.stop()


# What HTTP says


def test_endpoints_have_what_the_contract_names(world: World) -> None:
    world.turn()
    (row,) = world.client.get("/api/v1/endpoints").json()
    contract = {"namespace": "prod", "name": "chat", "mode": "Enforce", "ready": 2, "starting": 0, "desired": 2}
    assert {key: row[key] for key in contract} == contract
    assert row["demand"] == pytest.approx(4.0)


def test_the_pool_is_a_label_on_metrics_and_in_the_api(world: World) -> None:
    for pool in ("a100", "h100"):
        world.policies.policies = [a_policy(target={"pool": pool})]
        world.turn()
        (row,) = world.client.get("/api/v1/endpoints").json()
        assert row["pool"] == pool
        assert world.metric(f'headstart_endpoint_info{{name="chat",namespace="prod",pool="{pool}"}}') == 1
    assert world.metric("headstart_endpoint_info") == 1


def test_the_share_of_the_days_budget_that_is_spent_is_a_gauge(world: World) -> None:
    world.policies.policies = [a_policy(budget={"gpuHoursPerDay": 10})]  # two replicas stand
    for _ in range(2):
        world.turn()
    name = 'headstart_budget_spent_fraction{name="chat",namespace="prod"}'
    assert world.metric(name) == pytest.approx(2 * 15 / 3600 / 10)
    world.policies.policies = [a_policy()]
    world.turn()
    assert isnan(world.metric(name))


def test_demand_in_a_unit_that_the_policy_no_longer_has_is_gone(world: World) -> None:
    for unit in ("requests", "tokens"):
        world.policies.policies = [a_policy(demand={"unit": unit, "preset": "vllm"})]
        world.turn()
    assert world.metric("headstart_demand{") == world.metric(
        'headstart_demand{name="chat",namespace="prod",unit="tokens"}'
    )


def test_decisions_are_the_recorded_rows_newest_first(world: World) -> None:
    world.turn()
    last = world.turn()
    rows = world.client.get("/api/v1/endpoints/prod/chat/decisions").json()
    assert len(rows) == 2
    assert rows[0] == last
    assert len(world.client.get("/api/v1/endpoints/prod/chat/decisions?limit=1").json()) == 1


def test_an_unknown_endpoint_is_a_404_that_says_so(world: World) -> None:
    world.turn()
    answer = world.client.get("/api/v1/endpoints/prod/nobody/decisions")
    assert answer.status_code == 404
    assert "no endpoint prod/nobody" in answer.json()["error"]


def test_ready_means_policies_store_and_a_first_turn(world: World) -> None:
    assert world.client.get("/readyz").status_code == 503
    assert world.client.get("/healthz").status_code == 200
    world.turn()
    assert world.client.get("/readyz").text == "ok"


def test_the_page_needs_nothing_from_other_hosts(world: World) -> None:
    page = world.client.get("/").text
    assert "https://" not in page
    for path in ("/static/page.js", "/static/page.css", "/static/plotly.min.js"):
        assert world.client.get(path).status_code == 200
    assert world.client.get("/static/../settings.py").status_code == 404


def test_the_timeline_has_history_forecast_and_turns(world: World) -> None:
    world.service.forecast()
    world.turn()
    line = world.client.get("/api/v1/endpoints/prod/chat/timeline").json()
    assert line["points"]["demand"][-1] == pytest.approx(4.0)
    assert len(line["points"]["at"]) > 60
    assert line["forecast"]["levels"] == [0.1, 0.5, 0.9, 0.99]
    assert len(line["forecast"]["values"][0]) == len(line["forecast"]["at"])


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/api/v1/nothing", 404, "GET /api/v1/nothing: Not Found"),
        ("POST", "/api/v1/endpoints", 405, "POST /api/v1/endpoints: Method Not Allowed"),
        ("GET", "/api/v1/endpoints/prod/chat/decisions?limit=0", 422, "limit: found '0'; Input should be greater"),
        ("GET", "/api/v1/endpoints/prod/nobody/timeline", 404, "no endpoint prod/nobody"),
    ],
)
def test_every_error_is_told_in_one_form(world: World, method: str, path: str, status: int, said: str) -> None:
    world.turn()
    answer = requests.request(method, f"http://{world.client.address}{path}", timeout=60)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "described"),
    [
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
        ("/metrics", "/metrics"),
        ("/api/v1/status", "/api/v1/status"),
        ("/api/v1/endpoints/prod/chat/decisions", "/api/v1/endpoints/{namespace}/{name}/decisions"),
        ("/api/v1/endpoints/prod/chat/decisions?limit=0", "/api/v1/endpoints/{namespace}/{name}/decisions"),
        ("/api/v1/endpoints/prod/nobody/decisions", "/api/v1/endpoints/{namespace}/{name}/decisions"),
        ("/api/v1/endpoints/prod/nobody/timeline", "/api/v1/endpoints/{namespace}/{name}/timeline"),
    ],
)
def test_openapi_describes_what_is_answered(world: World, path: str, described: str) -> None:
    answers = world.client.get("/openapi.json").json()["paths"][described]["get"]["responses"]
    if path != "/readyz":  # before the first turn it says why not
        world.turn()
    answer = world.client.get(path)
    assert answer.headers["Content-Type"].split(";")[0] in answers[str(answer.status_code)]["content"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/api/v1/endpoints"])
def test_head_answers_as_get_without_a_body(world: World, path: str) -> None:
    world.turn()
    answer = requests.head(f"http://{world.client.address}{path}", timeout=60)
    asked = world.client.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, asked.headers["Content-Type"])
    assert answer.content == b""
    assert world.client.get("/healthz").text == "ok"  # nothing is left over on the connection


def test_every_metric_is_documented_as_it_is_exposed_and_every_documented_one_exists(world: World) -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(headstart_\w+)` \| (\w+) \| .* \| (.*) \|$", page, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(world.service.telemetry.names())
    shown = world.client.get("/metrics").text
    for name, kind, what in rows:
        assert f"# HELP {name} {what}\n# TYPE {name} {kind}\n" in shown


# When things run


def test_a_refit_comes_at_once_then_within_its_period_and_then_each_period(world: World) -> None:
    def refits() -> float:
        return world.metric("headstart_refit_duration_seconds_count")

    world.service.refit_due()
    assert refits() == 1
    world.service.refit_due()
    assert refits() == 1
    world.clock.move(timedelta(hours=1))
    world.service.refit_due()
    assert refits() == 2
    world.clock.move(timedelta(minutes=59))
    world.service.refit_due()
    assert refits() == 2
    world.clock.move(timedelta(minutes=1))
    world.service.refit_due()
    assert refits() == 3


def test_a_changed_policy_is_refitted_at_once_with_the_start_up_time_that_it_says_now(world: World) -> None:
    def refitted(*, expected: str) -> object:
        world.policies.policies = [a_policy(startup={"expected": expected})]
        world.service.refit_due()
        return world.turn()["startup_p95_seconds"]

    assert [refitted(expected="150s"), refitted(expected="5m")] == [150.0, 300.0]


def test_a_refit_that_failed_is_tried_again_soon(world: World) -> None:
    world.source.error = SourceUnavailable("metrics: no answer")
    world.service.refit_due()
    assert world.metric('headstart_errors_total{stage="refit"}') == 1
    world.source.error = None
    world.clock.move(timedelta(minutes=2))
    world.service.refit_due()
    assert world.metric("headstart_refit_duration_seconds_count") == 2


def test_a_job_that_fails_is_counted_and_comes_again(world: World) -> None:
    done = threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        done.set()

    from scaler.adapters.clock import SystemClock

    world.service.jobs.every(0.05, "turn", work, SystemClock().now())
    world.service.jobs.start()
    assert done.wait(timeout=60)
    world.service.jobs.stop()
    assert world.metric('headstart_errors_total{stage="turn"}') == 1


def test_a_stop_finishes_the_turn_and_abandons_what_may_be(world: World) -> None:
    from scaler.adapters.clock import SystemClock

    started, release, finished = threading.Event(), threading.Event(), threading.Event()
    for_ever = threading.Event()

    def turn() -> None:
        started.set()
        release.wait(timeout=60)
        finished.set()

    jobs = world.service.jobs
    jobs.every(60, "turn", turn, SystemClock().now())
    jobs.every(60, "refit", lambda: _wait(for_ever), SystemClock().now(), may_be_abandoned=True)
    jobs.start()
    assert started.wait(timeout=60)
    threading.Timer(0.2, release.set).start()
    jobs.stop()
    assert finished.is_set()
    for_ever.set()


def _wait(event: threading.Event) -> None:
    event.wait(timeout=60)


# The demonstration


def test_a_demonstration_on_a_kept_store_goes_on_after_its_last_turn(tmp_path: Path) -> None:
    settings = load_settings(store=f"sqlite:///{tmp_path}/kept.db")
    times = []
    for _ in range(2):
        service, _demo = build_demo_service(settings)
        service.turn()
        service.turn()
        times += [row["decided_at"] for row in reversed(service.store.last_rows(EndpointId("prod", "chat-7b"), 2))]
        service.store.close()
    assert times == sorted(set(times))
