"""No literal, parameter, comment, error text or password gets out by any way, whatever becomes of its statement."""

from __future__ import annotations

import contextlib
import itertools
import logging
import urllib.request

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import querywatch
from querywatch.report.html import render_html
from querywatch.report.json import dump_snapshot
from querywatch.report.text import render_text

#: Begins every secret of these tests. No name, figure or word of ours looks like it.
MARK = "Zqx"
#: The same for secrets that are numbers.
NUMBER = 770_077_000

_serial = itertools.count(1)


class Recorder:
    """An exporter that keeps what it is given."""

    notes = ()

    def __init__(self):
        self.records = []

    def on_finding(self, finding):
        self.records.append(finding)

    def on_pass(self, spans):
        self.records.extend(spans)

    def close(self):
        pass


class Log(logging.Handler):
    """Keeps every attribute of every record, as a JSON formatter would write them."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.texts = []

    def emit(self, record):
        self.texts.append(f"{record.getMessage()} {vars(record)!r}")


@contextlib.contextmanager
def listening():
    """Keep what is logged through logging and, where it is set up, through structlog."""
    log, events, logger = Log(), [], logging.getLogger("querywatch")

    def keep(_logger, _method, event):
        events.append(repr(event))
        raise structlog.DropEvent

    level = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.DEBUG)
    # Findings go to one of the two: half of them each, because structlog is set up in the middle.
    try:
        yield log.texts, events, lambda: structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    finally:
        structlog.reset_defaults()
        logger.removeHandler(log)
        logger.setLevel(level)


def collect_outputs(engine, work):
    """Watch *work* with everything on, and return everything that can be read of it afterwards, by its name."""
    recorder = Recorder()
    monitor = querywatch.install(
        engine, interval_s=3600.0, slow_query_s=1e-9, large_table_rows=1, explain_per_minute=10_000, prometheus_port=0
    )
    monitor.add_exporter(recorder)

    def fail(finding):
        raise ValueError(f"{MARK} in an exception of a callback")

    monitor.on_finding(fail)
    monitor.note_error("capture", ValueError(f"{MARK} in an exception of our own"))
    try:
        with listening() as (logged, events, configure):
            with querywatch.watch("job"):
                work()
            monitor.flush(60.0)
            configure()
            with querywatch.watch("another job"):
                work()
            monitor.flush(60.0)
            with urllib.request.urlopen(monitor.metrics_address, timeout=30) as answer:
                metrics = answer.read().decode()
            snapshot = monitor.snapshot()
    finally:
        querywatch.uninstall(engine)
    assert snapshot.queries
    assert snapshot.findings
    return {
        "json": dump_snapshot(snapshot),
        "text": render_text(snapshot),
        "html": render_html(snapshot),
        "prometheus": metrics,
        "logging": "\n".join(logged),
        "structlog": "\n".join(events),
        "spans": repr(recorder.records),
        "notes": repr(snapshot.notes),
        "repr": f"{monitor!r} {vars(monitor)['internal_errors']!r} {engine!r}" if engine.url.host is None else "",
        "records": repr(snapshot),
    }


def assert_no_secret(outputs, *secrets):
    leaks = {
        (name, secret): text[max(0, text.index(secret) - 80) : text.index(secret) + 80]
        for name, text in outputs.items()
        for secret in secrets
        if secret in text
    }
    assert leaks == {}


def run(engine, statement, parameters=None):
    """Send a text; what becomes of it does not matter."""
    with contextlib.suppress(sa.exc.DBAPIError), engine.connect() as connection:
        result = connection.exec_driver_sql(statement, parameters)
        if result.returns_rows:
            result.all()
        connection.rollback()


# Where a statement may hold a value. {s} is a text without quotes, {n} a number.
TEMPLATES = [
    "SELECT id FROM users WHERE email = '{s}'",
    "SELECT id FROM users WHERE email = 'it''s {s}' OR id = {n}",
    "SELECT id FROM users WHERE email IN ('{s}', 'b', '{s}2') AND id IN ({n}, 2, 3)",
    "SELECT id FROM users WHERE email LIKE '%{s}%' ESCAPE '!'",
    "SELECT id /* {s} */ FROM users -- {s}\nWHERE id = {n}",
    "-- {s}\nSELECT id FROM users WHERE id > {n} - 1",
    "/* {s} */ SELECT '{s}' AS email, {n}.5 AS total, -{n}, 1e3{n} FROM users",
    "SELECT CASE WHEN email = '{s}' THEN '{s}' ELSE 'other' END FROM users GROUP BY '{s}' HAVING count(*) > {n}",
    "SELECT id FROM users ORDER BY email = '{s}' LIMIT {n} OFFSET {n}",
    "WITH named AS (SELECT '{s}' AS email) SELECT u.id FROM users AS u JOIN named ON u.email = named.email",
    "INSERT INTO users (id, email) VALUES ({n}, '{s}'), ({n}1, '{s}2')",
    "INSERT INTO users (id, email) VALUES (1, '{s}')",
    "UPDATE users SET email = '{s}' WHERE id = {n}",
    "DELETE FROM users WHERE email = '{s}'",
    "SELECT id FROM nowhere WHERE email = '{s}'",
    "SELECT id FROM users WHERE email = '{s}' AND",
    "SELECT id FROM users WHERE email = '{s}",
    "SELECT id FROM users /* {s}",
    "SELECT id FROM users WHERE (email = '{s}'",
    "SELEC id FORM users WHERE email = '{s}' AND id = {n}",
    "SELECT '{s}'::text::nothing",
    "CREATE TABLE made (email TEXT DEFAULT '{s}' CHECK (email <> '{s}2'))",
    "CREATE INDEX partial ON users (id) WHERE email = '{s}'",
    "CREATE VIEW seen AS SELECT id FROM users WHERE email = '{s}'",
]
ON_SQLITE = [
    "PRAGMA key = '{s}'",
    "ATTACH DATABASE '/nowhere/{s}/{n}.db' AS other",
    "SELECT id FROM users WHERE email = x'{h}' OR email = CAST('{s}' AS TEXT)",
    "SELECT id FROM users WHERE json_extract('{{\"a\": \"{s}\"}}', '$.{s}') = {n}",
    "SELECT id FROM users WHERE email GLOB '{s}*' COLLATE NOCASE",
]
ON_POSTGRESQL = [
    "CREATE ROLE somebody PASSWORD '{s}'",
    "ALTER ROLE nobody_here PASSWORD '{s}'",
    "SET application_name = '{s}'",
    "SELECT id FROM users WHERE email = $${s}$$ OR email = $tag${s} $$ 'x$tag$",
    "SELECT id FROM users WHERE email = E'it\\'s {s}' OR email = U&'{s}'",
    "SELECT id FROM users WHERE email = $${s}",
    "SELECT id FROM users WHERE email::bytea = '\\x{h}'::bytea OR email = '{s}'::text",
    "SELECT id FROM users WHERE email = ANY(ARRAY['{s}', 'b']) OR id = ANY('{{{n},2}}'::int[])",
    "SELECT id FROM users WHERE created_at > TIMESTAMP '{s}'",
    "SELECT id FROM users WHERE email = '{s}' AND id > (SELECT max(id) - {n} FROM users WHERE email <> '{s}2')",
    "DO $$ BEGIN RAISE EXCEPTION '{s} %%', {n}; END $$",
    "SELECT 1/0 FROM users WHERE email = '{s}' OR true",
    "/* outer /* {s} */ {s} */ SELECT id FROM users WHERE id = {n}",
    "SELECT id FROM users WHERE email = '{s}' FOR UPDATE",
    "NOTIFY channel, '{s}'",
]

SECRETS = st.text("abcXYZ019_-.@ :;,!#&<>äß\n", min_size=1, max_size=12)


def fill(template, secret):
    return template.format(s=MARK + secret, n=NUMBER + next(_serial), h=(MARK + secret).encode().hex())


def forms_of(secret):
    """Return what would betray a secret: its beginning, which no encoding of an output changes, in plain and in hex."""
    return MARK, MARK.encode().hex(), str(NUMBER)[:6]


SCHEMA = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, created_at TIMESTAMP)",
    "INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (6, 'f')",
)


@pytest.fixture(scope="module")
def sqlite_engine(tmp_path_factory):
    engine = sa.create_engine(f"sqlite:///{tmp_path_factory.mktemp('shop') / 'shop.db'}")
    with engine.begin() as connection:
        for statement in SCHEMA:
            connection.exec_driver_sql(statement)
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_engine(postgres_database):
    """An engine whose URL has a password; the server trusts every client and does not ask for it."""
    engine = sa.create_engine(sa.make_url(postgres_database).set(password=f"{MARK}password"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION hypopg")
        for statement in SCHEMA:
            connection.exec_driver_sql(statement)
    yield engine
    engine.dispose()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(TEMPLATES + ON_SQLITE), SECRETS), min_size=1, max_size=12))
@example([(template, "secret") for template in TEMPLATES + ON_SQLITE])
def test_on_sqlite_no_value_in_a_text_gets_out(sqlite_engine, cases):
    def work():
        run(sqlite_engine, "SELECT id FROM users")
        for template, secret in cases:
            run(sqlite_engine, fill(template, secret))

    assert_no_secret(collect_outputs(sqlite_engine, work), *forms_of(MARK))


@pytest.mark.parametrize("secret", ["secret", "it is; a -- /* secret", "Ä\n<b>&secret"])
def test_on_postgresql_no_value_in_a_text_and_no_password_gets_out(postgres_engine, secret):
    def work():
        run(postgres_engine, "SELECT id FROM users")
        for template in TEMPLATES + ON_POSTGRESQL:
            run(postgres_engine, fill(template, secret).replace("%", "%%"))

    outputs = collect_outputs(postgres_engine, work)
    assert_no_secret(outputs, *forms_of(secret))
    assert '"kind": "' in outputs["json"].split('"plans"')[1]


USERS = sa.table("users", sa.column("id"), sa.column("email"))


def send_parameters(engine, secret):
    """Send a secret in every kind of parameter: once, in a loop, in a list, to a statement that fails."""
    with engine.connect() as connection:
        for number in range(8):
            connection.execute(sa.select(USERS).where(USERS.c.email == f"{secret}{number}")).all()
        for number in range(8):
            connection.execute(sa.text("SELECT id FROM users WHERE email = :e"), {"e": f"{secret}{number}"}).all()
        connection.execute(sa.select(USERS).where(USERS.c.email.in_([secret, "b"]))).all()
        connection.execute(sa.select(USERS).where(USERS.c.email == sa.literal(secret, literal_execute=True))).all()
        connection.execute(sa.select(sa.literal_column(f"'{secret}'").label("email"))).all()
        with connection.begin_nested() as nested:
            connection.execute(sa.insert(USERS), [{"id": NUMBER + n, "email": f"{secret}{n}"} for n in range(3)])
            nested.rollback()
        with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
            connection.execute(sa.insert(USERS).values(id=1, email=secret))
        with pytest.raises(sa.exc.DBAPIError), connection.begin_nested():
            connection.execute(sa.text("SELECT nothing FROM users WHERE email = :e"), {"e": secret})
        connection.rollback()


@pytest.mark.parametrize("name", ["sqlite_engine", "postgres_engine"])
def test_no_parameter_gets_out(request, name):
    engine = request.getfixturevalue(name)
    outputs = collect_outputs(engine, lambda: send_parameters(engine, f"{MARK}parameter"))
    assert "core_loop" in outputs["json"]
    assert "IntegrityError" in outputs["json"] or "UniqueViolation" in outputs["json"]
    assert '"kind": "' in outputs["json"].split('"plans"')[1]
    assert_no_secret(outputs, *forms_of(MARK))


def test_a_loop_with_values_in_its_text_is_found_and_tells_none_of_them(sqlite_engine):
    def work():
        with sqlite_engine.connect() as connection:
            for number in range(8):
                connection.exec_driver_sql(f"SELECT id FROM users WHERE email = '{MARK}{number}'").all()

    outputs = collect_outputs(sqlite_engine, work)
    assert "core_loop" in outputs["json"]
    assert_no_secret(outputs, *forms_of(MARK))
    assert "core_loop" in outputs["logging"]
    assert "core_loop" in outputs["structlog"]
    assert "querywatch_" in outputs["prometheus"]
    assert "internal_error" in outputs["logging"]
