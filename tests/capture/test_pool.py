"""The scope of a checkout, from its first statement to its check-in."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from counted import read, watching

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
