"""The port `PolicySource` on the custom resources of a cluster: read with one list, answered in their status."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from scaler.adapters.kubernetes.client import Json, KubernetesApi, ServedKind
from scaler.adapters.policies.crd import GROUP, PLURAL, VERSION
from scaler.adapters.policies.documents import POLICY_KIND, Document
from scaler.adapters.policies.kept import Content, KeptPolicies, content_of
from scaler.domain.policy import ScalingPolicy
from scaler.domain.record import DecisionRecord
from scaler.errors import HeadstartError, PolicyError, TargetNotFound

POLICIES = ServedKind(group=GROUP, version=VERSION, plural=PLURAL)
STATUSES_PER_TURN = 50
"""A write takes about 10 ms; those that are left over come with the next turns."""


class PolicyResources:
    """Every policy of a cluster, or of one namespace, in its last good version; a changed one is read again.

    While the server does not answer, or rights are missing, the policies that were read last go on and `problems()`
    says so.
    """

    def __init__(self, api: KubernetesApi, namespace: str = "") -> None:
        """`namespace` "": all of them."""
        self._api = api
        self._namespace = namespace
        self._kept = KeptPolicies()
        self._listed: Sequence[Json] = ()
        self._silence = ""
        self._status_problem = ""

    def load(self) -> Sequence[ScalingPolicy]:
        """Raises PolicyError when the resources were never read, are not known to the server, or none is valid."""
        try:
            self._listed = self._api.list_objects(POLICIES, self._namespace)
        except TargetNotFound as error:
            self._kept, self._listed = KeptPolicies(), ()
            raise PolicyError(f"{error}; apply deploy/policy.crd.yaml (what headstart schema --crd prints)") from error
        except HeadstartError as error:
            self._listed, self._silence = (), str(error)
            if not self._kept.read:
                raise PolicyError(self._silence) from error
        else:
            self._silence = ""
            known = self._kept.read
            self._kept = self._kept.after({_origin(one): _read(one, known.get(_origin(one))) for one in self._listed})
        found = self._kept.in_force()
        if not found.policies:
            raise PolicyError("\n".join(self.problems()) or f"{self._where()}: no {POLICY_KIND} found; apply one")
        return [policy for _, policy in found.policies.values()]

    def problems(self) -> tuple[str, ...]:
        """What the last `load` found wrong and the last `tell` could not write, a sentence each."""
        found = [line for lines in self._kept.in_force().problems.values() for line in lines]
        if self._silence and self._kept.read:
            found.append(f"the policies that were read last go on: {self._silence}")
        if self._status_problem:
            found.append(f"the status of policies is not up to date: {self._status_problem}")
        return tuple(found)

    def tell(self, records: Sequence[DecisionRecord]) -> None:
        """The status of each resource says what became of it and of the decision on it. Written where it said something
        else, news of another version first; a write that fails ends the writing of this turn, and `problems()` says
        why."""
        found = self._kept.in_force()
        decided = {str(record.decision.endpoint): record for record in records}
        news = []
        for resource in self._listed:
            record = decided.get(f"{resource['metadata']['namespace']}/{resource['metadata']['name']}")
            status = _status(resource, found.problems.get(_origin(resource), ()), record)
            if status != resource.get("status", {}):
                news.append((resource, status))
        news.sort(key=_is_of_the_same_version)
        self._status_problem = ""
        try:
            for resource, status in news[:STATUSES_PER_TURN]:
                self._write(resource, status)
        except HeadstartError as error:
            self._status_problem = str(error)

    def may_tell(self) -> bool:
        """Whether the status of policies may be written at all; raises as the client where that is not to be had."""
        return self._api.may("patch", POLICIES, "status", self._namespace)

    def _write(self, resource: Json, status: Mapping[str, Any]) -> None:
        gone = dict.fromkeys(resource.get("status", {}).keys() - status.keys())
        namespace, name = resource["metadata"]["namespace"], resource["metadata"]["name"]
        with suppress(TargetNotFound):  # deleted since it was listed
            self._api.patch_status(POLICIES, namespace, name, {"status": {**status, **gone}})

    def _where(self) -> str:
        return f"namespace {self._namespace}" if self._namespace else "all namespaces"


def _is_of_the_same_version(news: tuple[Json, Mapping[str, Any]]) -> bool:
    resource, status = news
    return bool(resource.get("status", {}).get("observedGeneration") == status["observedGeneration"])


def _origin(resource: Json) -> str:
    return f"{POLICY_KIND} {resource['metadata']['namespace']}/{resource['metadata']['name']}"


def _read(resource: Json, before: Content | None) -> Content:
    """What the resource holds; `before` itself where that is what it held. A status makes no new generation."""
    version = f"{resource['metadata']['uid']} {resource['metadata']['generation']}"
    if before is not None and before.version == version:
        return before
    return content_of([Document(origin=_origin(resource), body=resource)], version)


def _status(resource: Json, problems: Sequence[str], record: DecisionRecord | None) -> Mapping[str, Any]:
    """As it should stand; what is not known is absent."""
    status: dict[str, Any] = {
        "observedGeneration": resource["metadata"]["generation"],
        "valid": not problems,
        "problems": [problem.removeprefix(f"{_origin(resource)}: ") for problem in problems],
    }
    if record is not None:
        decision = record.decision
        known = {"ready": decision.ready, "decided": decision.final}
        status |= {"mode": decision.mode.value, **{name: n for name, n in known.items() if n is not None}}
    return status
