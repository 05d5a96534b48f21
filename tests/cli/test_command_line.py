"""The command line itself: help, version, and errors that are one line with exit code 2."""

from __future__ import annotations

import sys

import pytest

from querywatch.cli import COMMANDS, main


def test_help_lists_the_commands_that_exist(capsys):
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"│ {command}" in output for command in COMMANDS)
    assert not any(f"│ {command}" in output for command in ("serve", "top", "advise", "lint", "release"))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(capsys, command):
    assert main([command, "--help"]) == 0
    output = capsys.readouterr().out
    assert f"Usage: querywatch {command}" in output
    assert "--format" in output


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("querywatch ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["nothing"], "querywatch: No such command 'nothing'. See: querywatch --help", id="no-command"),
        pytest.param(["run"], "querywatch: Missing argument 'PROGRAM'. See: querywatch run --help", id="no-argument"),
        pytest.param(
            ["run", "--nothing", "x.py"],
            "querywatch: No such option: --nothing. See: querywatch run --help",
            id="no-option",
        ),
        pytest.param(
            ["run", "nothing.py"],
            "querywatch: 'nothing.py' does not exist. Give the path of a script, or the name of a module after -m.",
            id="our-own-error",
        ),
    ],
)
def test_a_wrong_call_is_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err == f"{message}\n"
    assert captured.out == ""


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_a_missing_package_is_one_line(monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["--help"]) == 2
    expected = 'The command line needs a package that is not installed. Run: pip install "querywatch[cli]"'
    assert capsys.readouterr().err == f"querywatch: {expected}\n"


def test_a_value_out_of_its_range_is_one_line(capsys):
    assert main(["demo", "--duration", "0"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("querywatch: Invalid value for '--duration': ")
    assert line.endswith(". See: querywatch demo --help")


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 0
    captured = capsys.readouterr()
    assert "Usage: querywatch" in captured.out
    assert captured.err == ""
