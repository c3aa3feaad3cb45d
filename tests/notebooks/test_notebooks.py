"""The notebooks run from top to bottom on a generated sample."""

from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own libraries, about their own internals
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, monkeypatch):
    for name in ("HEADSTART_TRACE", "HEADSTART_PROMETHEUS_URL", "HEADSTART_STORE", "HEADSTART_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADSTART_SAMPLE_DAYS", "4")
    monkeypatch.setenv("PYTHONPATH", str(path.parents[1]))
    notebook = nbformat.read(path, as_version=4)
    # Over sockets of the file system: ports are chosen long before the kernel takes them, and others may be faster.
    with TemporaryDirectory() as folder:  # the paths of sockets have to be short
        sockets = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})
        client = NotebookClient(notebook, timeout=280, startup_timeout=240, kernel_name="python3", config=sockets)
        client.execute(cwd=str(path.parent))
    assert not any(cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def test_there_are_three():
    assert len(NOTEBOOKS) == 3
