"""Policies from files and ConfigMaps: read, checked, watched, and described as JSON Schema."""

from scaler.adapters.policies.checks import warnings_for
from scaler.adapters.policies.files import PolicyFiles, load_policies, load_policy, parse_policy
from scaler.adapters.policies.schema import policy_schema, schema_text

__all__ = [
    "PolicyFiles",
    "load_policies",
    "load_policy",
    "parse_policy",
    "policy_schema",
    "schema_text",
    "warnings_for",
]
