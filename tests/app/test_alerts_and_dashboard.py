"""The alerts and the dashboard that are shipped ask for what the service shows; a real Prometheus reads them."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scaler.adapters.telemetry import Telemetry
from scaler.domain.decision import ActuationOutcome
from scaler.errors import ClusterUnavailable
from tests.app.fakes import a_policy
from tests.app.test_service import World
from tests.servers.prometheus import Prometheus

ROOT = Path(__file__).parents[2]
ALERTS_FILE = ROOT / "deploy" / "alerts.yaml"
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(ALERTS_FILE.read_text())["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
QUERIES = {
    f"{title} {target['refId']}": target["expr"] for title, panel in PANELS.items() for target in panel["targets"]
}
VARIABLES = [variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]


def metrics_in(query: str) -> set[str]:
    """The metrics that a query names; a histogram by its own name."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"headstart_\w+", query)}


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in ALERTS.values()), *QUERIES.values(), *VARIABLES])
def test_every_metric_that_is_asked_for_exists(query: str) -> None:
    assert metrics_in(query)
    assert metrics_in(query) <= set(Telemetry().names())


def test_every_metric_of_an_endpoint_or_a_pool_is_on_the_dashboard() -> None:
    shown = set().union(*map(metrics_in, [*QUERIES.values(), *VARIABLES]))
    left_out = {
        "headstart_decisions_total",  # one a turn and endpoint
        "headstart_forecast_age_seconds",  # an alert
        "headstart_last_turn_timestamp_seconds",  # an alert
        "headstart_refit_duration_seconds",  # beside the turns
    }
    assert set(Telemetry().names()) - shown == left_out


# Alerts


def test_the_alerts_are_those_of_the_documentation() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = re.findall(r"^- `(.+?)`:", page.partition("Worth an alert")[2], flags=re.MULTILINE)
    assert documented == [rule["expr"] for rule in ALERTS.values()]


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_is_wrong_what_to_do_and_where_it_is_written(name: str) -> None:
    notes = ALERTS[name]["annotations"]
    assert notes.keys() == {"summary", "description"}
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert "docs/operations.md" in notes["description"]
    for heading in re.findall(r'docs/operations\.md, "([^"]+)"', notes["description"]):
        assert heading.replace("/healthz 503", "`/healthz` 503") in operations


def test_the_outcomes_that_are_told_are_outcomes() -> None:
    (told,) = re.findall(r'outcome=~"([^"]+)"', ALERTS["HeadstartOrdersFail"]["expr"])
    assert set(told.split("|")) == {ActuationOutcome.FAILED.value, ActuationOutcome.CONFLICT.value}


ON_ENDPOINT = {"namespace": "prod", "name": "chat"}
HOLDS = 'headstart_holds_total{namespace="prod", name="chat", reason="StaleMetrics"}'
CONFLICTS = 'headstart_actuations_total{namespace="prod", name="chat", outcome="conflict"}'
STORE_ERRORS = 'headstart_errors_total{stage="store"}'
STORIES = {
    # label: (series and their values each minute, the minute that is looked at, the alert that fires, its labels)
    "a loop that stands still": (
        {"headstart_last_turn_timestamp_seconds": "0 60 120 120x10"},
        5,
        "HeadstartStandsStill",
        {},
    ),
    "a loop that goes on": ({"headstart_last_turn_timestamp_seconds": "0+60x20"}, 15, None, {}),
    "a process that is gone": (
        {"headstart_last_turn_timestamp_seconds": "0 60 stale _x20"},
        15,
        "HeadstartIsGone",
        {},
    ),
    "an endpoint that is held": ({HOLDS: "0+4x20"}, 15, "HeadstartHolds", ON_ENDPOINT | {"reason": "StaleMetrics"}),
    "a hold that was over at once": ({HOLDS: "0 0 1 1x20"}, 6, None, {}),
    "a store that fails": ({STORE_ERRORS: "0+4x20"}, 15, "HeadstartErrors", {"stage": "store"}),
    "one failure of the store": ({STORE_ERRORS: "0 0 1 1x20"}, 11, None, {}),
    "an owner beside it": ({CONFLICTS: "0+4x20"}, 15, "HeadstartOrdersFail", ON_ENDPOINT | {"outcome": "conflict"}),
    "one conflict": ({CONFLICTS: "0 0 1 1x20"}, 11, None, {}),
    "a pool that is too small": (
        {
            'headstart_pool_gpus{pool="a100", state="asked", instance="a"}': "12x30",
            'headstart_pool_gpus{pool="a100", state="granted", instance="a"}': "8x30",
            'headstart_pool_gpus{pool="a100", state="size", instance="a"}': "8x30",
        },
        20,
        "HeadstartPoolTooSmall",
        {"pool": "a100", "instance": "a"},
    ),
    "a forecast of yesterday": (
        {'headstart_forecast_age_seconds{namespace="prod", name="chat"}': "3600x20"},
        15,
        "HeadstartForecastIsOld",
        ON_ENDPOINT,
    ),
    "no forecast that plays": (
        {'headstart_forecast_age_seconds{namespace="prod", name="chat"}': " ".join(["NaN"] * 20)},
        15,
        None,
        {},
    ),
}


