"""Find the programs of Prometheus, Kubernetes and Helm, or build them once into a cache.

A program is looked for in this order:

1. the folder named by an environment variable: ``HEADSTART_PROMETHEUS_BIN`` for prometheus and promtool,
   ``HEADSTART_HELM_BIN`` for helm, ``KUBEBUILDER_ASSETS`` for those of Kubernetes (``setup-envtest`` installs some of
   them there);
2. ``PATH``;
3. the cache: ``HEADSTART_TEST_CACHE`` or ``~/.cache/headstart-tests``, in a folder named after a hash of go.mod, go.sum
   and the Go version.

What is found nowhere is built from the Go module beside this file (``go/<suite>``) into the cache; go.sum pins every
source by its hash. Parallel test workers share one build: the first takes a lock, the others wait for it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BUILD_COMMAND = "python -m tests.servers build"
KUBERNETES_VERSION = "1.36.3"
PROMETHEUS_VERSION = "0.316.0"
HELM_VERSION = "3.21.4"
"""The newest that is made for this Kubernetes: a build that follows that of Kubernetes finds half of it compiled."""


def _kubernetes_version_flags() -> str:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    values = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {package}.{key}={value}" for package in packages for key, value in values.items())


def _helm_version_flags() -> str:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    charts, lint = "helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules"
    # What `helm template` takes a cluster for; 1.20 unless it is told.
    values = {"k8sVersionMajor": major, "k8sVersionMinor": minor}
    known = [f"-X {package}.{key}={value}" for package in (charts, lint) for key, value in values.items()]
    return " ".join([f"-X helm.sh/helm/v3/internal/version.version=v{HELM_VERSION}", *known])


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Programs that are built together from one Go module."""

    name: str
    programs: tuple[str, ...]
    environment_variable: str
    """Names a folder that holds the programs, or some of them."""
    linker_flags: str
    built_as: Mapping[str, str]
    """Program -> the name Go gives it, where that differs."""

    @property
    def module_folder(self) -> Path:
        return Path(__file__).parent / "go" / self.name


