"""Policy documents out of YAML text, each field with its line; nothing said twice, nothing guessed."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from scaler.errors import PolicyError

FieldPath = tuple[str | int, ...]
POLICY_KIND = "InferenceScalingPolicy"
_IGNORED_KINDS = frozenset({"PolicyTest"})
"""Stand beside policies in one folder and are read by other commands."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document as written, not checked yet. `lines` maps each field's path to its line in `origin` (from 1)."""

    origin: str
    body: Any
    lines: Mapping[FieldPath, int] = field(default_factory=dict)

    def line(self, path: FieldPath) -> int | None:
        """The line of a field; for an absent field that of what should hold it."""
        return next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)

    def place(self, path: FieldPath) -> str:
        """`file line 12: spec.replicas.min`."""
        line = self.line(path)
        where = self.origin if line is None else f"{self.origin} line {line}"
        return f"{where}: {dotted(path)}" if path else where


def dotted(path: FieldPath) -> str:
    """`spec.overrides[0].min`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def read_documents(text: str, origin: str) -> list[Document]:
    """Every policy in a YAML text: plain documents, items of a List, and the YAML values of a ConfigMap.

    Raises PolicyError for text that is no YAML, a key that stands twice, or a document of another kind.
    """
    return [policy for document in parse_yaml(text, origin) for policy in _policies_in(document)]


_BASE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is ten times faster where it was built


class _Loader(_BASE):  # type: ignore[misc,valid-type]
    """YAML 1.2's booleans and no time stamps: `NO` is a country and a time is checked by the field that wants one."""


_TAG = "tag:yaml.org,2002:"
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag != f"{_TAG}timestamp" and not (tag == f"{_TAG}bool" and first in "yYnNoO")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, origin: str) -> Iterator[Document]:
    """Every document of a YAML text, of whatever kind. Raises PolicyError for no YAML or a key that stands twice."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            lines: dict[FieldPath, int] = {}
            _walk(node, (), lines, origin, frozenset())
            body = loader.construct_document(node)
            if body is not None:
                yield Document(origin=origin, body=body, lines=lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise PolicyError(f"{origin}{line}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise PolicyError(f"{origin}: not YAML: {error}") from error
    except (ValueError, RecursionError) as error:  # an integer or a nesting beyond what Python reads
        raise PolicyError(f"{origin}: cannot be read: {error}") from error
    finally:
        loader.dispose()


def _walk(node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int], origin: str, above: frozenset[int]) -> None:
    """Notes the line of each field; raises PolicyError where a mapping names a key twice or holds itself."""
    lines[path] = node.start_mark.line + 1
    if id(node) in above:
        raise PolicyError(f"{origin} line {lines[path]}: {dotted(path)}: holds itself")
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), lines, origin, above | {id(node)})
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in seen:
                where = f"{origin} line {line}: {dotted((*path, key))}"
                raise PolicyError(f"{where}: the key stands twice, first in line {seen[key]}; need it once")
            seen[key] = line
            _walk(value_node, (*path, key), lines, origin, above | {id(node)})
            lines[(*path, key)] = line


def _policies_in(document: Document) -> Iterator[Document]:
    body = document.body
    if not isinstance(body, dict):
        raise PolicyError(f"{document.place(())}: found {shown(body)}, need a mapping with kind: {POLICY_KIND}")
    kind = body.get("kind")
    if kind == "ConfigMap":
        yield from _in_config_map(document)
    elif kind == "List":
        for index, item in enumerate(_items(body)):
            lines = {path[2:]: line for path, line in document.lines.items() if path[:2] == ("items", index)}
            yield from _policies_in(Document(origin=document.origin, body=item, lines=lines))
    elif kind is None or kind == POLICY_KIND:
        yield document
    elif not isinstance(kind, str) or kind not in _IGNORED_KINDS:
        raise PolicyError(f"{document.place(('kind',))}: found {shown(kind)}, need {POLICY_KIND}")


def _items(body: Mapping[str, Any]) -> list[Any]:
    items = body.get("items")
    return items if isinstance(items, list) else []


def _in_config_map(document: Document) -> Iterator[Document]:
    data = document.body.get("data")
    for key, text in data.items() if isinstance(data, dict) else ():
        if isinstance(text, str) and str(key).endswith((".yaml", ".yml", ".json")):
            yield from read_documents(text, f"{document.origin}[data.{key}]")


def shown(value: object) -> str:
    """A value as a person wrote it, on one line, cut where it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"a mapping of {', '.join(map(str, value)) or 'nothing'}"[:120]
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = str(value).replace("\n", " ")
    return text if 0 < len(text) <= 80 else f'"{text[:80]}"'
