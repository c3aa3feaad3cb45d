"""Nodes with GPUs played by one thread: pods that the scheduler bound start, become ready after a chosen time, and go.

Conditions and container states are written as a kubelet writes them, with the API server's resolution of one second.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.servers.api import STRATEGIC_PATCH, ApiError, KubernetesApi

STARTUP_ANNOTATION = "tests.headstart.dev/startup-seconds"
"""On a pod: its own start-up time in place of the kubelet's."""


class FakeKubelet:
    """Plays every node it registered, from `start` to `stop`."""

    def __init__(self, api: KubernetesApi, *, startup_seconds: float = 0.5, poll_seconds: float = 0.1) -> None:
        self.startup_seconds = startup_seconds
        """From bound to ready; may be changed while it runs, for the pods that start later."""
        self.ready_at: dict[str, float] = {}
        """Pod name -> `time.monotonic()` when it was made ready."""
        self._api = api
        self._poll_seconds = poll_seconds
        self._due: dict[str, float] = {}
        self._nodes: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-kubelet", daemon=True)

    def __enter__(self) -> "FakeKubelet":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and takes the nodes away, with what ran on them."""
        self._stop.set()
        self._thread.join(timeout=20)
        self._quietly(self._end_pods)
        for name in self._nodes:
            self._quietly(lambda name=name: self._api.delete(f"/api/v1/nodes/{name}"))

    def register_node(self, name: str, *, gpus: int, labels: dict[str, str] | None = None) -> None:
        """A ready node with `gpus` of nvidia.com/gpu to give."""
        room = {"cpu": "256", "memory": "1Ti", "pods": "250", "nvidia.com/gpu": str(gpus)}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}}
        self._api.create("/api/v1/nodes", node)
        status = {"capacity": room, "allocatable": room, "conditions": [_condition("Ready", reason="KubeletReady")]}
        self._api.patch(f"/api/v1/nodes/{name}/status", {"status": status}, content_type=STRATEGIC_PATCH)
        self._nodes.add(name)

    def _run(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self._quietly(self._turn)

    def _turn(self) -> None:
        for pod in self._api.get("/api/v1/pods")["items"]:
            if pod["spec"].get("nodeName") in self._nodes:
                self._quietly(lambda pod=pod: self._play(pod))

    def _end_pods(self) -> None:
        for pod in self._api.get("/api/v1/pods")["items"]:
            if pod["spec"].get("nodeName") in self._nodes:
                path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
                self._quietly(lambda path=path: self._api.delete(path, {"gracePeriodSeconds": 0}))

    def _play(self, pod: dict[str, Any]) -> None:
        meta, now = pod["metadata"], time.monotonic()
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if "deletionTimestamp" in meta:
            self._api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
        elif pod["status"].get("phase") != "Pending":
            return
        elif meta["uid"] not in self._due:
            own = meta.get("annotations", {}).get(STARTUP_ANNOTATION)
            self._due[meta["uid"]] = now + (self.startup_seconds if own is None else float(own))
            self._write_status(path, _starting_status(pod))
        elif now >= self._due[meta["uid"]]:
            self._write_status(path, _ready_status(pod))
            self.ready_at[meta["name"]] = now

    def _write_status(self, path: str, status: dict[str, Any]) -> None:
        self._api.patch(f"{path}/status", {"status": status}, content_type=STRATEGIC_PATCH)

    def _quietly(self, act: Callable[[], object]) -> None:
        """A kubelet outlives an API server that restarts and pods that vanish while it looks at them."""
        try:
            act()
        except (ApiError, OSError):
            return


def _condition(kind: str, *, is_true: bool = True, reason: str = "") -> dict[str, str]:
    stamp = _now()
    return {"type": kind, "status": "True" if is_true else "False", "lastTransitionTime": stamp, "reason": reason}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _containers(pod: dict[str, Any], *, ready: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": 0,
            "state": {"running": {"startedAt": _now()}} if ready else {"waiting": {"reason": "ContainerCreating"}},
        }
        for container in pod["spec"]["containers"]
    ]


def _starting_status(pod: dict[str, Any]) -> dict[str, Any]:
    return {
        "startTime": _now(),
        "conditions": [
            _condition("Initialized"),
            _condition("Ready", is_true=False, reason="ContainersNotReady"),
            _condition("ContainersReady", is_true=False, reason="ContainersNotReady"),
        ],
        "containerStatuses": _containers(pod, ready=False),
    }


def _ready_status(pod: dict[str, Any]) -> dict[str, Any]:
    return {
        "phase": "Running",
        "conditions": [_condition("Ready"), _condition("ContainersReady")],
        "containerStatuses": _containers(pod, ready=True),
    }
