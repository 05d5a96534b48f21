"""The thread: when it runs, when it rests, and that nobody waits for one that is gone. No test sleeps."""

from __future__ import annotations

import os
import threading
import warnings

import pytest

from querywatch import background
from querywatch.background import Background

LONG_S = 60.0


def count_threads():
    return sum(thread.name == "querywatch" for thread in threading.enumerate())


class Clock:
    """CPU seconds that pass only when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def make():
    made = []

    def build(run_pass, interval_s=LONG_S, **keywords):
        made.append(Background(run_pass, interval_s, **keywords))
        return made[-1]

    yield build
    for each in made:
        each.stop(5.0)


def test_there_is_no_thread_before_it_is_needed_and_one_after(make):
    before = count_threads()
    background = make(lambda: None)
    assert count_threads() == before
    background.start()
    background.start()
    assert background.flush(5.0)
    assert count_threads() == before + 1
    background.stop(5.0)
    assert count_threads() == before


def test_a_flush_is_a_pass_that_begins_after_it(make):
    begun, go, passes = threading.Event(), threading.Event(), []

    def run_pass():
        passes.append(None)
        begun.set()
        go.wait(5.0)

    background = make(run_pass)
    answers = []
    first = threading.Thread(target=lambda: answers.append(background.flush(5.0)))
    first.start()
    begun.wait(5.0)
    # The pass that runs now may have looked past what was done since: this one needs another.
    second = threading.Thread(target=lambda: answers.append(background.flush(5.0)))
    second.start()
    while background._requested < 2:
        pass
    go.set()
    first.join(5.0)
    second.join(5.0)
    assert (answers, len(passes)) == ([True, True], 2)


def test_a_flush_that_takes_too_long_says_so(make):
    go = threading.Event()
    background = make(lambda: go.wait(5.0))
    assert background.flush(0.0) is False
    go.set()
    assert background.flush(5.0) is True


def test_a_flush_of_its_own_thread_does_not_wait_for_itself(make):
    answers = []
    background = make(lambda: answers.append(background.flush(5.0)))
    assert background.flush(5.0) is True
    assert answers == [False]


def test_it_runs_by_itself_after_the_interval(make):
    ran = threading.Event()
    make(ran.set, interval_s=0.001).start()
    assert ran.wait(5.0)


def test_after_a_stop_there_is_no_thread_and_no_waiting(make):
    background = make(lambda: None)
    background.stop(5.0)
    background.start()
    assert count_threads() == 0
    assert background.flush(LONG_S) is False


def test_who_waits_while_it_is_stopped_is_told(make):
    begun, go = threading.Event(), threading.Event()

    def run_pass():
        begun.set()
        go.wait(5.0)

    background = make(run_pass)
    background.start()
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(background.flush(LONG_S))) for _ in range(2)]
    waiting[0].start()
    begun.wait(5.0)
    waiting[1].start()
    while background._requested < 2:
        pass
    background.stop(0.0)
    go.set()
    for thread in waiting:
        thread.join(5.0)
    assert sorted(answers) == [False, True]


def test_where_no_thread_can_be_started_nothing_is_raised_and_the_next_call_tries_again(make, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    passes = []
    background = make(lambda: passes.append(None))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        background.start()
        assert background.flush(LONG_S) is False
    assert background.flush(5.0) is True
    assert passes == [None]


def test_a_stop_from_its_own_thread_does_not_wait_for_itself(make):
    background = make(lambda: background.stop(5.0))
    background.flush(5.0)
    background._thread.join(5.0)
    assert count_threads() == 0


def test_after_a_fork_a_thread_is_started_anew(make):
    background = make(lambda: None)
    assert background.flush(5.0)
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork of a process with threads; such a fork is what this test is about.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        background.forget_thread()
        os.write(write, b"1" if background.flush(5.0) and count_threads() == 1 else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"
    os.close(read)
    os.close(write)
    assert background.flush(5.0)


def test_what_was_stopped_stays_so_after_a_fork(make):
    background = make(lambda: None)
    background.stop(5.0)
    background.forget_thread()
    assert background.flush(LONG_S) is False


@pytest.fixture
def rests(make):
    """Run pieces of given CPU seconds in a pass nobody waits for, and return how long it rested after each."""

    def run(*pieces, waiting=False):
        clock, rested, done = Clock(), [], threading.Event()

        def run_pass():
            background._changed.wait_for = record
            for seconds in pieces:
                clock.now += seconds
                background.rest()
            del background._changed.wait_for
            done.set()

        def record(predicate, timeout):
            if not predicate():
                rested.append(timeout)
            return True

        background = make(run_pass, interval_s=LONG_S if waiting else 0.001, cpu_clock=clock)
        if waiting:
            background.flush(5.0)
        else:
            background.start()
            assert done.wait(5.0)
            background.stop(5.0)
        return rested

    return run


def test_it_rests_twenty_times_as_long_as_it_ran(rests):
    assert rests(0.004, 0.010)[:2] == pytest.approx([0.08, 0.2])


def test_pieces_too_short_for_a_rest_add_up(rests):
    # Two of them are not yet worth a rest, three are.
    assert rests(*[background._PIECE_S * 0.4] * 3)[:1] == pytest.approx([background._PIECE_S * 0.4 * 3 * 20])


def test_nobody_rests_while_somebody_waits(rests):
    assert rests(0.004, 0.010, waiting=True) == []


def test_a_rest_elsewhere_than_on_its_thread_is_none(make):
    clock = Clock()
    background = make(lambda: None, cpu_clock=clock)
    clock.now = 100.0
    background.rest()
    assert background.flush(5.0)
