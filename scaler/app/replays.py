"""Replays and policy tests as commands ask for them: files in, results out."""

import os
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from forecaster.series import DemandSeries, DemandUnit
from scaler.adapters.policies import load_policies, load_policy
from scaler.adapters.policies.documents import Document, parse_yaml
from scaler.adapters.policies.problems import describe
from scaler.adapters.traces import read_single, read_trace
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Metadata, ScalingPolicy
from scaler.errors import PolicyError, SettingsError, TraceError
from scaler.simulator.faults import Faults
from scaler.simulator.own import Progress, own_advisor
from scaler.simulator.policy_tests import PolicyTest, TestOutcome, run_policy_test
from scaler.simulator.replay import ReplayResult, run_replay
from scaler.simulator.spans import ReplayRequest


def read_request(
    *, policy: Path | None, policies: Path | None, trace: Path, warmup: timedelta, seed: int, faults: Faults
) -> ReplayRequest:
    """What to replay, from the files that a command names; nothing is written.

    Each endpoint of the trace is replayed under the policy of its name in `policies`, else under `policy`. Raises
    PolicyError and TraceError, each naming its file, and SettingsError when an endpoint has no policy.
    """
    by_name = _by_name(policies) if policies is not None else {}
    common = load_policy(policy) if policy is not None else None
    everything = [*by_name.values(), *([common] if common is not None else [])]
    if not everything:
        raise SettingsError("need --policy P.yaml, or --policies DIR with a policy for each endpoint of the trace")
    by_unit = {unit: read_trace(trace, unit) for unit in {found.spec.demand.unit for found in everything}}
    chosen: dict[EndpointId, ScalingPolicy] = {}
    series: dict[EndpointId, DemandSeries] = {}
    for name in next(iter(by_unit.values())):
        found = by_name.get(name) or common
        if found is None:
            raise SettingsError(f"--policies: {policies} holds no policy named {name!r}, which {trace} needs")
        own = _named(found, name, trace)
        chosen[own.endpoint] = own
        series[own.endpoint] = by_unit[own.spec.demand.unit][name]
    named = "" not in next(iter(by_unit.values()))
    return ReplayRequest(policies=chosen, traces=series, warmup=warmup, seed=seed, faults=faults, named=named)


def _by_name(policies: Path) -> dict[str, ScalingPolicy]:
    """A trace names endpoints without a namespace. Raises PolicyError where that does not tell two policies apart."""
    by_name: dict[str, ScalingPolicy] = {}
    for found in load_policies([policies]):
        other = by_name.setdefault(found.metadata.name, found)
        if other is not found:
            raise PolicyError(
                f"{policies}: metadata.name {found.metadata.name} stands in {other.endpoint} and {found.endpoint}; a "
                "trace names endpoints without a namespace: need one policy of that name, or --policy with one of them"
            )
    return by_name


def _named(policy: ScalingPolicy, name: str, trace: Path) -> ScalingPolicy:
    """The policy as that of the trace's endpoint; the single one of a plain trace keeps its own name."""
    if not name or name == policy.metadata.name:
        return policy
    if "/" in name:
        raise TraceError(f"{trace}: column endpoint: found {name!r}; need names without '/'")
    # A recorded name need not be one that Kubernetes allows: nothing is scaled by it here.
    metadata = Metadata.model_construct(name=name, namespace=policy.metadata.namespace)
    return policy.model_copy(update={"metadata": metadata})


def replayed(request: ReplayRequest, progress: Progress) -> ReplayResult:
    """The request played, spread over the processors when it has several endpoints."""
    return run_replay(request, own_advisor, progress, processes=os.cpu_count() or 1)


def read_policy_tests(folder: Path) -> list[tuple[Path, PolicyTest]]:
    """Every PolicyTest document under the folder (or in the file), in order of files.

    Raises PolicyError with one line for each thing that is wrong, also when there is none."""
    if not folder.exists():
        raise PolicyError(f"{folder}: no such file or folder")
    files = [folder] if folder.is_file() else sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")])
    found: list[tuple[Path, PolicyTest]] = []
    problems: list[str] = []
    for file in files:
        try:
            documents = _documents(file)
        except PolicyError as error:
            problems += str(error).splitlines()
            continue
        for document in documents:
            try:
                found.append((file, PolicyTest.model_validate(document.body, by_alias=True, by_name=False)))
            except ValidationError as error:
                problems += describe(error, document, PolicyTest)
    if problems:
        raise PolicyError("\n".join(problems))
    if not found:
        raise PolicyError(f"{folder}: no document of kind PolicyTest found")
    return found


def _documents(file: Path) -> list[Document]:
    """The PolicyTests of a file, not checked yet; policies and whatever else stands beside them is left out."""
    try:
        documents = list(parse_yaml(file.read_text("utf-8-sig"), str(file)))
    except UnicodeDecodeError as error:
        raise PolicyError(f"{file}: byte {error.start} is not UTF-8 text; need YAML") from error
    except OSError as error:
        raise PolicyError(f"{file}: cannot be read: {error.strerror or error}") from error
    return [one for one in documents if isinstance(one.body, dict) and one.body.get("kind") == "PolicyTest"]


def run_test(file: Path, test: PolicyTest) -> TestOutcome:
    """The test played; its policy and its trace are named from the folder of its own file."""

    def policy(path: str) -> ScalingPolicy:
        return load_policy(file.parent / path)

    def trace(path: str, unit: DemandUnit) -> DemandSeries:
        return read_single(file.parent / path, unit)

    return run_policy_test(test, policy, trace, own_advisor)
