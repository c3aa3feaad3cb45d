import subprocess
import sys
from pathlib import Path

from tests.servers.processes import free_port

ASK = """
import sys
from tests.servers.processes import free_port
print(*(free_port() for _ in range(20)), flush=True)
sys.stdin.read()
"""


def test_ports_are_given_once_among_all_processes_that_live() -> None:
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", ASK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(3)
    ]
    given = [free_port() for _ in range(20)]
    for process in asked:
        assert process.stdout is not None
        given += map(int, process.stdout.readline().split())
    for process in asked:
        process.communicate()
    assert len(set(given)) == len(given) == 80
