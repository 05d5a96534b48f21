"""pytest: options, settings, the mark and the fixture; who watches the tests is in `watching`.

In:  `--querywatch` or the setting `querywatch`.
Out: a `Watcher` and a `Summary`, registered where they are asked for.

pytest imports this in every session of whoever has querywatch installed. So nothing else of querywatch is imported
here, and no SQLAlchemy, before something asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from querywatch.plugins.watched_test import WatchedTest
    from querywatch.plugins.watching import Watcher

_MODES = ("fail", "warn", "off")
_WATCHER = "querywatch-watcher"
_SUMMARY = "querywatch-summary"


class FindingWarning(pytest.PytestWarning):
    """A test caused findings, and `--querywatch=warn` was given."""


class Options(NamedTuple):
    """What the command line and the settings ask for.

    Args:
        mode: `fail`, `warn` or `off`.
        baseline: File of the known findings, None for none.
        update: Write that file anew instead of failing tests.
        prove: Run a test with findings again, with the fixes.
    """

    mode: str
    baseline: Path | None
    update: bool
    prove: bool


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options. Each value is an option of its own: `--querywatch tests/` must not take the folder for one."""
    group = parser.getgroup("querywatch", "querywatch: database queries")
    group.addoption(
        "--querywatch",
        "--querywatch=fail",
        action="store_const",
        const="fail",
        dest="querywatch",
        help="Watch the database queries of each test; a test that causes a finding, such as an N+1, fails.",
    )
    group.addoption(
        "--querywatch=warn", action="store_const", const="warn", dest="querywatch", help="The same, but it only warns."
    )
    group.addoption(
        "--querywatch=off",
        action="store_const",
        const="off",
        dest="querywatch",
        help="Do not watch, whatever the settings say. The fixture `querywatch` works also then.",
    )
    group.addoption(
        "--querywatch-baseline",
        metavar="FILE",
        help="JSON file of the findings that are known already: they fail no test.",
    )
    group.addoption(
        "--querywatch-update-baseline",
        action="store_true",
        help="Write what is found into that file. Watches, and fails no test.",
    )
    group.addoption(
        "--querywatch-prove",
        action="store_true",
        help="Run a test that fails for an N+1 again with the proposed loader options, in transactions that are rolled "
        "back, and show what they save. Watches.",
    )
    parser.addini("querywatch", "fail, warn or off: what --querywatch says where it is not given.", default="off")
    parser.addini("querywatch_baseline", "File of the known findings; relative to the folder of this configuration.")


def read_options(config: pytest.Config, option: object) -> Options:
    """Read what is asked for.

    Args:
        config: Of the session, parsed or not.
        option: Its namespace of options.

    Raises:
        pytest.UsageError: A value is wrong, or the baseline has no file.
    """
    mode, source = getattr(option, "querywatch", None), "--querywatch"
    if mode is None:
        mode, source = str(config.getini("querywatch")), "the setting querywatch"
    if mode not in _MODES:
        raise pytest.UsageError(f"{source} must be fail, warn or off, got {mode!r}.")
    update = bool(getattr(option, "querywatch_update_baseline", False))
    prove = bool(getattr(option, "querywatch_prove", False))
    if mode == "off" and (update or prove):
        mode = "fail"
    name = getattr(option, "querywatch_baseline", None)
    folder = config.invocation_params.dir
    if name is None and (name := str(config.getini("querywatch_baseline") or "")):
        folder = config.inipath.parent if config.inipath is not None else config.rootpath
    if update and not name:
        raise pytest.UsageError(
            "--querywatch-update-baseline does not know which file to write. "
            "Add --querywatch-baseline=FILE, or the setting querywatch_baseline."
        )
    return Options(mode, folder / name if name else None, update, prove)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Watch before a conftest imports the application: one that calls `install(engine)` then gets this monitor."""
    if read_options(early_config, early_config.known_args_namespace).mode != "off":
        from querywatch.plugins.watching import start_monitor  # noqa: PLC0415 - imports SQLAlchemy

        start_monitor()


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and who watches, if that is asked for."""
    config.addinivalue_line(
        "markers",
        "querywatch(max_queries=None, max_db_s=None, allow=()): "
        "limits of this test's queries, and findings that do not fail it.",
    )
    options = read_options(config, config.option)
    if options.mode == "off":
        return
    from querywatch.plugins.summary import Summary  # noqa: PLC0415 - only where it is asked for

    summary = Summary(config, options)
    config.pluginmanager.register(summary, _SUMMARY)
    _register_watcher(config).judge_by(options, summary.baseline)


@pytest.fixture
def querywatch(request: pytest.FixtureRequest) -> WatchedTest:
    """The database queries of this test so far, and what is wrong with them; also where `--querywatch` is not given."""
    watcher: Watcher = request.config.pluginmanager.get_plugin(_WATCHER) or _register_watcher(request.config)
    return watcher.test_of(request.node)


def _register_watcher(config: pytest.Config) -> Watcher:
    from querywatch.plugins.watching import Watcher  # noqa: PLC0415 - imports SQLAlchemy

    watcher = Watcher(config)
    config.pluginmanager.register(watcher, _WATCHER)
    return watcher
