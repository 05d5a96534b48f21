from __future__ import annotations

import pytest
import sqlalchemy as sa
from counted import count, scoped, watching

import querywatch
from querywatch import samples
from querywatch.samples import (
    NO_MARK,
    NOBODY,
    Asker,
    LoadMark,
    Samples,
    begin_scope,
    end_scope,
    find_sinks,
    forget_samples,
    open_scopes,
)


class Sink:
    def __init__(self):
        self.taken = []

    def start(self):
        pass

    def take_scope(self, scope):
        self.taken.append(scope)


class Source:
    def __init__(self, number, monitor):
        self.number = number
        self.monitor = monitor


def fill(scope, source, *texts):
    each = Samples(source, "SELECT ?", "SELECT 1", ())
    scope.slots.setdefault(source.number, {}).update(dict.fromkeys(texts, each))
    return each


def test_a_scope_lists_each_samples_once_though_many_texts_lead_to_it():
    scope = begin_scope("test", "test")
    sink = Sink()
    first = fill(scope, Source(1, sink), "a", "b")
    second = fill(scope, Source(2, sink), "a")
    scope.evicted.append(first)
    assert scope.list_samples() == [first, second]
    assert scope.list_samples()[0] is first
    end_scope(scope)


def test_a_scope_is_handed_once_to_each_monitor_it_used():
    scope = begin_scope("test", "test")
    one, other, idle = Sink(), Sink(), Sink()
    fill(scope, Source(1, one), "a")
    fill(scope, Source(2, one), "a")
    scope.evicted.append(Samples(Source(3, other), "SELECT ?", "SELECT 1", ()))
    assert find_sinks(scope) == [one, other]
    end_scope(scope)
    end_scope(scope)
    assert (one.taken, other.taken, idle.taken) == ([scope], [scope], [])
    assert id(scope) not in open_scopes
    assert scope.ended_at >= scope.started_at


def test_beyond_the_limit_the_oldest_scope_ends(monkeypatch):
    for left in list(open_scopes.values()):
        end_scope(left)  # of another test
    monkeypatch.setattr(samples, "OPEN_SCOPES_LIMIT", 2)
    first, *others = [begin_scope(str(number), "test") for number in range(3)]
    assert [scope.closed for scope in (first, *others)] == [True, False, False]
    for scope in (first, *others):
        end_scope(scope)


def test_forgetting_leaves_scopes_open_and_empty():
    scope = begin_scope("test", "test")
    fill(scope, Source(1, Sink()), "a")
    scope.evicted.append(fill(scope, Source(2, Sink()), "a"))
    scope.reported["finding"] = (5, 0.1)
    forget_samples()
    assert (scope.list_samples(), scope.reported, scope.closed) == ([], {}, False)
    end_scope(scope)


@pytest.mark.parametrize(
    ("ends", "trail"),
    [
        pytest.param(["commit"], ["commit"], id="commit"),
        pytest.param(["rollback"], ["rollback"], id="rollback"),
        pytest.param(["commit", "commit", "commit"], ["commit"], id="with-nothing-in-between-they-say-no-more"),
        pytest.param(["commit", "rollback"], ["commit", "rollback"], id="both"),
    ],
)
def test_ends_of_transactions_are_counted_and_each_stands_once_in_the_trail(ends, trail):
    scope = samples.OpenScope("test", "test")
    first = Samples(Source(1, Sink()), "SELECT ?", "SELECT 1", ())
    scope.trail.append(first)
    for kind in ends:
        scope.note_end(kind)
    assert scope.trail == [first, *trail]
    assert (scope.commits, scope.rollbacks) == (ends.count("commit"), ends.count("rollback"))


def test_an_end_with_no_statement_before_it_is_only_counted():
    scope = samples.OpenScope("test", "test")
    scope.note_end("rollback")
    assert (scope.trail, scope.rollbacks) == ([], 1)


def test_a_trail_is_bounded_and_what_comes_later_is_counted(monkeypatch):
    monkeypatch.setattr(samples, "TRAIL_LIMIT", 4)
    scope = samples.OpenScope("test", "test")
    for _ in range(10):
        if len(scope.trail) < samples.TRAIL_LIMIT:
            scope.trail.append(Samples(Source(1, Sink()), "SELECT ?", "SELECT 1", ()))
        scope.note_end("commit")
    assert len(scope.trail) == 4
    assert scope.commits == 10


def test_a_loop_of_many_statements_and_commits_keeps_a_trail_that_is_bounded():
    engine = sa.create_engine("sqlite://")
    with watching(engine), scoped() as scope, engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE things (id INTEGER)")
        for number in range(1000):
            # A text of its own each time: each would be looked at.
            connection.exec_driver_sql(f"INSERT INTO things (id) SELECT {number} AS n{number}")
            connection.commit()
        assert len(scope.trail) <= samples.TRAIL_LIMIT
        assert scope.commits == 1000
    engine.dispose()


def test_an_asker_is_told_by_its_line_its_mark_its_acts_and_the_attribute():
    code = Sink.start.__code__
    mark = LoadMark("lazy_load", ("User.orders",))
    askers = {
        Asker(code, 1),
        Asker(code, 2),
        Asker(code, 1, mark),
        Asker(code, 1, mark, ("immediate",)),
        Asker(code, 1, mark, (), "orders"),
        Asker(code, 1, LoadMark("lazy_load", ("User.orders",)), (), "orders"),
    }
    assert len(askers) == 5
    assert Asker(None, 0) == NOBODY
    assert (NOBODY.mark, NOBODY.acts, NOBODY.attribute) == (NO_MARK, (), None)


def test_full_samples_give_their_place_and_are_let_go(monkeypatch):
    monkeypatch.setattr("querywatch.scope_record._STRAGGLER_LIMIT_S", 0.0)
    engine = sa.create_engine("sqlite://")
    statement = sa.select(sa.literal(1))
    with watching(engine) as monitor, scoped() as scope, engine.connect() as connection:
        for number in range(3 * samples.SAMPLES_LIMIT + 5):
            connection.execute(statement).all()
            if number % samples.SAMPLES_LIMIT == 0:
                assert count(monitor) == number + 1
        for _ in range(3):
            assert count(monitor) == 3 * samples.SAMPLES_LIMIT + 5
        assert [len(each) for each in scope.list_samples()] == [0, 5]
    assert [stats.calls for stats in monitor.snapshot().scopes] in ([], [3 * samples.SAMPLES_LIMIT + 5])
    engine.dispose()
    querywatch.uninstall(engine)
