"""The port `ScaleTarget` on a Kubernetes cluster."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

from scaler.adapters.kubernetes.client import PARALLEL_REQUESTS, Json, KubernetesApi, answered
from scaler.adapters.kubernetes.events import EventWriter
from scaler.adapters.kubernetes.hpa import AUTOSCALERS, HpaFloor, Rival, keda_owner, scales
from scaler.adapters.kubernetes.keda import KedaOrders
from scaler.adapters.kubernetes.knative import KnativeMinScale
from scaler.adapters.kubernetes.kserve import KServeMinReplicas
from scaler.adapters.kubernetes.lever import Lever, TargetReading
from scaler.adapters.kubernetes.pods import StartupWatch, replica_state
from scaler.adapters.kubernetes.scale import ScaleSubresource
from scaler.adapters.kubernetes.selectors import matches
from scaler.domain.decision import Actuation, ActuationOutcome, Decision
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Mode, ScalingPolicy
from scaler.domain.replicas import ReplicaState, StartupObservation
from scaler.errors import ClusterUnavailable, Conflict, HeadstartError, TargetNotFound

MakeLever = Callable[[KubernetesApi], Lever]
TARGETS: Mapping[str, MakeLever] = {
    "Scale": ScaleSubresource,
    "HPAFloor": HpaFloor,
    "KEDA": KedaOrders,
    "KnativeMinScale": KnativeMinScale,
    "KServeMinReplicas": KServeMinReplicas,
}
"""`target.actuation` of a policy -> how its orders are carried out."""

Answer = TypeVar("Answer")
_log = structlog.get_logger(__name__)


class WallTime(Protocol):
    """From and to the time that the API server stamps; the clocks of `scaler.adapters.clock` do it."""

    def to_wall(self, service: datetime) -> datetime: ...

    def to_service(self, wall: datetime) -> datetime: ...


class KubernetesTarget:
    """Reads all targets in a few parallel requests, and the pods of each namespace in one list."""

    def __init__(self, api: KubernetesApi, clock: WallTime, targets: Mapping[str, MakeLever] = TARGETS) -> None:
        self._api = api
        self._clock = clock
        self._levers = {name: lever(api) for name, lever in targets.items()}
        self._events = EventWriter(api, clock.to_wall)
        self._watch = StartupWatch()
        self._problems: dict[EndpointId, str] = {}
        self._targets: dict[EndpointId, TargetReading] = {}
        self._startups: dict[EndpointId, list[StartupObservation]] = {}

    def observe(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, ReplicaState]:
        """Raises ClusterUnavailable when nothing at all could be read because the server does not answer."""
        turn = _TurnOfReads()
        with ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="kubernetes") as pool:
            targets = list(pool.map(lambda policy: turn.attempt(lambda: self._lever(policy).read(policy)), policies))
            namespaces = sorted(
                {policy.endpoint.namespace for policy, found in zip(policies, targets, strict=True) if _is_read(found)}
            )
            lists = pool.map(lambda namespace: turn.attempt(lambda: self._api.list_pods(namespace)), namespaces)
            pods = dict(zip(namespaces, lists, strict=True))
        turn.raise_if_silent()
        return self._digest(policies, targets, pods, now)

    def problems(self) -> Mapping[EndpointId, str]:
        return self._problems

    def order(self, policy: ScalingPolicy, replicas: int, seen: ReplicaState) -> Actuation:
        """As the port says. A policy that only observes or recommends is never written for, whoever asks."""
        if not policy.may_order:
            recommends = policy.spec.mode is Mode.RECOMMEND
            return Actuation(outcome=ActuationOutcome.RECOMMENDED if recommends else ActuationOutcome.OBSERVED)
        read = self._targets.get(policy.endpoint)
        asked, limited = _within(read, replicas)
        if seen.desired == asked and (read is None or read.is_ordered):
            return Actuation(outcome=ActuationOutcome.UNCHANGED, detail=limited, asked=asked)
        try:
            self._lever(policy).write(policy, asked, seen.version)
        except Conflict as error:
            return Actuation(outcome=ActuationOutcome.CONFLICT, detail=str(error))
        except ClusterUnavailable as error:
            return Actuation(outcome=ActuationOutcome.FAILED, detail=str(error))
        return Actuation(outcome=ActuationOutcome.ORDERED, detail=limited, asked=asked)

    def announce(self, policy: ScalingPolicy, decision: Decision) -> None:
        """An event on the target, unless it is only observed. One that fails costs no order: it is logged."""
        if decision.mode is Mode.OBSERVE:
            return
        try:
            target = self._targets.get(policy.endpoint)
            self._events.write(policy, decision, target.uid if target is not None else "")
        except HeadstartError as error:
            _log.warning("event_not_written", endpoint=str(policy.endpoint), problem=str(error))

    def rivals(self, policies: Sequence[ScalingPolicy]) -> Mapping[EndpointId, Rival]:
        """The HPA that scales a target which the policy wants to set itself: each would undo the other.

        Raises as the port's methods; Forbidden where HPAs may not be listed.
        """
        own = [policy for policy in policies if policy.spec.target.actuation == "Scale"]
        return {
            endpoint: Rival(name=autoscaler["metadata"]["name"], scaled_object=keda_owner(autoscaler))
            for endpoint, autoscalers in self._autoscalers(own).items()
            for autoscaler in autoscalers
        }

    def unheard(self, policies: Sequence[ScalingPolicy]) -> Sequence[EndpointId]:
        """Endpoints whose orders are for KEDA, and no HPA of KEDA's scales their targets. Raises as `rivals`."""
        for_keda = [policy for policy in policies if policy.spec.target.actuation == "KEDA"]
        return [
            endpoint
            for endpoint, autoscalers in self._autoscalers(for_keda).items()
            if not any(map(keda_owner, autoscalers))
        ]

    def _autoscalers(self, policies: Sequence[ScalingPolicy]) -> Mapping[EndpointId, Sequence[Json]]:
        """The HPAs that scale each policy's target."""
        namespaces = sorted({policy.endpoint.namespace for policy in policies})
        listed = {namespace: self._api.list_objects(AUTOSCALERS, namespace) for namespace in namespaces}
        return {
            policy.endpoint: [one for one in listed[policy.endpoint.namespace] if scales(one, policy)]
            for policy in policies
        }

    def startups(self, policies: Sequence[ScalingPolicy]) -> Mapping[EndpointId, Sequence[StartupObservation]]:
        known = self._startups
        return {policy.endpoint: known[policy.endpoint] for policy in policies if policy.endpoint in known}

    def _lever(self, policy: ScalingPolicy) -> Lever:
        return self._levers[policy.spec.target.actuation]

    def _digest(
        self,
        policies: Sequence[ScalingPolicy],
        targets: Sequence[TargetReading | HeadstartError],
        pods: Mapping[str, list[Json] | HeadstartError],
        now: datetime,
    ) -> Mapping[EndpointId, ReplicaState]:
        """What was read, by endpoint; what could not be read goes to `problems`."""
        problems, read, startups, states = {}, {}, {}, {}
        for policy, target in zip(policies, targets, strict=True):
            own = target if isinstance(target, HeadstartError) else _pods_of(target, pods[policy.endpoint.namespace])
            if isinstance(target, HeadstartError) or isinstance(own, HeadstartError):
                problems[policy.endpoint] = str(own)
                continue
            read[policy.endpoint] = target
            states[policy.endpoint] = replica_state(
                target, own, self._clock.to_service, policy.spec.rollout.version_label
            )
            startups[policy.endpoint] = self._watch.observe(own, now, self._clock.to_service)
        if not any(isinstance(found, ClusterUnavailable) for found in (*targets, *pods.values())):
            listed = [pod for found in pods.values() if not isinstance(found, HeadstartError) for pod in found]
            self._watch.forget_all_but(pod["metadata"]["uid"] for pod in listed)
        self._problems, self._targets, self._startups = problems, read, startups
        return states


