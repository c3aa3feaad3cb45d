"""What brings the tables of an older store up to those of this release, one version at a time."""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, MetaData, Table, insert, select, text, update

from scaler.adapters.store.tables import about

COUNTS = ("recommended", "current_replicas", "ordered")


def migrated(connection: Connection) -> str:
    """The version of the store after every step that is known was taken: all of them or, if one fails, none. Two
    processes that open an old store at once take each step once."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # its driver begins none before a change of a table
    key = about.c.key == "version"
    version = str(connection.scalar(select(about.c.value).where(key).with_for_update()))
    while version in STEPS:
        STEPS[version](connection)
        version = str(int(version) + 1)
    connection.execute(update(about).where(key).values(value=version))
    return version


def _unknown_counts_are_null(connection: Connection) -> None:
    """A turn that knew of no replicas was written as -1 where it is null now."""
    if connection.dialect.name == "sqlite":
        _rebuild_with_nullable_counts(connection)
    else:
        for name in COUNTS:
            connection.execute(text(f"ALTER TABLE headstart_decisions ALTER COLUMN {name} DROP NOT NULL"))
    for name in COUNTS:
        connection.execute(text(f"UPDATE headstart_decisions SET {name} = NULL WHERE {name} < 0"))


def _rebuild_with_nullable_counts(connection: Connection) -> None:
    """SQLite changes no column: the rows move to a new table, which takes the old one's name."""
    old = Table("headstart_decisions", MetaData(), autoload_with=connection)
    new = old.to_metadata(MetaData(), name="headstart_decisions_new")
    new.indexes.clear()  # their names are taken until the old table is gone
    for name in COUNTS:
        new.c[name].nullable = True
    new.create(connection)
    connection.execute(insert(new).from_select(old.c.keys(), select(old)))
    old.drop(connection)
    connection.execute(text("ALTER TABLE headstart_decisions_new RENAME TO headstart_decisions"))
    for index in old.indexes:
        index.create(connection)


def _what_stood_is_kept(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE headstart_decisions ADD COLUMN standing INTEGER"))


STEPS: Mapping[str, Callable[[Connection], None]] = {"1": _unknown_counts_are_null, "2": _what_stood_is_kept}
"""By the version that each brings up to the next."""
