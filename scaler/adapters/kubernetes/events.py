"""Decisions shown on the target, where `kubectl describe` finds them, folded so that repeats cost nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from scaler.adapters.kubernetes.client import Json, KubernetesApi
from scaler.domain.decision import Decision, Reason
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Mode, ScalingPolicy
from scaler.errors import TargetNotFound

QUIET_FOR = timedelta(minutes=10)
"""The same news again is written at most this often."""
LONGEST_MESSAGE = 1024
"""The API server's limit on an event's message."""
_TROUBLE = {Reason.STALE_METRICS, Reason.CLUSTER_UNKNOWN, Reason.STALE_FORECAST, Reason.PANIC}
_COMPONENT = "headstart"


@dataclass(frozen=True, kw_only=True)
class _Told:
    """One event object on the API server and what it last said."""

    name: str
    count: int
    final: int | None
    written_at: datetime


class EventWriter:
    """One event object per target and reason; its count and last time move when the same reason comes again."""

    def __init__(self, api: KubernetesApi, to_wall: Callable[[datetime], datetime]) -> None:
        self._api = api
        self._to_wall = to_wall
        self._told: dict[tuple[EndpointId, str, str], _Told] = {}

    def write(self, policy: ScalingPolicy, decision: Decision, target_uid: str) -> None:
        """Raises ClusterUnavailable or Forbidden where the event was not written; it is then tried anew next time."""
        # A target that was made anew has another uid, and whoever describes it sees the events of that one only.
        key = (policy.endpoint, reason_of(decision), target_uid)
        told = self._told.get(key)
        if told is None:
            self._told[key] = self._create(policy, decision, target_uid)
            return
        counted = replace(told, count=told.count + 1)
        if told.final == decision.final and decision.decided_at - told.written_at < QUIET_FOR:
            self._told[key] = counted
            return
        try:
            self._update(policy, decision, counted)
        except TargetNotFound:  # the API server drops events after a while
            self._told[key] = self._create(policy, decision, target_uid)
        else:
            self._told[key] = replace(counted, final=decision.final, written_at=decision.decided_at)

    def _create(self, policy: ScalingPolicy, decision: Decision, target_uid: str) -> _Told:
        name = f"{policy.target_name[:200]}.{uuid4().hex[:16]}"
        stamp = self._stamp(decision)
        target = policy.spec.target
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": policy.endpoint.namespace},
            "involvedObject": {
                "apiVersion": target.api_version,
                "kind": target.kind,
                "name": policy.target_name,
                "namespace": policy.endpoint.namespace,
                "uid": target_uid,
            },
            "type": "Warning" if is_trouble(decision) else "Normal",
            "reason": reason_of(decision),
            "message": message_of(decision),
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "reportingInstance": _COMPONENT,
        }
        self._api.create_event(policy.endpoint.namespace, body)
        return _Told(name=name, count=1, final=decision.final, written_at=decision.decided_at)

    def _update(self, policy: ScalingPolicy, decision: Decision, told: _Told) -> None:
        body = {"count": told.count, "lastTimestamp": self._stamp(decision), "message": message_of(decision)}
        self._api.patch_event(policy.endpoint.namespace, told.name, body)

    def _stamp(self, decision: Decision) -> str:
        return self._to_wall(decision.decided_at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def reason_of(decision: Decision) -> str:
    """The event's reason: why knowledge was missing, else the guardrail that changed the order last, else the plan."""
    held = [verdict.reason_code for verdict in decision.verdicts if verdict.reason_code in _TROUBLE]
    if decision.held_for_lack_of_knowledge() and held:
        return held[0].value
    if decision.binding is not None:
        return decision.binding.reason_code.value
    return "Planned"


def is_trouble(decision: Decision) -> bool:
    """A person should look: something was not known, or the present ran ahead of the plan."""
    return decision.held_for_lack_of_knowledge() or reason_of(decision) in {reason.value for reason in _TROUBLE}


def message_of(decision: Decision) -> str:
    text = decision.sentence()
    if decision.mode is Mode.RECOMMEND:
        text = f"(recommended only) {text}"
    return text[:LONGEST_MESSAGE]
