"""Finding and building the servers' programs; a stand-in for Go counts how often it is asked to build."""

import threading
from pathlib import Path

import pytest

from tests.servers import binaries
from tests.servers.binaries import KUBERNETES, PROMETHEUS, ServersAbsent, cache_folder, locate, main, provide

FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26.99; exit 0; fi
echo built >> "{folder}/builds"
{fate}
while [ "$1" != -o ]; do shift; done
mkdir -p "$2"
for program in prometheus promtool server kube-apiserver kube-controller-manager kube-scheduler kubectl; do
  echo "$program" > "$2/$program"
done
"""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No programs anywhere, and no Go."""
    (tmp_path / "path").mkdir()
    for name in ("mkdir", "sh"):
        (tmp_path / "path" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("HEADSTART_TEST_CACHE", str(tmp_path / "cache"))
    for suite in binaries.SUITES.values():
        monkeypatch.delenv(suite.environment_variable, raising=False)
    return tmp_path


def install_go(folder: Path, fate: str = "") -> None:
    go = folder / "path" / "go"
    go.write_text(FAKE_GO.format(folder=folder, fate=fate))
    go.chmod(0o755)


def n_builds(folder: Path) -> int:
    return len((folder / "builds").read_text().splitlines()) if (folder / "builds").exists() else 0


def silent(_: str) -> None:
    return


def test_without_programs_and_without_go_the_reason_and_the_command_are_said(bare: Path) -> None:
    with pytest.raises(ServersAbsent, match=r"no Go to build them.*python -m tests\.servers build"):
        provide(PROMETHEUS, silent)
    assert main(["build"]) == 1


def test_programs_of_the_environment_win_over_the_path_and_the_rest_is_built(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_go(bare)
    assets = bare / "assets"
    assets.mkdir()
    for program in ("etcd", "kube-apiserver", "kubectl"):
        (assets / program).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    found = provide(KUBERNETES, silent)
    assert found["kube-apiserver"] == assets / "kube-apiserver"
    assert found["kube-scheduler"] == cache_folder(KUBERNETES, "go1.26.99") / "kube-scheduler"
    assert set(found) == set(KUBERNETES.programs)


def test_parallel_workers_build_once_and_a_later_run_finds_everything(bare: Path) -> None:
    install_go(bare)
    workers = [threading.Thread(target=provide, args=(KUBERNETES, silent)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert n_builds(bare) == 1
    assert (cache_folder(KUBERNETES, "go1.26.99") / "etcd").read_text() == "server\n"
    assert set(locate(KUBERNETES)) == set(KUBERNETES.programs)
    assert main(["list", "kubernetes"]) == 0


def test_a_build_that_fails_leaves_nothing_behind_and_says_what_go_said(bare: Path) -> None:
    install_go(bare, fate="echo no network; exit 1")
    with pytest.raises(ServersAbsent, match="no network"):
        provide(PROMETHEUS, silent)
    assert [path.name for path in (bare / "cache").iterdir() if path.suffix != ".lock"] == []


def test_another_go_version_is_another_cache_folder(bare: Path) -> None:
    assert cache_folder(PROMETHEUS, "go1.26.1") != cache_folder(PROMETHEUS, "go1.26.2")


def test_the_command_refuses_what_it_does_not_know(bare: Path) -> None:
    assert main(["build", "nomad"]) == 2
    assert main([]) == 2
