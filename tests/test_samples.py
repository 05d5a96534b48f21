from __future__ import annotations

import sqlalchemy as sa
from counted import count, scoped, watching

import querywatch
from querywatch import samples
from querywatch.samples import Samples, begin_scope, end_scope, find_sinks, forget_samples, open_scopes


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
