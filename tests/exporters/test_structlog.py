import logging
import subprocess
import sys

import pytest
import structlog
from structlog.testing import LogCapture

from querywatch.config import Config
from querywatch.exporters import structlog as exporter_module

VALUES = {
    "code": "n-plus-one",
    "kind": "lazy_load",
    "subject": "User.orders",
    "severity": "warning",
    "scope": "GET /users",
    "count": 50,
    "total_s": 0.31,
    "call_site": "shop/views.py:44",
    "fix": "add .options(selectinload(User.orders)) to the select at shop/views.py:41.",
    "database": "shop",
    "fingerprint": "0123456789abcdef",
}


@pytest.fixture
def exporter():
    return exporter_module.start(Config(), lambda: None)


@pytest.fixture
def captured():
    """structlog as a host configures it."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.stdlib.add_log_level, capture], cache_logger_on_first_use=False)
    yield capture
    structlog.reset_defaults()


def test_structlog_gets_one_event_with_its_data_in_keys(exporter, captured, make_finding, caplog):
    exporter.on_finding(make_finding())
    assert captured.entries == [{"event": "querywatch.finding", "log_level": "warning", "level": "warning", **VALUES}]
    assert caplog.records == []


def test_the_log_gets_the_same_where_structlog_is_not_configured(exporter, make_finding, caplog):
    exporter.on_finding(make_finding())
    (record,) = caplog.records
    assert record.name == "querywatch"
    assert record.getMessage() == (
        'querywatch.finding code=n-plus-one kind=lazy_load subject=User.orders severity=warning scope="GET /users" '
        "count=50 total_s=0.31 call_site=shop/views.py:44 "
        'fix="add .options(selectinload(User.orders)) to the select at shop/views.py:41." '
        "database=shop fingerprint=0123456789abcdef"
    )
    assert {key: record.__dict__[key] for key in VALUES} == VALUES


@pytest.mark.parametrize(
    ("severity", "level"), [("info", logging.INFO), ("warning", logging.WARNING), ("error", logging.ERROR)]
)
def test_severity_is_the_level(exporter, make_finding, caplog, severity, level):
    caplog.set_level(logging.DEBUG, logger="querywatch")
    exporter.on_finding(make_finding(severity=severity))
    assert [record.levelno for record in caplog.records] == [level]


@pytest.mark.parametrize("severity", ["info", "warning", "error"])
def test_severity_is_structlogs_level_too(exporter, captured, make_finding, severity):
    exporter.on_finding(make_finding(severity=severity))
    assert [entry["log_level"] for entry in captured.entries] == [severity]


def test_a_level_that_the_host_switched_off_is_not_rendered(exporter, make_finding, caplog):
    caplog.set_level(logging.ERROR, logger="querywatch")
    exporter.on_finding(make_finding())
    assert caplog.records == []


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        pytest.param("users\nERROR forged", '"users\\\\nERROR forged"', id="line-break"),
        pytest.param("a\rb", "a\\rb", id="carriage-return"),
        pytest.param("a\x1b[31mb", "a\\x1b[31mb", id="terminal-colour"),
        pytest.param("a\u2028b\u202ec", "a\\u2028b\\u202ec", id="unicode-line-and-direction"),
        pytest.param("a\udcffb", "a\\udcffb", id="invalid-utf-8"),
        pytest.param('say "x"=1', '"say \\"x\\"=1"', id="quotes-and-equals"),
        pytest.param("", '""', id="empty"),
        pytest.param("größe", "größe", id="other-scripts"),
    ],
)
def test_no_value_can_forge_a_line_or_a_key(exporter, make_finding, caplog, subject, shown):
    exporter.on_finding(make_finding(subject=subject, kind=None))
    message = caplog.records[0].getMessage()
    assert f"code=n-plus-one subject={shown} severity=" in message
    assert message.isprintable()
    assert caplog.records[0].subject.isprintable()


def test_what_is_not_known_is_left_out_of_the_line(exporter, make_finding, caplog):
    nothing = dict.fromkeys(("kind", "database", "fingerprint", "call_site", "scope", "total_s"))
    exporter.on_finding(make_finding(**nothing))
    message = caplog.records[0].getMessage()
    assert "None" not in message
    assert "scope" not in message


def test_a_log_that_fails_is_noted_once_and_not_raised(exporter, make_finding):
    def fail(logger, name, event):
        raise RuntimeError("literal 'secret'")

    structlog.configure(processors=[fail], cache_logger_on_first_use=False)
    try:
        exporter.on_finding(make_finding())
        exporter.on_finding(make_finding())
    finally:
        structlog.reset_defaults()
    assert exporter.notes == ("A finding could not be logged: the log raised RuntimeError.",)


def test_logs_nothing_after_close(exporter, make_finding, caplog):
    exporter.close()
    exporter.on_finding(make_finding())
    assert caplog.records == []


def test_starting_twice_adds_one_null_handler():
    for _ in range(2):
        exporter_module.start(Config(), lambda: None)
    handlers = logging.getLogger("querywatch").handlers
    assert [type(handler) for handler in handlers].count(logging.NullHandler) == 1


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
{setup}
from conftest import FINDING
from querywatch.config import Config
from querywatch.exporters import structlog as exporter
exporter.start(Config(), None).on_finding(FINDING)
print("structlog" in sys.modules)
"""


@pytest.mark.parametrize(
    ("setup", "stdout", "stderr"),
    [
        pytest.param("", "False\n", "", id="nothing-imported"),
        pytest.param("import structlog", "True\n", "", id="structlog-imported-not-configured"),
        pytest.param("import logging; logging.getLogger()", "False\n", "", id="logging-not-configured"),
        pytest.param(
            "import logging; logging.basicConfig(format='%(levelname)s %(code)s')",
            "False\n",
            "WARNING n-plus-one\n",
            id="logging-configured",
        ),
    ],
)
def test_prints_only_where_the_host_set_up_a_log(setup, stdout, stderr):
    here = __file__.rpartition("/")[0]
    command = [sys.executable, "-c", PROGRAM.format(setup=setup), here]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (stdout, stderr)