class _TurnOfReads:
    """Reads of one turn: once the server has fallen silent no further one waits for it."""

    def __init__(self) -> None:
        self._silent: ClusterUnavailable | None = None
        self._any_read = False

    def attempt(self, read: Callable[[], Answer]) -> Answer | HeadstartError:
        if self._silent is not None:
            return self._silent
        try:
            answer = read()
        except ClusterUnavailable as error:
            if not answered(error):
                self._silent = error
            return error
        except HeadstartError as error:
            return error
        self._any_read = True
        return answer

    def raise_if_silent(self) -> None:
        if self._silent is not None and not self._any_read:
            raise self._silent


def _within(target: TargetReading | None, replicas: int) -> tuple[int, str]:
    """What can be asked of the target, and in words why it is not `replicas` ("": it is)."""
    if target is None:
        return replicas, ""
    asked = max(replicas, target.least)
    if target.most is not None:
        asked = min(asked, target.most)
    bound = "most" if asked < replicas else "least"
    return asked, "" if asked == replicas else f"asked for {asked}, the {bound} that the target's own autoscaler allows"


def _pods_of(target: TargetReading, listed: list[Json] | HeadstartError) -> list[Json] | HeadstartError:
    """Those of the listed pods that the target's selector picks."""
    if isinstance(listed, HeadstartError):
        return listed
    try:
        return [pod for pod in listed if matches(target.selector, pod["metadata"].get("labels", {}))]
    except ValueError as error:
        return TargetNotFound(str(error))


def _is_read(found: TargetReading | HeadstartError) -> bool:
    return isinstance(found, TargetReading)
