"""The store: implements ports.DecisionLog and keeps what was learned."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, create_engine, delete, event, insert, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from scaler.adapters.addresses import without_password
from scaler.adapters.store import tables
from scaler.adapters.store.migrations import migrated
from scaler.adapters.store.tables import STORE_VERSION
from scaler.domain.endpoint import EndpointId
from scaler.domain.record import DecisionRecord
from scaler.domain.replicas import StartupObservation
from scaler.domain.snapshot import PastTurn
from scaler.errors import SettingsError, StoreUnavailable, UnknownVersion

PROMOTED = "Promoted"
"""The mode column of a turn that acted because a gate had opened: else the mode it acted in."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Learned state under one key: a JSON document and named arrays."""

    document: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


WHAT_A_FILE_NEEDS = "; need an SQLite file, or none yet, in a folder that is there and can be written"


class SqlStore:
    """Decisions and learned state in one database. Safe to use from several threads; every call is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str, *, must_exist: bool = False) -> "SqlStore":
        """The store at an SQLAlchemy URL, its tables made if there were none and brought up to this release's schema.

        Raises SettingsError for a URL that names no database (with `must_exist` also for an SQLite file that is not
        there), StoreUnavailable when the database does not answer and UnknownVersion when the store has a schema that
        no migration leads from.
        """
        engine = _engine(url)
        file = engine.url.database
        is_file = engine.dialect.name == "sqlite" and bool(file)
        if must_exist and is_file and not Path(str(file)).exists():
            raise SettingsError(f"--store: {file} does not exist; name the store of the running service")
        with ExitStack() as unless_opened:
            store = cls(engine)
            unless_opened.callback(store.close)
            store._bring_up(WHAT_A_FILE_NEEDS if is_file else "")
            unless_opened.pop_all()
        return store

    def _bring_up(self, need: str) -> None:
        """Tables of this release, whatever there was."""
        shown = self._engine.url.render_as_string()
        with self._transaction(f"open the store {shown}", need) as connection:
            tables.metadata.create_all(connection)
            found = connection.scalar(select(tables.about.c.value).where(tables.about.c.key == "version"))
            if found is None:
                connection.execute(insert(tables.about).values(key="version", value=str(STORE_VERSION)))
            elif found != str(STORE_VERSION) and migrated(connection) != str(STORE_VERSION):
                raise UnknownVersion(
                    f"store {shown}: has schema version {found}, this release reads {STORE_VERSION}; use the release "
                    "that wrote it, or another store"
                )

    def append(self, records: Sequence[DecisionRecord]) -> None:
        """Every record is kept, all or none of them. A record with a known id replaces the earlier one."""
        if not records:
            return
        rows = [_row_of(record) for record in records]
        with self._transaction("append decisions") as connection:
            connection.execute(delete(tables.decisions).where(tables.decisions.c.id.in_([row["id"] for row in rows])))
            connection.execute(insert(tables.decisions), rows)

    def recent_turns(self, endpoint: EndpointId, since: datetime) -> Sequence[PastTurn]:
        """Turns decided at `since` or later, oldest first."""
        table = tables.decisions.c
        query = (
            select(
                table.decided_at,
                table.recommended,
                table.current_replicas,
                table.ordered,
                table.standing,
                table.mode == PROMOTED,
            )
            .where(table.namespace == endpoint.namespace, table.name == endpoint.name)
            .where(table.decided_at >= since.timestamp(), table.ordered >= 0)
            .order_by(table.decided_at)
        )
        with self._transaction(f"read the recent turns of {endpoint}") as connection:
            return tuple(
                PastTurn(
                    decided_at=_time(at),
                    recommended=recommended,
                    current=current,
                    ordered=ordered,
                    standing=standing,
                    promoted=promoted,
                )
                for at, recommended, current, ordered, standing, promoted in connection.execute(query)
            )

    def scale_in_held_until(self, endpoint: EndpointId, now: datetime) -> datetime | None:
        """Until when a trigger holds scale-in, as the last decision up to `now` left it. None: nothing holds it."""
        table = tables.decisions.c
        query = (
            select(table.hold_scale_in_until)
            .where(table.namespace == endpoint.namespace, table.name == endpoint.name)
            .where(table.decided_at <= now.timestamp())
            .order_by(table.decided_at.desc())
            .limit(1)
        )
        with self._transaction(f"read the holds of {endpoint}") as connection:
            until = connection.scalar(query)
        return None if until is None else _time(until)

    def last_rows(self, endpoint: EndpointId, limit: int) -> Sequence[Mapping[str, Any]]:
        """The last `limit` decisions as they were written (DecisionRecord.as_row), newest first."""
        table = tables.decisions.c
        query = (
            select(table.record)
            .where(table.namespace == endpoint.namespace, table.name == endpoint.name)
            .order_by(table.decided_at.desc())
            .limit(limit)
        )
        with self._transaction(f"read the decisions of {endpoint}") as connection:
            return [json.loads(record) for record in connection.scalars(query)]

    def demand_seen(self, endpoint: EndpointId) -> Iterator[tuple[datetime, float]]:
        """Demand of the last full minute as each kept decision read it, oldest first; decisions that did not know it
        are left out."""
        table = tables.decisions.c
        query = (
            select(table.record)
            .where(table.namespace == endpoint.namespace, table.name == endpoint.name)
            .order_by(table.decided_at)
            .execution_options(yield_per=1000)
        )
        with self._transaction(f"read the demand of {endpoint}") as connection:
            for record in connection.scalars(query):
                signals = json.loads(record)["signals"]
                if signals is not None and signals["demand_now"] is not None:
                    yield datetime.fromisoformat(signals["read_at"]), signals["demand_now"]

    def endpoints(self) -> Sequence[EndpointId]:
        """Every endpoint with a decision, in order of name."""
        table = tables.decisions.c
        query = select(table.namespace, table.name).distinct().order_by(table.namespace, table.name)
        with self._transaction("list endpoints") as connection:
            return [EndpointId(namespace, name) for namespace, name in connection.execute(query)]

    def save_learned(self, key: str, version: int, learned: Learned, now: datetime) -> None:
        """What `load_learned` returns for this key from now on."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(learned.arrays))  # type: ignore[arg-type]  # the stub knows only allow_pickle
        row = {
            "key": key,
            "version": version,
            "saved_at": now.timestamp(),
            "document": json.dumps(learned.document),
            "arrays": buffer.getvalue(),
        }
        with self._transaction(f"save {key}") as connection:
            connection.execute(delete(tables.learned).where(tables.learned.c.key == key))
            connection.execute(insert(tables.learned), row)

    def load_learned(self, key: str, version: int) -> Learned | None:
        """What was saved last under `key`. None: nothing. Raises UnknownVersion when it has another version."""
        query = select(tables.learned).where(tables.learned.c.key == key)
        with self._transaction(f"load {key}") as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        if row.version != version:
            raise UnknownVersion(f"learned state {key}: has version {row.version}, this release reads {version}")
        with np.load(io.BytesIO(row.arrays), allow_pickle=False) as arrays:
            return Learned(document=json.loads(row.document), arrays=dict(arrays))

    def keep_startups(self, endpoint: EndpointId, seen: Sequence[StartupObservation], now: datetime) -> None:
        """Finished starts among `seen` are kept once; those that still start are left to the cluster to tell again."""
        rows = {
            (observation.ordered_at, ended): {
                "namespace": endpoint.namespace,
                "name": endpoint.name,
                "ordered_at": observation.ordered_at.timestamp(),
                "ended_at": ended.timestamp(),
                "scheduled_at": _epoch(observation.scheduled_at),
                "started_at": _epoch(observation.started_at),
                "failed": observation.failed,
            }
            for observation in seen
            for ended in [observation.ready_at or (now if observation.failed else None)]
            if ended is not None
        }
        table = tables.startups.c
        of_endpoint = (table.namespace == endpoint.namespace) & (table.name == endpoint.name)
        with self._transaction(f"keep the starts of {endpoint}") as connection:
            known = set(connection.execute(select(table.ordered_at, table.ended_at, table.failed).where(of_endpoint)))
            ends = {(ordered, ended) for ordered, ended, _ in known}
            failed_orders = {ordered for ordered, _, failed in known if failed}
            new = [
                row
                for row in rows.values()
                # A failed start has no time of its own: the first turn that saw it gives it one, later turns do not.
                if (row["ordered_at"], row["ended_at"]) not in ends
                and not (row["failed"] and row["ordered_at"] in failed_orders)
            ]
            if new:
                connection.execute(insert(tables.startups), new)

    def startups(self, endpoint: EndpointId, limit: int = 500) -> Sequence[StartupObservation]:
        """The last finished starts, oldest first."""
        table = tables.startups.c
        query = (
            select(table.ordered_at, table.ended_at, table.scheduled_at, table.started_at, table.failed)
            .where(table.namespace == endpoint.namespace, table.name == endpoint.name)
            .order_by(table.ordered_at.desc())
            .limit(limit)
        )
        with self._transaction(f"read the starts of {endpoint}") as connection:
            rows = list(connection.execute(query))
        return [
            StartupObservation(
                ordered_at=_time(ordered),
                scheduled_at=None if scheduled is None else _time(scheduled),
                started_at=None if started is None else _time(started),
                ready_at=None if failed else _time(ended),
                failed=failed,
            )
            for ordered, ended, scheduled, started, failed in reversed(rows)
        ]

    def prune(self, before: datetime) -> int:
        """Decisions and starts older than `before` are gone; the number of decisions that went."""
        limit = before.timestamp()
        with self._transaction("prune") as connection:
            gone = connection.execute(delete(tables.decisions).where(tables.decisions.c.decided_at < limit)).rowcount
            connection.execute(delete(tables.startups).where(tables.startups.c.ended_at < limit))
        return gone

    def check_writable(self) -> None:
        """Raises StoreUnavailable unless a write would succeed now."""
        with self._transaction("write to the store") as connection:
            connection.execute(delete(tables.about).where(tables.about.c.key == "probe"))
            connection.execute(insert(tables.about).values(key="probe", value="ok"))

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _transaction(self, doing: str, need: str = "") -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StoreUnavailable(f"{doing}: {cause}{need}") from error


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise SettingsError(
            f"store: {without_password(url)!r} cannot be used ({without_password(str(error))}); need an SQLAlchemy URL "
            "such as sqlite:///headstart.db or postgresql+psycopg://user@host/db (the latter needs the extra "
            "headstart[postgres])"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
    return engine


def _tune_sqlite(connection: Any, _: object) -> None:
    # Write-ahead: readers (the page) never block the turn that writes.
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _row_of(record: DecisionRecord) -> dict[str, Any]:
    decision = record.decision
    turn = record.past_turn()
    return {
        "id": decision.id,
        "namespace": decision.endpoint.namespace,
        "name": decision.endpoint.name,
        "decided_at": decision.decided_at.timestamp(),
        "recommended": None if turn is None else turn.recommended,
        "current_replicas": None if turn is None else turn.current,
        "ordered": None if turn is None else turn.ordered,
        "standing": None if turn is None else turn.standing,
        "mode": PROMOTED if turn is not None and turn.promoted else decision.mode.value,
        "hold_scale_in_until": _epoch(decision.hold_scale_in_until),
        "record": json.dumps(record.as_row()),
    }


def _epoch(when: datetime | None) -> float | None:
    return None if when is None else when.timestamp()


def _time(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
