"""The pytest plugin, as a project's own test session has it: each session here is a process of its own."""

from __future__ import annotations

import json
import re
import textwrap

import pytest

pytest_plugins = ["pytester"]

SHOP = """
    from sqlalchemy import ForeignKey, create_engine, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

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

    def fill():
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(User(orders=[Order()]) for _ in range(8))
            session.commit()

    def list_orders():
        with Session(engine) as session:
            return [len(user.orders) for user in session.scalars(select(User))]

    def count_users():
        with Session(engine) as session:
            return len(session.scalars(select(User)).all())

    def find_user(number):
        with Session(engine) as session:
            return session.scalars(select(User).where(User.id == number)).one().id

    def place_order():
        with Session(engine) as session:
            session.add(Order(user_id=1))
            session.commit()
"""

CONFTEST = """
    import pytest
    import shop

    @pytest.fixture(scope="session", autouse=True)
    def data():
        shop.fill()
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with a shop and its data; `project(tests, *arguments)` runs a session in it."""
    # In a pipeline pytest prints each failure's text twice.
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(shop=SHOP)
    pytester.makeconftest(textwrap.dedent(CONFTEST))

    def run(tests, *arguments, **files):
        pytester.makepyfile(test_shop="import pytest, shop\n" + textwrap.dedent(tests), **files)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)

    return run


N_PLUS_ONE = """
def test_orders():
    assert shop.list_orders() == [1] * 8
"""


def test_a_test_that_causes_a_finding_fails_with_its_text(project):
    result = project(N_PLUS_ONE, "--querywatch")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_orders _*",
            "querywatch: n-plus-one User.orders",
            "n-plus-one      test_shop.py::test_orders  User.orders     9 queries, 8 of them this one",
            "                at    shop.py:28  in list_orders",
            "                fix   *selectinload(User.orders)*shop.py:28*",
            'If this is meant so: @pytest.mark.querywatch(allow=["n-plus-one:User.orders"])',
            "*= querywatch: 1 finding =*",
            "test                       code        subject      count  line        fix",
            "test_shop.py::test_orders  n-plus-one  User.orders      8  shop.py:28  *selectinload(User.orders)*",
            "FAILED test_shop.py::test_orders - Failed: querywatch: n-plus-one User.or*",
        ]
    )
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.parametrize(
    ("arguments", "setting", "outcomes"),
    [
        pytest.param([], None, {"passed": 1}, id="not-asked"),
        pytest.param(["--querywatch"], None, {"failed": 1}, id="bare-option"),
        pytest.param(["--querywatch=warn"], None, {"passed": 1, "warnings": 1}, id="warn"),
        pytest.param(
            ["--querywatch=warn", "-W", "error::querywatch.plugins.pytest.FindingWarning"],
            None,
            {"passed": 1},
            id="warn-fails-no-test",
        ),
        pytest.param(["--querywatch=off"], "fail", {"passed": 1}, id="option-beats-setting"),
        pytest.param([], "fail", {"failed": 1}, id="setting"),
        pytest.param(["--querywatch", "test_shop.py"], None, {"failed": 1}, id="a-path-after-it-stays-a-path"),
    ],
)
def test_mode(project, pytester, arguments, setting, outcomes):
    if setting is not None:
        pytester.makeini(f"[pytest]\nquerywatch = {setting}")
    result = project(N_PLUS_ONE, *arguments)
    result.assert_outcomes(**outcomes)
    shown = "querywatch: 1 finding" in result.stdout.str()
    assert shown == (outcomes.get("failed") == 1 or "--querywatch=warn" in arguments)


