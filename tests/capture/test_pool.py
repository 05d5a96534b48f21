"""The scope of a checkout, from its first statement to its check-in."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import sqlalchemy as sa
from counted import describe, read, scoped, watching

import querywatch
from querywatch.samples import open_scopes


@pytest.fixture
def engine():
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    yield engine
    engine.dispose()


def list_open(known):
    return [scope for number, scope in list(open_scopes.items()) if number not in known]


def test_a_checkout_is_a_scope_until_its_check_in(engine):
    known = set(open_scopes)
    with watching(engine) as monitor:
        for _ in range(2):
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
                connection.exec_driver_sql("SELECT 2")
                [scope] = list_open(known)
                assert (scope.kind, scope.name, scope.closed) == ("checkout", None, False)
            assert (list_open(known), scope.closed) == ([], True)
        assert [stats.calls for stats in read(monitor)] == [4]
        assert [stats.scopes for stats in monitor.snapshot().scopes] == [2]


def test_a_connection_that_is_out_at_uninstall_leaves_no_scope_open(engine):
    known = set(open_scopes)
    with watching(engine) as monitor, engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        querywatch.uninstall(engine)
        assert list_open(known) == []
        connection.exec_driver_sql("SELECT 1")
        assert [stats.calls for stats in monitor.queries()] == [1]


def test_checkouts_and_the_ends_of_transactions_are_the_scopes(bench):
    with scoped() as scope:
        bench.run(lambda connection: connection.exec_driver_sql("SELECT 1"))
        bench.run(lambda connection: connection.exec_driver_sql("SELECT 2"))
        with contextlib.suppress(ZeroDivisionError):
            bench.run(lambda connection: connection.exec_driver_sql("SELECT 3") and 1 // 0)
    record = describe(scope, bench.monitor)
    # The one of the error, and those of the three returns to the pool.
    assert (record.checkouts, record.commits, record.rollbacks) == (3, 2, 4)
    assert (scope.holding.held, record.idle) == (0, ())
    steps = [step.kind for step in record.steps]
    assert [kind for kind, _same in itertools.groupby(steps)][:4] == ["statement", "commit", "rollback", "statement"]


def test_the_ends_of_transactions_without_a_scope_are_the_checkouts(engine):
    known = set(open_scopes)
    with watching(engine), engine.connect() as connection:
        connection.commit()
        connection.exec_driver_sql("SELECT 1")
        [scope] = list_open(known)
        connection.commit()
        connection.exec_driver_sql("SELECT 2")
        connection.rollback()
        assert (scope.holding.checkouts, scope.commits, scope.rollbacks) == (1, 1, 1)


def test_a_commit_that_fails_is_none_and_its_error_is_the_applications(engine, monkeypatch):
    def fail(_connection):
        raise sa.exc.OperationalError("COMMIT", None, Exception("disk full"))

    monkeypatch.setattr(engine.dialect, "do_commit", fail)
    with watching(engine), scoped() as scope, engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        with pytest.raises(sa.exc.OperationalError, match="disk full"):
            connection.commit()
        assert (scope.commits, scope.rollbacks) == (0, 0)
    assert engine.dialect.do_commit is fail


def test_what_sqlalchemy_does_when_it_first_connects_is_nobodys(postgres_database):
    engine = sa.create_engine(postgres_database)
    with watching(engine), scoped() as scope:
        connection = engine.connect()
        assert (scope.commits, scope.rollbacks, scope.holding.checkouts) == (0, 0, 1)
        connection.close()
    engine.dispose()


def test_one_connection_given_to_several_is_held_once(engine):
    # A StaticPool; it tells of one check-in.
    with watching(engine), scoped() as scope:
        with engine.connect(), engine.connect():
            assert scope.holding.held == 1
        assert (scope.holding.held, scope.holding.checkouts) == (0, 2)


def test_a_connection_that_was_invalidated_is_held_no_more(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with watching(engine), scoped() as scope, engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        connection.invalidate()
        assert scope.holding.held == 0
        connection.rollback()
        connection.exec_driver_sql("SELECT 1")
        assert (scope.holding.held, scope.holding.checkouts) == (1, 2)
    assert scope.holding.held == 0
    engine.dispose()


def test_what_a_dialect_asks_on_the_first_connection_belongs_to_its_checkout(postgres_database):
    engine = sa.create_engine(postgres_database)
    known = set(open_scopes)
    with watching(engine) as monitor:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        assert list_open(known) == []
        monitor.flush()
        assert [stats.scopes for stats in monitor.snapshot().scopes] == [1]
    engine.dispose()
