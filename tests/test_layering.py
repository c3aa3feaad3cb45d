"""The layering drawn in the docs is the layering in the code."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [  # bottom to top; names on one line are siblings and may not import each other
    ["forecaster"],
    ["scaler.errors"],
    ["scaler.domain"],
    ["scaler.core"],
    ["scaler.ports"],
    ["scaler.cycle"],
    ["scaler.adapters", "scaler.simulator"],
    ["scaler.app"],
]
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
PURE = ("scaler.domain", "scaler.core")
PURE_MAY_IMPORT = {"numpy", "forecaster", "scaler"} | sys.stdlib_module_names
IMPURE_STDLIB = {"time", "random", "os", "logging", "socket", "pathlib", "subprocess", "threading"}
MAY_ALSO_IMPORT = {
    "scaler.domain.policy": {"pydantic"},  # the policy's schema, its checks and its documents are one
    "scaler.domain.fields": {"pydantic"},
    "scaler.core.bounds": {"cronsim"},  # reads a cron expression; the time is an argument
}
ONLY_HERE = {  # vendor -> the modules (or the folder) that may know it
    "kubernetes": ("scaler.adapters.kubernetes",),
    "prometheus_api_client": ("scaler.adapters.prometheus",),
    "statsforecast": ("forecaster.methods",),
    "sklearn": ("forecaster.methods",),
    "apscheduler": ("scaler.app.scheduler",),
    "numba": ("forecaster.kernels", "scaler.simulator"),
    "sqlalchemy": ("scaler.adapters.store",),
    "prometheus_client": ("scaler.adapters.telemetry", "scaler.app"),
    "fastapi": ("scaler.app",),
    "uvicorn": ("scaler.app",),
    "typer": ("scaler.app",),
    "optuna": ("scaler.app",),
    "grpc": ("scaler.adapters.keda.server",),
    "google": ("scaler.adapters.keda.wire",),
    "cronsim": ("scaler.core.bounds",),
}
ONE_LEAF = (
    "apscheduler",
    "statsforecast",
    "sklearn",
    "prometheus_api_client",
    "grpc",
    "google",
)  # known to one file only
CLOCK_HOME = "scaler.adapters.clock"
CLOCK_CALLS = ("datetime.now", "utcnow", "date.today", "Timestamp.now", "time.time", "time.time_ns")
NO_LAYER = {"scaler", "scaler.__main__"}
FILES = sorted(path for package in ("forecaster", "scaler") for path in (ROOT / package).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_within(name: str, home: str) -> bool:
    return f"{name}.".startswith(f"{home}.")


def layer_of(name: str) -> str | None:
    return max((layer for layer in RANK if is_within(name, layer)), key=len, default=None)


def imports(path: Path) -> Iterator[str]:
    package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_imports_point_down(path: Path) -> None:
    here = layer_of(dotted(path))
    assert here or dotted(path) in NO_LAYER, f"{dotted(path)} stands in no layer"
    for name in imports(path):
        there = layer_of(name)
        if here and there and here != there:
            assert RANK[there] < RANK[here], f"{dotted(path)} ({here}) imports {name} ({there})"


@pytest.mark.parametrize("path", [path for path in FILES if layer_of(dotted(path)) in PURE], ids=dotted)
def test_pure_layers_do_no_io(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    allowed = (PURE_MAY_IMPORT - IMPURE_STDLIB) | MAY_ALSO_IMPORT.get(dotted(path), set())
    assert tops <= allowed, f"{dotted(path)} imports {sorted(tops - allowed)}"


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_each_vendor_is_known_at_its_own_place_only(path: Path) -> None:
    for name in imports(path):
        homes = ONLY_HERE.get(name.split(".")[0])
        if homes is not None:
            assert any(is_within(dotted(path), home) for home in homes), f"{dotted(path)} imports {name}"


@pytest.mark.parametrize("vendor", ONE_LEAF)
def test_one_module_knows_the_vendor(vendor: str) -> None:
    knowing = [dotted(path) for path in FILES if any(name.split(".")[0] == vendor for name in imports(path))]
    assert len(knowing) <= 1, f"{vendor} is imported by {knowing}"


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_only_the_clock_reads_the_clock(path: Path) -> None:
    if dotted(path) != CLOCK_HOME:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                assert not call.endswith(CLOCK_CALLS), f"{dotted(path)} calls {call}"


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_only_the_scheduler_catches_everything(path: Path) -> None:
    if dotted(path) != "scaler.app.scheduler":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in ("Exception", "BaseException", "everything"), f"{dotted(path)}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_compiled_code_is_kept_under_the_version_of_its_source(path: Path) -> None:
    """What numba keeps by itself is in the way of the next version."""
    if dotted(path) != "forecaster.kernels":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert "cache" not in {keyword.arg for keyword in node.keywords}, f"{dotted(path)}:{node.lineno}"
