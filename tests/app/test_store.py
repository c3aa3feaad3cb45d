"""What the store keeps, and that a restart loses none of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, create_engine, inspect, text

from scaler.adapters.store.store import Learned, SqlStore
from scaler.cycle import Cycle
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Mode
from scaler.domain.replicas import StartupObservation
from scaler.errors import ClusterUnavailable, SettingsError, StoreUnavailable, UnknownVersion
from tests.app.fakes import MORNING, FakeClock, FakePolicies, FakeSource, FakeTarget, PlainAdvisor, a_policy

LIMITS = [{"type": "Fraction", "value": 1.0, "period": "15s"}]
CHAT = EndpointId("prod", "chat")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


Opener = Callable[[str], SqlStore]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens stores that are closed after the test."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(closing(SqlStore.open(url)))


@contextmanager
def raw(url: str) -> Iterator[Connection]:
    """One transaction beside the store."""
    engine = create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def a_cycle(store: SqlStore, clock: FakeClock, source: FakeSource, target: FakeTarget, **spec: object) -> Cycle:
    policies = FakePolicies([a_policy(**spec)])
    return Cycle(clock=clock, policies=policies, source=source, target=target, advisor=PlainAdvisor(), log=store)


def counts(connection: Connection, decision: str) -> tuple[int | None, ...]:
    columns = "SELECT recommended, current_replicas, ordered FROM headstart_decisions WHERE id = :id"
    return tuple(connection.execute(text(columns), {"id": decision}).one())


def test_a_restart_keeps_the_stabilisation_history(url: str, opened: Opener) -> None:
    """Demand falls; the window of five minutes still holds the replicas of before, also in a new process."""
    clock, source, target = FakeClock(), FakeSource(demand=12.0), FakeTarget()
    behavior = {"scaleDown": {"stabilizationWindow": "5m", "policies": LIMITS}}
    store = opened(url)
    a_cycle(store, clock, source, target, behavior=behavior).turn()
    before = target.replicas[CHAT]
    store.close()

    source.demand = 2.0
    clock.move(timedelta(minutes=1))
    reopened = opened(url)
    a_cycle(reopened, clock, source, target, behavior=behavior).turn()
    assert target.replicas[CHAT] == before
    clock.move(timedelta(minutes=5))
    a_cycle(reopened, clock, source, target, behavior=behavior).turn()
    assert target.replicas[CHAT] < before


def test_a_trigger_holds_on_across_a_restart(url: str, opened: Opener) -> None:
    clock, source, target = FakeClock(), FakeSource(), FakeTarget()
    store = opened(url)
    report = a_cycle(store, clock, source, target).turn()
    assert store.scale_in_held_until(CHAT, MORNING) is None
    held = report.records[0].decision
    object.__setattr__(held, "hold_scale_in_until", MORNING + timedelta(minutes=15))
    store.append(report.records)
    store.close()
    reopened = opened(url)
    assert reopened.scale_in_held_until(CHAT, MORNING) == MORNING + timedelta(minutes=15)
    assert reopened.scale_in_held_until(CHAT, MORNING - timedelta(seconds=1)) is None


def test_rows_are_read_as_they_were_recorded_newest_first(url: str, opened: Opener) -> None:
    clock, store = FakeClock(), opened(url)
    cycle = a_cycle(store, clock, FakeSource(), FakeTarget())
    reports = []
    for _ in range(3):
        reports.append(cycle.turn())
        clock.move()
    rows = store.last_rows(CHAT, 2)
    assert [row["id"] for row in rows] == [report.records[0].decision.id for report in reversed(reports[1:])]
    assert rows[0] == reports[2].records[0].as_row()
    assert store.recent_turns(CHAT, MORNING) == tuple(report.records[0].past_turn() for report in reports)
    assert store.endpoints() == [CHAT]


def test_recent_turns_reach_back_as_far_as_asked(url: str, opened: Opener) -> None:
    clock, store = FakeClock(), opened(url)
    cycle = a_cycle(store, clock, FakeSource(), FakeTarget())
    for _ in range(4):
        cycle.turn()
        clock.move()
    turns = store.recent_turns(CHAT, MORNING + timedelta(seconds=30))
    assert [turn.decided_at for turn in turns] == [MORNING + timedelta(seconds=30), MORNING + timedelta(seconds=45)]
    assert store.recent_turns(EndpointId("prod", "other"), MORNING) == ()


@pytest.mark.parametrize(
    ("label", "mode", "acted", "promoted"),
    [
        ("its gate had opened", Mode.OBSERVE, Mode.ENFORCE, True),
        ("it enforced", Mode.ENFORCE, Mode.ENFORCE, False),
        ("it observed", Mode.OBSERVE, Mode.OBSERVE, False),
    ],
)
def test_a_turn_of_a_promoted_policy_is_known_as_one(
    url: str, opened: Opener, label: str, mode: Mode, acted: Mode, promoted: bool
) -> None:
    store = opened(url)
    (record,) = a_cycle(store, FakeClock(), FakeSource(), FakeTarget()).turn().records
    policy = record.snapshot.policy
    policy = policy.model_copy(update={"spec": policy.spec.model_copy(update={"mode": mode})})
    snapshot = replace(record.snapshot, policy=policy)
    store.append([replace(record, snapshot=snapshot, decision=replace(record.decision, mode=acted))])
    assert store.recent_turns(CHAT, MORNING)[-1].promoted is promoted, label


def test_a_turn_that_knew_of_no_replicas_is_kept_and_not_looked_back_on(url: str, opened: Opener) -> None:
    clock, target, store = FakeClock(), FakeTarget(), opened(url)
    target.error = ClusterUnavailable("cluster: connection refused")
    a_cycle(store, clock, FakeSource(), target).turn()
    assert store.last_rows(CHAT, 1)[0]["final"] is None
    assert store.recent_turns(CHAT, MORNING) == ()
    with raw(url) as connection:
        assert counts(connection, store.last_rows(CHAT, 1)[0]["id"]) == (None, None, None)


def test_old_rows_are_pruned_and_young_ones_stay(url: str, opened: Opener) -> None:
    clock, store = FakeClock(), opened(url)
    cycle = a_cycle(store, clock, FakeSource(), FakeTarget())
    cycle.turn()
    clock.move(timedelta(days=2))
    cycle.turn()
    assert store.prune(MORNING + timedelta(days=1)) == 1
    assert len(store.last_rows(CHAT, 10)) == 1


def test_learned_state_comes_back_with_its_arrays(url: str, opened: Opener) -> None:
    store = opened(url)
    weights = np.arange(6, dtype=np.float64).reshape(2, 3)
    store.save_learned("prod/chat/choice", 1, Learned(document={"days": 3.5}, arrays={"weights": weights}), MORNING)
    store.save_learned("prod/chat/choice", 1, Learned(document={"days": 4.0}, arrays={"weights": weights}), MORNING)
    found = opened(url).load_learned("prod/chat/choice", 1)
    assert found is not None
    assert found.document == {"days": 4.0}
    np.testing.assert_array_equal(found.arrays["weights"], weights)
    assert store.load_learned("prod/other/choice", 1) is None


def test_learned_state_of_another_version_is_refused(url: str, opened: Opener) -> None:
    store = opened(url)
    store.save_learned("prod/chat/choice", 1, Learned(document={}), MORNING)
    with pytest.raises(UnknownVersion, match="has version 1, this release reads 2"):
        store.load_learned("prod/chat/choice", 2)


def test_a_store_of_another_schema_is_refused(url: str) -> None:
    SqlStore.open(url).close()
    with raw(url) as connection:
        connection.execute(text("UPDATE headstart_about SET value = '99' WHERE key = 'version'"))
    with pytest.raises(UnknownVersion, match="schema version 99, this release reads"):
        SqlStore.open(url)


VERSION_1 = """
DROP TABLE headstart_decisions;
CREATE TABLE headstart_decisions (
    id VARCHAR(600) NOT NULL, namespace VARCHAR(253) NOT NULL, name VARCHAR(253) NOT NULL,
    decided_at DOUBLE PRECISION NOT NULL, recommended INTEGER NOT NULL, current_replicas INTEGER NOT NULL,
    ordered INTEGER NOT NULL, mode VARCHAR(16) NOT NULL, hold_scale_in_until DOUBLE PRECISION, record TEXT NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX headstart_decisions_by_endpoint ON headstart_decisions (namespace, name, decided_at);
INSERT INTO headstart_decisions VALUES ('silent', 'prod', 'chat', 1772409600, -1, -1, -1, 'Enforce', NULL, '{"n": 1}');
INSERT INTO headstart_decisions VALUES ('known', 'prod', 'chat', 1772409615, 4, 3, 4, 'Enforce', NULL, '{"n": 2}');
UPDATE headstart_about SET value = '1' WHERE key = 'version'
"""


def a_store_of_version_1(url: str) -> None:
    SqlStore.open(url).close()
    with raw(url) as connection:
        for statement in VERSION_1.split(";"):
            connection.execute(text(statement))


def test_a_store_of_version_1_keeps_its_rows_and_what_was_not_known_is_null(url: str) -> None:
    a_store_of_version_1(url)
    for _ in range(2):  # the second time there is nothing left to do
        with closing(SqlStore.open(url)) as store:
            assert [row["n"] for row in store.last_rows(CHAT, 5)] == [2, 1]
            assert [turn.ordered for turn in store.recent_turns(CHAT, datetime.fromtimestamp(0, UTC))] == [4]
    with raw(url) as connection:
        assert counts(connection, "silent") == (None, None, None)


def test_a_migrated_table_is_that_of_a_new_store(tmp_path: Path, url: str) -> None:
    a_store_of_version_1(url)
    new = f"sqlite:///{tmp_path}/new.db"
    found = []
    for one in (url, new):
        SqlStore.open(one).close()
        with raw(one) as connection:
            seen = inspect(connection)
            columns = [(column["name"], column["nullable"]) for column in seen.get_columns("headstart_decisions")]
            indexes, key = seen.get_indexes("headstart_decisions"), seen.get_pk_constraint("headstart_decisions")
            found.append((seen.get_table_names(), columns, indexes, key))
    assert found[0] == found[1]


def test_a_migration_that_fails_leaves_the_store_as_it_was(url: str, opened: Opener) -> None:
    a_store_of_version_1(url)
    with raw(url) as connection:
        connection.execute(text("CREATE VIEW headstart_decisions_new AS SELECT 1"))  # in the way of the new table
    with pytest.raises(StoreUnavailable, match="headstart_decisions_new"):
        SqlStore.open(url)
    with raw(url) as connection:
        connection.execute(text("DROP VIEW headstart_decisions_new"))
    assert len(opened(url).last_rows(CHAT, 5)) == 2


def test_finished_starts_are_kept_once_and_running_ones_are_not(url: str, opened: Opener) -> None:
    store = opened(url)
    done = StartupObservation(ordered_at=MORNING, ready_at=MORNING + timedelta(seconds=140))
    running = StartupObservation(ordered_at=MORNING + timedelta(seconds=30))
    failed = StartupObservation(ordered_at=MORNING + timedelta(seconds=45), failed=True)
    for minute in (3, 4):
        store.keep_startups(CHAT, [done, running, failed], MORNING + timedelta(minutes=minute))
    assert list(opened(url).startups(CHAT)) == [done, failed]


@pytest.mark.parametrize(
    "url", ["not a url", "nosuchdatabase://x", "sqlite:////no/such/folder/x.db"], ids=["words", "dialect", "folder"]
)
def test_a_url_that_names_no_usable_store_is_one_clear_error(url: str) -> None:
    with pytest.raises((SettingsError, StoreUnavailable)):
        SqlStore.open(url)


def test_a_file_that_cannot_be_opened_says_what_is_needed() -> None:
    with pytest.raises(StoreUnavailable, match=r"unable to open .*; need an SQLite file, or none yet, in a folder"):
        SqlStore.open("sqlite:////proc/nowhere/a.db")


def test_commands_that_only_read_make_no_store(tmp_path: Path) -> None:
    file = tmp_path / "none.db"
    with pytest.raises(SettingsError, match=r"none\.db does not exist"):
        SqlStore.open(f"sqlite:///{file}", must_exist=True)
    assert not file.exists()


def test_a_broken_store_says_what_was_being_done(url: str, opened: Opener) -> None:
    store = opened(url)
    store.check_writable()
    with raw(url) as connection:
        connection.execute(text("DROP TABLE headstart_decisions"))
    with pytest.raises(StoreUnavailable, match="recent turns of prod/chat"):
        store.recent_turns(CHAT, MORNING)


def test_postgresql_keeps_the_same(postgres_url: str) -> None:
    with closing(SqlStore.open(postgres_url)) as store:
        report = a_cycle(store, FakeClock(), FakeSource(), FakeTarget()).turn()
        store.append(report.records)
        assert store.last_rows(CHAT, 1)[0] == report.records[0].as_row()
        store.prune(MORNING + timedelta(days=1))


def test_postgresql_is_brought_up_from_version_1(postgres_url: str) -> None:
    a_store_of_version_1(postgres_url)
    with closing(SqlStore.open(postgres_url)) as store:
        assert [row["n"] for row in store.last_rows(CHAT, 5)] == [2, 1]
        store.prune(MORNING + timedelta(days=1))
        a_cycle(store, FakeClock(), FakeSource(), FakeTarget(error=ClusterUnavailable("cluster: refused"))).turn()
        assert store.last_rows(CHAT, 1)[0]["final"] is None
        store.prune(MORNING + timedelta(days=1))
