"""`import querywatch` stays cheap: an application pays for what it uses, when it uses it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LIMIT_MS = 60
ROUNDS = 5

NEVER_IMPORTED = (
    "alembic",
    "celery",
    "fastapi",
    "flask",
    "jinja2",
    "opentelemetry.sdk",
    "prometheus_client",
    "rich",
    "sqlalchemy.ext.asyncio",
    "sqlglot",
    "starlette",
    "typer",
    "werkzeug",
)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def measure_ms(modules):
    """CPU time, not wall-clock time: other tests run beside this one."""
    imports = ", ".join(modules)
    return (
        float(run(f"import time; began = time.process_time(); import {imports}; print(time.process_time() - began)"))
        * 1000
    )


def test_costs_at_most_60_ms_more_than_sqlalchemy_orm():
    without, with_querywatch = [], []
    for _ in range(ROUNDS):
        without.append(measure_ms(["sqlalchemy.orm"]))
        with_querywatch.append(measure_ms(["sqlalchemy.orm", "querywatch"]))
    assert min(with_querywatch) - min(without) <= LIMIT_MS


@pytest.fixture(scope="module")
def imported():
    """Names of the modules that a program has after `import querywatch`."""
    return set(json.loads(run("import json, sys, querywatch; print(json.dumps(list(sys.modules)))")))


@pytest.mark.parametrize("module", NEVER_IMPORTED)
def test_does_not_import(imported, module):
    assert module not in imported
