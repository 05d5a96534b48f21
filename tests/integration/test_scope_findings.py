"""Programs that waste what a scope shows, and the same programs with the fix: the finding is there, and is gone."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from clock import stop_clock
from counted import watching
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import querywatch

LIMIT_S = 0.02
LARGE = 200


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]


class Shop:
    """An engine with a table of rows, and what a program does while it needs no database."""

    def __init__(self, url, clock):
        self.url = url
        self.work = lambda: clock.advance(1.0)
        self.engine = sa.create_engine(url, pool_size=1, max_overflow=0, pool_timeout=LIMIT_S)
        Base.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(sa.insert(Order), [{"id": number, "note": "n"} for number in range(1, LARGE + 1)])


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request, tmp_path, monkeypatch):
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'shop.db'}" if is_sqlite else request.getfixturevalue("postgres_database")
    shop = Shop(url, stop_clock(monkeypatch))
    yield shop
    shop.engine.dispose()


def select_star(shop):
    with shop.engine.connect() as connection:
        connection.execute(sa.text("SELECT * FROM orders WHERE id > :id"), {"id": 50}).all()


def select_named(shop):
    with shop.engine.connect() as connection:
        connection.execute(sa.text("SELECT note FROM orders WHERE id > :id"), {"id": 50}).all()


def fetch_all(shop):
    with Session(shop.engine) as session:
        session.scalars(sa.select(Order)).all()


def fetch_pages(shop):
    with Session(shop.engine) as session:
        last = 0
        while orders := session.scalars(sa.select(Order).where(Order.id > last).order_by(Order.id).limit(50)).all():
            last = orders[-1].id


def fetch_as_they_come(shop):
    with Session(shop.engine) as session:
        for _order in session.scalars(sa.select(Order).execution_options(yield_per=50)):
            pass


def fetch_iterating(shop):
    with shop.engine.connect() as connection:
        for _row in connection.execution_options(yield_per=50).execute(sa.text("SELECT id FROM orders")):
            pass


def work_in_a_transaction(shop):
    with Session(shop.engine) as session:
        order = session.get(Order, 1)
        shop.work()
        order.note = "done"
        session.commit()


def work_before_the_transaction(shop):
    shop.work()
    with Session(shop.engine) as session:
        session.get(Order, 1).note = "done"
        session.commit()


def work_after_a_commit(shop):
    with Session(shop.engine) as session:
        session.get(Order, 1)
        session.commit()
        shop.work()
        session.get(Order, 2)


def take_two_of_one(shop):
    with shop.engine.connect(), pytest.raises(sa.exc.TimeoutError):
        shop.engine.connect()


def take_two_of_two(shop):
    larger = sa.create_engine(shop.url, pool_size=2, max_overflow=0, pool_timeout=LIMIT_S)
    querywatch.install(larger)
    with larger.connect(), larger.connect():
        pass
    querywatch.uninstall(larger)
    larger.dispose()


def ask_thrice(shop):
    with Session(shop.engine) as session:
        for kind in (sa.func.min, sa.func.max, sa.func.count):
            session.scalar(sa.select(kind(Order.id)))


def ask_once(shop):
    with Session(shop.engine) as session:
        session.execute(sa.select(sa.func.min(Order.id), sa.func.max(Order.id), sa.func.count(Order.id))).one()


def find(shop, program):
    settings = {"large_result_rows": LARGE, "pool_wait_s": LIMIT_S, "max_queries": 2, "long_transaction_s": 0.5}
    with watching(shop.engine, **settings) as monitor:
        with querywatch.watch("job"):
            program(shop)
        assert monitor.flush(60)
        # Each program is about one of them; paging, for one, is paid with statements.
        return [finding for finding in monitor.findings() if program is ask_thrice or finding.code != "scope-budget"]


@pytest.mark.parametrize(
    ("program", "code", "subject", "fix_kind"),
    [
        pytest.param(select_star, "select-star", "orders", "name_columns", id="select-star"),
        pytest.param(fetch_all, "large-result", "orders", "paginate", id="large-result"),
        pytest.param(work_in_a_transaction, "long-transaction", "job", "shorten", id="long-transaction"),
        pytest.param(take_two_of_one, "pool-wait", "job", "pool_size", id="pool-wait"),
        pytest.param(ask_thrice, "scope-budget", "job", "none", id="scope-budget"),
    ],
)
def test_a_waste_is_found(shop, program, code, subject, fix_kind):
    [finding] = find(shop, program)
    assert (finding.code, finding.kind, finding.subject, finding.fix_kind) == (code, None, subject, fix_kind)
    if code != "scope-budget":
        assert finding.call_site.function == program.__name__


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(select_named, id="name_columns"),
        pytest.param(fetch_pages, id="paginate"),
        pytest.param(fetch_as_they_come, id="paginate-an-export"),
        pytest.param(fetch_iterating, id="paginate-a-text"),
        pytest.param(work_before_the_transaction, id="shorten-before"),
        pytest.param(work_after_a_commit, id="shorten-after"),
        pytest.param(take_two_of_two, id="pool_size"),
        pytest.param(ask_once, id="none"),
    ],
)
def test_the_fix_ends_it(shop, program):
    assert find(shop, program) == []
