"""The policy as a custom resource: its CustomResourceDefinition, from the same model as the JSON Schema.

What a structural schema of Kubernetes cannot say is left to the reading of the document: it refuses it all the same.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from scaler.adapters.policies.documents import POLICY_KIND
from scaler.adapters.policies.schema import policy_schema
from scaler.domain.policy import API_VERSION, Mode

GROUP, _, VERSION = API_VERSION.partition("/")
PLURAL = "inferencescalingpolicies"
_KEEP_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
_SAID_ALIKE = ("type", "description", "enum", "pattern", "required", "minimum", "maximum", "maxLength")
_STATUS: Mapping[str, tuple[str, str]] = {
    # field: (type, what it says)
    "valid": ("boolean", "Whether Headstart goes by this version; if not, problems says why."),
    "mode": ("string", "What decisions do, once a gate has opened too; absent: nothing is decided for it."),
    "ready": ("integer", "Replicas that are ready; absent: not known."),
    "decided": ("integer", "Replicas of the last decision, carried out as the mode allows; absent: not known."),
    "observedGeneration": ("integer", "The metadata.generation that this is about."),
}
_COLUMNS = (
    ("Valid", "boolean", ".status.valid", 0),
    ("Mode", "string", ".status.mode", 0),
    ("Ready", "integer", ".status.ready", 0),
    ("Decided", "integer", ".status.decided", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Problem", "string", ".status.problems[0]", 1),
)


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition of the policy."""
    schema = policy_schema()
    spec = structural(schema["properties"]["spec"], schema["$defs"])
    whole = {
        "type": "object",
        "description": schema["description"],
        _KEEP_UNKNOWN: True,
        "properties": {"spec": spec, "status": _status()},
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, "priority": priority}
            for name, kind, path, priority in _COLUMNS
        ],
        "schema": {"openAPIV3Schema": whole},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "plural": PLURAL,
                "singular": POLICY_KIND.lower(),
                "kind": POLICY_KIND,
                "shortNames": ["isp"],
            },
            "versions": [version],
        },
    }


def definition_text() -> str:
    """The definition as the checked-in file holds it."""
    head = "# kubectl apply -f deploy/policy.crd.yaml; written by: headstart schema --crd\n"
    return head + yaml.safe_dump(definition(), sort_keys=False, width=116, allow_unicode=True)


def structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the JSON Schema in the words of a structural schema: no references, one type a field.

    No defaults: the server would write them into the stored document, and those of another release would never come. An
    object keeps fields that it does not know: else the server drops a misspelt one, and nobody is told.
    """
    if "$ref" in schema:
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return structural({**definitions[schema["$ref"].rpartition("/")[2]], **own}, definitions)
    if "anyOf" in schema:
        return _one_of_several(schema, definitions)
    made = {key: schema[key] for key in _SAID_ALIKE if key in schema}
    made |= _description(schema)
    if "const" in schema:
        made["enum"] = [schema["const"]]
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in schema:
            made |= {bound: schema[exclusive], exclusive: True}
    if "items" in schema:
        made["items"] = structural(schema["items"], definitions)
    if "properties" in schema:
        made[_KEEP_UNKNOWN] = True
        made["properties"] = {name: structural(part, definitions) for name, part in schema["properties"].items()}
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = structural(schema["additionalProperties"], definitions)
    return made


def _one_of_several(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Nullable where nothing is one of them; of other choices their common type, or none, and what each allows."""
    choices = [structural(choice, definitions) for choice in schema["anyOf"] if choice.get("type") != "null"]
    nullable = {"nullable": True} if len(choices) < len(schema["anyOf"]) else {}
    if len(choices) == 1:
        return choices[0] | _description(schema) | nullable
    types = {choice.pop("type") for choice in choices}
    common = {"type": types.pop()} if len(types) == 1 else {_KEEP_UNKNOWN: True}
    return common | _description(schema) | nullable | {"anyOf": choices}


def _description(schema: Mapping[str, Any]) -> dict[str, str]:
    """What the field means, and a default that fits in a line."""
    default = schema.get("default")
    shown = str(default).lower() if isinstance(default, bool) else f"{default}"
    plain = isinstance(default, str | int | float) and shown
    said = " ".join(schema.get("description", "").split())
    text = f"{said} Default: {shown}.".strip() if plain else said
    return {"description": text} if text else {}


def _status() -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: {"type": kind, "description": text} | ({"enum": [mode.value for mode in Mode]} if name == "mode" else {})
        for name, (kind, text) in _STATUS.items()
    }
    fields["problems"] = {
        "type": "array",
        "description": "What is wrong, a sentence each; meanwhile the last good version counts.",
        "items": {"type": "string"},
    }
    return {"type": "object", "description": "Written by Headstart when it changes.", "properties": fields}
