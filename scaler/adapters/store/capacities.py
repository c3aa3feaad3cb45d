"""Learned capacity in the store: all endpoints in one document, so that keeping them is one small write."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from math import isnan, nan
from typing import Any

from scaler.adapters.store.store import Learned, SqlStore
from scaler.core.capacity import LATEST, CapacityObservation, LearnedCapacity
from scaler.domain.endpoint import EndpointId

KEY = "capacity"
VERSION = 1
"""Bump when a field of LearnedCapacity or CapacityObservation changes its meaning, comes or goes."""
_NUMBERS = ("demand", "in_flight", "queue", "latency_seconds")


def keep_capacities(store: SqlStore, known: Mapping[EndpointId, LearnedCapacity], now: datetime) -> None:
    """What `kept_capacities` returns from now on. What is too old to be gone on with is left out."""
    rows = [
        {"namespace": endpoint.namespace, "name": endpoint.name, "state": _plain(state)}
        for endpoint, state in known.items()
        if now - state.last.at <= LATEST
    ]
    store.save_learned(KEY, VERSION, Learned(document={"endpoints": rows}), now)


def kept_capacities(store: SqlStore) -> Mapping[EndpointId, LearnedCapacity]:
    """What was kept last; empty where nothing was. Raises UnknownVersion when another release wrote it."""
    found = store.load_learned(KEY, VERSION)
    rows = found.document["endpoints"] if found is not None else ()
    return {EndpointId(row["namespace"], row["name"]): _state_of(row["state"]) for row in rows}


def _plain(state: LearnedCapacity) -> dict[str, Any]:
    """As JSON: times ISO 8601, NaN null."""
    row = asdict(state)
    row["overloaded_at"] = state.overloaded_at.isoformat() if state.overloaded_at is not None else None
    row["last"]["at"] = state.last.at.isoformat()
    for name in _NUMBERS:
        row["last"][name] = None if isnan(row["last"][name]) else row["last"][name]
    return row


def _state_of(row: Mapping[str, Any]) -> LearnedCapacity:
    last = dict(row["last"])
    last["at"] = datetime.fromisoformat(last["at"])
    for name in _NUMBERS:
        last[name] = nan if last[name] is None else last[name]
    overloaded_at = row["overloaded_at"]
    return LearnedCapacity(
        **{
            **row,
            "last": CapacityObservation(**last),
            "overloaded_at": None if overloaded_at is None else datetime.fromisoformat(overloaded_at),
        }
    )
