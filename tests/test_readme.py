"""The README is true: every block of code in it runs, every table in it is what the code says, every file is there."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

import querywatch
from querywatch.advisor import finding as missing_index
from querywatch.detectors import DETECTORS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMAND = Path(sys.executable).with_name("querywatch")

# What `querywatch run` runs in the README's examples: one N+1, and no querywatch in it.
SCRIPT = """\
from sqlalchemy import create_engine, text
with create_engine("sqlite://").connect() as connection:
    connection.execute(text("CREATE TABLE users (name TEXT)"))
    for number in range(20):
        connection.execute(text("SELECT name FROM users WHERE name = :name"), {"name": str(number)})
"""

# What a block that imports nothing stands in: an application.
APPLICATION = """\
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
import querywatch

class Base(DeclarativeBase):
    pass

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    orders: Mapped[list["Order"]] = relationship()

class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))

engine = create_engine("sqlite:///shop.db")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([User(orders=[Order()]) for _ in range(50)])
    session.commit()
session = Session(engine)

def list_users(session):
    return [len(user.orders) for user in session.scalars(select(User))]

"""
CONFTEST = """\
import pytest

@pytest.fixture
def client():
    class Client:
        def get(self, path):
            return path
    return Client()
"""


class Block(NamedTuple):
    language: str
    code: str
    line: int


def find_blocks():
    blocks = []
    for match in re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", README, re.MULTILINE | re.DOTALL):
        code = "".join(line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True))
        blocks.append(Block(match[2], code, README[: match.start()].count("\n") + 2))
    return blocks


BLOCKS = find_blocks()


def params_of(language):
    return [pytest.param(block.code, id=f"line-{block.line}") for block in BLOCKS if block.language == language]


def table_of(name):
    """Return the cells of each row between `<!-- name -->` and `<!-- /name -->`."""
    section = README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def names_in(cell):
    return re.findall(r"`([^`]+)`", cell)


def run(command, folder, **variables):
    environ = os.environ | {"PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"} | variables
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)


# -- blocks


def test_every_block_is_tested_by_one_of_these():
    assert README.count("```") == 2 * len(BLOCKS)
    assert {block.language for block in BLOCKS} == {"python", "bash", "sql", "text"}


@pytest.mark.parametrize("code", params_of("python"))
def test_python_runs_as_it_stands(code, tmp_path):
    if "def test_" in code:
        (tmp_path / "test_shop.py").write_text(code)
        (tmp_path / "conftest.py").write_text(CONFTEST)
        command = [sys.executable, "-m", "pytest", "-p", "no:asyncio", "-q", "--querywatch"]
        assert "1 passed" in run(command, tmp_path).stdout
        return
    # As a file, because a finding has a line.
    (tmp_path / "program.py").write_text(code if "import " in code else APPLICATION + code)
    done = run([sys.executable, "-W", "error", "program.py"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_replay_prints_what_is_shown(tmp_path):
    [code] = [block.code for block in BLOCKS if "querywatch.prove(" in block.code]
    [shown] = [block.code for block in BLOCKS if block.code.startswith("replayed")]
    (tmp_path / "program.py").write_text(APPLICATION + code)
    printed = run([sys.executable, "program.py"], tmp_path).stdout
    assert [reduce_numbers(line) for line in printed.splitlines()] == [
        reduce_numbers(line) for line in shown.splitlines()
    ]


@pytest.mark.parametrize("code", params_of("bash"))
def test_commands_work_as_they_stand(code, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    for line in code.splitlines():
        words = shlex.split(line)
        variables = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        program, *arguments = [word for word in words if word.split("=")[0] not in variables]
        if program == "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        elif program == "pip":
            assert_extras_exist(arguments)
        elif program == "pytest":
            assert arguments == ["--querywatch"]  # tests/plugins run it
        else:
            assert program == "querywatch"
            assert {name.removeprefix("QUERYWATCH_").lower() for name in variables} <= set(field_names())
            done = run(words[len(variables) :], tmp_path, **variables)
            # `report` tells by its exit code that there are findings.
            assert done.returncode == (1 if arguments[0] == "report" else 0), done.stderr
            assert "Traceback" not in done.stderr


def assert_extras_exist(arguments):
    command, package = arguments
    assert command == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.search(r"\[(.*)\]", package)[1].split(",")) <= extras.keys()


def test_run_writes_what_report_reads(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    [code] = [block.code for block in BLOCKS if "querywatch report" in block.code]
    for line in code.splitlines():
        done = run(shlex.split(line), tmp_path)
    assert "n-plus-one" in (tmp_path / "report.html").read_text()
    assert done.returncode == 1


@pytest.mark.parametrize("code", params_of("sql"))
def test_sql_runs(code, postgres_database):
    url = make_url(postgres_database)
    with psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database) as connection:
        connection.execute(code)


def test_the_demo_prints_what_is_shown(tmp_path):
    [shown] = [block.code for block in BLOCKS if block.code.startswith("n-plus-one")]
    # In the checkout, where its lines have the short path.
    done = run([COMMAND, "demo", "--duration", "2", "--out", tmp_path], ROOT, TMPDIR=str(tmp_path))
    printed = {reduce_numbers(line) for line in done.stdout.splitlines()}
    assert [line for line in shown.splitlines() if reduce_numbers(line) not in printed] == []


def reduce_numbers(line):
    """Return *line* without what differs between two runs: figures and the room they take."""
    return " ".join(re.sub(r"[\d.]*\d|\b(?:query|queries)\b", "0", line).split())


# -- tables and lists


def field_names():
    return [field.name for field in dataclasses.fields(querywatch.Config)]


def settings_rows():
    """Return the rows of the settings table as `Config` has them."""
    section = querywatch.Config.__doc__.split("Args:")[1]
    meanings = dict(re.findall(r"^ +(\w+): (.+)$", section, re.MULTILINE))
    return [
        [f"`{field.name}`", f"`{field.default!r}`", meanings[field.name]]
        for field in dataclasses.fields(querywatch.Config)
    ]


def test_settings_are_those_of_config():
    expected = settings_rows()
    assert table_of("settings") == expected, "\n".join(f"| {' | '.join(row)} |" for row in expected)


def test_findings_are_those_that_exist():
    codes = [*(detector.CODE for detector in DETECTORS), missing_index.CODE]
    assert re.findall(r'<a id="(.+?)"></a>`\1`', README) == codes


@pytest.fixture
def page(tmp_path):
    """A real scrape, after statements that fail, repeat and exceed a limit."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    monitor = querywatch.install(engine, prometheus_port=0, max_findings=1, slow_query_s=1e-9)
    with querywatch.watch("job"), engine.connect() as connection:
        connection.execute(text("CREATE TABLE users (id INTEGER)"))
        connection.execute(text("SELECT id FROM users")).all()
        with pytest.raises(Exception, match="no such table"):
            connection.execute(text("SELECT id FROM missing"))
    monitor.flush()
    with urlopen(monitor.metrics_address) as response:
        yield response.read().decode()
    monitor.close()
    engine.dispose()


