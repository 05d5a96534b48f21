"""`querywatch demo`: it ends by itself, shows what it found for real, and leaves nothing but its reports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from querywatch.report.json import load_snapshot

COMMAND = Path(sys.executable).with_name("querywatch")


def start(folder, *arguments):
    """Start the demo with a folder for temporary files of its own, to see that it leaves none."""
    temporary = folder / "tmp"
    temporary.mkdir()
    return subprocess.Popen(
        [COMMAND, "demo", *arguments],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder, *arguments):
    with start(folder, *arguments) as process:
        output, error = process.communicate(timeout=120)
    return output, error, process.returncode


def assert_shows_the_whole_path(output, folder):
    first = output.splitlines()[0]
    assert re.search(r"200,000 orders    http://127\.0\.0\.1:\d+    metrics http://127\.0\.0\.1:\d+/metrics$", first)
    assert "\x1b" not in output
    n_plus_one = re.search(r"^n-plus-one +GET /users +User\.orders (?:.+\n)+", output, re.MULTILINE)[0]
    assert re.search(r"at +\S+demo/shop\.py:\d+  in", n_plus_one)
    assert "selectinload(User.orders)" in n_plus_one
    assert "51 -> 2 queries" in n_plus_one
    assert re.search(r"^n-plus-one +GET /products +items ", output, re.MULTILINE)
    assert re.search(r"^missing-index .*orders\(.*created_at", output, re.MULTILINE)
    table = {line.split("  ")[0]: line for line in output.splitlines() if line.startswith("GET ")}
    assert re.search(r"51 queries .* 2 queries ", table["GET /users"])
    before_ms, after_ms = map(float, re.findall(r"([\d.]+) ms", table["GET /orders"]))
    assert after_ms < before_ms
    assert output.splitlines()[-1] == "report  querywatch-report.html    saved as querywatch-report.json"
    assert "User.orders" in (folder / "querywatch-report.html").read_text()
    snapshot = load_snapshot((folder / "querywatch-report.json").read_text())
    assert ("n-plus-one", "User.orders") in [(finding.code, finding.subject) for finding in snapshot.findings]


def test_on_sqlite(tmp_path):
    output, error, code = run(tmp_path, "--duration", "2")
    assert (error, code) == ("", 0)
    assert_shows_the_whole_path(output, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "querywatch-report.html",
        "querywatch-report.json",
        "tmp",
    ]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_on_postgresql(tmp_path, postgres_database):
    url = make_url(postgres_database)
    with psycopg.connect(
        host=url.host, port=url.port, user=url.username, dbname=url.database, autocommit=True
    ) as connection:
        connection.execute("CREATE EXTENSION hypopg")
        connection.execute("CREATE TABLE orders (mine int)")
        output, error, code = run(tmp_path, "--duration", "2", "--database-url", postgres_database)
        assert (error, code) == ("", 0)
        assert_shows_the_whole_path(output, tmp_path)
        assert connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ 'querywatch'").fetchall() == []
        assert connection.execute("SELECT * FROM orders").fetchall() == []


def test_stopped_it_cleans_up(tmp_path):
    with start(tmp_path, "--duration", "600") as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")
    assert output.splitlines()[-1] == "stopped; the shop is closed and its tables are gone"
    assert list((tmp_path / "tmp").iterdir()) == []
    port = int(re.search(r"127\.0\.0\.1:(\d+) ", first)[1])
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))


def test_killed_politely_while_the_shop_is_filled_it_cleans_up(tmp_path):
    database = tmp_path / "own.db"
    with start(tmp_path, "--database-url", f"sqlite:///{database}") as process:
        while process.poll() is None and not database.exists():
            pass
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")
    assert not database.exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        pytest.param(
            "--port", "--port {port}: cannot listen there (Address already in use). Choose another", id="shop"
        ),
        pytest.param("--metrics-port", "{port}", id="metrics"),
    ],
)
def test_a_port_in_use_is_one_line(tmp_path, option, message):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        output, error, code = run(tmp_path, option, str(port))
    assert (output, code) == ("", 2)
    [line] = error.splitlines()
    assert line.startswith("querywatch: ")
    assert message.format(port=port) in line
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_missing_package_is_one_line():
    code = "import sys; sys.modules['uvicorn'] = None; from querywatch.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    expected = 'querywatch: The demo needs a package that is not installed. Run: pip install "querywatch[demo]"\n'
    assert (done.stdout, done.stderr, done.returncode) == ("", expected, 2)


def test_json_is_the_snapshot_alone(tmp_path):
    output, error, code = run(tmp_path, "--duration", "0.5", "--format", "json")
    assert code == 0
    assert load_snapshot(output).databases
    assert error.splitlines()[0].startswith("shop on SQLite, ")


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    expected = "querywatch: --out: there is no folder 'nowhere'. Create it, or choose another one.\n"
    assert run(tmp_path, "--out", "nowhere") == ("", expected, 2)
