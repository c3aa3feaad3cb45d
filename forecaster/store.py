"""Fitted models as artefacts: plain JSON and arrays under any fsspec URL, never pickle.

    <url>/<namespace>/<endpoint>/card.json               the newest model: what it is, how good it was, which arrays
    <url>/<namespace>/<endpoint>/card-<version>.json     each version kept
    <url>/<namespace>/<endpoint>/arrays-<version>.npz    what it learnt

Arrays are written first and card.json last, each under a temporary name and then renamed, so that a reader finds the
old model or the new one. A version is named by the end of the history it learnt from and a digest of that history and
of what was learnt, so that no model's arrays are written over those of another.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import fsspec
import numpy as np

from forecaster.auto import Auto, FittedAuto
from forecaster.calendar import DemandCalendar, PlannedEvent
from forecaster.catalogue import method_named
from forecaster.errors import BadKey, BadSeries, StoreError, UnknownMethod
from forecaster.forecaster import FittedModel, Forecaster, data_digest
from forecaster.series import DemandSeries, DemandUnit

SCHEMA_VERSION = 1
KEEP_VERSIONS = 3
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")

Card = dict[str, Any]
CARD_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "version": str,
    "key": str,
    "method": str,
    "fell_back_from": str,
    "unit": str,
    "step_seconds": (int, float),
    "fitted_until": str,
    "calendar": dict,
    "data_digest": str,
    "code_version": str,
    "leads": dict,
    "scores": dict,
    "arrays": str,
    "arrays_sha256": str,
}
"""What every card of SCHEMA_VERSION holds: a file that lacks one of them is damaged."""


@dataclass(frozen=True)
class ModelStore:
    """Models under `url`: a folder, or a bucket such as s3://bucket/models (with the fsspec plug-in for it)."""

    url: str
    keep_versions: int = KEEP_VERSIONS

    def __post_init__(self) -> None:
        """Raises StoreError for a URL whose kind is unknown, or whose plug-in is not installed."""
        self._root()

    def exists(self) -> bool:
        """Whether there is anything under the URL."""
        fs, root = self._root()
        return bool(fs.exists(root))

    def save(self, model: FittedModel, scores: Mapping[str, object] | None = None) -> Card:
        """Write the model as the newest of its endpoint, prune older ones, and return its card.

        Raises StoreError if it cannot be written: nothing of it remains then, and the model before it is still the
        newest. Also if older ones cannot be removed, which the message says.
        """
        folder, fs = self._folder(model.key)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **model.learnt.arrays())  # type: ignore[arg-type]
        blob = buffer.getvalue()
        card = _card_of(model, blob, scores)
        text = json.dumps(card, indent=2, sort_keys=True, allow_nan=False).encode()
        files = {
            f"{folder}/{card['arrays']}": blob,
            f"{folder}/card-{card['version']}.json": text,
            f"{folder}/card.json": text,
        }
        new: list[str] = []
        try:
            fs.makedirs(folder, exist_ok=True)
            for path, content in files.items():
                if not fs.exists(path):
                    new.append(path)
                _write(fs, path, content)
        except OSError as error:
            _remove(fs, new)
            raise StoreError(
                f"store {self.url}: could not write the model of {model.key}: {error}; make room or give the right "
                "to write there, then fit it again"
            ) from error
        self.prune(model.key)
        return card

    def card(self, key: str) -> Card:
        """The card of the newest model. Raises StoreError if there is none or its schema is unknown."""
        folder, fs = self._folder(key)
        return self._read_card(fs, f"{folder}/card.json", key)

    def load(self, key: str) -> FittedModel:
        """The newest model, ready to forecast. Raises StoreError if it is absent, damaged or of an unknown schema."""
        folder, fs = self._folder(key)
        card = self._read_card(fs, f"{folder}/card.json", key)
        try:
            blob = fs.cat_file(f"{folder}/{card['arrays']}")
        except OSError as error:
            raise StoreError(
                f"store {self.url}: arrays {card['arrays']} of {key} cannot be read: {error}; fit it again"
            ) from error
        if hashlib.sha256(blob).hexdigest() != card["arrays_sha256"]:
            raise StoreError(f"store {self.url}: arrays of {key} are not those that its card names; fit it again")
        try:
            with np.load(io.BytesIO(blob), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return _model_of(card, arrays)
        except (ValueError, BadZipFile, KeyError, UnknownMethod) as error:
            raise StoreError(f"store {self.url}: the model of {key} is damaged ({error}); fit it again") from error

    def is_current(self, key: str, forecaster: Forecaster, series: DemandSeries) -> bool:
        """Whether the newest model is what this code would fit by this forecaster on this very history: fitting it
        again would give nothing new. False where there is none, or its card or arrays are damaged."""
        try:
            card = self.card(key)
            if card["data_digest"] != data_digest(series) or not _made_by(card, forecaster):
                return False
            self.load(key)  # costs little beside a fit, and "fit it again" is what is said of damaged arrays
        except StoreError:
            return False
        return True

    def previous(self, key: str, forecaster: Forecaster) -> FittedModel | None:
        """The newest model if this code made it by this forecaster, so that a fit may carry it on, else None."""
        try:
            return self.load(key) if _made_by(self.card(key), forecaster) else None
        except StoreError:
            return None

    def prior(self) -> tuple[float, ...]:
        """What auto.fleet_prior gives for all newest models, from their cards; () without any of `auto`. A card that
        cannot be read teaches nothing."""
        members = Auto().members
        leads = [lead["weights"] for card in self.cards()[0].values() for lead in card["leads"].values()]
        known = [[weights[name] for name in members] for weights in leads if set(weights) == set(members)]
        return tuple(np.mean(known, axis=0).tolist()) if known else ()

    def cards(self) -> tuple[dict[str, Card], dict[str, str]]:
        """The card of every endpoint that has a model, and of those whose card cannot be read: why."""
        cards: dict[str, Card] = {}
        problems: dict[str, str] = {}
        for key in self.keys():
            try:
                cards[key] = self.card(key)
            except StoreError as error:
                problems[key] = str(error)
        return cards, problems

    def keys(self) -> list[str]:
        """The endpoints that have a model, sorted: `namespace/endpoint`."""
        fs, root = self._root()
        found = fs.glob(f"{root}/*/*/card.json")
        return sorted("/".join(str(path).split("/")[-3:-1]) for path in found)

    def versions(self, key: str) -> list[str]:
        """The versions kept, oldest first."""
        folder, fs = self._folder(key)
        names = [str(path).rsplit("/", 1)[-1] for path in fs.glob(f"{folder}/card-*.json")]
        return sorted(name.removeprefix("card-").removesuffix(".json") for name in names)

    def prune(self, key: str, keep: int | None = None) -> list[str]:
        """Remove all but the newest `keep` versions (at least one); returns those removed. Raises StoreError where they
        cannot be."""
        folder, fs = self._folder(key)
        keep = max(self.keep_versions if keep is None else keep, 1)
        newest = str(self.card(key)["version"])
        others = [name for name in self.versions(key) if name != newest]
        removed = others[: max(len(others) - (keep - 1), 0)]
        try:
            for name in removed:
                fs.rm_file(f"{folder}/card-{name}.json")
                if fs.exists(f"{folder}/arrays-{name}.npz"):
                    fs.rm_file(f"{folder}/arrays-{name}.npz")
        except OSError as error:
            raise StoreError(
                f"store {self.url}: the newest model of {key} is kept, older ones could not be removed: {error}; give "
                "the right to, then `headstart models prune`"
            ) from error
        return removed

    def _root(self) -> tuple[Any, str]:
        try:
            fs, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:  # a bucket whose plug-in is absent, a kind that nobody knows
            raise StoreError(
                f"store {self.url}: {error}; need a folder, or a URL that fsspec knows and its plug-in installed"
            ) from error
        return fs, str(root).rstrip("/")

    def _folder(self, key: str) -> tuple[str, Any]:
        check_key(key)
        fs, root = self._root()
        return f"{root}/{key}", fs

    def _read_card(self, fs: Any, path: str, key: str) -> Card:
        try:
            card = json.loads(fs.cat_file(path))
        except FileNotFoundError as error:
            raise StoreError(f"store {self.url}: no model of {key}; fit it first") from error
        except (OSError, ValueError) as error:
            raise StoreError(f"store {self.url}: the card of {key} cannot be read: {error}; fit it again") from error
        found = card.get("schema_version") if isinstance(card, dict) else None
        if found != SCHEMA_VERSION:
            raise StoreError(
                f"store {self.url}: {key} has schema version {found!r}, this code reads {SCHEMA_VERSION}; fit it again"
            )
        damaged = _damage(card)
        if damaged:
            raise StoreError(f"store {self.url}: the card of {key} is damaged ({damaged}); fit it again")
        return dict(card)


def check_key(key: str) -> None:
    """Raises BadKey unless a model can be kept under that key."""
    parts = key.split("/")
    if len(parts) != 2 or not all(NAME.fullmatch(part) for part in parts):
        raise BadKey(
            f"store: found {key!r}; need namespace/endpoint, each of letters, digits, '.', '_' and '-', with a letter "
            "or digit at both ends"
        )


def _damage(card: Card) -> str:
    """What is wrong with a card, "" for nothing."""
    for name, kind in CARD_FIELDS.items():
        if not isinstance(card.get(name), kind):
            return f"{name}: found {card.get(name)!r}"
    for lead, known in card["leads"].items():
        weights = known.get("weights") if isinstance(known, dict) else None
        if not isinstance(weights, dict) or not all(isinstance(weight, (int, float)) for weight in weights.values()):
            return f"leads.{lead}: found no weights"
    return ""


def _card_of(model: FittedModel, blob: bytes, scores: Mapping[str, object] | None) -> Card:
    digest = hashlib.sha256(model.data_digest.encode() + blob).hexdigest()
    name = f"{model.fitted_until:%Y%m%dT%H%M%SZ}-{digest[:8]}"
    learnt = model.learnt
    known = learnt.summary(model.step.total_seconds()) if isinstance(learnt, FittedAuto) else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "version": name,
        "key": model.key,
        "method": model.method,
        "fell_back_from": model.fell_back_from,
        "unit": model.unit.value,
        "step_seconds": model.step.total_seconds(),
        "fitted_until": model.fitted_until.isoformat(),
        "calendar": _as_stored(model.calendar),
        "data_digest": model.data_digest,
        "code_version": code_version(),
        "leads": known,
        "scores": dict(scores or {}),
        "arrays": f"arrays-{name}.npz",
        "arrays_sha256": hashlib.sha256(blob).hexdigest(),
    }


