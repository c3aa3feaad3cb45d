"""Policies from files: read once and strictly, or watched and kept at their last good version."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from scaler.adapters.policies.documents import POLICY_KIND, read_documents
from scaler.adapters.policies.kept import Content, KeptPolicies, content_of
from scaler.domain.policy import ScalingPolicy
from scaler.errors import PolicyError

DEFAULTS_FILE = "defaults.yaml"
"""In a folder this file documents the defaults and is no endpoint; named itself it is read like any other."""
_SUFFIXES = (".yaml", ".yml", ".json")


def load_policy(path: Path | str) -> ScalingPolicy:
    """The one policy of a file.

    Raises PolicyError, one line a problem, each naming file, field, value found and what is allowed.
    """
    policies = load_policies([path])
    if len(policies) != 1:
        raise PolicyError(f"{path}: found {len(policies)} policies, need exactly one")
    return policies[0]


def load_policies(paths: Path | str | Iterable[Path | str]) -> list[ScalingPolicy]:
    """Every policy of files and folders (their *.yaml, *.yml, *.json; not deeper), in the order of file names.

    Raises one PolicyError with the problems of all files, a line each; also when no policy is found, one endpoint has
    two, or two order replicas of one target.
    """
    files = PolicyFiles([paths] if isinstance(paths, (Path, str)) else list(paths))
    found = files.load()
    if files.problems():
        raise PolicyError("\n".join(files.problems()))
    return list(found)


class PolicyFiles:
    """Implements ports.PolicySource over files and folders; a changed file is read again.

    A policy that became invalid keeps its last good version, and `problems()` says so until it is mended. A policy
    whose file or document is gone is gone. Of two that order replicas of one target the first does.
    """

    def __init__(self, paths: Sequence[Path | str]) -> None:
        self._paths = tuple(paths)
        self._kept = KeptPolicies()
        self._problems: tuple[str, ...] = ()

    def load(self) -> Sequence[ScalingPolicy]:
        """Every policy in its last good version. Raises PolicyError when a path is gone or no policy is left."""
        known = self._kept.read
        self._kept = self._kept.after({str(file): _read(file, known.get(str(file))) for file in _files(self._paths)})
        found = self._kept.in_force()
        self._problems = tuple(line for lines in found.problems.values() for line in lines)
        if not found.policies:
            paths = ", ".join(map(str, self._paths))
            raise PolicyError(
                "\n".join(self._problems) or f"{paths}: no policy found, need a document of kind {POLICY_KIND}"
            )
        return [policy for _, policy in found.policies.values()]

    def problems(self) -> tuple[str, ...]:
        """What the last `load` found wrong, a sentence each."""
        return self._problems


def _read(file: Path, before: Content | None) -> Content:
    """What the file holds; `before` itself where that is what it held."""
    digest = ""
    try:
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if before is not None and before.version == digest:
            return before
        return content_of(read_documents(data.decode("utf-8-sig"), str(file)), digest)
    except OSError as error:
        problems = [f"{file}: cannot be read: {error.strerror or error}"]
    except UnicodeDecodeError as error:
        problems = [f"{file}: byte {error.start} is not UTF-8 text; need YAML"]
    except PolicyError as error:
        problems = str(error).splitlines()
    return Content(version=digest, problems=tuple(problems))


def _files(paths: Iterable[Path | str]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += [
                file
                for file in sorted(path.iterdir())
                if file.suffix in _SUFFIXES and file.name != DEFAULTS_FILE and not file.name.startswith(".")
            ]
        elif path.exists():
            found.append(path)
        else:
            raise PolicyError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))
