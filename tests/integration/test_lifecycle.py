"""Forks and exits: a child counts its own statements and nothing else, and what was found is told before the end."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

PREAMBLE = """
    import json, logging, os, sys
    import sqlalchemy as sa
    import querywatch
    from sqlalchemy.pool import NullPool

    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
    engine = sa.create_engine(f"sqlite:///{sys.argv[1]}", poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE things (id INTEGER PRIMARY KEY, a TEXT, b TEXT)")

    def ask(times, column="a"):
        with engine.connect() as connection:
            for number in range(times):
                connection.execute(sa.text(f"SELECT {column} FROM things WHERE id = :id"), {"id": number}).all()

    def count(monitor):
        assert monitor.flush(20), "the background thread does not work"
        return sum(stats.calls for stats in monitor.queries())

    def in_child(work):
        # A pipe, because the child ends without running the parent's exit handlers.
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.write(writer, json.dumps(work()).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        with open(reader) as pipe:
            answer = json.loads(pipe.read() or "null")
        assert os.waitpid(child, 0)[1] == 0
        return answer
"""


def run(tmp_path, program):
    """Run *program* in an interpreter of its own and return its last line as JSON, and everything it printed."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(PREAMBLE) + textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(tmp_path / "shop.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith(("{", "[")) else None, done.stdout


@pytest.mark.parametrize("capture", ["methods", "events"])
def test_a_forked_child_counts_its_own_statements_only(tmp_path, capture):
    answer, _ = run(
        tmp_path,
        f"""
        monitor = querywatch.install(engine, capture="{capture}", explain=False)
        ask(7)
        before = count(monitor)
        ask(2)  # not folded yet when the process forks

        def child():
            ask(3)
            return count(monitor)

        theirs = in_child(child)
        ask(1)
        print(json.dumps([before, theirs, count(monitor)]))
        """,
    )
    assert answer == [7, 3, 10]


def test_a_fork_inside_of_a_scope(tmp_path):
    answer, _ = run(
        tmp_path,
        """
        monitor = querywatch.install(engine, explain=False)

        def child():
            ask(6, "b")
            calls = count(monitor)
            return [calls, [finding.count for finding in monitor.findings()]]

        with querywatch.watch("job"):
            ask(10)
            count(monitor)
            theirs = in_child(child)
            ask(1)
        print(json.dumps([theirs, count(monitor), [finding.count for finding in monitor.findings()]]))
        """,
    )
    assert answer == [[6, [6]], 11, [11]]


def test_the_same_loop_is_found_in_the_child_that_was_told_in_the_parent(tmp_path):
    answer, _ = run(
        tmp_path,
        """
        monitor = querywatch.install(engine, explain=False)

        def child():
            ask(6)
            count(monitor)
            return [finding.count for finding in monitor.findings()]

        with querywatch.watch("job"):
            ask(10)
            count(monitor)
            print(json.dumps([in_child(child)]))
        """,
    )
    assert answer == [[6]]


def test_a_fork_while_other_threads_hold_every_lock(tmp_path):
    answer, _ = run(
        tmp_path,
        """
        import threading
        monitor = querywatch.install(engine, explain=False, interval_s=0.001)
        done = threading.Event()

        def work():
            # No statements here: SQLite itself has locks that a child would wait for.
            while not done.is_set():
                monitor.snapshot()
                monitor.flush(1)

        ask(5)
        count(monitor)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()

        def child():
            ask(4)
            return count(monitor)

        answers = [in_child(child) for _ in range(15)]
        done.set()
        for thread in threads:
            thread.join()
        print(json.dumps(answers))
        """,
    )
    assert answer == [4] * 15


def test_a_fork_while_the_background_imports_its_parser(tmp_path):
    answer, _ = run(
        tmp_path,
        """
        monitor = querywatch.install(engine, explain=False, interval_s=0.001)

        def child():
            ask(4)
            return count(monitor)

        ask(5)
        while "sqlglot" not in sys.modules:
            pass
        print(json.dumps([in_child(child), count(monitor)]))
        """,
    )
    assert answer == [4, 5]


def test_a_forked_pool_of_processes(tmp_path):
    answer, _ = run(
        tmp_path,
        """
        import multiprocessing
        monitor = querywatch.install(engine, explain=False)
        ask(5)

        def work(times):
            ask(times)
            return count(monitor)

        with multiprocessing.get_context("fork").Pool(1) as pool:
            theirs = pool.map(work, [2, 3])
        print(json.dumps([theirs, count(monitor)]))
        """,
    )
    assert answer == [[2, 5], 5]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("ask(9)", id="plain"),
        pytest.param("watch = querywatch.watch('job'); watch.__enter__(); ask(9)", id="open-watch"),
        pytest.param("connection = engine.connect(); globals().update(kept=connection); ask(9)", id="open-checkout"),
        pytest.param(
            "kept = engine.connect(); text = sa.text('SELECT a FROM things WHERE id = :n'); "
            "[kept.execute(text, {'n': n}).all() for n in range(9)]",
            id="unreturned",
        ),
        pytest.param("import atexit; atexit.register(ask, 9)", id="in-an-exit-handler"),
    ],
)
def test_what_was_found_is_told_at_exit(tmp_path, body):
    _, output = run(
        tmp_path,
        f"""
        monitor = querywatch.install(engine, explain=False, interval_s=3600.0)
        {body}
        """,
    )
    assert output.count("querywatch.finding") == 1, output
    assert "n-plus-one" in output
    assert "count=9" in output
