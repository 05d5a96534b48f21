"""Results with more columns or rows than anybody reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, inspect, select, text

from accuracy.expectation import finds, finds_nothing, given
from accuracy.models import Order, Sample, User

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

STAR, LARGE = "select-star", "large-result"
samples = Sample.__table__


@finds("select-star", None, "users", fix="name_columns")
def star_in_a_text(connection: Connection) -> None:
    connection.execute(text("SELECT * FROM users WHERE id < 5")).all()


@finds("select-star", None, "users", fix="name_columns")
def star_sent_to_the_driver(connection: Connection) -> None:
    connection.exec_driver_sql("select * from users").all()


@finds("select-star", None, "orders", fix="name_columns")
def star_of_one_table_of_a_join(connection: Connection) -> None:
    connection.execute(text("SELECT o.*, u.name FROM orders o JOIN users u ON u.id = o.user_id")).all()


@finds("select-star", None, "users", fix="name_columns")
def star_with_a_session(session: Session) -> None:
    session.execute(text("SELECT * FROM users")).mappings().all()


@finds("select-star", None, "users", fix="name_columns")
def star_by_literal_column(connection: Connection) -> None:
    connection.execute(select(text("*")).select_from(User.__table__)).all()


@finds("select-star", None, "users", fix="name_columns")
async def async_star(session: AsyncSession) -> None:
    (await session.execute(text("SELECT * FROM users"))).all()


@finds_nothing(STAR)
def star_of_a_count(connection: Connection) -> None:
    connection.execute(text("SELECT count(*) FROM users")).all()


@finds_nothing(STAR)
def star_of_a_multiplication(connection: Connection) -> None:
    connection.execute(text("SELECT total * 2, id * total FROM orders")).all()


@finds_nothing(STAR)
def star_in_exists(connection: Connection) -> None:
    connection.execute(text("SELECT id FROM users u WHERE EXISTS (SELECT * FROM orders WHERE user_id = u.id)")).all()


@finds_nothing(STAR)
def star_of_named_columns(connection: Connection) -> None:
    connection.execute(text("WITH few AS (SELECT id, name FROM users) SELECT * FROM few")).all()


@finds_nothing(STAR)
def star_in_a_string(connection: Connection) -> None:
    connection.execute(text("SELECT id FROM users WHERE name <> 'SELECT * FROM users'")).all()


@finds_nothing(STAR)
def entities_and_tables_name_their_columns(session: Session) -> None:
    session.scalars(select(Order)).all()
    session.execute(select(User.__table__)).all()


@finds_nothing(STAR)
@given(databases=("sqlite",))
def star_of_the_catalog(connection: Connection) -> None:
    connection.execute(text("SELECT * FROM sqlite_master")).all()
    connection.execute(text("SELECT * FROM pragma_table_info('users')")).all()


@finds_nothing(STAR)
@given(databases=("postgresql",))
def star_of_the_postgresql_catalog(connection: Connection) -> None:
    connection.execute(text("SELECT * FROM pg_stat_activity")).all()
    connection.execute(text("SELECT * FROM information_schema.tables")).all()
    connection.execute(text("SELECT * FROM generate_series(1, 3)")).all()
    inspect(connection).get_indexes("users")


@finds("large-result", None, "samples", fix="paginate")
def all_rows_of_the_orm(session: Session) -> None:
    session.scalars(select(Sample)).all()


@finds("large-result", None, "samples", fix="paginate")
def all_rows_of_the_core(connection: Connection) -> None:
    connection.execute(select(samples.c.id)).all()


@finds("large-result", None, "samples", fix="paginate")
def all_rows_iterated_without_a_stream(session: Session) -> None:
    # Iterating does not stream: the driver has fetched every row before the first is seen.
    assert sum(1 for _ in session.execute(select(Sample.id))) > 10_000


@finds("large-result", None, "samples", fix="paginate")
def all_rows_of_a_legacy_query(session: Session) -> None:
    session.query(Sample).all()


@finds("large-result", None, "samples", fix="paginate")
def all_rows_of_a_text(connection: Connection) -> None:
    connection.execute(text("SELECT id, value FROM samples")).fetchall()


@finds("large-result", None, "samples", fix="paginate")
async def async_all_rows(session: AsyncSession) -> None:
    (await session.scalars(select(Sample))).all()


@finds("large-result", None, "orders", fix="paginate")
@given(settings={"large_result_rows": 50})
def more_rows_than_a_limit_of_ones_own(session: Session) -> None:
    session.scalars(select(Order)).all()


@finds_nothing(LARGE)
def one_row_for_many(connection: Connection) -> None:
    connection.execute(select(func.count(), func.sum(samples.c.value))).all()


@finds_nothing(LARGE)
def a_page_of_many(session: Session) -> None:
    session.scalars(select(Sample).order_by(Sample.id).limit(100)).all()


@finds_nothing(LARGE)
def many_rows_page_by_page(connection: Connection) -> None:
    last = 0
    page = select(samples.c.id).order_by(samples.c.id).limit(3_000)
    while rows := connection.scalars(page.where(samples.c.id > last)).all():
        last = rows[-1]


@finds_nothing(LARGE)
def first_of_many(session: Session) -> None:
    session.scalars(select(Sample).where(Sample.id <= 9_000)).first()
