"""Unknown fields of a policy refused by the API server itself: a ValidatingAdmissionPolicy, from the same model.

The definition's schema cannot do it: it either keeps unknown fields or drops them in silence for all but `kubectl`.
This asks for no webhook and no certificate, and it holds for every client.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from scaler.adapters.policies.crd import GROUP, PLURAL, VERSION, definition

NAME = f"{PLURAL}.{GROUP}"
DOCUMENT_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


def admission() -> tuple[dict[str, Any], dict[str, Any]]:
    """The ValidatingAdmissionPolicy and its binding."""
    whole = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    document = {"properties": {**{field: {} for field in DOCUMENT_FIELDS}, "spec": whole["properties"]["spec"]}}
    rule = {"apiGroups": [GROUP], "apiVersions": [VERSION], "operations": ["CREATE", "UPDATE"], "resources": [PLURAL]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        # One that was stored before must not keep its finalizers for ever.
        "matchConditions": [{"name": "is-to-stay", "expression": "!has(object.metadata.deletionTimestamp)"}],
        "validations": list(_only_known("", "object", document, lambda rule: rule)),
    }
    binding = {"policyName": NAME, "validationActions": ["Deny"]}
    return _resource("ValidatingAdmissionPolicy", spec), _resource("ValidatingAdmissionPolicyBinding", binding)


def admission_text() -> str:
    """Both as the checked-in file holds them."""
    head = "# kubectl apply -f deploy/policy.admission.yaml, beside policy.crd.yaml; Kubernetes 1.30 or newer; "
    head += "written by:\n# headstart schema --admission\n"
    return head + yaml.safe_dump_all(admission(), sort_keys=False, width=116, allow_unicode=True)


def _only_known(
    path: str, where: str, schema: Mapping[str, Any], reached: Callable[[str], str]
) -> Iterator[dict[str, str]]:
    """A rule in CEL for the object at `path` and for each below it. `where` names it there; `reached` puts a rule about
    it behind what leads to it: where that is absent or null there is nothing to refuse."""
    known = sorted(schema["properties"])
    yield {
        "expression": reached(f"{where}.all(field, field in {known})"),
        "message": f"{path or 'document'}: unknown field; known here: {', '.join(known)}",
    }
    for name, field in schema["properties"].items():
        at, below = f"{where}['{name}']", f"{path}.{name}".removeprefix(".")
        absent = f"!('{name}' in {where}) || {at} == null"
        if "properties" in field.get("items", {}):
            one = f"in_{name}"
            each = f"{absent} || {at}.all({one}, RULE)"
            yield from _only_known(f"{below}[]", one, field["items"], _behind(each, reached))
        elif "properties" in field:
            yield from _only_known(below, at, field, _behind(f"{absent} || RULE", reached))


def _behind(way: str, reached: Callable[[str], str]) -> Callable[[str], str]:
    return lambda rule: reached(f"({way})".replace("RULE", rule))


def _resource(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME},
        "spec": dict(spec),
    }
