"""What the documentation shows is true: links lead somewhere, commands and examples parse."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from scaler.adapters.policies import load_policies, load_policy
from scaler.app.cli import app
from scaler.app.replays import read_policy_tests
from scaler.app.settings import Settings
from scaler.simulator.faults import parse_faults

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").glob("*.md")])
LINK = re.compile(r"\]\(([^)#]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


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
