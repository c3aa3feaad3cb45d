"""A first policy from what is running: `headstart init`."""

from dataclasses import dataclass, replace
from pathlib import Path

from scaler.domain.policy import ScalingPolicy

_BESIDE = {
    "HPAFloor": "an HPA scales it and goes on, above the floor set here",
    "KEDA": "a ScaledObject scales it and goes on; add Headstart to its triggers (docs/keda.md)",
}


@dataclass(frozen=True, kw_only=True)
class Running:
    """What was found of one scale target."""

    name: str
    namespace: str
    kind: str
    api_version: str
    preset: str
    replicas: int
    actuation: str = "Scale"


def read_running(
    *, name: str, namespace: str, kind: str, api_version: str, preset: str, kubeconfig: Path | None, context: str
) -> Running:
    """Ask the cluster. Raises TargetNotFound, Forbidden, ClusterUnavailable; PolicyError for a name no policy has."""
    from scaler.adapters.clock import SystemClock
    from scaler.adapters.kubernetes.client import ClusterAccess, connect
    from scaler.adapters.kubernetes.target import KubernetesTarget
    from scaler.errors import TargetNotFound

    empty = Running(name=name, namespace=namespace, kind=kind, api_version=api_version, preset=preset, replicas=1)
    policy = _parsed(empty)
    clock = SystemClock()
    target = KubernetesTarget(connect(ClusterAccess(kubeconfig=str(kubeconfig or ""), context=context)), clock)
    states = target.observe([policy], clock.now())
    if policy.endpoint not in states:
        raise TargetNotFound(target.problems().get(policy.endpoint, f"{policy.endpoint}: not found"))
    rival = target.rivals([policy]).get(policy.endpoint)
    actuation = "Scale" if rival is None else "KEDA" if rival.scaled_object else "HPAFloor"
    return replace(empty, replicas=states[policy.endpoint].desired, actuation=actuation)


def first_policy_text(running: Running) -> str:
    """The policy as YAML with words for what people must decide. It parses; it observes only."""
    from scaler.adapters.prometheus.presets import PRESETS

    most = max(2 * running.replicas, 4)
    preset = PRESETS.get(running.preset)
    labels = preset.default_selector(running.namespace, running.name) if preset is not None else {}
    selector = ", ".join(f"{label}: {value}" for label, value in labels.items())
    actuation = ""
    if running.actuation != "Scale":
        actuation = f"\n    actuation: {running.actuation}   # {_BESIDE[running.actuation]}"
    return f"""\
# Written from what was running. Nothing is ordered while mode is Observe; see what it would have done with
# `headstart explain {running.namespace}/{running.name}`.
apiVersion: headstart.dev/v1alpha1
kind: InferenceScalingPolicy
metadata: {{name: {running.name}, namespace: {running.namespace}}}
spec:
  mode: Observe
  target:
    apiVersion: {running.api_version}
    kind: {running.kind}
    name: {running.name}{actuation}
    gpusPerReplica: 1
  demand:
    unit: requests
    preset: {running.preset}
    selector: {{{selector}}}   # labels that single this endpoint out; check with `headstart doctor`
  slo: {{queueWait: 10s, objective: 0.99}}
  capacity: {{perReplica: 1.0, maxConcurrency: 16}}   # measure: requests a second that one replica serves at the SLO
  startup: {{expected: 150s}}   # measure: from ordered to ready; it is learned from then on
  replicas: {{min: {min(1, running.replicas)}, max: {most}}}   # {running.replicas} stood when this was written
"""


def _parsed(running: Running) -> ScalingPolicy:
    import yaml

    from scaler.adapters.policies import parse_policy

    return parse_policy(yaml.safe_load(first_policy_text(running)), "headstart init")
