"""What the pods of a target say: which serve, which are still starting, and how long starts took. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from scaler.adapters.kubernetes.lever import TargetReading
from scaler.domain.replicas import ReplicaState, StartupObservation

Pod = Mapping[str, Any]
ToService = Callable[[datetime], datetime]
"""From the API server's time to the service's own."""
UNWATCHED_START = timedelta(hours=1)
"""A pod first seen older than this, and not ready within it, may have been ready before: its start was not watched."""
_REVISION_LABELS = ("pod-template-hash", "controller-revision-hash")
"""Of a Deployment's pods, and of a StatefulSet's or a DaemonSet's."""
_ENDED = {"Failed", "Succeeded"}
_CANNOT_START = {
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}


def standing(pods: Iterable[Pod]) -> list[Pod]:
    """Without pods that are going or have ended: they serve nobody and never will."""
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and _phase(pod) not in _ENDED]


def replica_state(
    target: TargetReading, pods: Iterable[Pod], to_service: ToService, version_label: str = ""
) -> ReplicaState:
    """The standing pods counted; those not ready by the time they were created. Their versions are told by a label of
    their own, or by what Kubernetes writes."""
    here = standing(pods)
    starting = [pod for pod in here if _since(pod, "Ready") is None]
    ready = [pod for pod in here if _since(pod, "Ready") is not None]
    return ReplicaState(
        ready=len(ready),
        starting=tuple(to_service(_created(pod)) for pod in starting),
        unschedulable=sum(map(_is_unschedulable, starting)),
        desired=target.desired,
        version=target.version,
        revisions=_versions(ready, version_label),
        rolling_out=len(_versions(here, version_label)) > 1,
    )


class StartupWatch:
    """Remembers when each pod was ready first: its Ready condition alone shows only the last change."""

    def __init__(self) -> None:
        self._ready_first: dict[str, datetime] = {}
        self._unwatched: dict[str, bool] = {}

    def observe(self, pods: Sequence[Pod], now: datetime, to_service: ToService) -> list[StartupObservation]:
        """Starts of standing pods; one whose containers restarted says nothing about a clean start and is left out."""
        seen = []
        for pod in standing(pods):
            uid = pod["metadata"]["uid"]
            ready_since = _since(pod, "Ready")
            if ready_since is not None:
                self._ready_first.setdefault(uid, ready_since)
            if uid not in self._unwatched:
                self._unwatched[uid] = self._is_unwatched(pod, now, to_service)
            if self._unwatched[uid] or _restarts(pod) > 0:
                continue
            seen.append(self._observation(pod, to_service))
        return seen

    def forget_all_but(self, uids: Iterable[str]) -> None:
        """Only these pods are remembered."""
        keep = set(uids)
        self._ready_first = {uid: at for uid, at in self._ready_first.items() if uid in keep}
        self._unwatched = {uid: unwatched for uid, unwatched in self._unwatched.items() if uid in keep}

    def _is_unwatched(self, pod: Pod, now: datetime, to_service: ToService) -> bool:
        created = to_service(_created(pod))
        ready = self._ready_first.get(pod["metadata"]["uid"])
        return (to_service(ready) if ready else now) - created > UNWATCHED_START

    def _observation(self, pod: Pod, to_service: ToService) -> StartupObservation:
        def moment(wall: datetime | None) -> datetime | None:
            return None if wall is None else to_service(wall)

        return StartupObservation(
            ordered_at=to_service(_created(pod)),
            scheduled_at=moment(_since(pod, "PodScheduled")),
            started_at=moment(_started(pod)),
            ready_at=moment(self._ready_first.get(pod["metadata"]["uid"])),
            failed=_cannot_start(pod),
        )


def _phase(pod: Pod) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def _versions(pods: Iterable[Pod], version_label: str) -> tuple[str, ...]:
    """Each once; a pod on which no label tells its version adds none."""
    names = (version_label,) if version_label else _REVISION_LABELS
    labels = [pod["metadata"].get("labels") or {} for pod in pods]
    told = [next((str(own[name]) for name in names if own.get(name)), "") for own in labels]
    return tuple(sorted(set(filter(None, told))))


def _created(pod: Pod) -> datetime:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"])


def _condition(pod: Pod, kind: str) -> Mapping[str, Any]:
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


def _since(pod: Pod, kind: str) -> datetime | None:
    """Since when a condition is true; None while it is not."""
    condition = _condition(pod, kind)
    if condition.get("status") != "True":
        return None
    changed = condition.get("lastTransitionTime")
    return datetime.fromisoformat(changed) if changed else _created(pod)


def _is_unschedulable(pod: Pod) -> bool:
    condition = _condition(pod, "PodScheduled")
    return condition.get("status") == "False" and condition.get("reason") == "Unschedulable"


def _containers(pod: Pod) -> Sequence[Mapping[str, Any]]:
    return pod.get("status", {}).get("containerStatuses") or ()


def _restarts(pod: Pod) -> int:
    return sum(container.get("restartCount", 0) for container in _containers(pod))


def _started(pod: Pod) -> datetime | None:
    """When the last of its containers ran; None until all do."""
    started = [container.get("state", {}).get("running", {}).get("startedAt") for container in _containers(pod)]
    return max(map(datetime.fromisoformat, started)) if started and all(started) else None


def _cannot_start(pod: Pod) -> bool:
    waiting = [container.get("state", {}).get("waiting", {}).get("reason") for container in _containers(pod)]
    return any(reason in _CANNOT_START for reason in waiting)
