"""The tables. Times are epoch seconds (UTC) as floats: the same bytes in SQLite and PostgreSQL."""

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

STORE_VERSION = 3
"""Bump when a column changes its meaning or goes away, with a step in migrations.py: an older store is brought up when
it is opened, one that no step leads from is refused."""

metadata = MetaData()

about = Table(
    "headstart_about",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
)

decisions = Table(
    "headstart_decisions",
    metadata,
    Column("id", String(600), primary_key=True),
    Column("namespace", String(253), nullable=False),
    Column("name", String(253), nullable=False),
    Column("decided_at", Double, nullable=False),
    Column("recommended", Integer),  # these three null: the turn knew of no replicas
    Column("current_replicas", Integer),
    Column("ordered", Integer),
    Column("mode", String(16), nullable=False),
    Column("hold_scale_in_until", Double),
    Column("record", Text, nullable=False),  # DecisionRecord.as_row() as JSON
    Column("standing", Integer),  # null: not known, or not kept yet
    Index("headstart_decisions_by_endpoint", "namespace", "name", "decided_at"),
)

learned = Table(
    "headstart_learned",
    metadata,
    Column("key", String(600), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("saved_at", Double, nullable=False),
    Column("document", Text, nullable=False),
    Column("arrays", LargeBinary, nullable=False),  # numpy's npz, never pickle
)

startups = Table(
    "headstart_startups",
    metadata,
    Column("namespace", String(253), nullable=False),
    Column("name", String(253), nullable=False),
    Column("ordered_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),  # ready, or seen to have failed
    Column("scheduled_at", Double),
    Column("started_at", Double),
    Column("failed", Boolean, nullable=False),
    PrimaryKeyConstraint("namespace", "name", "ordered_at", "ended_at"),
)
