"""What drivers, pools, tools and the database's own catalog send again and again: nobody's waste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import MetaData, Sequence, func, insert, inspect, literal_column, select, text
from sqlalchemy.exc import IntegrityError

from accuracy.expectation import finds_nothing, given
from accuracy.models import Base, Country, Order, Tag, User

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session

DUPLICATE, CORE, WRITES = "duplicate-query", "n-plus-one/core_loop", "write-loop"
_TABLES = tuple(Base.metadata.tables.values())[:10]


@finds_nothing(DUPLICATE)
@given(engine={"pool_pre_ping": True}, scoped=True)
def pool_pre_ping(engine: Engine) -> None:
    for table in _TABLES:
        with engine.connect() as connection:
            connection.execute(select(func.count()).select_from(table)).scalar()


@finds_nothing(DUPLICATE)
def ping_of_ones_own(engine: Engine) -> None:
    for _ in range(10):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))


@finds_nothing(DUPLICATE)
@given(databases=("sqlite",))
def pragma(connection: Connection) -> None:
    for _ in range(10):
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.exec_driver_sql("PRAGMA user_version").scalar()


@finds_nothing(CORE)
@given(databases=("sqlite",))
def sqlite_catalog(connection: Connection) -> None:
    for table in _TABLES:
        connection.execute(text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table.name}).scalar()


@finds_nothing(CORE)
@given(databases=("postgresql",))
def postgresql_catalog(connection: Connection) -> None:
    for table in _TABLES:
        connection.execute(text("SELECT relpages FROM pg_class WHERE relname = :name"), {"name": table.name}).scalar()
        connection.execute(
            text("SELECT column_name FROM information_schema.columns WHERE table_name = :name"), {"name": table.name}
        ).all()


@finds_nothing(DUPLICATE)
@given(databases=("postgresql",))
def settings_of_the_connection(connection: Connection) -> None:
    for _ in range(10):
        connection.execute(text("SET LOCAL statement_timeout = 1000"))
        connection.execute(text("SHOW statement_timeout")).scalar()
        connection.execute(text("SELECT set_config('application_name', 'shop', true)")).scalar()


@finds_nothing(CORE)
def reflection_table_by_table(connection: Connection) -> None:
    for table in _TABLES:
        inspect(connection).get_columns(table.name)


@finds_nothing(CORE)
def reflection_of_everything(connection: Connection) -> None:
    MetaData().reflect(connection)


@finds_nothing(CORE)
def questions_whether_tables_exist(connection: Connection) -> None:
    for table in _TABLES:
        assert inspect(connection).has_table(table.name)


@finds_nothing(WRITES)
def create_all_twice(connection: Connection) -> None:
    Base.metadata.create_all(connection)
    Base.metadata.create_all(connection)


@finds_nothing(DUPLICATE)
@given(databases=("postgresql",))
def sequence(connection: Connection) -> None:
    for _ in range(10):
        connection.scalar(Sequence("tags_id_seq"))


@finds_nothing(DUPLICATE)
@given(databases=("postgresql",))
def sequence_by_text(connection: Connection) -> None:
    for _ in range(10):
        connection.scalar(text("SELECT nextval('tags_id_seq')"))


@finds_nothing(DUPLICATE)
def the_databases_clock(connection: Connection) -> None:
    for _ in range(10):
        connection.scalar(select(func.current_timestamp()))


@finds_nothing(DUPLICATE)
def transactions_without_a_statement_of_their_own(engine: Engine) -> None:
    for number in range(10):
        with engine.begin() as connection:
            connection.scalar(select(literal_column(str(number))))


@finds_nothing(WRITES)
def savepoints_around_batches(connection: Connection) -> None:
    for batch in range(10):
        with connection.begin_nested():
            connection.execute(insert(Tag), [{"name": f"{batch}/{number}"} for number in range(5)])


@finds_nothing(WRITES)
def savepoint_for_each_row_that_may_fail(session: Session) -> None:
    # An import that leaves out what is there already: each row stands or falls by itself.
    for number in range(10):
        try:
            with session.begin_nested():
                session.add(Tag(name=f"tag {number}" if number % 2 else f"new {number}"))
        except IntegrityError:
            continue


@finds_nothing(DUPLICATE)
def savepoints_without_writes(session: Session) -> None:
    for model in (User, Order, Country, Tag):
        with session.begin_nested(), session.begin_nested():
            session.scalar(select(func.count()).select_from(model))