@pytest.mark.parametrize(
    ("arguments", "ini", "message"),
    [
        pytest.param(["--querywatch=nope"], "", "*--querywatch*'nope'*", id="mode"),
        pytest.param([], "querywatch = yes", "*setting querywatch must be fail, warn or off, got 'yes'.", id="setting"),
        pytest.param(
            ["--querywatch", "--querywatch-baseline=none.json"],
            "",
            "*there is no baseline *none.json. Write it with --querywatch-update-baseline*",
            id="missing-baseline",
        ),
        pytest.param(
            ["--querywatch-update-baseline"], "", "*Add --querywatch-baseline=FILE*", id="update-without-file"
        ),
    ],
)
def test_bad_input_is_one_line_and_no_traceback(project, pytester, arguments, ini, message):
    pytester.makeini(f"[pytest]\n{ini}")
    result = project(N_PLUS_ONE, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


MARKS = """
pytestmark = pytest.mark.querywatch(max_queries=2)

@pytest.mark.querywatch(max_queries=9, allow=["User.orders"])
def test_passes_subject():
    shop.list_orders()

@pytest.mark.querywatch(max_queries=None, allow=["shop.py:*"])
def test_passes_pattern():
    shop.list_orders()

def test_passes_at_limit():
    shop.count_users()
    shop.count_users()

def test_fails_over_the_module_limit():
    [shop.count_users() for _ in range(3)]

@pytest.mark.querywatch(max_queries=50, max_db_s=0.0)
def test_fails_over_seconds():
    shop.count_users()

@pytest.mark.querywatch(max_querys=3)
def test_fails_for_a_wrong_word():
    pass

@pytest.mark.querywatch(max_queries="3")
def test_fails_for_a_wrong_value():
    pass

@pytest.mark.querywatch(allow=[1])
def test_fails_for_a_wrong_pattern():
    pass
"""


def test_mark(project):
    result = project(MARKS, "--querywatch", "--strict-markers")
    result.assert_outcomes(passed=3, failed=5)
    result.stdout.fnmatch_lines([
        "scope-budget    test_shop.py::test_fails_over_the_module_limit",
        "                why   The test ran 3 queries; its mark allows 2.",
        "                fix   Begin with SELECT users at shop.py:32: 3 of them. Or raise the limit of*",
        "*The test ran * in the database; its mark allows 0 ms.",
        "@pytest.mark.querywatch(...): does not know max_querys; it takes max_queries=, max_db_s= and allow=.",
        "@pytest.mark.querywatch(...): max_queries must be a number from 0 up, or None for no limit, got '3'.",
        "@pytest.mark.querywatch(...): allow must be a list of texts such as *User.orders*, got ?1?.",
    ])  # fmt: skip


OTHER_OUTCOMES = """
def test_fails_anyway():
    shop.list_orders()
    raise ZeroDivisionError("mine")

def test_skips():
    shop.list_orders()
    pytest.skip("later")

@pytest.mark.xfail(strict=True)
def test_known_to_be_bad():
    shop.list_orders()

def test_gives_up():
    shop.list_orders()
    pytest.xfail("known")
"""


def test_findings_beside_another_outcome(project):
    result = project(OTHER_OUTCOMES, "--querywatch")
    result.assert_outcomes(failed=1, skipped=1, xfailed=2)
    result.stdout.fnmatch_lines(
        ["E *ZeroDivisionError: mine", "*- querywatch -*", "querywatch: n-plus-one User.orders"]
    )


FIXTURE = """
def test_sees_what_ran_so_far(querywatch):
    assert (querywatch.queries, querywatch.findings, querywatch.calls) == ([], [], 0)
    shop.find_user(7)
    assert [(query.statement, query.calls) for query in querywatch.queries] == [
        ("SELECT users.id FROM users WHERE users.id = ?", 1)
    ]
    shop.list_orders()
    assert querywatch.calls == 10
    assert [(finding.code, finding.subject, finding.count) for finding in querywatch.findings] == [
        ("n-plus-one", "User.orders", 8)
    ]
    assert querywatch.total_s > 0

def test_begins_anew(querywatch):
    assert querywatch.calls == 0
"""


@pytest.mark.parametrize(
    ("arguments", "outcomes"),
    [
        pytest.param([], {"passed": 2}, id="off"),
        pytest.param(["--querywatch=off"], {"passed": 2}, id="told-to-be-off"),
        pytest.param(["--querywatch"], {"passed": 1, "failed": 1}, id="on"),
    ],
)
def test_fixture(project, arguments, outcomes):
    project(FIXTURE, *arguments).assert_outcomes(**outcomes)


SILENT = """
from concurrent.futures import ThreadPoolExecutor

@pytest.fixture
def loops():
    shop.list_orders()
    yield
    shop.list_orders()

def test_fixtures_are_not_the_test(loops, querywatch):
    assert querywatch.calls == 0

def test_data_is_arranged_one_by_one():
    for _ in range(9):
        with shop.Session(shop.engine) as session:
            session.add(shop.User())
            session.commit()

def test_another_test_begins_anew():
    [shop.find_user(number) for number in range(1, 5)]

def test_and_another():
    [shop.find_user(number) for number in range(1, 5)]
"""


def test_silent_on(project):
    project(SILENT, "--querywatch").assert_outcomes(passed=4)


def test_a_loop_of_writes_in_the_application_counts(project):
    result = project("def test_orders():\n    for _ in range(9):\n        shop.place_order()", "--querywatch")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["querywatch: write-loop orders"])


