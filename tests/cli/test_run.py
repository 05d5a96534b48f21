"""`querywatch run`: the program's own output and exit code, and what was found on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from querywatch.report.json import load_snapshot

COMMAND = Path(sys.executable).with_name("querywatch")

PROGRAM = """
import sys
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

class Model(DeclarativeBase): pass

class User(Model):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    orders: Mapped[list["Order"]] = relationship()

class Order(Model):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))

engine = create_engine("sqlite:///shop.db")
Model.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(User() for _ in range(9))
    session.commit()
    # A session for each user: without the scope of the whole program no checkout sees more than one of them.
    for number in session.scalars(select(User.id)).all():
        with Session(engine) as own:
            len(own.get(User, number).orders)  # the line
print("own output", *sys.argv)
"""


def run(folder, *arguments, source=PROGRAM, **environ):
    (folder / "program.py").write_text(textwrap.dedent(source))
    return subprocess.run(
        [COMMAND, "run", *arguments],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1"} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def line_of(mark):
    return next(n for n, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith(f"# {mark}"))


def test_a_loop_is_found_with_its_line_and_nothing_of_the_program_changes(tmp_path):
    done = run(tmp_path, "program.py", "--format", "-m")
    assert (done.stdout, done.returncode) == ("own output program.py --format -m\n", 0)
    assert "\nquerywatch: " in done.stderr
    assert " in program.py: " in done.stderr
    assert "User.orders" in done.stderr
    assert f"program.py:{line_of('the line')}" in done.stderr
    assert "selectinload(User.orders)" in done.stderr


def test_a_module_runs_with_its_arguments(tmp_path):
    done = run(tmp_path, "-m", "program", "--out", "x")
    assert (done.stdout, done.returncode) == (f"own output {tmp_path / 'program.py'} --out x\n", 0)
    assert " in program: " in done.stderr


def test_json_is_what_report_reads(tmp_path):
    (tmp_path / "other").mkdir()
    source = PROGRAM + "\nimport os; os.chdir('other'); sys.exit(5)"
    done = run(tmp_path, "--format", "json", "--out", "saved.json", "program.py", source=source)
    assert (done.stderr, done.returncode) == ("", 5)
    findings = load_snapshot((tmp_path / "saved.json").read_text()).findings
    assert ("n-plus-one", "User.orders", "program.py") in [(one.code, one.subject, one.scope) for one in findings]
    shown = subprocess.run(
        [COMMAND, "report", "saved.json"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "User.orders" in shown.stdout
    assert shown.returncode == 1


@pytest.mark.parametrize(
    ("ending", "code", "error"),
    [
        pytest.param("sys.exit('no such shop')", 1, "no such shop", id="exit"),
        pytest.param("1 / 0", 1, "ZeroDivisionError: division by zero", id="exception"),
        pytest.param("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 130, "KeyboardInterrupt", id="ctrl-c"),
    ],
)
def test_the_summary_comes_however_the_program_ends(tmp_path, ending, code, error):
    done = run(tmp_path, "program.py", source=f"{PROGRAM}\n{ending}")
    assert done.returncode == code
    before, _, summary = done.stderr.partition("\nquerywatch: ")
    assert before.endswith(f"{error}\n")
    assert "querywatch" not in before
    assert "User.orders" in summary


def test_a_forked_child_leaves_the_summary_to_its_parent(tmp_path):
    source = """
        import os
        child = os.fork()
        if child:
            os.waitpid(child, 0)
    """
    done = run(tmp_path, "program.py", source=source)
    assert done.stderr.count("querywatch: no findings in program.py: 0 queries, 0 ms in the database") == 1


def test_switched_off_it_only_runs(tmp_path):
    done = run(tmp_path, "program.py", QUERYWATCH_ENABLED="0")
    assert (done.stdout, done.stderr, done.returncode) == ("own output program.py\n", "", 0)


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        pytest.param(
            ("--out", "nowhere/x.json", "program.py"),
            {},
            "--out: there is no folder 'nowhere'. Create it, or choose another file.",
            id="no-folder",
        ),
        pytest.param(
            ("program.py",),
            {"QUERYWATCH_SLOW_QUERY_S": "0"},
            "slow_query_s must be above 0 seconds, got 0.0. To report no slow queries, set it to float('inf').",
            id="bad-setting",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_before_the_program_begins(tmp_path, arguments, environ, message):
    done = run(tmp_path, *arguments, **environ)
    assert (done.stdout, done.stderr, done.returncode) == ("", f"querywatch: {message}\n", 2)


def test_ctrl_c_in_a_terminal_ends_the_program_and_shows_the_summary(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM + "\nsys.stdout.flush()\nimport threading; threading.Event().wait()")
    with subprocess.Popen(
        [COMMAND, "run", "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "own output program.py\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "User.orders" in error.partition("\nquerywatch: ")[2]


READS_NO_ORDERS = """
    from sqlalchemy.orm import selectinload
    with Session(engine) as session:
        users = session.scalars(select(User).options(selectinload(User.orders))).all()  # the line
"""


@pytest.mark.parametrize(
    ("environ", "is_told"), [({}, True), ({"QUERYWATCH_UNUSED_EAGER_LOADS": "0"}, False)], ids=["by-itself", "set-to-0"]
)
def test_eager_loads_that_the_program_did_not_read_are_told(tmp_path, environ, is_told):
    program, _, _ = PROGRAM.partition("    # A session")
    done = run(tmp_path, "program.py", source=program + textwrap.dedent(READS_NO_ORDERS), **environ)
    assert done.returncode == 0, done.stderr
    assert ("unused-eager-load" in done.stderr) == is_told
