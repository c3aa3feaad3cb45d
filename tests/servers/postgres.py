"""A real PostgreSQL on loopback, in a folder of its own. It does not run as root: there its own user is taken."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.binaries import ServersAbsent
from tests.servers.processes import ServerProcess, free_port

USER = "postgres"


def programs() -> Path:
    """The folder with initdb and postgres: on PATH, or where Debian puts it. Raises ServersAbsent."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        raise ServersAbsent("PostgreSQL is neither on PATH nor in /usr/lib/postgresql: apt-get install postgresql")
    return folders[-1]


@contextmanager
def running_postgres() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database that runs while the block does."""
    folder, binaries, port = Path(tempfile.mkdtemp(prefix="headstart-pg-")), programs(), free_port()
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, USER, USER)
    data = folder / "data"
    try:
        initdb = [*as_user, binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
        command = [*as_user, binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
        server = ServerProcess(command, log=folder / "log")
        server.start()
        try:
            ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            server.wait_ready(lambda: subprocess.run(ready, check=False).returncode == 0, timeout_seconds=60)
            yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/{USER}"
        finally:
            if server.is_running:
                os.kill(server.pid, signal.SIGINT)  # its fast way to stop: SIGTERM waits for every client to leave
            server.terminate()
    finally:
        shutil.rmtree(folder)
