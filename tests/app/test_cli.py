"""The command line: exit codes, files, and one clear error for bad input with nothing written."""

import csv
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import structlog
import yaml

from scaler.adapters.policies import parse_policy
from scaler.adapters.prometheus.presets import PRESETS
from scaler.adapters.store.store import SqlStore
from scaler.adapters.traces import write_trace
from scaler.app.cli.replaying import DEFAULT_BASELINES, OTHER_BASELINES
from scaler.app.demo.traffic import generate
from scaler.app.first_policy import Running, first_policy_text
from scaler.cycle import Cycle
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.spans import REACTIVE
from tests.adapters.scripted import ScriptedServer
from tests.app.fakes import FakeClock, FakePolicies, FakeSource, FakeTarget, PlainAdvisor, a_policy
from tests.servers.processes import free_port, http_status, wait_until

DAY = ("--warmup", "1d")
OUT = ("--out", "out")
START = datetime(2026, 3, 2, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def headstart(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scaler", *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(Path.home())}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd, env=environment, check=False)


@pytest.mark.parametrize(("what", "told", "threads"), [("by itself", {}, 1), ("if told", {"OMP_NUM_THREADS": "2"}, 2)])
def test_fits_compute_on_one_thread_unless_told_otherwise(what: str, told: dict[str, str], threads: int) -> None:
    """A pod with a CPU limit on a node of many cores would start one for each core."""
    program = """
import sys
from scaler.app.cli import main
sys.argv = ["headstart", "schema"]
try:
    main()
except SystemExit:
    import sklearn.ensemble, threadpoolctl
    print(max(pool["num_threads"] for pool in threadpoolctl.threadpool_info()), file=sys.stderr)
"""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **told}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=240, env=environment, check=True
    )
    assert done.stderr.strip() == str(threads)


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The same without a process of its own: imports are paid for once."""

    def run_here(*arguments: object) -> Done:
        from scaler.app.cli import main

        monkeypatch.setattr(sys, "argv", ["headstart", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        text = capsys.readouterr()
        return Done(code, text.out, text.err)

    yield run_here
    structlog.reset_defaults()  # the commands log to this test's stderr, which is gone afterwards


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("traces") / "chat.csv.gz"
    write_trace(file, {"": generate("chat", seed=3, start=START, days=2)})
    return file


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve hours: too short for a lead-time model, so that replays of it are quick."""
    file = tmp_path_factory.mktemp("traces") / "short.csv"
    write_trace(file, {"": generate("chat", seed=3, start=START, days=1).until(START + timedelta(hours=12))})
    return file


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("policies") / "chat.yaml"
    file.write_text(json.dumps(a_policy(capacity={"perReplica": 0.5}, startup={"expected": "150s"}).document()))
    return file


# Help


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    code = "import sys; import scaler.app.cli; print(','.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    heavy = {"numpy", "pandas", "sklearn", "numba", "statsforecast", "kubernetes", "fastapi", "plotly", "sqlalchemy"}
    assert heavy & set(loaded.split(",")) == set()
    assert headstart("--help").returncode == 0


def test_the_readme_names_every_command_and_no_other() -> None:
    from typer.main import get_command

    from scaler.app.cli import app

    table = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `headstart ")]
    named = [line.split("`")[1].split()[1] for line in table]
    assert sorted(named) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


# Files


