"""The lever `HPAFloor`: the minReplicas of the HorizontalPodAutoscaler that scales the target.

What stands above the floor stays the HPA's own business, so the two never undo one another.
"""

from dataclasses import dataclass

from scaler.adapters.kubernetes.client import Json, KubernetesApi, ServedKind
from scaler.adapters.kubernetes.lever import TargetReading
from scaler.adapters.kubernetes.scale import ScaleSubresource
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.errors import TargetNotFound

AUTOSCALERS = ServedKind(group="autoscaling", version="v2", plural="horizontalpodautoscalers")
LOWEST_FLOOR = 1
"""The API server refuses 0 without a feature gate, and at 0 most metrics of an HPA say nothing."""


class HpaFloor:
    """Reads the target's scale for its pods, and its HPA for the floor."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._scales = ScaleSubresource(api)
        self._names: dict[EndpointId, str] = {}

    def read(self, policy: ScalingPolicy) -> TargetReading:
        """Raises TargetNotFound also where no HPA, or more than one, scales the target, or KEDA made the one."""
        target = self._scales.read(policy)
        found = self._autoscaler(policy)
        owner = keda_owner(found)
        if owner:
            raise TargetNotFound(
                f"{policy.endpoint}: HPA {found['metadata']['name']} belongs to the ScaledObject {owner}, and KEDA "
                "would undo a floor at once; take actuation KEDA, or scale it by an HPA of your own"
            )
        return TargetReading(
            desired=int(found["spec"].get("minReplicas", LOWEST_FLOOR)),
            version=found["metadata"]["resourceVersion"],
            uid=target.uid,
            selector=target.selector,
            least=LOWEST_FLOOR,
            most=int(found["spec"]["maxReplicas"]),
        )

    def write(self, policy: ScalingPolicy, replicas: int, version: str) -> None:
        body = {"metadata": {"resourceVersion": version}, "spec": {"minReplicas": replicas}}
        self._api.patch_object(AUTOSCALERS, policy.endpoint.namespace, self._names[policy.endpoint], body)

    def _autoscaler(self, policy: ScalingPolicy) -> Json:
        """The one that scales the target: by the name it had last turn, else looked up among those of the namespace."""
        namespace, known = policy.endpoint.namespace, self._names.get(policy.endpoint)
        if known is not None:
            try:
                found = self._api.read_object(AUTOSCALERS, namespace, known)
                if scales(found, policy):
                    return found
            except TargetNotFound:
                pass  # renamed or made anew: it is looked up
        every = [one for one in self._api.list_objects(AUTOSCALERS, namespace) if scales(one, policy)]
        target = f"{policy.spec.target.kind} {policy.target_name}"
        if not every:
            raise TargetNotFound(
                f"{policy.endpoint}: no HorizontalPodAutoscaler in {namespace} scales {target}; make one, or take "
                "actuation Scale"
            )
        if len(every) > 1:
            names = ", ".join(sorted(one["metadata"]["name"] for one in every))
            raise TargetNotFound(f"{policy.endpoint}: {target} is scaled by {len(every)} HPAs ({names}); keep one")
        self._names[policy.endpoint] = every[0]["metadata"]["name"]
        return every[0]


def scales(autoscaler: Json, policy: ScalingPolicy) -> bool:
    """Whether the HPA's target is the policy's: same group, kind and name; the version does not matter."""
    reference, target = autoscaler["spec"]["scaleTargetRef"], policy.spec.target
    group = str(reference.get("apiVersion", "")).partition("/")[0]
    return bool(
        reference["kind"] == target.kind
        and reference["name"] == policy.target_name
        and group == target.api_version.partition("/")[0]
    )


@dataclass(frozen=True, kw_only=True)
class Rival:
    """An HPA that scales what a policy wants to set itself. `scaled_object`: KEDA's that made it; "": a person did."""

    name: str
    scaled_object: str


def keda_owner(autoscaler: Json) -> str:
    """The name of the ScaledObject that made the HPA; "" for none."""
    owners = autoscaler["metadata"].get("ownerReferences", ())
    return next((str(one["name"]) for one in owners if one["kind"] == "ScaledObject"), "")
