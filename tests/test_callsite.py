from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import inspect
import sys
import sysconfig
import textwrap
import threading
from pathlib import Path

import jinja2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from querywatch import callsite
from querywatch.callsite import describe_caller, find_caller, find_outer
from querywatch.integrations import asgi, wsgi

HERE = str(Path(__file__))


def line_here(offset=0):
    return sys._getframe(1).f_lineno + offset


def marked(function, mark="outer"):
    """Return the number of the line of *function* that ends in `# <- mark`."""
    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, text in enumerate(lines) if text.rstrip().endswith(f"# <- {mark}")]
    return first + number


class Probe:
    """Asks for the caller where SQLAlchemy has gone down to the driver."""

    def __init__(self, engine, package=None):
        self.seen = []
        self.engine = engine
        names = {"seen": self.seen, "find_caller": find_caller, "find_outer": find_outer, "package": package}
        source = """
            def ask(*arguments):
                caller = find_caller(package)
                seen.append((caller, find_outer(caller)))
        """
        # Of no file, or the probe itself would be the application's innermost line.
        exec(compile(textwrap.dedent(source), "<probe>", "exec"), names)
        sa.event.listen(getattr(engine, "sync_engine", engine), "before_cursor_execute", names["ask"])

    def take(self):
        """Return the line that asked for the one statement since."""
        return self.take_both()[0]

    def take_both(self):
        """Return it with the line that called its function."""
        [(caller, outer)] = self.seen
        self.seen.clear()
        return describe_caller(caller.code, caller.line), outer and describe_caller(outer.code, outer.line)


@pytest.fixture
def probe():
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False})
    yield Probe(engine)
    engine.dispose()


def ask(probe):
    with probe.engine.connect() as connection:
        return connection.scalar(sa.text("SELECT 1"))


class Lazy:
    def __init__(self, probe):
        self.probe = probe

    @property
    def total(self):
        return ask(self.probe)


ASK_LINE = ask.__code__.co_firstlineno + 2


def test_the_line_that_executes(probe):
    ask(probe)
    site = probe.take()
    assert (site.line, site.function) == (ASK_LINE, "ask")
    assert site.file.endswith("test_callsite.py")


def test_a_list_comprehension_is_named_by_its_function(probe):
    with probe.engine.connect() as connection:
        [connection.scalar(sa.text("SELECT 1")) for _ in range(1)]
    assert probe.take() == callsite.CallSite(
        callsite._shorten(HERE), line_here(-2), "test_a_list_comprehension_is_named_by_its_function"
    )


def test_a_generator(probe):
    def rows():
        with probe.engine.connect() as connection:
            yield connection.scalar(sa.text("SELECT 1"))

    list(rows())
    site = probe.take()
    assert (site.line, site.function) == (line_here(-4), "rows")


def test_a_lambda_is_named_by_its_function(probe):
    with probe.engine.connect() as connection:
        run = lambda: connection.scalar(sa.text("SELECT 1"))  # noqa: E731
        run()
    site = probe.take()
    assert (site.line, site.function) == (line_here(-3), "test_a_lambda_is_named_by_its_function")


def test_a_property(probe):
    assert Lazy(probe).total == 1
    assert probe.take().function == "ask"


def test_a_thread_of_a_pool(probe):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(ask, probe).result()
    assert probe.take().line == ASK_LINE


def test_a_thread_that_runs_nothing_of_the_applications(probe):
    connection = probe.engine.connect()
    thread = threading.Thread(target=connection.execute, args=[sa.text("SELECT 1")])
    thread.start()
    thread.join()
    connection.close()
    assert probe.seen == [(callsite.Caller(None, 0), None)]


def test_exec_climbs_to_the_line_that_runs_it(probe):
    exec(
        textwrap.dedent("""
            with probe.engine.connect() as connection:
                connection.execute(text)
        """),
        {"probe": probe, "text": sa.text("SELECT 1")},
    )
    site = probe.take()
    assert line_here(-8) <= site.line <= line_here(-2)
    assert site.function == "test_exec_climbs_to_the_line_that_runs_it"