def test_metrics_are_those_of_a_scrape(page):
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE))
    rows = table_of("metrics")
    assert {names_in(row[0])[0]: row[1] for row in rows} == types
    assert {names_in(row[0])[0]: row[3] for row in rows} == helps
    for name, _, labels, _ in rows:
        samples = re.findall(rf"^{names_in(name)[0]}(?:_bucket)?{{(.*)}} ", page, re.MULTILINE)
        seen = {label for sample in samples for label in re.findall(r"(\w+)=\"", sample)} - {"le"}
        # SQLite has no cost, so there is no sample of the gain here.
        assert seen == set(names_in(labels)) or names_in(name) == ["querywatch_index_advice_gain_ratio"]


def test_the_log_event_has_the_keys_listed(caplog):
    engine = create_engine("sqlite://")
    with caplog.at_level(logging.INFO, "querywatch"):
        monitor = querywatch.install(engine, slow_query_s=1e-9)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        monitor.close()
    [record] = [record for record in caplog.records if "querywatch.finding" in record.getMessage()]
    listed = names_in(re.search(r"^\*\*Log\.\*\*.*?\n\n", README, re.MULTILINE | re.DOTALL)[0])
    plain = vars(logging.LogRecord("", 0, "", 0, "", None, None))
    assert vars(record).keys() - plain.keys() - {"message", "asctime", "taskName"} == set(listed) - {
        "querywatch.finding",
        "querywatch",
        "logging",
    }


def test_span_attributes_are_those_that_the_exporter_writes():
    source = (ROOT / "querywatch" / "exporters" / "opentelemetry.py").read_text()
    written = set(re.findall(r'^ +"([a-z_.]+)": ', source, re.MULTILINE))
    section = re.search(r"^\*\*OpenTelemetry\.\*\*.*?\n\n", README, re.MULTILINE | re.DOTALL)[0]
    assert {name for name in names_in(section) if "." in name} == written


def test_files_that_are_named_exist():
    questions = README.split("| question |")[1].split("\n\n")[0]
    for name in names_in(questions):
        assert (ROOT / "querywatch" / name).exists() or name in {"querywatch/", "install()"}, name
    for name in [*re.findall(r'(?:src|srcset)="([^"]+)"', README), "examples", "CHANGELOG.md"]:
        assert (ROOT / name).exists(), name


def test_pictures_open_quickly():
    pictures = sorted((ROOT / "docs" / "images").iterdir())
    assert [picture.name for picture in pictures if picture.stat().st_size > 300_000] == []
    assert {picture.name for picture in pictures} == set(re.findall(r"docs/images/([\w.-]+)", README))