KINDS = """
import unittest
import anyio

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio(anyio_backend):
    shop.list_orders()

@pytest.fixture
async def ready(anyio_backend):
    shop.count_users()

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio_in_a_thread(anyio_backend, ready):
    await anyio.to_thread.run_sync(shop.list_orders)

class TestClass:
    def test_method(self):
        shop.list_orders()

class Case(unittest.TestCase):
    def setUp(self):
        for number in range(1, 7):
            shop.find_user(number)

    def test_case(self):
        shop.list_orders()

    def test_set_up_is_not_the_test(self):
        pass

class AsyncCase(unittest.IsolatedAsyncioTestCase):
    async def test_async_case(self):
        shop.list_orders()
"""


def find_heads(scope, result):
    """Return the scopes of the N+1 findings that a session told, in that order."""
    return re.findall(rf"^n-plus-one +{scope} +User.orders +9 queries, 8", result.stdout.str(), re.MULTILINE)


def test_every_kind_of_test_runs_in_its_scope(project):
    result = project(KINDS, "--querywatch")
    result.assert_outcomes(passed=1, failed=5)
    heads = re.findall(
        r"^n-plus-one +test_shop.py::(\S+)  User.orders     9 queries, 8", result.stdout.str(), re.MULTILINE
    )
    assert heads == [
        "test_anyio[asyncio]",
        "test_anyio_in_a_thread[asyncio]",
        "TestClass::test_method",
        "Case::test_case",
        "AsyncCase::test_async_case",
    ]


def test_pytest_asyncio(project):
    pytest.importorskip("pytest_asyncio")
    tests = """
        import pytest_asyncio

        @pytest_asyncio.fixture(loop_scope="module", scope="module")
        async def ready():
            shop.count_users()

        @pytest.mark.asyncio(loop_scope="module")
        async def test_one(ready, querywatch):
            shop.list_orders()
            assert querywatch.calls == 9

        @pytest.mark.asyncio(loop_scope="module")
        async def test_two(ready, querywatch):
            shop.count_users()
            assert querywatch.calls == 1
    """
    result = project(tests, "--querywatch", "-o", "asyncio_default_fixture_loop_scope=function")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["n-plus-one      test_shop.py::test_one *9 queries, 8 of them this one"])


HYPOTHESIS = """
from hypothesis import given, settings, strategies

@settings(max_examples=20, database=None)
@given(number=strategies.integers(1, 8))
def test_examples_are_no_loop(number):
    assert shop.find_user(number) == number

@settings(max_examples=2, database=None)
@given(number=strategies.integers(1, 8))
def test_loop_in_an_example(number):
    shop.list_orders()
"""