@pytest.mark.parametrize("from_file", [False, True], ids=["from-string", "from-file"])
def test_a_template_climbs_to_the_line_that_renders_it(probe, tmp_path, from_file):
    source = "{% for row in rows() %}{{ row }}{% endfor %}"
    (tmp_path / "page.html").write_text(source)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(tmp_path))
    template = environment.get_template("page.html") if from_file else environment.from_string(source)
    connection = probe.engine.connect()
    assert template.render(rows=lambda: connection.execute(sa.text("SELECT 1")).scalars()) == "1"
    here = line_here(-1)
    connection.close()
    assert probe.take().line == here
    with probe.engine.connect() as connection:
        # Bound to nothing of the application's: only the render line is left.
        assert "1" in template.render(rows=_Rows(connection).read)
    probe.take()


class _Rows:
    def __init__(self, connection):
        self.connection = connection

    def read(self):
        return self.connection.execute(sa.text("SELECT 1"))


def test_a_template_that_executes_by_itself_is_its_render_line(probe):
    template = jinja2.Environment().from_string("{{ connection.scalar(statement) }}")
    with probe.engine.connect() as connection:
        assert template.render(connection=connection, statement=sa.text("SELECT 1")) == "1"
    site = probe.take()
    assert (site.line, site.function) == (line_here(-2), "test_a_template_that_executes_by_itself_is_its_render_line")


def test_async_goes_on_at_the_greenlets_parent():
    async def main():
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=sa.pool.StaticPool)
        probe = Probe(engine)
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))
            here = line_here(-1)
            first = probe.take()
            await connection.run_sync(lambda sync: sync.execute(sa.text("SELECT 1")))
            second = probe.take()
        await engine.dispose()
        return here, first, second

    here, first, second = asyncio.run(main())
    assert first.line == here
    assert second.line == here + 3
    assert first.function == second.function == "main"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package of one module `rows`."""
    packages = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(packages))

    def install(name, source):
        package = packages / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "rows.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delitem(sys.modules, f"{name}.rows", raising=False)
        return importlib.import_module(f"{name}.rows")

    return install


def run_in_a_thread(work, *arguments):
    """Run with nothing of the application's, such as this test, on the stack."""
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    thread.join()


def test_an_installed_application_is_its_innermost_line(probe, installed):
    rows = installed("installed_shop", "def read(connection, text):\n    return connection.execute(text).all()\n")
    with probe.engine.connect() as connection:
        run_in_a_thread(rows.read, connection, sa.text("SELECT 1"))
    site = probe.take()
    assert (Path(site.file).name, site.line, site.function) == ("rows.py", 2, "read")
    with probe.engine.connect() as connection:
        rows.read(connection, sa.text("SELECT 1"))
    assert probe.take().line == line_here(-1), "a line of the application's own comes before any installed one"


def test_what_serves_a_request_did_not_ask_for_its_statements(probe, installed):
    rows = installed(
        "installed_pages",
        "def make(connection, text):\n"
        "    def page(environ, start_response):\n"
        "        connection.execute(text).all()\n"
        "        return []\n"
        "    return page\n",
    )
    with probe.engine.connect() as connection:
        wsgi.WSGIMiddleware(rows.make(connection, sa.text("SELECT 1")))({"REQUEST_METHOD": "GET"}, None)
    site = probe.take()
    assert (Path(site.file).name, site.line) == ("rows.py", 3)


def test_of_an_installed_application_its_own_callers_are_told(installed):
    rows = installed(
        "installed_layers",
        "from querywatch.callsite import find_caller, find_outer\n"
        "def get(seen):\n"
        "    caller = find_caller('installed_layers')\n"
        "    seen.append((caller.line, find_outer(caller)))\n"
        "def serve(seen):\n"
        "    get(seen)\n",
    )
    seen = []
    run_in_a_thread(rows.serve, seen)
    [(line, outer)] = seen
    assert (line, outer.line, outer.code.co_name) == (3, 6, "serve")


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        pytest.param(None, "qw_tools", id="class-not-known"),
        pytest.param("qw_store", "qw_store", id="class-of-the-outer-one"),
        pytest.param("qw_tools", "qw_tools", id="class-of-the-inner-one"),
        pytest.param("qw", "qw_tools", id="a-name-that-only-begins-so"),
        pytest.param("elsewhere", "qw_tools", id="class-of-neither"),
    ],
)
def test_of_two_installed_packages_that_of_the_mapped_class_is_the_application(probe, installed, package, expected):
    tools = installed("qw_tools", "def run(connection, text):\n    return connection.execute(text).all()\n")
    store = installed("qw_store", "def read(run, *arguments):\n    return run(*arguments)\n")
    probe = Probe(probe.engine, package)
    with probe.engine.connect() as connection:
        run_in_a_thread(store.read, tools.run, connection, sa.text("SELECT 1"))
    assert Path(probe.take().file).parent.name == expected


