"""What was read of policies, wherever they stand: each in its last good version, and what is wrong beside them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from scaler.adapters.policies.checks import crosscheck
from scaler.adapters.policies.documents import Document
from scaler.adapters.policies.problems import describe
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.errors import PolicyError

_KUBERNETES_METADATA = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


def parse_policy(body: Any, origin: str, document: Document | None = None) -> ScalingPolicy:
    """A checked policy from a document that was read from `origin` (a file, a ConfigMap, a custom resource).

    What Kubernetes itself writes into metadata and status is no part of the policy. Raises PolicyError with one line
    for each problem.
    """
    document = document or Document(origin=origin, body=body)
    if not isinstance(body, dict):
        raise PolicyError(f"{document.place(())}: need a mapping")
    absent = [f"{document.place((key,))}: missing; need a value" for key in ("apiVersion", "kind") if key not in body]
    own = {key: value for key, value in body.items() if key != "status"}
    if isinstance(own.get("metadata"), dict):
        own["metadata"] = {key: value for key, value in own["metadata"].items() if key not in _KUBERNETES_METADATA}
    try:
        policy = ScalingPolicy.model_validate(own, by_alias=True, by_name=False)
    except ValidationError as error:
        raise PolicyError("\n".join([*absent, *describe(error, document)])) from error
    problems = [*absent, *crosscheck(policy, document)]
    if problems:
        raise PolicyError("\n".join(problems))
    return policy


@dataclass(frozen=True, kw_only=True)
class Content:
    """What one origin (a file, a custom resource) held when it was read.

    Another `version` says that it may hold something else by now; "": it is not known.
    """

    version: str
    policies: tuple[ScalingPolicy, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InForce:
    """The policies to go by, each with its origin, and what is wrong at each origin that has problems."""

    policies: Mapping[EndpointId, tuple[str, ScalingPolicy]]
    problems: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class KeptPolicies:
    """Everything that was read, by origin, with the last good version of what is wrong by now."""

    read: Mapping[str, Content] = field(default_factory=dict)
    good: Mapping[str, Mapping[EndpointId, ScalingPolicy]] = field(default_factory=dict)

    def after(self, read: Mapping[str, Content]) -> "KeptPolicies":
        """As it stands once these are the origins. One that is not among them is gone, and its policies with it."""
        good = {}
        for origin, content in read.items():
            before = self.good.get(origin, {}) if content.problems else {}
            good[origin] = {**before, **{policy.endpoint: policy for policy in content.policies}}
        return KeptPolicies(read=read, good=good)

    def in_force(self) -> InForce:
        """One policy an endpoint, the first; and of those that order replicas of one target the first."""
        policies: dict[EndpointId, tuple[str, ScalingPolicy]] = {}
        problems: dict[str, tuple[str, ...]] = {}
        orderers: dict[tuple[str, str, str, str], EndpointId] = {}
        for origin, content in self.read.items():
            found = list(content.problems)
            for endpoint, policy in self.good[origin].items():
                if endpoint in policies:
                    found.append(_twice(origin, endpoint, policies[endpoint][0]))
                elif (first := _orderer(policy, orderers)) != endpoint:
                    found.append(_taken(origin, policy, first))
                else:
                    policies[endpoint] = (origin, policy)
            if found:
                problems[origin] = tuple(found)
        return InForce(policies=policies, problems=problems)


def content_of(documents: Iterable[Document], version: str) -> Content:
    """The policies of one origin's documents, and a sentence for each thing that is wrong with them."""
    policies: list[ScalingPolicy] = []
    problems: list[str] = []
    origins: dict[EndpointId, str] = {}
    for document in documents:
        try:
            policy = parse_policy(document.body, document.origin, document)
        except PolicyError as error:
            problems += str(error).splitlines()
            continue
        if policy.endpoint in origins:
            problems.append(_twice(document.origin, policy.endpoint, origins[policy.endpoint]))
        else:
            origins[policy.endpoint] = document.origin
            policies.append(policy)
    return Content(version=version, policies=tuple(policies), problems=tuple(problems))


def _orderer(policy: ScalingPolicy, orderers: dict[tuple[str, str, str, str], EndpointId]) -> EndpointId:
    """Whose policy orders replicas of this one's target: its own, unless another one does already. `orderers` knows
    afterwards."""
    return orderers.setdefault(policy.scaled, policy.endpoint) if policy.may_order else policy.endpoint


def _taken(origin: str, policy: ScalingPolicy, first: EndpointId) -> str:
    _, _, kind, name = policy.scaled
    return (
        f"{origin}: spec.target: {policy.endpoint} orders replicas of {kind} {name}, which {first} does already; need "
        "one policy that does, beside it others may Observe or Recommend"
    )


def _twice(origin: str, endpoint: EndpointId, first: str) -> str:
    where = "in the same file" if first == origin else f"in {first}"
    return f"{origin}: metadata.name: the policy {endpoint} stands twice, first {where}; need one per endpoint"
