"""The policy as JSON Schema: for editors, for the custom resource, for whoever generates policies."""

import ast
import inspect
import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema

from scaler.domain import policy as model
from scaler.domain.fields import format_duration
from scaler.domain.policy import API_VERSION, ScalingPolicy


class _AsWritten(GenerateJsonSchema):
    """Defaults as a person would write them: pydantic's own way with a timedelta is ISO 8601, which is refused here."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def policy_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one InferenceScalingPolicy document, as written in YAML, with its docs."""
    schema = ScalingPolicy.model_json_schema(by_alias=True, mode="validation", schema_generator=_AsWritten)
    schema["required"] = ["apiVersion", "kind", "metadata"]
    for name, field, text in _field_docstrings():
        properties = schema["$defs"].get(name, {}).get("properties", {})
        if field in properties:
            properties[field]["description"] = text
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://{API_VERSION}/inference-scaling-policy.json",
        **schema,
    }


def schema_text() -> str:
    """The schema as the checked-in file holds it."""
    return json.dumps(policy_schema(), indent=2, sort_keys=True) + "\n"


def _field_docstrings() -> Iterator[tuple[str, str, str]]:
    """(class, document's name of the field, docstring below it).

    Read here and not by pydantic, which would do it at every import of the policy module and take a tenth of a second.
    """
    for node in ast.parse(inspect.getsource(model)).body:
        if isinstance(node, ast.ClassDef):
            for field, below in pairwise(node.body):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    text = _text(below)
                    if text:
                        yield node.name, to_camel(field.target.id), text


def _text(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return ""