def promtool(programs: dict[str, Path], *arguments: str | Path) -> str:
    done = subprocess.run([programs["promtool"], *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_valid(prometheus_programs: dict[str, Path]) -> None:
    assert f"SUCCESS: {len(ALERTS)} rules found" in promtool(prometheus_programs, "check", "rules", ALERTS_FILE)


def test_each_alert_has_a_story() -> None:
    assert {alert for _, _, alert, _ in STORIES.values() if alert} == set(ALERTS)


@pytest.mark.parametrize("label", STORIES)
def test_an_alert_fires_when_it_should_and_not_at_a_blip(
    label: str, prometheus_programs: dict[str, Path], tmp_path: Path
) -> None:
    series, minute, alert, labels = STORIES[label]
    turns = {} if any("timestamp" in name for name in series) else {"headstart_last_turn_timestamp_seconds": "0+60x60"}
    firing = {"alertname": alert, "alertstate": "firing", **labels, **(ALERTS[alert]["labels"] if alert else {})}
    selector = ", ".join(f'{name}="{value}"' for name, value in firing.items())
    story = {
        "rule_files": [str(ALERTS_FILE)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in {**series, **turns}.items()],
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": f"{minute}m",
                        "exp_samples": [{"labels": f"ALERTS{{{selector}}}", "value": 1}] if alert else [],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "story.yaml"
    file.write_text(json.dumps(story))
    promtool(prometheus_programs, "test", "rules", file)


# Dashboard


@pytest.fixture(scope="module")
def watching(prometheus_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes a service that forecasts, decides, and has held and failed."""
    folder = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEADSTART_POOLS", "a100=1")
        world = World(folder)
    world.policies.policies = [a_policy(target={"pool": "a100"})]
    world.service.forecast()
    world.turn()
    world.source.silent, world.target.error = True, ClusterUnavailable("no answer in 5 s")
    world.turn()
    server = Prometheus(prometheus_programs, folder / "prometheus")
    server.scrape([world.client.address], interval_seconds=1.0)
    server.start()
    yield server
    server.stop()
    world.server.stop()
    world.service.stop()


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_every_query_of_the_dashboard_has_an_answer(watching: Prometheus, query: str) -> None:
    for variable, value in {"$namespace": "prod", "$name": "chat", "$__rate_interval": "1m"}.items():
        query = query.replace(variable, value)
    watching.wait_for(query)


def test_endpoints_are_chosen_from_those_that_there_are() -> None:
    assert VARIABLES == [
        "label_values(headstart_endpoint_info, namespace)",
        'label_values(headstart_endpoint_info{namespace="$namespace"}, name)',
    ]


def test_panels_stand_beside_one_another_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
