"""What a scope is said to have done."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa
from counted import describe, scoped, watching
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    WriteOnlyMapped,
    immediateload,
    mapped_column,
    relationship,
    selectinload,
)

from querywatch.config import Config
from querywatch.samples import SAMPLES_LIMIT, OpenScope
from querywatch.scope_record import ScopeTotals, is_interesting


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    bio: Mapped[str | None] = mapped_column(deferred=True)
    orders: Mapped[list[Order]] = relationship(back_populates="user")
    notes: WriteOnlyMapped[Note] = relationship()


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    total: Mapped[int] = mapped_column(default=1)
    user: Mapped[User] = relationship(back_populates="orders")


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))


class Folder(Base):
    __tablename__ = "folders"
    id: Mapped[int] = mapped_column(primary_key=True)
    files: Mapped[list[File]] = relationship(cascade="all, delete-orphan")


class File(Base):
    __tablename__ = "files"
    id: Mapped[int] = mapped_column(primary_key=True)
    folder_id: Mapped[int] = mapped_column(sa.ForeignKey("folders.id"))


USERS = 7


@pytest.fixture
def engine():
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(1, USERS + 1):
            session.add(User(id=number, email=f"{number}@shop", orders=[Order(), Order()]))
            session.add(Folder(id=number, files=[File(), File()]))
        session.commit()
    yield engine
    engine.dispose()


def test_a_lazy_load_knows_its_relationship_and_the_line_that_loaded_the_parents(engine):
    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        users = session.scalars(sa.select(User)).all()
        for user in users:
            len(user.orders)
        selected, loaded = describe(scope, monitor).queries
    assert (selected.relationship, selected.kind, selected.calls) == (None, None, 1)
    assert (loaded.relationship, loaded.kind, loaded.to_one) == ("User.orders", "lazy_load", (False,))
    assert (loaded.calls, loaded.contexts, loaded.looked_up) == (USERS, USERS, ("user_id",))
    assert loaded.parent_site == selected.call_site
    assert loaded.call_site.line == selected.call_site.line + 2
    assert loaded.total_s <= loaded.calls * loaded.max_s


def test_to_one_is_told(engine):
    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        for order in session.scalars(sa.select(Order)).all():
            session.expire(order.user)
            session.expunge(order.user)
        loaded = next(query for query in describe(scope, monitor).queries if query.relationship)
    assert (loaded.relationship, loaded.to_one) == ("Order.user", (True,))


def test_the_calls_of_two_lines_are_told_apart_and_add_up(engine):
    with watching(engine) as monitor, scoped() as scope, engine.connect() as connection:
        for number in range(30):
            connection.execute(sa.select(User.id).where(User.id == number)).all()
        for number in range(10):
            connection.execute(sa.select(User.id).where(User.id == number)).all()
        record = describe(scope, monitor)
    assert record.calls == 40
    assert len({query.call_site for query in record.queries}) == 2
    assert sum(query.total_s for query in record.queries) == pytest.approx(record.total_s)


def examine(engine, work):
    """Run *work* in a session, and return its queries in the order of their first execution."""
    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        work(session)
        return describe(scope, monitor)


# -- who asked, and why


def read_each(session):
    for user in session.scalars(sa.select(User)):
        len(user.orders)


def load_each_at_once(session):
    session.scalars(sa.select(User).options(immediateload(User.orders))).all()


def load_in_chunks(session):
    session.scalars(sa.select(User).options(selectinload(User.orders)).execution_options(yield_per=2)).all()


def delete_each(session):
    for folder in session.scalars(sa.select(Folder)).all():
        session.delete(folder)


def merge_each(session):
    for number in range(1, USERS + 1):
        session.merge(User(id=number, orders=[]))


def read_each_write_only(session):
    for user in session.scalars(sa.select(User)).all():
        session.scalars(user.notes.select()).all()


def get_each(session):
    for number in range(1, USERS + 1):
        session.get(User, number)


def select_each(session):
    for number in range(1, USERS + 1):
        session.scalars(sa.select(User).where(User.id == number)).one()


def execute_each(session):
    for number in range(1, USERS + 1):
        session.execute(sa.text("SELECT email FROM users WHERE id = :id"), {"id": number})


def read_each_deferred(session):
    for user in session.scalars(sa.select(User)).all():
        assert user.bio is None


def read_each_after_a_commit(session):
    users = session.scalars(sa.select(User)).all()
    session.commit()
    for user in users:
        assert user.email


def refresh_each(session):
    for user in session.scalars(sa.select(User)).all():
        session.refresh(user)


def refresh_each_relationship(session):
    for user in session.scalars(sa.select(User)).all():
        session.refresh(user, ["orders"])


def refresh_each_deferred(session):
    for user in session.scalars(sa.select(User)).all():
        session.refresh(user, ["bio"])


@pytest.mark.parametrize(
    ("work", "kind", "act", "is_orm_load"),
    [
        pytest.param(read_each, "lazy_load", None, True, id="lazy-load"),
        pytest.param(load_each_at_once, "eager_loop", "immediate", True, id="immediateload"),
        pytest.param(load_in_chunks, "eager", "immediate", True, id="selectin"),
        pytest.param(delete_each, "eager_loop", "cascade", True, id="cascade"),
        pytest.param(read_each_write_only, "lazy_load", None, False, id="write-only"),
        pytest.param(get_each, "get", "get", False, id="get"),
        pytest.param(select_each, None, None, False, id="select"),
        pytest.param(execute_each, None, None, False, id="text"),
        pytest.param(read_each_deferred, "deferred", None, True, id="deferred"),
        pytest.param(read_each_after_a_commit, "refresh", None, True, id="commit"),
        pytest.param(refresh_each, "refresh", "refresh", False, id="refresh"),
        pytest.param(refresh_each_deferred, "refresh", "refresh", False, id="refresh-of-a-deferred-column"),
    ],
)
def test_why_a_statement_was_repeated(engine, work, kind, act, is_orm_load):
    most = max(examine(engine, work).queries, key=lambda query: query.calls)
    assert (most.kind, most.act, most.is_orm_load) == (kind, act, is_orm_load)
    assert most.calls >= USERS - 4
    assert most.call_site.function == work.__name__


def test_a_merge_loads_the_object_by_key_and_its_collection_in_a_loop(engine):
    queries = {query.kind: query for query in examine(engine, merge_each).queries if query.act == "merge"}
    assert set(queries) == {"get", "eager_loop"}
    assert {query.contexts for query in queries.values()} == {USERS}


def test_a_refresh_of_a_relationship_is_no_refresh_of_its_object(engine):
    kinds = {query.kind for query in examine(engine, refresh_each_relationship).queries}
    assert "refresh" not in kinds
    assert "eager_loop" in kinds


def test_the_attribute_that_was_read_is_named(engine):
    query = max(examine(engine, read_each_deferred).queries, key=lambda query: query.calls)
    assert (query.attribute, query.entity, query.cause) == ("User.bio", "User", None)


def test_lines_that_called_the_function_are_told(engine):
    def find(session, number):
        return session.get(User, number)

    def work(session):
        find(session, 1)  # whose line nobody asks for yet
        find(session, 2)
        find(session, 3)
        for number in range(4, 8):
            find(session, number)

    [query] = examine(engine, work).queries
    assert (query.call_site.function, len(query.outer_sites)) == ("find", 3)
    assert {site.function for site in query.outer_sites} == {"work"}


@pytest.mark.parametrize("where", ["here", "caller", "retry", "nowhere"])
def test_a_function_that_sleeps_between_its_statements_waits(engine, where):
    def ask(session):
        session.execute(sa.text("SELECT 1 FROM users"))

    def ask_and_sleep(session):
        session.execute(sa.text("SELECT 1 FROM users"))
        time.sleep(0)

    def ask_and_let_another_sleep(session):
        ask(session)
        time.sleep(0)

    def tried_again(work):
        work()
        time.sleep(0)

    run = {
        "here": ask_and_sleep,
        "caller": ask_and_let_another_sleep,
        "retry": lambda session: tried_again(lambda: session.execute(sa.text("SELECT 1 FROM users"))),
        "nowhere": ask,
    }[where]

    def work(session):
        for _ in range(6):
            run(session)

    [query] = examine(engine, work).queries
    assert query.waits is (where != "nowhere")


# -- what there was to send


def one_flush_of_versions(session):
    for order in session.scalars(sa.select(Order)).all():
        # An expression: SQLAlchemy sends an UPDATE for each row.
        order.total = Order.total + 1
    session.flush()


def a_flush_for_each(session):
    for order in session.scalars(sa.select(Order)).all():
        order.total += 1
        session.flush()


def one_executemany(session):
    session.execute(sa.insert(Order), [{"total": number} for number in range(50)])


def rows_in_one_text(session):
    for _ in range(6):
        session.execute(sa.text("INSERT INTO orders (total) VALUES (1), (2), (3)"))


def values_of_several_rows(session):
    for _ in range(6):
        session.execute(sa.insert(Order).values([{"total": 1}, {"total": 2}]))


def one_row_each(session):
    for number in range(6):
        session.execute(sa.insert(Order), {"total": number})


def executemany_of_one_row(session):
    for number in range(6):
        session.execute(sa.insert(Order), [{"total": number}])


@pytest.mark.parametrize(
    ("work", "calls", "contexts", "batches"),
    [
        pytest.param(one_flush_of_versions, 2 * USERS, 1, 0, id="a-flush-is-one-act"),
        pytest.param(a_flush_for_each, 2 * USERS, 2 * USERS, 0, id="each-flush-is-one"),
        pytest.param(one_executemany, 1, 1, 1, id="executemany"),
        pytest.param(rows_in_one_text, 6, 6, 6, id="rows-in-a-text"),
        pytest.param(values_of_several_rows, 6, 6, 6, id="rows-in-values"),
        pytest.param(one_row_each, 6, 6, 0, id="one-row-each"),
        pytest.param(executemany_of_one_row, 6, 6, 0, id="executemany-of-one-row"),
    ],
)
def test_acts_and_batches_of_writes(engine, work, calls, contexts, batches):
    written = next(query for query in examine(engine, work).queries if query.fingerprint.operation != "SELECT")
    assert (written.calls, written.contexts, written.batches) == (calls, contexts, batches)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        pytest.param(
            lambda s: s.scalars(sa.select(Order)).all(),
            {"max_rows": 14, "rows": 14, "is_text": False, "streamed": False, "columns": None},
            id="select",
        ),
        pytest.param(
            lambda s: s.execute(sa.text("SELECT * FROM orders")).all(),
            {"max_rows": 14, "rows": 14, "is_text": True, "columns": 3},
            id="text",
        ),
        pytest.param(
            lambda s: s.connection().exec_driver_sql("SELECT id, total FROM orders").all(),
            {"max_rows": 14, "is_text": True, "columns": 2},
            id="driver-sql",
        ),
        pytest.param(
            lambda s: list(s.scalars(sa.select(Order).execution_options(yield_per=5))),
            {"rows": 14, "streamed": True},
            id="yield-per",
        ),
        pytest.param(
            lambda s: list(s.execute(sa.text("SELECT id FROM orders").execution_options(stream_results=True))),
            {"streamed": True},
            id="stream-results",
        ),
        pytest.param(
            lambda s: [s.scalars(sa.select(User).where(User.id == n).with_for_update()).all() for n in (1, 2)],
            {"locks_rows": True, "keys": (("id",), ("email",)), "rows": 2, "max_rows": 1},
            id="for-update",
        ),
        pytest.param(
            lambda s: [s.scalars(sa.select(User).where(User.id == n)).all() for n in (1, 2)],
            {"locks_rows": False, "keys": (("id",), ("email",)), "looked_up": ("id",), "same_parameters": False},
            id="by-key",
        ),
        pytest.param(
            lambda s: [s.scalars(sa.select(User).where(User.id == 1)).all() for _ in range(2)],
            {"looked_up": (), "same_parameters": True},
            id="the-same-again",
        ),
        pytest.param(
            lambda s: s.execute(sa.text("SELECT name FROM sqlite_master")).all(),
            {"is_housekeeping": True},
            id="catalog",
        ),
        pytest.param(lambda s: s.execute(sa.text("PRAGMA foreign_keys")).all(), {"is_housekeeping": True}, id="pragma"),
        pytest.param(lambda s: s.execute(sa.select(User.id)).all(), {"is_housekeeping": False}, id="no-housekeeping"),
    ],
)
def test_what_is_told_of_a_statement(engine, work, expected):
    [query] = examine(engine, work).queries
    assert {name: getattr(query, name) for name in expected} == expected


# -- in which order


def test_steps_are_in_the_order_they_happened(engine):
    def work(session):
        for number in (1, 2):
            session.get(User, number)
            session.execute(sa.update(Order).values(total=number))
            session.commit()
        session.execute(sa.update(Order).values(total=number))
        session.rollback()

    record = examine(engine, work)
    texts = {query.statement: query.fingerprint.operation for query in record.queries}
    steps = [texts.get(step.statement, step.kind) for step in record.steps]
    # A connection that is given back is rolled back.
    assert steps == ["SELECT", "UPDATE", "commit", "rollback"] * 2 + ["UPDATE", "rollback"]
    assert record.commits == 2


def test_a_flush_is_one_step_however_many_rows(engine):
    record = examine(engine, one_flush_of_versions)
    updates = [step for step in record.steps if step.statement.startswith("UPDATE")]
    # Of the first row nobody looks who asked for it.
    assert len(updates) <= 2


# -- what is worth a look


@pytest.mark.parametrize(
    ("text", "settings", "times", "expected"),
    [
        pytest.param("SELECT id FROM orders", {}, 1, False, id="one-statement"),
        pytest.param("SELECT id FROM orders", {}, 2, True, id="one-statement-twice"),
        pytest.param("SELECT * FROM orders", {}, 1, True, id="star"),
        pytest.param("SELECT count(*) FROM orders", {}, 1, False, id="count"),
        pytest.param("SELECT id FROM orders", {"large_result_rows": 14}, 1, True, id="large-result"),
        pytest.param("SELECT id FROM orders", {"large_result_rows": 15}, 1, False, id="not-so-large"),
        pytest.param("SELECT id FROM orders", {"max_db_s": 1e-9}, 1, True, id="over-its-time"),
        pytest.param("SELECT id FROM orders", {"max_db_s": 3600.0, "max_queries": 1}, 1, False, id="within-its-budget"),
    ],
)
def test_most_scopes_are_let_go(engine, text, settings, times, expected):
    with watching(engine) as monitor, scoped() as scope, engine.connect() as connection:
        for _ in range(times):
            connection.execute(sa.text(text)).all()
        describe(scope, monitor)
        assert is_interesting(scope, scope.list_samples(), Config(**settings)) is expected


def test_a_budget_of_its_own_is_worth_a_look(engine):
    with watching(engine) as monitor, scoped() as scope, engine.connect() as connection:
        for column in ("id", "total"):
            connection.execute(sa.text(f"SELECT {column} FROM orders")).all()
        describe(scope, monitor)
        assert not is_interesting(scope, scope.list_samples(), Config())
        scope.max_queries = 1
        assert is_interesting(scope, scope.list_samples(), Config())


def test_what_is_let_go_of_a_long_scope_still_counts(engine, monkeypatch):
    monkeypatch.setattr("querywatch.scope_record._STRAGGLER_LIMIT_S", 0.0)
    monkeypatch.setattr("querywatch.capture.accounting.SAMPLES_LIMIT", 100)
    assert SAMPLES_LIMIT > 100

    def run(connection):
        connection.execute(sa.text("INSERT INTO orders (total) VALUES (1), (2)"))

    with watching(engine) as monitor, scoped() as scope, engine.connect() as connection:
        for part in range(5):
            for _ in range(100):
                run(connection)
            if part % 2:
                run(connection)
            [query] = describe(scope, monitor).queries
        assert len(scope.list_samples()) <= 3
    assert (query.calls, query.contexts, query.batches) == (502, 502, 502)
    assert len(query.outer_sites) == 2


def test_totals_by_name_are_bounded(monkeypatch):
    monkeypatch.setattr(ScopeTotals, "_LIMIT", 2)
    totals = ScopeTotals()
    for name in ("a", "b", "c", "d", "a"):
        totals.add(OpenScope(name, "request"), [])
    assert {stats.name: stats.scopes for stats in totals.list()} == {"a": 2, "b": 1, "other": 2}
