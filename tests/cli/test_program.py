"""A program runs as Python runs it: arguments, names, import path, exit code, traceback."""

from __future__ import annotations

import sys
import textwrap

import pytest

from querywatch.cli.program import Program, find_program, run_program
from querywatch.errors import ConfigError


@pytest.fixture(autouse=True)
def process(monkeypatch, tmp_path):
    """What running a program changes in this process, put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["querywatch"])
    monkeypatch.setattr(sys, "path", ["the folder of our own command", *sys.path])
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def run(folder, source, *arguments):
    (folder / "program.py").write_text(textwrap.dedent(source))
    return run_program(find_program("program.py", is_module=False), arguments)


@pytest.mark.parametrize(
    ("source", "code", "error"),
    [
        pytest.param("", 0, "", id="end"),
        pytest.param("import sys; sys.exit()", 0, "", id="exit-without-code"),
        pytest.param("import sys; sys.exit(0)", 0, "", id="exit-0"),
        pytest.param("import sys; sys.exit(7)", 7, "", id="exit-7"),
        pytest.param("import sys; sys.exit('no such shop')", 1, "no such shop\n", id="exit-with-a-sentence"),
        pytest.param("raise SystemExit(True)", 1, "", id="exit-with-a-bool"),
    ],
)
def test_the_exit_code_is_pythons(tmp_path, capsys, source, code, error):
    assert run(tmp_path, source) == code
    assert capsys.readouterr().err == error


@pytest.mark.parametrize(
    ("source", "code", "shown"),
    [
        pytest.param(
            """
            def fail():
                raise ValueError("broken")
            fail()
            """,
            1,
            [
                "Traceback (most recent call last):",
                '  File "{file}", line 4, in <module>',
                "    fail()",
                '  File "{file}", line 3, in fail',
                '    raise ValueError("broken")',
                "ValueError: broken",
            ],
            id="exception",
        ),
        pytest.param(
            "if",
            1,
            ['  File "{file}", line 1', "    if", "      ^", "SyntaxError: invalid syntax"],
            id="syntax-error",
        ),
        pytest.param(
            "raise KeyboardInterrupt",
            130,
            [
                "Traceback (most recent call last):",
                '  File "{file}", line 1, in <module>',
                "    raise KeyboardInterrupt",
                "KeyboardInterrupt",
            ],
            id="interrupt",
        ),
    ],
)
def test_a_traceback_shows_the_program_alone(tmp_path, capsys, source, code, shown):
    assert run(tmp_path, source) == code
    assert capsys.readouterr().err.splitlines() == [line.format(file=tmp_path / "program.py") for line in shown]


def test_a_script_sees_what_python_gives_it(tmp_path, capsys):
    (tmp_path / "neighbour.py").write_text("NAME = 'neighbour'")
    source = """
        import sys, neighbour, __main__
        print(__name__, __file__, sys.argv, sys.path[0], neighbour.NAME, __main__.neighbour is neighbour)
        print([name for name in globals() if not name.startswith("__")])
        def annotated(x: "not evaluated"): pass
        print(annotated.__annotations__)
    """
    assert run(tmp_path, source, "--out", "-m", "x") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"__main__ {tmp_path / 'program.py'} ['program.py', '--out', '-m', 'x'] {tmp_path} neighbour True",
        "['sys', 'neighbour']",
        "{'x': 'not evaluated'}",
    ]
    assert sys.modules["__main__"].__file__ == str(tmp_path / "program.py")


def test_a_module_sees_what_python_gives_it(tmp_path, capsys):
    package = tmp_path / "parcel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    source = "import sys\nfrom . import __name__ as name\nprint(__name__, name, sys.argv, sys.path[0])"
    (package / "__main__.py").write_text(source)
    assert run_program(find_program("parcel", is_module=True), ["-v"]) == 0
    assert capsys.readouterr().out == f"__main__ parcel {[str(package / '__main__.py'), '-v']} {tmp_path}\n"


def test_threads_are_waited_for(tmp_path, capsys):
    source = """
        import threading
        ended = threading.Event()
        def work():
            ended.wait()
            print("done", flush=True)
        thread = threading.Thread(target=work)
        thread.start()
        threading.Thread(target=ended.set).start()
    """
    assert run(tmp_path, source) == 0
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize(
    ("target", "is_module", "message"),
    [
        pytest.param(
            "nothing.py",
            False,
            "'nothing.py' does not exist. Give the path of a script, or the name of a module after -m.",
            id="no-script",
        ),
        pytest.param(
            ".",
            False,
            "'.' is a folder, not a Python file. Give the path of a script, or the name of a module after -m.",
            id="folder",
        ),
        pytest.param(
            "nothing.at.all",
            True,
            "there is no module named 'nothing.at.all'. For a script leave out -m and give its path.",
            id="no-module",
        ),
        pytest.param(
            "", True, "there is no module named ''. For a script leave out -m and give its path.", id="empty-module"
        ),
    ],
)
def test_a_program_that_is_not_there(target, is_module, message):
    with pytest.raises(ConfigError) as caught:
        find_program(target, is_module=is_module)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("program", "name"),
    [
        pytest.param(Program("jobs/nightly.py", is_module=False), "nightly.py", id="script"),
        pytest.param(Program("jobs.nightly", is_module=True), "jobs.nightly", id="module"),
    ],
)
def test_a_program_has_a_short_name(program, name):
    assert program.name == name
