"""The lever `KnativeMinScale`: the min-scale of the revisions that a Knative Service sends its traffic to.

A min-scale in the Service's own template would make a new revision with every order. So it is set where Knative keeps
it for a revision that exists: on the PodAutoscaler, which decides, and on the Revision, from which Serving 1.21 and
newer copies it there. Traffic that is split between revisions (a canary) splits the floor with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

from scaler.adapters.kubernetes.client import Json, KubernetesApi, ServedKind
from scaler.adapters.kubernetes.lever import TargetReading
from scaler.domain.policy import ScalingPolicy
from scaler.errors import Conflict, TargetNotFound

SERVICES = ServedKind(group="serving.knative.dev", version="v1", plural="services")
REVISIONS = ServedKind(group="serving.knative.dev", version="v1", plural="revisions")
AUTOSCALERS = ServedKind(group="autoscaling.internal.knative.dev", version="v1alpha1", plural="podautoscalers")
MIN_SCALE = "autoscaling.knative.dev/min-scale"
MAX_SCALE = "autoscaling.knative.dev/max-scale"


@dataclass(frozen=True, kw_only=True)
class _Floor:
    """The min-scale of one revision, and what a write to its autoscaler must name."""

    revision: str
    percent: int
    replicas: int
    most: int
    version: str


class KnativeMinScale:
    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def read(self, policy: ScalingPolicy) -> TargetReading:
        """`desired` is the sum over the revisions; it is not ordered while the traffic is split another way. `most` is
        what no revision's share is above its own max-scale at: Knative refuses a min-scale above that.

        Raises TargetNotFound also while no revision takes traffic.
        """
        namespace, name = policy.endpoint.namespace, policy.target_name
        service, floors = self._service(policy)
        if not floors:
            raise TargetNotFound(f"Knative Service {namespace}/{name}: no revision takes its traffic yet")
        desired, percents = sum(one.replicas for one in floors), [one.percent for one in floors]
        return TargetReading(
            desired=desired,
            is_ordered=[one.replicas for one in floors] == split(desired, percents),
            version=_version(floors),
            uid=service["metadata"]["uid"],
            selector=f"serving.knative.dev/service={name}",
            most=min((one.most * sum(percents) // one.percent for one in floors if one.most), default=None),
        )

    def write(self, policy: ScalingPolicy, replicas: int, version: str) -> None:
        """One write for each revision whose share changes. The first conflict ends it; the next turn reads what is
        true and goes on."""
        namespace = policy.endpoint.namespace
        _, floors = self._service(policy)
        if _version(floors) != version:
            raise Conflict(f"Knative Service {policy.endpoint}: its traffic or an autoscaler changed since it was read")
        for one, share in zip(floors, split(replicas, [one.percent for one in floors]), strict=True):
            if share != one.replicas:
                annotations = {MIN_SCALE: str(share)}
                decides: Json = {"metadata": {"annotations": annotations, "resourceVersion": one.version}}
                self._api.patch_object(AUTOSCALERS, namespace, one.revision, decides)
                # Knative reads nothing else from it, and the autoscaler's version has just been found the newest.
                self._api.patch_object(REVISIONS, namespace, one.revision, {"metadata": {"annotations": annotations}})

    def _service(self, policy: ScalingPolicy) -> tuple[Json, list[_Floor]]:
        """The Service, and the floor of each revision that takes some of its traffic."""
        namespace = policy.endpoint.namespace
        service = self._api.read_object(SERVICES, namespace, policy.target_name)
        return service, [self._floor(namespace, revision, percent) for revision, percent in traffic_of(service).items()]

    def _floor(self, namespace: str, revision: str, percent: int) -> _Floor:
        found = self._api.read_object(AUTOSCALERS, namespace, revision)
        annotations = found["metadata"].get("annotations") or {}
        return _Floor(
            revision=revision,
            percent=percent,
            replicas=_count(annotations, MIN_SCALE),
            most=_count(annotations, MAX_SCALE),
            version=found["metadata"]["resourceVersion"],
        )


def traffic_of(service: Json) -> Mapping[str, int]:
    """Per cent of the traffic by revision, those that take some."""
    shares: dict[str, int] = {}
    for target in service.get("status", {}).get("traffic", ()):
        if target.get("percent"):
            revision = target["revisionName"]
            shares[revision] = shares.get(revision, 0) + int(target["percent"])
    return shares


def split(replicas: int, percents: Sequence[int]) -> list[int]:
    """Replicas for each share of the traffic; they add up. What is left over goes to the largest remainders."""
    total = sum(percents)
    exact = [replicas * percent / total for percent in percents]
    whole = [floor(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for i in by_remainder[: replicas - sum(whole)]:
        whole[i] += 1
    return whole


def _version(floors: Sequence[_Floor]) -> str:
    return ",".join(f"{one.revision}:{one.percent}:{one.version}" for one in floors)


def _count(annotations: Mapping[str, str], key: str) -> int:
    """0 where nothing is set: Knative's own word for no bound."""
    text = annotations.get(key, "")
    return int(text) if text.isdigit() else 0
