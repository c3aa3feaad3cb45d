"""Compiled code is kept from one process to the next, and never in the way of the next version."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAW = """
from typing import NamedTuple

class Law(NamedTuple):
    factor: float
"""
HELPER = """
FACTOR = {factor}

def scaled(value):
    return FACTOR * value
"""
KERNELS = """
import helper
from forecaster.kernels import kernel
from numba.extending import register_jitable
from {home} import Law

register_jitable(helper.scaled)

@kernel(helper)
def applied(law, value):
    return helper.scaled(law.factor * value)
"""
PROGRAM = """
from kernels import Law, applied
print(applied(Law(2.0), 3.0), sum(applied.stats.cache_hits.values()))
"""


def written(folder: Path, *, law: str = "law", factor: float = 1.0) -> None:
    """One version of the code; `law` is the module where the type of the argument stands."""
    for old in folder.glob("*.py"):
        old.unlink()
    (folder / f"{law}.py").write_text(LAW)
    (folder / "helper.py").write_text(HELPER.format(factor=factor))
    (folder / "kernels.py").write_text(KERNELS.format(home=law))


def run(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    told = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}:{ROOT}", "HOME": str(folder), **environment}
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=told, check=False)


def test_what_one_process_compiled_the_next_one_loads(tmp_path: Path) -> None:
    written(tmp_path)
    assert [run(tmp_path).stdout.split() for _ in range(2)] == [["6.0", "0"], ["6.0", "1"]]


def test_what_is_kept_of_a_version_in_which_a_type_stood_elsewhere_is_left_alone(tmp_path: Path) -> None:
    written(tmp_path)
    run(tmp_path)
    written(tmp_path, law="moved")
    after = run(tmp_path)
    assert after.stdout.split() == ["6.0", "0"], after.stderr


def test_a_change_of_a_called_module_is_compiled(tmp_path: Path) -> None:
    written(tmp_path)
    run(tmp_path)
    written(tmp_path, factor=10.0)
    assert run(tmp_path).stdout.split() == ["60.0", "0"]


def test_beside_a_package_that_may_not_be_written_it_is_kept_in_the_users_folder(tmp_path: Path) -> None:
    package, home = tmp_path / "package", tmp_path / "home"
    package.mkdir()
    written(package)
    (package / "__pycache__").write_text("no folder can be made of it, whoever asks")
    assert [run(package, HOME=str(home)).stdout.split() for _ in range(2)] == [["6.0", "0"], ["6.0", "1"]]


def test_where_nothing_may_be_written_it_is_compiled_at_each_start_and_said(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "__pycache__").write_text("no folder can be made of it, whoever asks")
    done = run(tmp_path, HOME="/proc/nowhere")
    assert done.stdout.split() == ["6.0", "0"], done.stderr
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1
