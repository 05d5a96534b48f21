"""Which lines led to a statement, through the layers of an application, and what is no loop for it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from counted import describe, scoped, watching
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from querywatch.records import OUTER_SITES_LIMIT


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Repository:
    def __init__(self, session):
        self.session = session

    def find(self, name):
        return self.session.scalar(sa.select(User.id).where(User.name == name))

    def save(self, user):
        self.session.add(user)
        self.session.flush()


class Service:
    def __init__(self, session):
        self.repository = Repository(session)

    def find(self, name):
        return self.repository.find(name)

    def register(self, name):
        self.repository.save(User(name=name))


def find_in_a_loop(service):
    for name in "abcdef":
        service.find(name)


def find_each(service):
    service.find("a")
    service.find("b")
    service.find("c")
    service.find("d")
    service.find("e")
    service.find("f")


def register_each(service):
    service.register("a")
    service.register("b")
    service.register("c")
    service.register("d")
    service.register("e")
    service.register("f")


def register_in_a_loop(service):
    for name in "abcdef":
        service.register(name)


def register_in_many_loops(service):
    # No function of so many lines is worth writing here: the code says what each line is.
    source = "\n".join(["service.register('a')"] * (OUTER_SITES_LIMIT + 10))
    exec(compile(source, __file__.replace("test_layers", "seed"), "exec"), {"service": service})


@pytest.fixture
def engine():
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    ("program", "lines", "function", "found"),
    [
        # The first call of all is not asked who called it: one line less than there are.
        pytest.param(find_each, 5, "find_each", 0, id="found-from-a-line-each"),
        pytest.param(find_in_a_loop, 1, "Service.find", 1, id="found-in-a-loop"),
        pytest.param(register_each, 5, "register_each", 0, id="saved-from-a-line-each"),
        pytest.param(register_in_a_loop, 1, "Service.register", 1, id="saved-in-a-loop"),
        pytest.param(register_in_many_loops, OUTER_SITES_LIMIT, "<module>", 0, id="more-lines-than-are-kept"),
    ],
)
def test_the_lines_are_those_of_the_layer_where_they_differ(engine, program, lines, function, found):
    with watching(engine) as monitor, scoped() as scope, Session(engine) as session:
        program(Service(session))
        queries = [query for query in describe(scope, monitor).queries if query.outer_sites]
    [query] = queries
    assert (len(query.outer_sites), query.outer_sites[0].function) == (lines, function)
    assert query.call_site.function in {"Repository.find", "Repository.save"}
    assert len(monitor.findings()) == found