PROMETHEUS = Suite(
    name="prometheus",
    programs=("prometheus", "promtool"),
    environment_variable="HEADSTART_PROMETHEUS_BIN",
    linker_flags=f"-s -w -X github.com/prometheus/common/version.Version={PROMETHEUS_VERSION}",
    built_as={},
)
KUBERNETES = Suite(
    name="kubernetes",
    programs=("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
    environment_variable="KUBEBUILDER_ASSETS",
    linker_flags=f"-s -w {_kubernetes_version_flags()}",
    built_as={"etcd": "server"},
)
HELM = Suite(
    name="helm",
    programs=("helm",),
    environment_variable="HEADSTART_HELM_BIN",
    linker_flags=f"-s -w {_helm_version_flags()}",
    built_as={},
)
SUITES = {suite.name: suite for suite in (PROMETHEUS, KUBERNETES, HELM)}


class ServersAbsent(Exception):
    """The programs are nowhere and cannot be built here; the message says how to get them."""


def locate(suite: Suite) -> dict[str, Path]:
    """The programs of a suite that exist already, by name; nothing is built."""
    found = {program: _find(suite, program) for program in suite.programs}
    return {program: path for program, path in found.items() if path is not None}


def provide(suite: Suite, progress=print) -> dict[str, Path]:
    """All programs of a suite, built if need be; raises `ServersAbsent` where they are absent and Go is too."""
    found = locate(suite)
    missing = [program for program in suite.programs if program not in found]
    if not missing:
        return found
    if go_version() is None:
        raise ServersAbsent(
            f"{', '.join(missing)} not found: not in ${suite.environment_variable}, PATH or {cache_root()}, and there "
            f"is no Go to build them. Install Go 1.26 or newer (https://go.dev/dl) and run `{BUILD_COMMAND}`, "
            f"or set {suite.environment_variable} to a folder that holds them."
        )
    folder = _build(suite, progress)
    return {program: found.get(program, folder / program) for program in suite.programs}


def go_version() -> str | None:
    """The version of the Go toolchain that would build a suite (such as ``go1.26.3``), or None without Go."""
    go = shutil.which("go")
    if go is None:
        return None
    asked = subprocess.run([go, "env", "GOVERSION"], cwd=PROMETHEUS.module_folder, capture_output=True, text=True)
    return asked.stdout.strip() if asked.returncode == 0 else None


def cache_root() -> Path:
    return Path(os.environ.get("HEADSTART_TEST_CACHE") or Path.home() / ".cache" / "headstart-tests")


def cache_folder(suite: Suite, version: str) -> Path:
    """Where the programs of a suite lie once built: a folder of its own for each go.mod, go.sum and Go version."""
    digest = hashlib.sha256()
    for part in ("go.mod", "go.sum"):
        digest.update((suite.module_folder / part).read_bytes())
    digest.update(f"{version} {suite.linker_flags}".encode())
    return cache_root() / f"{suite.name}-{digest.hexdigest()[:16]}"


def _find(suite: Suite, program: str) -> Path | None:
    folder = os.environ.get(suite.environment_variable)
    if folder and (Path(folder) / program).is_file():
        return Path(folder) / program
    if on_path := shutil.which(program):
        return Path(on_path)
    version = go_version()
    if version and (cached := cache_folder(suite, version) / program).is_file():
        return cached
    return None


def _build(suite: Suite, progress) -> Path:
    folder = cache_folder(suite, go_version() or "")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock"), suite, progress):
        if not folder.is_dir():  # another worker may have built it while this one waited
            _build_into(folder, suite, progress)
    return folder


def _build_into(folder: Path, suite: Suite, progress) -> None:
    """`folder` holds the programs afterwards; it appears whole or not at all."""
    progress(f"building {suite.name} once into {folder} (a few minutes): {', '.join(suite.programs)}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        output = Path(scratch) / "bin"
        command = ["go", "build", "-v", "-buildvcs=false", "-ldflags", suite.linker_flags, "-o", f"{output}/", "tool"]
        _run_with_progress(command, suite, progress)
        for program, built in suite.built_as.items():
            (output / built).rename(output / program)
        output.rename(folder)
    progress(f"built {suite.name}")


def _run_with_progress(command: list[str], suite: Suite, progress) -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    tail: list[str] = []
    with subprocess.Popen(
        command, cwd=suite.module_folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for count, line in enumerate(process.stdout or (), start=1):
            tail = [*tail[-19:], line.rstrip()]
            if count % 250 == 0:
                progress(f"  {suite.name}: {count} lines of downloads and compiled packages, now {line.strip()}")
    if process.returncode:
        raise ServersAbsent(f"`{' '.join(command)}` in {suite.module_folder} failed:\n" + "\n".join(tail))


@contextmanager
def _locked(path: Path, suite: Suite, progress) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that builds {suite.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """``build [suite...]`` builds what is missing; ``list`` says what is where. Exit code 1 if something is absent."""
    command, names = (arguments[0] if arguments else ""), (arguments[1:] or list(SUITES))
    unknown = [name for name in names if name not in SUITES]
    if command not in ("build", "list") or unknown:
        print(f"usage: python -m tests.servers build|list [{'|'.join(SUITES)}]...", file=sys.stderr)
        return 2
    complete = True
    for name in names:
        suite = SUITES[name]
        try:
            found = provide(suite, lambda line: print(line, flush=True)) if command == "build" else locate(suite)
        except ServersAbsent as absent:
            print(absent, file=sys.stderr)
            found = locate(suite)
        for program in suite.programs:
            print(f"{program:24} {found.get(program, 'absent')}")
        complete = complete and len(found) == len(suite.programs)
    return 0 if complete else 1
