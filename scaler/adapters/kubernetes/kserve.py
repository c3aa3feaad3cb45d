"""The lever `KServeMinReplicas`: the predictor's minReplicas of an InferenceService.

KServe's own autoscaler works above it.
"""

from scaler.adapters.kubernetes.client import KubernetesApi, ServedKind
from scaler.adapters.kubernetes.lever import TargetReading
from scaler.domain.policy import ScalingPolicy
from scaler.errors import TargetNotFound

INFERENCE_SERVICES = ServedKind(group="serving.kserve.io", version="v1beta1", plural="inferenceservices")
MODE = "serving.kserve.io/deploymentMode"
WITHOUT_REVISIONS = ("Standard", "RawDeployment")
"""The one mode under its new and its old name. In the others each change of the spec makes new pods of all replicas."""
LOWEST_FLOOR = 1
"""In that mode KServe reads 0 as 1."""


class KServeMinReplicas:
    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    def read(self, policy: ScalingPolicy) -> TargetReading:
        """Raises TargetNotFound also where a changed floor would roll every replica out anew."""
        name = policy.target_name
        found = self._api.read_object(INFERENCE_SERVICES, policy.endpoint.namespace, name)
        annotations = found["metadata"].get("annotations") or {}
        mode = found.get("status", {}).get("deploymentMode") or annotations.get(MODE, "")
        if mode not in WITHOUT_REVISIONS:
            raise TargetNotFound(
                f"InferenceService {policy.endpoint.namespace}/{name}: deployment mode {mode or 'not said'}, need "
                f"Standard (annotation {MODE}): in others each new minReplicas would roll out every replica anew; with "
                "Knative take actuation KnativeMinScale on its Service"
            )
        predictor = found["spec"]["predictor"]
        return TargetReading(
            desired=max(int(predictor.get("minReplicas", LOWEST_FLOOR)), LOWEST_FLOOR),
            version=found["metadata"]["resourceVersion"],
            uid=found["metadata"]["uid"],
            selector=f"serving.kserve.io/inferenceservice={name},component=predictor",
            least=LOWEST_FLOOR,
            most=int(predictor.get("maxReplicas", 0)) or None,
        )

    def write(self, policy: ScalingPolicy, replicas: int, version: str) -> None:
        body = {"metadata": {"resourceVersion": version}, "spec": {"predictor": {"minReplicas": replicas}}}
        self._api.patch_object(INFERENCE_SERVICES, policy.endpoint.namespace, policy.target_name, body)
