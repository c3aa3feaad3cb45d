"""The policy as JSON Schema: for editors, for the custom resource, for whoever generates policies."""

import json
from typing import Any

from scaler.domain.policy import API_VERSION, ScalingPolicy


def policy_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one InferenceScalingPolicy document, as written in YAML."""
    schema = ScalingPolicy.model_json_schema(by_alias=True, mode="validation")
    schema["required"] = ["apiVersion", "kind", "metadata"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://{API_VERSION}/inference-scaling-policy.json",
        **schema,
    }


def schema_text() -> str:
    """The schema as the checked-in file holds it."""
    return json.dumps(policy_schema(), indent=2, sort_keys=True) + "\n"