def test_each_example_of_hypothesis_is_a_scope(project):
    result = project(HYPOTHESIS, "--querywatch", "-p", "no:randomly")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_shop.py::test_loop_in_an_example - *"])


REQUESTS = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

def list_orders(request):
    return JSONResponse(shop.list_orders())

def find_user(request):
    return JSONResponse(shop.find_user(request.path_params["number"]))

app = Starlette(routes=[Route("/orders", list_orders), Route("/users/{number:int}", find_user)])
client = TestClient(app)

def test_n_plus_one_in_a_request():
    assert client.get("/orders").status_code == 200

def test_the_next_test_finds_it_again():
    assert client.get("/orders").status_code == 200

def test_requests_are_no_loop(querywatch):
    for number in range(1, 8):
        assert client.get(f"/users/{number}").json() == number
    assert querywatch.calls == 7

@pytest.mark.querywatch(max_queries=6)
def test_requests_are_the_tests():
    for number in range(1, 8):
        client.get(f"/users/{number}")
"""


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("", id="application-without-querywatch"),
        pytest.param(
            "\nimport querywatch; querywatch.install(shop.engine, app=app)\n", id="application-with-querywatch"
        ),
    ],
)
def test_requests(project, more):
    result = project(REQUESTS.replace("client = ", more + "client = "), "--querywatch")
    result.assert_outcomes(passed=1, failed=3)
    assert (
        len(re.findall(r"^n-plus-one +GET /orders +User.orders +9 queries, 8", result.stdout.str(), re.MULTILINE)) == 2
    )
    result.stdout.fnmatch_lines(["*The test ran 7 queries; its mark allows 6."])


def test_an_application_that_closes_the_monitor_is_watched_again_by_the_next_test(project):
    tests = """
        import querywatch

        def test_closes():
            shop.list_orders()
            querywatch.install(shop.engine).close()

        def test_next():
            shop.list_orders()
    """
    project(tests, "--querywatch").assert_outcomes(failed=2)


def test_an_application_that_installs_itself_is_watched_too(project, pytester):
    conftest = CONFTEST + "\n    import querywatch\n    querywatch.install(shop.engine, n_plus_one_threshold=50)\n"
    pytester.makeconftest(textwrap.dedent(conftest))
    project(N_PLUS_ONE, "--querywatch").assert_outcomes(failed=1)


def test_log_and_output_stay_the_projects_own(project):
    tests = """
        import logging

        def test_log(caplog, capfd, querywatch):
            caplog.set_level(logging.DEBUG, "querywatch")
            shop.list_orders()
            assert len(querywatch.findings) == 1
            assert (caplog.records, capfd.readouterr()) == ([], ("", ""))
    """
    project(tests, "--querywatch=warn").assert_outcomes(passed=1, warnings=1)


# -- the baseline

TWO = """
def test_orders():
    shop.list_orders()

def test_orders_again():
    shop.list_orders()

def test_fine():
    pass
