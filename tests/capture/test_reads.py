"""What was loaded eagerly, what counts as a read of it, and that every class is given back as it was."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading

import pytest
import sqlalchemy as sa
from counted import watching
from fastapi import encoders
from sqlalchemy import ForeignKey, inspect, select
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    Session,
    aliased,
    contains_eager,
    immediateload,
    joinedload,
    lazyload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

import querywatch


class Model(DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)


class Country(Model):
    __tablename__ = "countries"


class Person(Model):
    __tablename__ = "people"
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    country_id: Mapped[int] = mapped_column(ForeignKey("countries.id"))
    country: Mapped[Country] = relationship()
    orders: Mapped[list[Order]] = relationship(cascade="all, delete-orphan", back_populates="person")
    notes: Mapped[list[Note]] = relationship()
    order_ids = association_proxy("orders", "id")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012

    @hybrid_property
    def spent(self):
        return sum(order.total for order in self.orders)


class Buyer(Person):
    __mapper_args__ = {"polymorphic_identity": "buyer"}  # noqa: RUF012


class Order(Model):
    __tablename__ = "orders"
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    total: Mapped[int] = mapped_column(default=1)
    person: Mapped[Person] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship()


class Item(Model):
    __tablename__ = "items"
    order_id: Mapped[int | None] = mapped_column(ForeignKey("orders.id"))
    order: Mapped[Order] = relationship(viewonly=True)


class Note(Model):
    __tablename__ = "notes"
    person_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"))


class Shelf(Model):
    __tablename__ = "shelves"
    country_id: Mapped[int] = mapped_column(ForeignKey("countries.id"))
    country: Mapped[Country] = relationship(lazy="joined")
    books: Mapped[list[Book]] = relationship(lazy="selectin")

    def to_dict(self):
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}


class Rack(Model):
    __tablename__ = "racks"
    country_id: Mapped[int] = mapped_column(ForeignKey("countries.id"))
    country: Mapped[Country] = relationship(lazy="joined")
    boxes: Mapped[list[Box]] = relationship(lazy="selectin")


class Box(Model):
    __tablename__ = "boxes"
    rack_id: Mapped[int] = mapped_column(ForeignKey("racks.id"))


class Book(Model):
    __tablename__ = "books"
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelves.id"))


def fill(session):
    for number in range(1, 9):
        session.add(Country(id=number))
        session.add(Person(id=number, kind="buyer", country_id=number, notes=[Note()]))
        session.add_all(Order(person_id=number, items=[Item()]) for _ in range(2))
        session.add(Shelf(id=number, country_id=number, books=[Book()]))
        session.add(Rack(id=number, country_id=number, boxes=[Box()]))
    session.commit()


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    Model.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    yield engine
    engine.dispose()


@pytest.fixture
def monitor(engine):
    with watching(engine, unused_eager_loads=1.0) as monitor:
        yield monitor


def unused(monitor):
    """Return the names of the relationships that were loaded for nothing."""
    assert monitor.flush(60)
    return [finding.subject for finding in monitor.findings() if finding.code == "unused-eager-load"]


def load(session, *options):
    return session.scalars(select(Person).options(*options)).unique().all()


WITH_ORDERS = selectinload(Person.orders)


# -- what is loaded and not read


def selectin(session):
    load(session, WITH_ORDERS)


def subquery(session):
    load(session, subqueryload(Person.orders))


def joined(session):
    load(session, joinedload(Person.orders))


def immediate(session):
    load(session, immediateload(Person.orders))


def second_level(session):
    [order.total for person in load(session, WITH_ORDERS.selectinload(Order.items)) for order in person.orders]


def second_level_by_a_join(session):
    [order.total for person in load(session, WITH_ORDERS.joinedload(Order.items)) for order in person.orders]


def one_of_two(session):
    [len(person.orders) for person in load(session, WITH_ORDERS, joinedload(Person.country))]


def of_a_subclass(session):
    session.scalars(select(Buyer).options(selectinload(Buyer.orders))).all()


def of_an_alias(session):
    person = aliased(Person)
    session.scalars(select(person).options(selectinload(person.orders))).all()


def by_the_old_query(session):
    session.query(Person).options(joinedload(Person.country)).all()


def by_the_mapping(session):
    session.scalars(select(Rack)).all()


def to_one(session):
    session.scalars(select(Order).options(selectinload(Order.person))).all()


def to_one_by_hand(session):
    session.get(Country, 1)
    load(session, joinedload(Person.country))


def by_a_wildcard(session):
    load(session, selectinload("*"))


def one_at_a_time(session):
    for number in range(1, 9):
        session.get(Person, number, options=[WITH_ORDERS])


def only_named_in_a_condition(session):
    session.scalars(select(Person).where(Person.orders.any()).options(WITH_ORDERS)).all()


def only_saved(session):
    for person in load(session, WITH_ORDERS):
        person.name = "new"
    session.commit()


def only_added_again(session):
    people = load(session, WITH_ORDERS)
    session.expunge_all()
    session.add_all(people)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (selectin, ["Person.orders"]),
        (subquery, ["Person.orders"]),
        (joined, ["Person.orders"]),
        (immediate, ["Person.orders"]),
        (second_level, ["Order.items"]),
        (second_level_by_a_join, ["Order.items"]),
        (one_of_two, ["Person.country"]),
        (of_a_subclass, ["Person.orders"]),
        (of_an_alias, ["Person.orders"]),
        (by_the_old_query, ["Person.country"]),
        (by_the_mapping, ["Rack.country", "Rack.boxes"]),
        (to_one, ["Order.person"]),
        (to_one_by_hand, ["Person.country"]),
        (by_a_wildcard, ["Person.country", "Person.orders", "Person.notes", "Order.items"]),
        (one_at_a_time, ["Person.orders"]),
        (only_named_in_a_condition, ["Person.orders"]),
        (only_saved, ["Person.orders"]),
        (only_added_again, ["Person.orders"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_nobody_reads_is_found(engine, monitor, program, expected):
    with querywatch.watch("test"), Session(engine) as session:
        program(session)
    gc.collect()
    assert sorted(unused(monitor)) == sorted(expected)


# -- what counts as a read, or may have been one


def read(session):
    load(session, WITH_ORDERS)[-1].orders


def read_through_a_subclass(session):
    session.scalars(select(Buyer).options(WITH_ORDERS)).all()[0].orders


def read_by_name(session):
    getattr(load(session, WITH_ORDERS)[0], "orders")  # noqa: B009 - what is tried


def read_by_the_inspection(session):
    person = load(session, WITH_ORDERS)[0]
    inspect(person).attrs.orders.value


def read_through_a_proxy(session):
    list(load(session, WITH_ORDERS)[0].order_ids)


def read_through_a_hybrid(session):
    load(session, WITH_ORDERS)[0].spent


def read_in_a_thread(session):
    people = load(session, WITH_ORDERS)
    thread = threading.Thread(target=lambda: people[0].orders)
    thread.start()
    thread.join()


def read_in_an_inner_scope(session):
    people = load(session, WITH_ORDERS)
    with querywatch.watch("inner"):
        people[0].orders


def read_after_the_session(session):
    people = load(session, WITH_ORDERS)
    session.close()
    people[0].orders


def read_on_a_copy(session):
    copy.copy(load(session, WITH_ORDERS)[0]).orders


def pickled(session):
    pickle.dumps(load(session, WITH_ORDERS))


def copied(session):
    copy.deepcopy(load(session, WITH_ORDERS)[0])


def appended(session):
    person = load(session, WITH_ORDERS)[0]
    person.orders.append(Order())


def replaced(session):
    load(session, WITH_ORDERS)[0].orders = []


def removed(session):
    del load(session, WITH_ORDERS)[0].orders


def deleted(session):
    for person in load(session, WITH_ORDERS, selectinload(Person.notes)):
        session.delete(person)
    session.flush()


def merged(session):
    people = load(session, WITH_ORDERS)
    with Session(session.get_bind()) as other:
        [other.merge(person, load=False) for person in people]


def merged_and_loaded(session):
    people = load(session, WITH_ORDERS)
    session.expunge_all()
    [session.merge(person) for person in people]


def joined_for_a_condition(session):
    statement = select(Order).join(Order.person).where(Person.id < 9).options(contains_eager(Order.person))
    session.scalars(statement).all()


def few(session):
    session.scalars(select(Person).limit(4).options(WITH_ORDERS)).all()


def few_of_many(session):
    session.get(Person, 1, options=[WITH_ORDERS])
    load(session)


def none(session):
    session.scalars(select(Person).where(Person.id < 0).options(WITH_ORDERS)).all()


def lazily(session):
    session.scalars(select(Shelf).options(lazyload("*"))).all()


def known_before(session):
    known = load(session)
    load(session, WITH_ORDERS)
    known[0].orders


def found_by_its_key(session):
    orders = session.scalars(select(Order).options(joinedload(Order.person))).all()
    [session.get(Person, order.person_id).name for order in orders]


def found_by_another_relationship(session):
    load(session, WITH_ORDERS)
    [item.order.total for item in session.scalars(select(Item)).all()]


def read_from_the_dict(session):
    [vars(person)["orders"] for person in load(session, WITH_ORDERS)]


def read_by_a_method_from_the_dict(session):
    [shelf.to_dict() for shelf in session.scalars(select(Shelf)).all()]


def encoded_by_fastapi(session):
    encoders.jsonable_encoder(load(session, WITH_ORDERS))


def in_chunks(session):
    for person in session.scalars(select(Person).options(WITH_ORDERS).execution_options(yield_per=3)):
        person.orders


@pytest.mark.parametrize(
    "program",
    [
        read, read_through_a_subclass, read_by_name, read_by_the_inspection, read_through_a_proxy,
        read_through_a_hybrid, read_in_a_thread, read_in_an_inner_scope, read_after_the_session, read_on_a_copy,
        pickled, copied, appended, replaced, removed, deleted, merged, merged_and_loaded, joined_for_a_condition, few,
        few_of_many, none, lazily, known_before, found_by_its_key, found_by_another_relationship, read_from_the_dict,
        read_by_a_method_from_the_dict, encoded_by_fastapi, in_chunks,
    ],
    ids=lambda program: program.__name__,
)  # fmt: skip
def test_what_may_have_been_read_is_not_told(engine, monitor, program):
    with querywatch.watch("test"), Session(engine) as session:
        program(session)
    gc.collect()
    assert unused(monitor) == []


# -- who may still read


def test_objects_that_left_their_scope_are_not_told(engine, monitor):
    with querywatch.watch("repository"), Session(engine) as session:
        people = load(session, WITH_ORDERS)
    assert unused(monitor) == []
    del people


def test_a_read_after_the_scope_counts(engine, monitor):
    with querywatch.watch("repository"), Session(engine) as session:
        people = load(session, WITH_ORDERS)
    people[0].orders
    del people
    assert unused(monitor) == []


def test_a_script_that_ended_reads_no_more(engine, monitor):
    with querywatch.watch("script.py", "script"), Session(engine) as session:
        people = load(session, WITH_ORDERS)
    assert unused(monitor) == ["Person.orders"]
    del people


def test_an_open_scope_is_not_told(engine, monitor):
    with querywatch.watch("test"), Session(engine) as session:
        load(session, WITH_ORDERS)
        assert unused(monitor) == []
    assert unused(monitor) == ["Person.orders"]


@pytest.mark.parametrize(("program", "expected"), [(selectin, ["Person.orders"]), (read, [])])
def test_a_checkout_is_a_scope_too(engine, monitor, program, expected):
    with Session(engine) as session:
        program(session)
    assert unused(monitor) == expected


def test_two_requests_do_not_read_for_each_other(engine, monitor):
    with querywatch.watch("reads"), Session(engine) as session:
        read(session)
        with querywatch.watch("does not"), Session(engine) as other:
            selectin(other)
        read(session)
    assert monitor.flush(60)
    assert [(finding.subject, finding.scope) for finding in monitor.findings()] == [("Person.orders", "does not")]


def test_async_sessions(tmp_path, engine):
    async def main():
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
        with watching(async_engine, unused_eager_loads=1.0) as monitor:
            with querywatch.watch("test"):
                async with AsyncSession(async_engine) as session:
                    await session.run_sync(second_level)
            found = await asyncio.to_thread(unused, monitor)
        await async_engine.dispose()
        return found

    assert asyncio.run(main()) == ["Order.items"]


# -- which scopes


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_a_share_of_the_scopes_is_watched(engine, share, expected):
    with watching(engine, unused_eager_loads=share) as monitor:
        for number in range(8):
            with querywatch.watch(f"request {number}"), Session(engine) as session:
                selectin(session)
        assert len(unused(monitor)) == expected


def test_a_monitor_that_does_not_ask_is_not_told(engine, monitor):
    other = sa.create_engine(engine.url)
    with watching(other) as quiet:
        with querywatch.watch("test"), Session(other) as session:
            selectin(session)
        assert unused(quiet) == []
    assert unused(monitor) == []
    other.dispose()


# -- what is changed, and given back


def describe_classes():
    """Return whatever could be changed on a mapped class."""
    mapper = Person.__mapper__
    attributes = {key: type(value) for key, value in vars(Person).items()}
    return attributes, dict(vars(mapper.class_manager)).keys(), vars(mapper).keys(), vars(Person.orders.property).keys()


def test_every_class_is_given_back_with_the_last_monitor(engine):
    other = sa.create_engine(engine.url)
    with Session(engine) as session:
        [person.orders for person in load(session, WITH_ORDERS, joinedload(Person.country))]  # memoizes what it needs
    before = describe_classes()
    with watching(engine, unused_eager_loads=1.0):
        with watching(other, unused_eager_loads=0.5):
            with querywatch.watch("test"), querywatch.watch("test"), Session(engine) as session:
                load(session, WITH_ORDERS, joinedload(Person.country))
            assert type(vars(Person)["orders"]) is not InstrumentedAttribute
        assert type(vars(Buyer)["orders"]) is not InstrumentedAttribute
    assert describe_classes() == before
    assert type(vars(Buyer)["orders"]) is InstrumentedAttribute
    other.dispose()


def test_nothing_is_changed_before_an_eager_load_is_seen(engine, monitor):
    before = describe_classes()
    with querywatch.watch("test"), Session(engine) as session:
        load(session)[0].orders
    assert describe_classes() == before
    assert unused(monitor) == []


def test_a_watched_attribute_passes_for_what_it_was(engine, monitor):
    statement = select(Person).where(Person.orders.any()).options(selectinload(Person.orders))
    key = statement._generate_cache_key().key
    with querywatch.watch("test"), Session(engine) as session:
        selectin(session)
    assert type(Person.orders) is not InstrumentedAttribute
    assert Person.orders.__class__ is InstrumentedAttribute
    assert isinstance(Person.orders, InstrumentedAttribute)
    assert type(aliased(Person).orders) is InstrumentedAttribute
    again = select(Person).where(Person.orders.any()).options(selectinload(Person.orders))
    assert again._generate_cache_key().key == key
    assert unused(monitor) == ["Person.orders"]


def test_errors_of_an_attribute_stay_those_of_sqlalchemy(engine, monitor):
    with querywatch.watch("test"), Session(engine) as session:
        selectin(session)
        session.close()
        person = load(session)[0]
        session.expunge_all()
        with pytest.raises(sa.orm.exc.DetachedInstanceError):
            person.orders
    with pytest.raises(sa.orm.exc.UnmappedInstanceError):
        vars(Person)["orders"].__get__(type("Stranger", (), {})(), Person)
    assert dict(monitor.internal_errors) == {}
