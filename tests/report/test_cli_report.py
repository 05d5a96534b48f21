import stat
import subprocess
import sys
from dataclasses import replace

import pytest
import typer
from sample_snapshot import build_snapshot
from typer.testing import CliRunner

from querywatch.cli.report import report
from querywatch.report.html import render_html
from querywatch.report.json import dump_snapshot, load_snapshot

SAMPLE = build_snapshot()

program = typer.Typer()
program.command()(report)


def run(*arguments):
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "snapshot.json"
    path.write_text(dump_snapshot(SAMPLE))
    return path


def test_prints_text_and_exits_with_1_for_findings(saved):
    result = run(saved)
    assert result.exit_code == 1
    assert "n-plus-one      GET /users      User.orders" in result.stdout
    assert result.stderr == ""


def test_exits_with_0_without_findings(tmp_path):
    path = tmp_path / "calm.json"
    path.write_text(dump_snapshot(replace(SAMPLE, findings=())))
    assert run(path).exit_code == 0


def test_writes_a_page_that_only_its_owner_can_read(saved, tmp_path):
    out = tmp_path / "report.html"
    result = run(saved, "--format", "html", "--out", out)
    assert (result.exit_code, result.stdout) == (1, "")
    assert out.read_text() == render_html(SAMPLE)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_json_is_the_snapshot_again(saved):
    assert load_snapshot(run(saved, "--format", "json").stdout) == load_snapshot(saved.read_text())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(None, "No such file or directory", id="missing"),
        pytest.param(b"", "it is not JSON", id="empty"),
        pytest.param(b"\xff\xfe\x00", "it is not text", id="bytes"),
        pytest.param(b"{}", "not a saved snapshot of querywatch", id="other-json"),
        pytest.param(b'{"format": "querywatch-snapshot", "format_version": 99}', "format version 99", id="newer"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path, content, sentence):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    result = run(path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("querywatch: ")
    assert sentence in result.stderr
    assert str(path) in result.stderr


def test_a_file_that_cannot_be_written(saved, tmp_path):
    result = run(saved, "--out", tmp_path / "missing" / "report.txt")
    assert result.exit_code == 2
    assert "cannot write" in result.stderr


def test_an_unknown_format(saved):
    assert run(saved, "--format", "pdf").exit_code == 2


def test_a_reader_that_leaves_early_is_no_error(saved):
    command = "import sys, typer; from querywatch.cli.report import report; typer.run(report)"
    with subprocess.Popen(
        [sys.executable, "-c", command, saved, "--format", "html"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1
