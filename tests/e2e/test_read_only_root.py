"""`headstart run` writes nowhere but where its pod may."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from tests.e2e.rehearsal import PER_REPLICA, Rehearsal
from tests.servers.processes import wait_until

DOCUMENTS = list(yaml.safe_load_all((Path(__file__).parents[2] / "deploy" / "headstart.yaml").read_text()))
SPEC = {
    "mode": "Enforce",
    "demand": {"preset": "http"},
    "capacity": {"perReplica": PER_REPLICA},
    "startup": {"expected": "2m"},
    "replicas": {"min": 1, "max": 16},
    "forecast": {"history": "3d"},  # compiling is what takes time here
}
# Run by Python itself before anything else in the process. Refused attempts are told too: they are made on a
# read-only root as well, and what they were for is then not done.
WATCH = """
import os, sys

WRITES = {
    "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
    "os.chmod": 1, "os.chown": 1, "os.utime": 1, "sqlite3.connect": 1,
}
told = os.open(os.environ["WATCHED_WRITES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def watch(event, arguments):
    if event == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        paths = arguments[:1]
    else:
        paths = arguments[: WRITES.get(event, 0)]
    for path in paths:
        if not isinstance(path, int):
            os.write(told, os.path.abspath(os.fsdecode(path)).encode() + b"\\n")

sys.addaudithook(watch)
"""


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """What stands here for the folders that the pod may write to."""
    (deployment,) = (document for document in DOCUMENTS if document["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    writable = {volume["name"] for volume in pod["volumes"] if "configMap" not in volume}
    paths = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in writable}
    made = {path: tmp_path / "pod" / path.removeprefix("/") for path in paths}
    for folder in made.values():
        folder.mkdir(parents=True)
    return made


@pytest.mark.timeout(600)
def test_it_plans_orders_and_refits_and_writes_only_to_the_volumes_of_its_pod(
    rehearse: Callable[..., Rehearsal], folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    told = tmp_path / "written"
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path / "watch"), os.environ.get("PYTHONPATH", "")])),
        "WATCHED_WRITES": str(told),
        "PYTHONDONTWRITEBYTECODE": "1",  # the image's user may not write beside the sources
        "HOME": "/nowhere",
        "TMPDIR": str(folders["/tmp"]),
        "NUMBA_CACHE_DIR": str(folders["/cache"]),
    }
    rehearsal = rehearse(begin=timedelta(hours=8), scale=60.0, startup=timedelta(minutes=2))
    rehearsal.start_world(replicas=1)
    rehearsal.start_service(SPEC, environment=environment, store=folders["/data"] / "headstart.db")
    wait_until(
        lambda: rehearsal.metric("headstart_refit_duration_seconds_count") > 0 and rehearsal.desired() > 1,
        timeout_seconds=400,  # nothing is compiled yet, and cores may be shared
        what="it has refitted and ordered",
    )
    rehearsal.end_service()
    written = {Path(line) for line in told.read_text().splitlines()} - {Path(os.devnull)}
    within = {path: [one for one in folders if path.is_relative_to(folders[one])] for path in written}
    assert [path for path, found in within.items() if not found] == []
    assert {"/data", "/cache"} <= {one for found in within.values() for one in found}, "it was watched at work"