def _as_stored(calendar: DemandCalendar) -> Card:
    return {
        "timezone": calendar.timezone,
        "holidays_of": calendar.holidays_of,
        "events": [
            {"name": e.name, "start": e.start.isoformat(), "end": e.end.isoformat(), "factor": e.factor}
            for e in calendar.events
        ],
    }


def _made_by(card: Card, forecaster: Forecaster) -> bool:
    """Whether this code fitted the card's model by this forecaster's method and calendar."""
    same_method = forecaster.method in (card["method"], card["fell_back_from"])
    same_calendar = card["calendar"] == _as_stored(forecaster.calendar)
    return same_method and same_calendar and card["code_version"] == code_version()


def _model_of(card: Card, arrays: dict[str, Any]) -> FittedModel:
    stored = card["calendar"]
    try:
        events = tuple(
            PlannedEvent(
                name=event["name"],
                start=datetime.fromisoformat(event["start"]),
                end=datetime.fromisoformat(event["end"]),
                factor=event["factor"],
            )
            for event in stored["events"]
        )
        calendar = DemandCalendar(timezone=stored["timezone"], holidays_of=stored["holidays_of"], events=events)
    except BadSeries as error:
        raise StoreError(f"store: the calendar of {card['key']} is not valid: {error}") from error
    return FittedModel(
        key=card["key"],
        method=card["method"],
        fell_back_from=card["fell_back_from"],
        unit=DemandUnit(card["unit"]),
        step=timedelta(seconds=card["step_seconds"]),
        fitted_until=datetime.fromisoformat(card["fitted_until"]),
        calendar=calendar,
        data_digest=card["data_digest"],
        learnt=method_named(card["method"]).restore(arrays),
    )


@cache
def code_version() -> str:
    """The version of the installed package ("unknown" in a bare tree) and a digest of this package's own sources: other
    code may learn other things."""
    try:
        released = version("headstart")
    except PackageNotFoundError:
        released = "unknown"
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return f"{released}+{hashlib.sha256(b''.join(source.read_bytes() for source in sources)).hexdigest()[:8]}"


def _write(fs: Any, path: str, content: bytes) -> None:
    """Readers see the old file or the whole new one: a bucket's put is atomic as it is, a folder needs the rename."""
    temporary = f"{path}.writing"
    try:
        fs.pipe_file(temporary, content)
        fs.mv(temporary, path)
    except OSError:
        _remove(fs, [temporary])
        raise


def _remove(fs: Any, paths: Sequence[str]) -> None:
    """The files are gone, as far as a store that just refused a write lets them."""
    for path in paths:
        with suppress(OSError):
            fs.rm_file(path)
