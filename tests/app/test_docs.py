"""What the documentation shows is true: links lead somewhere, commands and examples parse."""

import ast
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from scaler.adapters.policies import load_policies, load_policy
from scaler.adapters.traces import read_single
from scaler.app.cli import app
from scaler.app.replays import read_policy_tests
from scaler.app.settings import Settings
from scaler.simulator.faults import parse_faults
from tests.servers.prometheus import Prometheus, Series

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", *(page for folder in ("docs", "data", "models") for page in (ROOT / folder).rglob("*.md"))]
)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
PATH = re.compile(r"(?<![\w/])(?:deploy|docs|policies|notebooks|benchmarks|scaler|forecaster|tests)/[\w./-]*\w")


def _anchors(page: Path) -> set[str]:
    """What the page's headings are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_what_is_there(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        if "://" not in target:
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in _anchors(file), f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    for named in PATH.findall(page.read_text()):
        assert (ROOT / named).exists(), f"{page.name} names {named}"


def test_every_example_policy_has_a_policy_test_that_reads() -> None:
    tests = read_policy_tests(ROOT / "policies")
    tested = {load_policy(file.parent / test.spec.policy).metadata.name for file, test in tests}
    assert tested == {policy.metadata.name for policy in load_policies(ROOT / "policies")}
    for _, test in tests:
        parse_faults(test.spec.world.faults)


def _commands() -> list[list[str]]:
    found = []
    for page in PAGES:
        for line in page.read_text().splitlines():
            text = line.strip()
            if line.startswith("    headstart "):
                found.append(shlex.split(text, comments=True))
    return found


@pytest.mark.parametrize("command", _commands(), ids=lambda command: " ".join(command))
def test_commands_in_the_docs_parse(command: list[str]) -> None:
    group = get_command(app)
    name = command[1]
    chosen = group.get_command(None, name)  # type: ignore[attr-defined]
    assert chosen is not None, f"no command {name}"
    chosen.make_context(name, command[2:])


@pytest.mark.parametrize("benchmark", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_every_benchmark_says_what_it_measures_when_asked_for_help(benchmark: Path) -> None:
    command = [sys.executable, "-m", f"benchmarks.{benchmark.stem}", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.startswith("usage:")
    assert (ast.get_docstring(ast.parse(benchmark.read_text())) or "").splitlines()[0] in told


def test_operations_lists_every_setting_and_no_other() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    listed = set(re.findall(r"`(HEADSTART_[A-Z_]+)`", page))
    assert listed == {f"HEADSTART_{name.upper()}" for name in Settings.model_fields}


def test_the_defaults_in_operations_are_the_defaults() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = dict(re.findall(r"^\| `HEADSTART_([A-Z_]+)` \| `([^`]+)` \|", page, flags=re.MULTILINE))
    assert len(rows) >= 8
    defaults = Settings.model_construct()
    read = {name: Settings.model_validate({name.lower(): value}) for name, value in rows.items()}
    for name, settings in read.items():
        assert getattr(settings, name.lower()) == getattr(defaults, name.lower()), name


def test_the_recipe_for_a_trace_from_a_prometheus_gives_one(
    prometheus: Prometheus, prometheus_programs: dict[str, Path], tmp_path: Path
) -> None:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    seen = [i for i in range(2 * 90) if not 60 <= i < 80]  # ten minutes of outage
    counted = Series(
        metric="http_requests",
        kind="counter",
        labels={"namespace": "prod", "service": "chat-7b"},
        samples=[(start + timedelta(seconds=30 * i), 6.0 * i) for i in seen],
    )
    prometheus.backfill([counted])
    prometheus.start()
    recipe = (ROOT / "data" / "README.md").read_text().partition("    promtool ")[2].partition("\n\n")[0]
    for stated, here in (
        ("2026-03-02T00:01:00Z", f"{start + timedelta(minutes=3):%Y-%m-%dT%H:%M:%SZ}"),
        ("2026-03-09T00:00:00Z", f"{start + timedelta(minutes=80):%Y-%m-%dT%H:%M:%SZ}"),
        ("http://prometheus:9090", prometheus.url),
    ):
        assert stated in recipe
        recipe = recipe.replace(stated, here)
    promtool = shlex.quote(str(prometheus_programs["promtool"]))
    subprocess.run(["bash", "-euo", "pipefail", "-c", f"{promtool} {recipe}"], cwd=tmp_path, check=True, timeout=60)
    series = read_single(tmp_path / "trace.csv")
    assert (series.start, series.step, series.end) == (
        start + timedelta(minutes=2),
        timedelta(minutes=1),
        start + timedelta(minutes=80),
    )
    assert 8 <= np.isnan(series.values).sum() <= 10
    assert np.nanmedian(series.values) == pytest.approx(0.2)
