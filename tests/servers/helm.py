"""The real helm and the chart that is shipped."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
RELEASE = "headstart"


class HelmRefused(Exception):
    """What helm printed when it ended with an error."""


class Helm:
    """Runs to the end each time; without a kubeconfig only what needs no cluster."""

    def __init__(self, programs: Mapping[str, Path], folder: Path, *, kubeconfig: Path | None = None) -> None:
        self._program = programs["helm"]
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        homes = {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**os.environ, **homes, "KUBECONFIG": str(kubeconfig or folder / "no-cluster")}

    def says(self, *arguments: str | Path) -> str:
        """What is printed; raises HelmRefused with it where that is an error. Paths count from the repository."""
        command = [self._program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=self._environment, cwd=ROOT)
        if done.returncode:
            raise HelmRefused(done.stdout + done.stderr)
        return done.stdout

    def with_values(self, values: Mapping[str, Any]) -> str:
        """The flag that gives them."""
        file = self._folder / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)))
        return f"--values={file}"

    def rendered(self, values: Mapping[str, Any], *flags: str, namespace: str = "headstart") -> list[dict[str, Any]]:
        """The documents that a release with these values would apply."""
        said = self.says("template", RELEASE, CHART, f"--namespace={namespace}", self.with_values(values), *flags)
        return [document for document in yaml.safe_load_all(said) if document]