def test_backtest_writes_the_contracts_columns_from_the_end_of_the_warm_up(
    trace: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out"
    done = run("backtest", "--trace", trace, "--out", out, "--warmup", "1d", "--lead", "5m,1h", "--method", "profile")
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in out.iterdir()) == ["forecasts.csv", "scores.json"]
    with (out / "forecasts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["origin", "target", "lead_seconds", "q0.1", "q0.5", "q0.8", "q0.9", "q0.95", "q0.99"]
    first = (START + timedelta(days=1)).timestamp()
    origins = sorted({int(row["origin"]) for row in rows})
    assert origins[0] == first
    assert {late - early for early, late in pairwise(origins)} == {1800}
    assert origins[-1] == (START + timedelta(days=2)).timestamp()
    assert all(int(row["target"]) == int(row["origin"]) + int(row["lead_seconds"]) for row in rows)
    assert json.loads((out / "scores.json").read_text())["method"] == "profile"


def test_a_lead_that_the_trace_is_too_short_for_is_told_beside_the_scores_of_the_others(
    trace: Path, tmp_path: Path, run: Run
) -> None:
    given = ("backtest", "--trace", trace, "--out", tmp_path / "out", "--method", "profile", *DAY)
    done = run(*given, "--lead", "5m,4d")
    assert done.returncode == 0, done.stderr
    assert "300s" in done.stdout
    assert "345600s" not in done.stdout
    told = " ".join(done.stdout.split())
    assert "not scored at a lead of 4d: the trace is 2d long" in told
    assert "need more than 5d with a warm-up of 1d" in told


def test_with_a_policy_scores_say_what_each_quantile_would_have_cost_and_missed(
    trace: Path, tmp_path: Path, run: Run
) -> None:
    out, policy = tmp_path / "out", ROOT / "policies" / "chat-7b.yaml"
    arguments = ("--warmup", "1d", "--lead", "1h", "--method", "profile", "--policy", policy)
    assert run("backtest", "--trace", trace, "--out", out, *arguments).returncode == 0
    loss = json.loads((out / "scores.json").read_text())["endpoints"][""]["3600s"]["decision_loss"]
    assert loss["0.99"]["replica_hours"] > loss["0.5"]["replica_hours"] > 0
    assert loss["0.99"]["missed_demand"] <= loss["0.5"]["missed_demand"]


def test_changing_the_trace_after_an_origin_changes_nothing_issued_by_then(
    trace: Path, tmp_path: Path, run: Run
) -> None:
    series = generate("chat", seed=3, start=START, days=2)
    values = series.values.copy()
    cut = 36 * 60
    values[cut:] = 9.0
    other = tmp_path / "other.csv"
    write_trace(other, {"": type(series)(unit=series.unit, start=series.start, step=series.step, values=values)})
    rows = []
    for file, name in ((trace, "a"), (other, "b")):
        arguments = ("--warmup", "1d", "--lead", "5m", "--method", "profile", "--out", tmp_path / name)
        assert run("backtest", "--trace", file, *arguments).returncode == 0
        lines = (tmp_path / name / "forecasts.csv").read_text().splitlines()[1:]
        known = (START + timedelta(minutes=cut)).timestamp()
        rows.append([line for line in lines if int(line.split(",")[0]) <= known])
    assert rows[0] == rows[1]
    assert len(rows[0]) > 20


def test_replay_writes_the_contracts_files_and_the_same_twice(short: Path, policy: Path, tmp_path: Path) -> None:
    arguments = ("replay", "--policy", policy, "--trace", short, "--warmup", "6h", "--baseline", "hpa,static")
    for name in ("one", "two"):
        done = headstart(*arguments, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    out = tmp_path / "one"
    assert sorted(file.name for file in out.iterdir()) == [
        "decisions.jsonl",
        "report.html",
        "summary.json",
        "timeline-headstart.csv",
        "timeline-hpa.csv",
        "timeline-static.csv",
    ]
    assert (out / "summary.json").read_bytes() == (tmp_path / "two" / "summary.json").read_bytes()
    summary = json.loads((out / "summary.json").read_text())
    with (out / "timeline-headstart.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["timestamp", "demand", "desired", "starting", "ready", "queue", "wait_seconds"]
    assert len(rows) == 6 * 240
    hours = sum(int(row["starting"]) + int(row["ready"]) for row in rows) * 15 / 3600
    assert hours == pytest.approx(summary["headstart"]["replica_hours"], rel=0.01)
    demand = sum(float(row["demand"]) for row in rows)
    good = sum(float(row["demand"]) for row in rows if float(row["wait_seconds"]) <= 10)
    assert good / demand == pytest.approx(summary["headstart"]["slo_attainment"], abs=0.01)
    assert set(summary["clairvoyant"]) == {"lower_bound_replica_hours", "feasible_replica_hours"}


def test_replay_with_pools_plays_the_endpoints_of_a_trace_together(tmp_path: Path, run: Run) -> None:
    (tmp_path / "policies").mkdir()
    kinds = {"chat": ("chat", 200), "image": ("image", 100)}
    for name, (_, priority) in kinds.items():
        spec = {"target": {"pool": "a100"}, "budget": {"priority": priority}, "capacity": {"perReplica": 0.5}}
        (tmp_path / "policies" / f"{name}.yaml").write_text(json.dumps(a_policy(name, **spec).document()))
    hours = START + timedelta(hours=9)
    write_trace(
        tmp_path / "two.csv.gz",
        {name: generate(kind, seed=3, start=START, days=1).until(hours) for name, (kind, _) in kinds.items()},
    )
    arguments = ("replay", "--policies", tmp_path / "policies", "--trace", tmp_path / "two.csv.gz", "--warmup", "6h")
    told = {}
    for name, pools in (("alone", ()), ("ample", ("--pools", "a100=1000")), ("scarce", ("--pools", "a100=6"))):
        done = run(*arguments, "--baseline", "hpa", *pools, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert ("GPU-hours asked" in done.stdout) == bool(pools)
        told[name] = json.loads((tmp_path / name / "summary.json").read_text())
    for strategy in ("headstart", "hpa"):
        alone, ample = ((tmp_path / name / f"timeline-{strategy}.csv").read_text() for name in ("alone", "ample"))
        assert alone == "".join(line.rpartition(",")[0] + "\n" for line in ample.splitlines())
    assert "pools" not in told["alone"]
    assert told["ample"]["pools"]["a100"]["headstart"]["cut_hours"] == 0
    scarce = told["scarce"]["pools"]["a100"]["headstart"]
    assert scarce["granted_gpu_hours"] < scarce["asked_gpu_hours"] and scarce["cut_hours"] > 0
    assert "pool a100 has 6 GPUs" in (tmp_path / "scarce" / "decisions.jsonl").read_text()


def test_models_are_fitted_listed_shown_used_and_pruned(trace: Path, tmp_path: Path, run: Run) -> None:
    models = ("--models", tmp_path / "models")
    fit = ("fit", "--trace", trace, "--method", "profile", *models)
    first, again = run(*fit), run(*fit)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "1 kept" in first.stdout
    assert "1 left as they are" in again.stdout
    assert "trace/chat" in run("models", "list", *models).stdout
    assert json.loads(run("models", "show", "trace/chat", *models).stdout)["method"] == "profile"
    out = tmp_path / "forecast.csv"
    assert run("forecast", "--trace", trace, "--stored", *models, "--out", out).returncode == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 * 12
    assert "removed 0 versions" in run("models", "prune", *models).stdout


@pytest.mark.skipif(importlib.util.find_spec("dask") is None, reason="needs pip install 'headstart[dask]'")
def test_the_news_of_a_cluster_is_not_that_of_the_command(trace: Path, tmp_path: Path) -> None:
    fit = ("fit", "--trace", trace, "--method", "profile", "--engine", "dask")
    done = headstart(*fit, "--models", tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert "distributed" not in done.stdout + done.stderr


def test_a_damaged_card_is_named_and_the_models_beside_it_are_used(trace: Path, tmp_path: Path, run: Run) -> None:
    models = ("--models", tmp_path / "models")
    other = tmp_path / "other.csv.gz"
    other.write_bytes(trace.read_bytes())
    for file in (trace, other):
        assert run("fit", "--trace", file, "--method", "profile", *models).returncode == 0
    (tmp_path / "models" / "trace" / "chat" / "card.json").write_text("{")
    for command, said in (("list", "trace/other"), ("prune", "removed 0 versions")):
        done = run("models", command, *models)
        assert done.returncode == 1
        assert said in done.stdout
        assert "trace/chat" in done.stdout
        assert "fit it again" in " ".join(done.stdout.split())
    assert run("forecast", "--trace", other, "--method", "profile", *models).returncode == 0
    assert run("fit", "--trace", trace, "--method", "profile", *models).returncode == 0
    assert run("models", "list", *models).returncode == 0


def test_a_trace_is_fitted_and_forecast_by_the_policy_that_is_named(trace: Path, tmp_path: Path, run: Run) -> None:
    forecast = {"method": "persistence", "horizon": "2h", "calendar": {"timezone": "Europe/Berlin", "holidays": "DE"}}
    policy = tmp_path / "policy.yaml"
    policy.write_text(json.dumps(a_policy(forecast=forecast).document()))
    models, given = ("--models", tmp_path / "models"), ("--trace", trace, "--policy", policy)
    assert run("fit", *given, *models).returncode == 0
    card = json.loads(run("models", "show", "trace/chat", *models).stdout)
    assert card["method"] == "persistence"
    assert (card["calendar"]["timezone"], card["calendar"]["holidays_of"]) == ("Europe/Berlin", "DE")
    out = tmp_path / "forecast.csv"
    assert run("forecast", *given, *models, "--out", out).returncode == 0
    assert len(out.read_text().splitlines()) == 1 + 2 * 12
    scored = run("backtest", *given, "--out", tmp_path / "out", "--lead", "1h", *DAY)
    assert scored.returncode == 0, scored.stderr
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["method"] == "persistence"


@pytest.mark.parametrize(("horizon", "rows"), [("30m", 1), ("90m", 2), ("24h", 24)])
def test_the_table_of_a_forecast_holds_the_whole_horizon(horizon: str, rows: int, trace: Path, run: Run) -> None:
    done = run("forecast", "--trace", trace, "--method", "profile", "--horizon", horizon)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 + rows


def test_a_method_that_could_not_be_used_is_named_beside_what_was_fitted(trace: Path, tmp_path: Path, run: Run) -> None:
    models = ("--models", tmp_path / "models")
    said = "persistence (fell back from mstl)"
    assert said in run("fit", "--trace", trace, "--method", "mstl", *models).stdout
    assert said in run("models", "list", *models).stdout


def test_names_with_commas_and_quotes_are_one_column(tmp_path: Path, run: Run) -> None:
    series = generate("chat", seed=3, start=START, days=2)
    trace, out, names = tmp_path / "trace.csv", tmp_path / "out", ["a,b", 'say "c"']
    write_trace(trace, dict.fromkeys(names, series))
    how = ("--trace", trace, "--method", "profile")
    assert run("backtest", *how, "--out", out, "--lead", "1h", *DAY).returncode == 0
    assert run("forecast", *how, "--out", out / "forecast.csv").returncode == 0
    for file, keys in (("forecasts.csv", names), ("forecast.csv", [f"trace/{name}" for name in names])):
        with (out / file).open() as text:
            rows = list(csv.DictReader(text))
        assert sorted({row["endpoint"] for row in rows}) == sorted(keys)
        assert all(float(row["q0.5"]) >= 0 for row in rows)


def test_a_file_that_cannot_be_written_after_all_is_an_error_and_no_traceback(
    trace: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "out" / "forecasts.csv").mkdir(parents=True)
    how = ("--method", "profile", "--lead", "1h", *DAY)
    done = run("backtest", "--trace", trace, "--out", tmp_path / "out", *how)
    assert done.returncode == 1
    assert "could not be written" in done.stderr


@pytest.mark.parametrize("command", ["fit", "forecast"])
def test_an_endpoint_that_the_metrics_server_knows_nothing_of_is_named(
    command: str, policy: Path, tmp_path: Path, run: Run
) -> None:
    with ScriptedServer() as server:
        server.body = b'{"status": "success", "data": {"resultType": "matrix", "result": []}}'
        models = ("--models", tmp_path / "models")
        done = run(command, "--policies", policy, "--prometheus-url", server.url, *models)
    assert done.returncode == 1
    assert "prod/chat" in done.stdout
    assert "told of no demand" in done.stdout
    assert "Traceback" not in done.stderr


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["backtest", "--trace", "nowhere.csv", "--out", "out"], ["nowhere.csv", "cannot be read"]),
        (["backtest", "--trace", "{trace}", "--out", "out", "--lead", "soon"], ["--lead", "'soon'", "30s, 5m"]),
        (["backtest", "--trace", "{trace}", "--out", "out", "--lead", "90s"], ["1:30", "multiple"]),
        (["backtest", "--trace", "{trace}", "--out", "out", "--warmup", "9d"], ["--warmup", "9d"]),
        (["backtest", "--trace", "{trace}", "--out", "out", "--warmup", "99999999999d"], ["--warmup", "at most 3650d"]),
        (["backtest", "--trace", "{trace}", "--out", "out", "--method", "magic"], ["'magic'", "profile"]),
        (["backtest", "--trace", "{bad}", "--out", "out"], ["bad.csv", "line 3", "requests"]),
        (["backtest", "--trace", "{trace}", "--out", "{trace}"], ["--out", "is a file"]),
        (["backtest", "--trace", "{trace}", "--out", "/proc/x"], ["--out", "/proc/x", "cannot be written"]),
        (["forecast", "--trace", "{trace}", "--out", "/proc/x"], ["--out", "/proc/x", "cannot be written"]),
        (["forecast", "--trace", "{trace}", "--out", "{emptyfolder}"], ["--out", "is a folder"]),
        (["forecast", "--trace", "{trace}", "--out", "{beyond}"], ["--out", "is a file"]),
        (["fit", "--trace", "{trace}", "--models", "{trace}"], ["--models", "is a file"]),
        (["models", "list", "--models", "foo://x/y"], ["--models", "foo://x/y", "not known"]),
        (["models", "list", "--models", "nowhere"], ["--models", "nowhere", "does not exist"]),
        (["models", "prune", "--models", "nowhere"], ["--models", "nowhere", "does not exist"]),
        (["replay", "--policy", "{policy}", "--trace", "{trace}", "--out", "/proc/x"], ["--out", "cannot be written"]),
        (["replay", "--policy", "{policy}", "--trace", "{trace}", "--out", "{trace}/x"], ["--out", "is a file"]),
        (["schema", "--crd", "--admission"], ["--crd", "--admission", "at most one"]),
        (["schema", "--out", "/proc/x"], ["--out", "/proc/x", "cannot be written"]),
        (["schema", "--out", "{emptyfolder}"], ["--out", "is a folder"]),
        (["test", "{emptyfolder}", "--junit", "{emptyfolder}"], ["--junit", "is a folder"]),
        (["test", "{emptyfolder}", "--junit", "/proc/x.xml"], ["--junit", "cannot be written"]),
        (["replay", "--trace", "{trace}", "--out", "out"], ["--policy"]),
        (["replay", "--policy", "{policy}", "--trace", "{trace}", *OUT, "--seed", "-1"], ["--seed"]),
        (["tune", "--policy", "{policy}", "--trace", "{trace}", "--seed", "-1"], ["--seed"]),
        (["replay", "--policy", "nowhere.yaml", "--trace", "{trace}", "--out", "out"], ["nowhere.yaml"]),
        (["replay", "--policy", "{policy}", "--trace", "{bad}", "--out", "out"], ["bad.csv"]),
        (["replay", "--policy", "{policy}", "--trace", "{trace}", "--out", "out", "--warmup", "5d"], ["warm-up"]),
        (["replay", "--policy", "{policy}", "--trace", "{trace}", *OUT, "--baseline", "x", *DAY], ["'x'", "hpa"]),
        (["replay", "--policy", "{policy}", "--trace", "{trace}", *OUT, "--fault", "flood"], ["'flood'", "noise"]),
        (["replay", "--policy", "{policy}", "--trace", "{trace}", *OUT, "--pools", "a"], ["--pools", "POOL=GPUS"]),
        (["replay", "--policy", "{policy}", "--trace", "{trace}", *OUT, "--pools", "a=4"], ["pool a: 4", "not set"]),
        (["validate", "{badpolicy}"], ["bad.yaml", "replicas", "max"]),
        (["validate", "nowhere"], ["nowhere", "no such file"]),
        (["test", "{emptyfolder}"], ["no document of kind PolicyTest"]),
        (["explain", "chat"], ["'chat'", "NAMESPACE/NAME"]),
        (["explain", "prod/chat", "--store", "sqlite:///none.db"], ["none.db does not exist"]),
        (["forecast"], ["--trace", "--policies"]),
        (["forecast", "--trace", "{trace}", "--stored", "--method", "profile"], ["--method", "--stored"]),
        (["forecast", "--policies", "{policy}", "--policy", "{policy}"], ["--policy", "--trace"]),
        (["fit", "--trace", "{trace}", "--prometheus-url", "http://p:9090"], ["--prometheus-url", "--trace"]),
        (["backtest", "--trace", "{trace}", "--policy", "{tokens}", *OUT], ["input_tokens", "demand.unit tokens"]),
        (["backtest", "--trace", "{trace}", "--policy", "{nonsense}", *OUT], ["forecast.method", "nonsense"]),
        (["models", "show", "chat"], ["'chat'", "namespace/endpoint"]),
        (["run", "--turn", "soon"], ["--turn", "'soon'"]),
        (["run", "--turn", "99999999999d"], ["--turn", "99999999999d", "at most 3650d"]),
        (["run", "--policies", "nowhere"], ["nowhere"]),
        (["fly"], ["fly"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_bad_input_is_one_clear_error_and_nothing_is_written(
    arguments: list[str],
    words: list[str],
    trace: Path,
    policy: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = tmp_path / "inputs"
    (inputs / "empty").mkdir(parents=True)
    (inputs / "bad.csv").write_text("timestamp,requests\n1772409600,5\n1772409660,many\n1772409720,5\n")
    (inputs / "bad.yaml").write_text(policy.read_text().replace('"max": 10', '"max": "lots"'))
    (inputs / "kubeconfig").write_text(KUBECONFIG)
    (inputs / "tokens.yaml").write_text(json.dumps(a_policy(demand={"unit": "tokens", "preset": "vllm"}).document()))
    (inputs / "nonsense.yaml").write_text(json.dumps(a_policy(forecast={"method": "nonsense"}).document()))
    here = tmp_path / "here"
    here.mkdir()
    names = {
        "{trace}": str(trace),
        "{policy}": str(policy),
        "{bad}": str(inputs / "bad.csv"),
        "{badpolicy}": str(inputs / "bad.yaml"),
        "{beyond}": str(trace / "x"),
        "{tokens}": str(inputs / "tokens.yaml"),
        "{nonsense}": str(inputs / "nonsense.yaml"),
        "{emptyfolder}": str(inputs / "empty"),
    }
    given = [names.get(argument, argument).replace("{trace}", str(trace)) for argument in arguments]
    if arguments[0] == "run":
        given += ["--kubeconfig", str(inputs / "kubeconfig")]
    monkeypatch.chdir(here)
    done = run(*given)
    assert done.returncode == 2, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert list(here.iterdir()) == []


def test_explain_tells_no_decision_from_none_that_changed_something(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    with closing(SqlStore.open(url)) as store:
        policies, source = FakePolicies([a_policy()]), FakeSource()
        clock, target = FakeClock(), FakeTarget()
        Cycle(clock=clock, policies=policies, source=source, target=target, advisor=PlainAdvisor(), log=store).turn()
    assert "2 ready" in run("explain", "prod/chat", "--store", url).stdout
    calm = run("explain", "prod/chat", "--store", url, "--changes")
    assert (calm.returncode, "none of the last 1 decisions changed" in calm.stderr) == (2, True)
    other = run("explain", "prod/image", "--store", url)
    assert (other.returncode, "no decision of it; endpoints with decisions: prod/chat" in other.stderr) == (2, True)


KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


# The other commands


def test_validate_says_ok_for_each_policy_that_is(policy: Path, run: Run) -> None:
    done = run("validate", policy)
    assert done.returncode == 0
    assert done.stdout.startswith("ok: prod/chat (Enforce, 1..10 replicas")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_first_policy_selects_one_endpoint_by_the_labels_of_its_preset(preset: str) -> None:
    running = Running(
        name="chat", namespace="prod", kind="Deployment", api_version="apps/v1", preset=preset, replicas=2
    )
    policy = parse_policy(yaml.safe_load(first_policy_text(running)), "first policy")
    assert policy.spec.demand.selector == PRESETS[preset].default_selector("prod", "chat")


def test_the_help_shows_every_default(run: Run) -> None:
    told = " ".join(run("run", "--help").stdout.replace("│", " ").split())
    for default in ("policies", "sqlite:///headstart.db", "http://127.0.0.1:9090", "no limits", "info; demo: warning"):
        assert f"(default: {default})" in told


def test_the_help_of_replay_names_every_baseline(run: Run) -> None:
    told = "".join(run("replay", "--help").stdout.replace("│", " ").split())
    assert f"also:{OTHER_BASELINES}.".replace(" ", "") in told
    assert {*DEFAULT_BASELINES.split(","), *OTHER_BASELINES.split(", ")} == {*BASELINES, REACTIVE}


def test_the_schema_is_json_and_knows_the_kind(run: Run) -> None:
    assert json.loads(run("schema").stdout)["title"]


def test_the_definition_of_the_custom_resource_is_the_one_that_is_shipped(run: Run) -> None:
    assert run("schema", "--crd").stdout == (ROOT / "deploy" / "policy.crd.yaml").read_text()


def test_the_admission_policy_is_the_one_that_is_shipped(run: Run) -> None:
    assert run("schema", "--admission").stdout == (ROOT / "deploy" / "policy.admission.yaml").read_text()


def test_a_failed_policy_test_is_exit_code_one_with_expected_and_seen(
    short: Path, policy: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "policy.yaml").write_text(policy.read_text())
    (tmp_path / "one.yaml").write_text(POLICY_TEST.format(trace=short, limit=10_000))
    junit = tmp_path / "out" / "junit.xml"
    done = run("test", tmp_path, "--junit", junit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "<testsuite" in junit.read_text()
    (tmp_path / "one.yaml").write_text(POLICY_TEST.format(trace=short, limit=0.5))
    done = run("test", tmp_path)
    assert done.returncode == 1
    assert "gpuHours" in done.stdout


def test_tune_says_what_would_have_changed_and_writes_nothing(
    short: Path, policy: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("tune", "--policy", policy, "--trace", short, "--warmup", "11h", "--trials", "2")
    assert done.returncode == 0, done.stderr
    assert "as it is" in done.stdout
    assert "best found" in done.stdout
    assert list(tmp_path.iterdir()) == []


POLICY_TEST = """\
apiVersion: headstart.dev/v1alpha1
kind: PolicyTest
metadata: {{name: chat-morning}}
spec:
  policy: policy.yaml
  traffic: {{trace: "{trace}", from: "2026-03-02T06:00:00Z", days: 0.125, warmup: 6h}}
  expect:
    - {{gpuHours: {{atMost: {limit}}}}}
"""


def test_the_demonstration_moves_answers_and_ends_cleanly_on_a_signal(tmp_path: Path) -> None:
    import signal

    port = free_port()
    command = [sys.executable, "-m", "scaler", "run", "--demo", "--http", f"127.0.0.1:{port}", "--time-scale", "60"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, stderr=log, stdout=log, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"

    def told(path: str) -> Any:
        return requests.get(f"{url}{path}", timeout=60).json()

    try:
        wait_until(lambda: http_status(f"{url}/readyz") == 200, timeout_seconds=120, what="it is ready")
        endpoints = told("/api/v1/endpoints")
        contract = {"namespace", "name", "mode", "ready", "starting", "desired", "demand"}
        assert all(contract <= set(row) for row in endpoints)
        assert len(endpoints) == 4
        first = told("/api/v1/status")["turns"]
        wait_until(lambda: told("/api/v1/status")["turns"] > first + 4, timeout_seconds=60, what="turns are made")
        rows = told("/api/v1/endpoints/prod/chat-7b/decisions")
        assert rows[0]["decided_at"] > rows[1]["decided_at"]
        assert rows[0]["verdicts"]
        line = "/api/v1/endpoints/prod/chat-7b/timeline"
        wait_until(lambda: told(line)["forecast"] is not None, timeout_seconds=60, what="there is a forecast")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        log.close()
    assert "ended" in (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
