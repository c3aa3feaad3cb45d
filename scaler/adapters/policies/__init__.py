"""Policies as people write them: read, checked, kept at their last good version, and described as schemas."""

from scaler.adapters.policies.admission import admission_text
from scaler.adapters.policies.crd import definition_text
from scaler.adapters.policies.files import PolicyFiles, load_policies, load_policy
from scaler.adapters.policies.kept import parse_policy
from scaler.adapters.policies.schema import policy_schema, schema_text
from scaler.adapters.policies.warnings import warnings_for

__all__ = [
    "PolicyFiles",
    "admission_text",
    "definition_text",
    "load_policies",
    "load_policy",
    "parse_policy",
    "policy_schema",
    "schema_text",
    "warnings_for",
]
