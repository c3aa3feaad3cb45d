"""What is wrong with a document, one sentence a problem: place, value found, what is allowed."""

import difflib
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scaler.adapters.policies.documents import Document, FieldPath, shown
from scaler.domain.fields import A_TIME
from scaler.domain.policy import ScalingPolicy

_NEEDS: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_pattern_mismatch": "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
    "timezone_aware": A_TIME,
    "datetime_type": A_TIME,
    "datetime_parsing": A_TIME,
    "datetime_from_date_parsing": A_TIME,
    "datetime_object_invalid": A_TIME,
    "date_parsing": "a day such as 2026-03-02",
    "date_from_datetime_parsing": "a day such as 2026-03-02",
    "date_from_datetime_inexact": "a day such as 2026-03-02",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


def describe(error: ValidationError, document: Document, model: type[BaseModel] = ScalingPolicy) -> list[str]:
    """One sentence for each field of a document of that model that is wrong, in the order of the document's lines."""
    by_path: dict[FieldPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_path.setdefault(_path(detail, document.body), []).append(detail)
    in_order = sorted(by_path.items(), key=lambda item: document.line(item[0]) or 0)
    return [_sentence(document, path, details, model) for path, details in in_order]


def _path(detail: ErrorDetails, body: Any) -> FieldPath:
    """The error's place in the document: pydantic's own marks for the members of a union are left out."""
    path: list[str | int] = []
    for part in detail["loc"]:
        inside = (isinstance(body, dict) and part in body) or (isinstance(body, list) and isinstance(part, int))
        if inside:
            body = body[part]
            path.append(part)
    if detail["type"] == "missing":
        path.append(detail["loc"][-1])
    return tuple(path)


def _sentence(document: Document, path: FieldPath, details: list[ErrorDetails], model: type[BaseModel]) -> str:
    place = document.place(path)
    first = details[0]
    if first["type"] == "extra_forbidden":
        return f"{place}: {_unknown(path, model)}"
    if first["type"] == "missing":
        return f"{place}: missing; need a value"
    if first["type"] == "value_error" and isinstance(first["input"], (dict, BaseModel)):
        return f"{place}: {first['ctx']['error']}"
    needs = " or ".join(dict.fromkeys(_need(detail) for detail in details))
    return f"{place}: found {shown(first['input'])}, need {needs}"


def _need(detail: ErrorDetails) -> str:
    kind = detail["type"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    if kind in _BOUNDS:
        sign, key = _BOUNDS[kind]
        bound = context[key]
        if not isinstance(bound, (int, float)):  # the one bound of durations; pydantic gives it as text
            return f"a duration {sign} 0s"
        text = f"{bound:g}"
        return f"{sign} {text}" + (" (a fraction, not percent)" if bound == 1 and sign[0] == "<" else "")
    if kind in ("literal_error", "enum"):
        return f"one of {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
    if kind == "value_error":
        return str(context["error"]).removeprefix("need ")
    return _NEEDS.get(kind, detail["msg"])


def _unknown(path: FieldPath, model: type[BaseModel]) -> str:
    known = _fields_at(path[:-1], model)
    return f"unknown field; {nearest(str(path[-1]), known)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean minIdle?`, or what is known when nothing is near."""
    names = sorted(known)
    folded = {one.lower().replace("_", ""): one for one in names}
    close = difflib.get_close_matches(name.lower().replace("_", ""), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[close[0]]}?" if close else f"known here: {', '.join(names)}"


def _fields_at(path: FieldPath, root: type[BaseModel]) -> list[str]:
    """The document's names of the fields of the model that stands at `path`."""
    model: type[BaseModel] | None = root
    for part in path:
        if isinstance(part, int) or model is None:
            continue
        by_alias = {field.alias or name: field for name, field in model.model_fields.items()}
        model = _model_in(by_alias[part].annotation) if part in by_alias else None
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner: Callable[[Any], tuple[Any, ...]] = typing.get_args
    return next((found for part in inner(annotation) if (found := _model_in(part))), None)
