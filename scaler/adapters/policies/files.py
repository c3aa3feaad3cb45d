"""Policies from files: read once and strictly, or watched and kept at their last good version."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scaler.adapters.policies.checks import crosscheck
from scaler.adapters.policies.documents import Document, read_documents
from scaler.adapters.policies.problems import describe
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.errors import PolicyError

DEFAULTS_FILE = "defaults.yaml"
"""In a folder this file documents the defaults and is no endpoint; named itself it is read like any other."""
_SUFFIXES = (".yaml", ".yml", ".json")
_KUBERNETES_METADATA = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
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


def load_policy(path: Path | str) -> ScalingPolicy:
    """The one policy of a file.

    Raises PolicyError, one line a problem, each naming file, field, value found and what is allowed.
    """
    policies = load_policies([path])
    if len(policies) != 1:
        raise PolicyError(f"{path}: found {len(policies)} policies, need exactly one")
    return policies[0]


def load_policies(paths: Path | str | Iterable[Path | str]) -> list[ScalingPolicy]:
    """Every policy of files and folders (their *.yaml, *.yml, *.json; not deeper), in the order of file names.

    Raises one PolicyError with the problems of all files, a line each; also when no policy is found, one endpoint has
    two, or two order replicas of one target.
    """
    policies: list[ScalingPolicy] = []
    problems: list[str] = []
    given = [paths] if isinstance(paths, (Path, str)) else list(paths)
    origins: dict[EndpointId, str] = {}
    orderers: dict[_Target, EndpointId] = {}
    for file in _files(given):
        read = _read_file(file)
        problems += read.problems
        for policy in read.policies:
            if policy.endpoint in origins:
                problems.append(_twice(file, policy.endpoint, origins[policy.endpoint]))
            problems += _taken(file, policy, orderers)
            origins.setdefault(policy.endpoint, str(file))
            policies.append(policy)
    if problems:
        raise PolicyError("\n".join(problems))
    if not policies:
        raise PolicyError(
            f"{', '.join(map(str, given))}: no policy found, need a document of kind InferenceScalingPolicy"
        )
    return policies


class PolicyFiles:
    """Implements ports.PolicySource over files and folders; a changed file is read again.

    A policy that became invalid keeps its last good version, and `problems()` says so until it is mended. A policy
    whose file or document is gone is gone. Of two that order replicas of one target the first does.
    """

    def __init__(self, paths: Sequence[Path | str]) -> None:
        self._paths = tuple(paths)
        self._read: dict[Path, _FileContent] = {}
        self._good: dict[Path, dict[EndpointId, ScalingPolicy]] = {}
        self._problems: tuple[str, ...] = ()

    def load(self) -> Sequence[ScalingPolicy]:
        """Every policy in its last good version. Raises PolicyError when a path is gone or no policy is left."""
        files = _files(self._paths)
        for file in files:
            self._refresh(file)
        for gone in self._read.keys() - set(files):
            del self._read[gone], self._good[gone]
        problems = [line for file in files for line in self._read[file].problems]
        chosen: dict[EndpointId, tuple[Path, ScalingPolicy]] = {}
        orderers: dict[_Target, EndpointId] = {}
        for file in files:
            for endpoint, policy in self._good[file].items():
                if endpoint in chosen:
                    problems.append(_twice(file, endpoint, str(chosen[endpoint][0])))
                elif taken := _taken(file, policy, orderers):
                    problems += taken
                else:
                    chosen[endpoint] = (file, policy)
        self._problems = tuple(problems)
        if not chosen:
            raise PolicyError("\n".join(problems) or f"{', '.join(map(str, self._paths))}: no policy found")
        return [policy for _, policy in chosen.values()]

    def problems(self) -> tuple[str, ...]:
        """What the last `load` found wrong, a sentence each."""
        return self._problems

    def _refresh(self, file: Path) -> None:
        digest = _digest(file)
        if file in self._read and digest and self._read[file].digest == digest:
            return
        read = _read_file(file)
        kept = self._good.get(file, {}) if read.problems else {}
        self._good[file] = {**kept, **{policy.endpoint: policy for policy in read.policies}}
        self._read[file] = read


@dataclass(frozen=True, kw_only=True)
class _FileContent:
    policies: tuple[ScalingPolicy, ...]
    problems: tuple[str, ...]
    digest: str


def _read_file(file: Path) -> _FileContent:
    policies: list[ScalingPolicy] = []
    problems: list[str] = []
    digest = ""
    try:
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        documents = read_documents(data.decode("utf-8-sig"), str(file))
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror or error}")
        documents = []
    except UnicodeDecodeError as error:
        problems.append(f"{file}: byte {error.start} is not UTF-8 text; need YAML")
        documents = []
    except PolicyError as error:
        problems += str(error).splitlines()
        documents = []
    origins: dict[EndpointId, str] = {}
    for document in documents:
        try:
            policy = parse_policy(document.body, document.origin, document)
        except PolicyError as error:
            problems += str(error).splitlines()
            continue
        if policy.endpoint in origins:
            problems.append(_twice(Path(document.origin), policy.endpoint, origins[policy.endpoint]))
        else:
            origins[policy.endpoint] = document.origin
            policies.append(policy)
    return _FileContent(policies=tuple(policies), problems=tuple(problems), digest=digest)


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _files(paths: Iterable[Path | str]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += [
                file
                for file in sorted(path.iterdir())
                if file.suffix in _SUFFIXES and file.name != DEFAULTS_FILE and not file.name.startswith(".")
            ]
        elif path.exists():
            found.append(path)
        else:
            raise PolicyError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))


_Target = tuple[str, str, str, str]
"""ScalingPolicy.scaled."""


def _taken(file: Path, policy: ScalingPolicy, orderers: dict[_Target, EndpointId]) -> list[str]:
    """What is wrong where another policy orders replicas of the same target; notes in `orderers` that this one does."""
    first = orderers.setdefault(policy.scaled, policy.endpoint) if policy.may_order else policy.endpoint
    if first == policy.endpoint:
        return []
    _, _, kind, name = policy.scaled
    return [
        f"{file}: spec.target: {policy.endpoint} orders replicas of {kind} {name}, which {first} does already; need "
        "one policy that does, beside it others may Observe or Recommend"
    ]


def _twice(file: Path, endpoint: EndpointId, first: str) -> str:
    where = "in the same file" if first == str(file) else f"in {first}"
    return f"{file}: metadata.name: the policy {endpoint} stands twice, first {where}; need one per endpoint"