# -- the line that called the function


def call_ask(probe):
    return ask(probe)  # <- outer


def call_in_comprehension(probe):
    with probe.engine.connect() as connection:
        return [connection.scalar(sa.text("SELECT 1")) for _ in range(1)]


def call_in_generator(probe):
    def rows():
        with probe.engine.connect() as connection:
            yield connection.scalar(sa.text("SELECT 1"))

    return list(rows())  # <- outer


def call_property(probe):
    return Lazy(probe).total  # the property calls `ask`


@pytest.mark.parametrize("run", [call_ask, call_in_generator], ids=lambda run: run.__name__)
def test_the_line_that_called_the_function(probe, run):
    run(probe)
    assert probe.take_both()[1] == callsite.CallSite(callsite._shorten(HERE), marked(run), run.__name__)


def test_of_a_comprehension_it_is_the_line_that_called_the_function_around_it(probe):
    call_in_comprehension(probe)
    inner, outer = probe.take_both()
    assert (inner.function, outer.line) == ("call_in_comprehension", line_here(-2))


def test_of_a_property_it_is_the_property(probe):
    call_property(probe)
    assert probe.take_both()[1].function == "Lazy.total"


def test_of_a_thread_it_is_nothing(probe):
    run_in_a_thread(ask, probe)
    assert probe.take_both() == (callsite.CallSite(callsite._shorten(HERE), ASK_LINE, "ask"), None)


def test_of_async_code_it_is_the_coroutine_that_awaits():
    async def read(connection):
        await connection.execute(sa.text("SELECT 1"))

    async def main():
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=sa.pool.StaticPool)
        probe = Probe(engine)
        async with engine.connect() as connection:
            await read(connection)
            here = line_here(-1)
        await engine.dispose()
        return here, probe.take_both()

    here, (inner, outer) = asyncio.run(main())
    assert (inner.function, outer.function, outer.line) == ("read", "main", here)


# -- whose a file is


PURELIB = sysconfig.get_path("purelib")
STDLIB = sysconfig.get_path("stdlib")


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        pytest.param("/srv/shop/views.py", callsite._APPLICATION, id="application"),
        pytest.param("/srv/querywatch/shop/views.py", callsite._APPLICATION, id="application-in-a-folder-of-our-name"),
        pytest.param("/srv/sqlalchemy/shop/views.py", callsite._APPLICATION, id="application-in-a-folder-of-that-name"),
        pytest.param(f"{PURELIB}/fastapi/routing.py", callsite._INSTALLED, id="package"),
        pytest.param("/home/me/.local/lib/python3.11/site-packages/x.py", callsite._INSTALLED, id="users-package"),
        pytest.param("/usr/lib/python3/dist-packages/flask/app.py", callsite._INSTALLED, id="debians-package"),
        pytest.param(
            "/home/me/querywatch/.venv/lib/python3.11/site-packages/shop/views.py",
            callsite._INSTALLED,
            id="package-below-a-folder-of-our-name",
        ),
        pytest.param(sa.__file__, callsite._SQLALCHEMY, id="sqlalchemy"),
        pytest.param(f"{STDLIB}/asyncio/tasks.py", callsite._NOBODY, id="standard-library"),
        pytest.param(callsite.__file__, callsite._NOBODY, id="querywatch"),
        pytest.param(asgi.__file__, callsite._BOUNDARY, id="where-a-request-begins"),
        pytest.param(f"{sysconfig.get_path('scripts')}/uvicorn", callsite._NOBODY, id="starter"),
        pytest.param("<string>", callsite._NOBODY, id="no-file"),
        pytest.param("<sqlalchemy generated Query.all>", callsite._NOBODY, id="generated"),
        pytest.param("<frozen importlib._bootstrap>", callsite._NOBODY, id="frozen"),
    ],
)
def test_who_owns_a_file(file, owner):
    assert callsite._find_owner(file) == owner


def test_a_path_below_the_working_directory_is_shown_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert callsite._shorten(str(tmp_path / "shop" / "views.py")) == "shop/views.py"
    assert callsite._shorten("/elsewhere/views.py") == "/elsewhere/views.py"
