"""The lever `Scale`: the scale subresource of a Deployment, a StatefulSet or any custom resource that has one."""

from scaler.adapters.kubernetes.client import KubernetesApi, ServedKind
from scaler.adapters.kubernetes.lever import TargetReading
from scaler.domain.policy import ScalingPolicy
from scaler.errors import TargetNotFound


class ScaleSubresource:
    """Reads and writes `scale`; kinds are looked up once by discovery."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._kinds: dict[tuple[str, str], ServedKind] = {}

    def read(self, policy: ScalingPolicy) -> TargetReading:
        """Raises TargetNotFound also where the kind has no scale subresource, or one without a pod selector."""
        target = policy.spec.target
        found = self._api.read_scale(self._kind(policy), policy.endpoint.namespace, policy.target_name)
        selector = found.get("status", {}).get("selector", "")
        if not selector:
            raise TargetNotFound(
                f"{target.kind} {policy.endpoint.namespace}/{policy.target_name}: its scale has no status.selector, "
                "so its pods cannot be told; for a custom resource set labelSelectorPath in the CRD"
            )
        return TargetReading(
            desired=int(found.get("spec", {}).get("replicas", 0)),  # the API leaves out a zero
            version=found["metadata"]["resourceVersion"],
            uid=found["metadata"].get("uid", ""),
            selector=selector,
        )

    def write(self, policy: ScalingPolicy, replicas: int, version: str) -> None:
        namespace, name = policy.endpoint.namespace, policy.target_name
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": version},
            "spec": {"replicas": replicas},
        }
        self._api.replace_scale(self._kind(policy), namespace, name, body)

    def _kind(self, policy: ScalingPolicy) -> ServedKind:
        wanted = policy.spec.target.api_version, policy.spec.target.kind
        if wanted not in self._kinds:
            self._kinds[wanted] = self._discover(*wanted)
        return self._kinds[wanted]

    def _discover(self, api_version: str, kind: str) -> ServedKind:
        group, _, version = api_version.partition("/")
        if not version:
            raise TargetNotFound(f"target {api_version} {kind}: need an apiVersion with a group, such as apps/v1")
        served = self._api.list_kinds(group, version)
        names = {resource["name"] for resource in served}
        plurals = [one["name"] for one in served if one["kind"] == kind and "/" not in one["name"]]
        for plural in plurals:
            if f"{plural}/scale" in names:
                return ServedKind(group=group, version=version, plural=plural)
        scalable = sorted(one["kind"] for one in served if f"{one['name']}/scale" in names)
        what = "has no scale subresource" if plurals else "is not served"
        raise TargetNotFound(
            f"target {api_version} {kind}: this kind {what}; those with one are: {', '.join(scalable) or 'none'}"
        )
