"""Every example runs as its first lines say, and finds the N+1 that it holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from servers import take_free_port

EXAMPLES = Path(__file__).parent.parent / "examples"


# A busy machine can make any query slow; the examples are about another finding.
ENVIRON = os.environ | {"QUERYWATCH_SLOW_QUERY_S": "inf"}


def line_of(file):
    """Return the first line that reads the relationship."""
    lines = (EXAMPLES / file).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if ".orders" in line and "relationship" not in line)


@contextmanager
def served(folder, *command):
    """Run a web server of *folder*'s application until the block ends, and yield a function that asks it for a page."""
    port = take_free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--port", str(port)],
        cwd=EXAMPLES / folder,
        env=ENVIRON,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def ask(path):
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            return json.load(response)

    deadline = time.monotonic() + 30
    try:
        while True:
            try:
                ask("/findings")
                break
            except URLError:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield ask
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("folder", "file", "command"),
    [
        pytest.param("fastapi_shop", "app.py", ("uvicorn", "app:app"), id="fastapi"),
        pytest.param("fastapi_shop", "async_app.py", ("uvicorn", "async_app:app"), id="fastapi-async-engine"),
        pytest.param("flask_shop", "app.py", ("flask", "run"), id="flask"),
    ],
)
def test_a_shop_names_its_route_its_relationship_and_its_line(folder, file, command):
    with served(folder, *command) as ask:
        assert ask("/users") == ask("/users/fixed") == [{"name": f"user {n}", "orders": 2} for n in range(20)]
        [finding] = ask("/findings")
    line = line_of(f"{folder}/{file}")
    assert finding["code"] == "n-plus-one"
    assert finding["scope"] == "GET /users"
    assert finding["subject"] == "User.orders"
    assert finding["at"] == f"{file}:{line}"
    assert "selectinload(User.orders)" in finding["fix"]


def test_a_plain_script_prints_what_was_found():
    done = subprocess.run(
        [sys.executable, "examples/plain_script.py"],
        cwd=EXAMPLES.parent,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    line = line_of("plain_script.py")
    assert f"n-plus-one User.orders at examples/plain_script.py:{line}\n" in done.stdout
    assert "selectinload(User.orders)" in done.stdout


def test_a_celery_task_is_named_also_without_a_broker():
    done = subprocess.run(
        [sys.executable, "examples/celery_worker/tasks.py"],
        cwd=EXAMPLES.parent,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    file = "examples/celery_worker/tasks.py"
    line = line_of("celery_worker/tasks.py")
    assert f"n-plus-one User.orders at {file}:{line} in shop.send_invoices\n" in done.stdout
    assert "in shop.send_invoices_fixed" not in done.stdout
    assert "selectinload(User.orders)" in done.stdout