"""


def read(pytester, name="known.json"):
    return json.loads((pytester.path / name).read_text())["findings"]


def test_baseline(project, pytester):
    pytester.makeini("[pytest]\nquerywatch = fail\nquerywatch_baseline = known.json")
    result = project(TWO, "--querywatch-update-baseline")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["baseline known.json written: 1 known finding"])
    known = (pytester.path / "known.json").read_text()
    assert json.loads(known)["findings"] == [
        {
            "code": "n-plus-one",
            "kind": "lazy_load",
            "subject": "User.orders",
            "where": "shop.py::list_orders",
            "test": "test_shop.py::test_orders",
        }
    ]

    # Lines that moved, and one more test of the same function: nothing new.
    pytester.makepyfile(shop="import sqlalchemy\n\n\n" + textwrap.dedent(SHOP))
    third = TWO + "\ndef test_a_third():\n    shop.list_orders()\n"
    result = project(third)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*= querywatch: 0 findings, 1 known =*"])

    # Written again it stays as it was.
    project(third, "--querywatch-update-baseline")
    assert (pytester.path / "known.json").read_text() == known

    # Another finding is new.
    result = project(TWO + "\ndef test_new():\n    for _ in range(9): shop.place_order()\n")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*= querywatch: 1 finding, 1 known =*"])


def test_what_was_mended_is_named_stale(project, pytester):
    arguments = ["--querywatch", "--querywatch-baseline=known.json"]
    project(TWO, *arguments, "--querywatch-update-baseline")
    mended = TWO.replace("shop.list_orders()", "shop.count_users()")
    result = project(mended, *arguments)
    result.assert_outcomes(passed=3)
    stale = "  n-plus-one  User.orders  shop.py::list_orders  shown before by test_shop.py::test_orders"
    result.stdout.fnmatch_lines(["No longer found, though in the baseline*", stale])

    # A run of other tests says nothing of it.
    result = project(mended, *arguments, "-k", "fine")
    result.stdout.no_fnmatch_line("No longer found*")
    project(mended, *arguments, "-k", "fine", "--querywatch-update-baseline")
    assert len(read(pytester)) == 1

    # A whole run without the test does.
    result = project("def test_fine():\n    pass", *arguments)
    result.stdout.fnmatch_lines([stale])
    project(mended, *arguments, "--querywatch-update-baseline")
    assert read(pytester) == []


def test_a_test_that_failed_before_it_came_to_the_finding_makes_nothing_stale(project, pytester):
    arguments = ["--querywatch", "--querywatch-baseline=known.json"]
    project(N_PLUS_ONE, *arguments, "--querywatch-update-baseline")
    broken = "def test_orders():\n    assert False\n    shop.list_orders()"
    result = project(broken, *arguments)
    result.stdout.no_fnmatch_line("No longer found*")
    project(broken, *arguments, "--querywatch-update-baseline")
    assert len(read(pytester)) == 1


def test_xdist_makes_summary_and_baseline_once(project, pytester):
    arguments = ["--querywatch", "--querywatch-baseline=known.json", "-n", "2"]
    result = project(TWO, *arguments, "--querywatch-update-baseline")
    result.assert_outcomes(passed=3)
    assert result.stdout.str().count("baseline known.json written: 1 known finding") == 1
    assert [entry["where"] for entry in read(pytester)] == ["shop.py::list_orders"]
    result = project(TWO + "\ndef test_new():\n    for _ in range(9): shop.place_order()\n", *arguments)
    result.assert_outcomes(passed=3, failed=1)
    assert result.stdout.str().count("= querywatch: 1 finding, 1 known =") == 1
    result.stdout.fnmatch_lines(["test_shop.py::test_new  write-loop  orders *"])


PROVEN = """
@pytest.fixture
def session():
    with shop.Session(shop.engine) as session:
        yield session

def list_orders(session):
    return [len(user.orders) for user in session.scalars(shop.select(shop.User))]

def test_proven():
    assert shop.list_orders() == [1] * 8

def test_a_session_of_its_own(session):
    list_orders(session)

def test_its_fixture_serves_once(done=[]):
    shop.list_orders()
    assert not done
    done.append(1)

def test_commits():
    shop.list_orders()
    shop.place_order()

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_async(anyio_backend):
    shop.list_orders()

def test_left_no_row():
    assert shop.count_users() == 8
"""


def test_prove(project):
    result = project(PROVEN, "--querywatch-prove")
    result.assert_outcomes(passed=1, failed=5)
    proofs = re.findall(r"^FAILED|^_+ (test_\w+)|^ +proof (.*)$", result.stdout.str(), re.MULTILINE)
    text = re.sub(r"\s+", " ", result.stdout.str())
    assert re.search(r"test_proven .* proof replayed: 9 -> 2 queries, .* selectinload\(User.orders\)", text), proofs
    assert "proof not replayed: run again with the same fixtures, the test raised AssertionError" in text
    assert "proof not replayed: only a test that is a plain function can be run again" in text
    assert re.search(r"test_commits .* proof not replayed: .*commit", text)
