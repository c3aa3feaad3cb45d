"""Label selectors as the API server writes them in a scale's status (`app=chat,tier in (a,b),!canary`)."""

import re
from collections.abc import Mapping

_REQUIREMENT = re.compile(
    r"\s*(?:"
    r"(?P<absent>!)\s*(?P<absent_key>[^\s=!,()]+)"
    r"|(?P<key>[^\s=!,()]+)\s*(?:(?P<operator>==|=|!=)\s*(?P<value>[^\s,()]*)"
    r"|\s(?P<set_operator>in|notin)\s*\((?P<values>[^)]*)\))?"
    r")\s*(?:,|$)"
)


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    """True when every requirement holds; an empty selector matches nothing. Raises ValueError for other text."""
    if not selector.strip():
        return False
    position = 0
    while position < len(selector):
        found = _REQUIREMENT.match(selector, position)
        if found is None:
            raise ValueError(f"label selector {selector!r}: not understood from {selector[position:]!r} on")
        if not _holds(found, labels):
            return False
        position = found.end()
    return True


def _holds(found: "re.Match[str]", labels: Mapping[str, str]) -> bool:
    if found["absent"]:
        return found["absent_key"] not in labels
    value = labels.get(found["key"])
    if found["set_operator"]:
        listed = value in {one.strip() for one in found["values"].split(",")}
        return listed if found["set_operator"] == "in" else not listed
    if found["operator"] == "!=":
        return value != found["value"]
    if found["operator"]:
        return value == found["value"]
    return value is not None
