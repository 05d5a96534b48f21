"""What somebody wants to hear no more of: by the settings, or by a comment where it happens."""

from __future__ import annotations

import dataclasses

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import querywatch
from querywatch.allowance import is_allowed, matches
from querywatch.detectors.n_plus_one import NPlusOneEvidence
from querywatch.records import CallSite, Finding, SavedEvidence

FINDING = Finding(
    code="n-plus-one",
    kind="lazy_load",
    severity="warning",
    message="User.orders is loaded one parent at a time.",
    fix="Add an option.",
    fix_kind="selectinload",
    subject="User.orders",
    database="shop",
    fingerprint="0123456789abcdef",
    call_site=CallSite("shop/views.py", 44, "list_users"),
    scope="GET /users",
    count=5,
    total_s=0.5,
    first_seen_at=1000.0,
    last_seen_at=1000.0,
    evidence=NPlusOneEvidence(sql="SELECT ?", calls=5, scope_calls=6, parent_site="shop/data.py:12"),
)


def make(**changes):
    return dataclasses.replace(FINDING, **changes)


@pytest.mark.parametrize(
    ("pattern", "is_named"),
    [
        pytest.param("n-plus-one", True, id="code"),
        pytest.param("slow-query", False, id="another-code"),
        pytest.param("User.orders", True, id="subject"),
        pytest.param("User.order", False, id="part-of-a-subject"),
        pytest.param("user.orders", False, id="in-another-case"),
        pytest.param("n-plus-one:User.orders", True, id="code-and-subject"),
        pytest.param("slow-query:User.orders", False, id="another-code-of-the-subject"),
        pytest.param("n-plus-one:User.address", False, id="the-code-of-another-subject"),
        pytest.param("GET /users", True, id="scope"),
        pytest.param("GET", False, id="part-of-a-scope"),
        pytest.param("shop", True, id="database"),
        pytest.param("0123456789abcdef", True, id="fingerprint"),
        pytest.param("shop/views.py:44", True, id="line"),
        pytest.param("shop/views.py:4", False, id="another-line"),
        pytest.param("shop/views.py", False, id="file-alone"),
        pytest.param("shop/views.py:*", True, id="every-line-of-a-file"),
        pytest.param("shop/*", True, id="every-file-of-a-folder"),
        pytest.param("*/users", True, id="star-in-front"),
        pytest.param("User.*", True, id="every-relationship-of-a-class"),
        pytest.param("n-plus-one:*", True, id="everything-of-a-code"),
        pytest.param("*", True, id="everything"),
        pytest.param("", False, id="empty"),
        pytest.param("lazy_load", False, id="kind-is-no-name"),
        pytest.param("User?orders", False, id="a-question-mark-is-itself"),
        pytest.param("User.order[s]", False, id="brackets-are-themselves"),
    ],
)
def test_patterns(pattern, is_named):
    assert matches(FINDING, [pattern]) is is_named
    assert is_allowed(FINDING, ["nothing-of-it", pattern]) is is_named
    assert not matches(FINDING, [])


@pytest.mark.parametrize(
    "name",
    ["tests/test_shop.py::test_list[page-1]", "GET /search?q=*", "orders(user_id, created_at)", "a[!b]c", "[", "]"],
)
def test_a_name_with_signs_of_its_own_names_itself(name):
    assert matches(make(scope=name), [name])
    assert matches(make(subject=name), [f"n-plus-one:{name}"])


@given(st.text(max_size=30))
def test_any_text_names_itself(name):
    assert matches(make(scope=name), [name])
    assert not matches(make(scope=name), [f"{name}!"])


@pytest.mark.parametrize("field", ["scope", "database", "fingerprint", "call_site"])
def test_what_is_not_known_is_named_by_no_pattern_of_its_own(field):
    finding = make(code="c", subject="s", **{field: None})
    assert not matches(finding, ["None"])


# -- comments


@pytest.fixture
def source(tmp_path):
    """Write lines of a program, and say of a finding that it is at one of them."""
    written = iter(range(100))

    def write(*lines, at, parents=None):
        # A file of its own each time: its lines are read once.
        file = tmp_path / f"views_{next(written)}.py"
        file.write_text("\n".join(lines) + "\n")
        place = None if parents is None else f"{file}:{parents}"
        evidence = dataclasses.replace(FINDING.evidence, parent_site=place)
        return make(call_site=None if at is None else CallSite(str(file), at, "list_users"), evidence=evidence)

    return write


ALLOW = "# querywatch: allow n-plus-one"


@pytest.mark.parametrize(
    ("comment", "allows"),
    [
        pytest.param("# querywatch: allow n-plus-one", True, id="code"),
        pytest.param("#querywatch:allow n-plus-one", True, id="without-spaces"),
        pytest.param("#   querywatch:   allow   n-plus-one", True, id="with-many"),
        pytest.param("# querywatch: allow slow-query, n-plus-one", True, id="two-codes"),
        pytest.param("# querywatch: allow slow-query n-plus-one", True, id="two-codes-without-a-comma"),
        pytest.param("# noqa: E501  # querywatch: allow n-plus-one", True, id="behind-another-comment"),
        pytest.param("# querywatch: allow n-plus-one (two rows at most)", True, id="with-a-reason"),
        pytest.param("# querywatch: allow n-plus-one; see the ticket", True, id="with-a-reason-behind-a-semicolon"),
        pytest.param("# querywatch: allow *", True, id="every-code"),
        pytest.param("# querywatch: allow slow-query", False, id="another-code"),
        pytest.param("# querywatch: allow n-plus", False, id="part-of-a-code"),
        pytest.param("# querywatch: allow n-plus-one-more", False, id="more-than-a-code"),
        pytest.param("# querywatch: allow", False, id="no-code"),
        pytest.param("# querywatch: n-plus-one", False, id="no-verb"),
        pytest.param("# allow n-plus-one", False, id="not-for-us"),
        pytest.param("# querywatch: allow User.orders", False, id="a-subject-is-for-the-settings"),
    ],
)
def test_a_comment_on_the_line_names_codes(source, comment, allows):
    finding = source("users = []", f"len(user.orders)  {comment}", "users = []", at=2)
    assert is_allowed(finding, []) is allows


@pytest.mark.parametrize(
    ("lines", "at", "parents", "allows"),
    [
        pytest.param([ALLOW, "len(user.orders)"], 2, None, True, id="above"),
        pytest.param([f"    {ALLOW}", "    len(user.orders)"], 2, None, True, id="above-and-indented"),
        pytest.param([f"x = 1  {ALLOW}", "len(user.orders)"], 2, None, False, id="the-line-above-has-its-own"),
        pytest.param([ALLOW, "", "len(user.orders)"], 3, None, False, id="two-above"),
        pytest.param(["len(user.orders)", ALLOW], 1, None, False, id="below"),
        pytest.param(["len(", "    user.orders", f")  {ALLOW}"], 2, None, True, id="behind-a-call-of-three-lines"),
        pytest.param([ALLOW, "len(", "    user.orders", ")"], 3, None, True, id="above-a-call-of-three-lines"),
        pytest.param([f"for user in users:  {ALLOW}", "    len(user.orders)"], 2, None, False, id="head-of-its-block"),
        pytest.param(["for user in users:", f"    len(user.orders)  {ALLOW}"], 1, None, False, id="in-its-block"),
        pytest.param(["len(user.orders", f"x = 1  {ALLOW}"], 2, None, True, id="a-file-that-does-not-parse"),
        pytest.param([f"select(User)  {ALLOW}", "", "len(user.orders)"], 3, 1, True, id="at-the-parents"),
        pytest.param([ALLOW, "select(User)", "", "len(user.orders)"], 4, 2, True, id="above-the-parents"),
        pytest.param([f"select(User)  {ALLOW}", "", "len(user.orders)"], 3, None, False, id="parents-not-known"),
        pytest.param([f"select(User)  {ALLOW}"], None, 1, True, id="line-not-known-but-the-parents"),
        pytest.param([f"select(User)  {ALLOW}"], None, None, False, id="nothing-known"),
        pytest.param([f"select(User)  {ALLOW}"], 99, None, False, id="a-line-that-is-gone"),
        pytest.param([f"select(User)  {ALLOW}"], 1, 0, True, id="the-first-line-has-none-above"),
        pytest.param(
            ["# querywatch: allow slow-query", f"len(user.orders)  {ALLOW}"], 2, None, True, id="above-and-beside"
        ),
    ],
)
def test_where_the_comment_stands(source, lines, at, parents, allows):
    assert is_allowed(source(*lines, at=at, parents=parents), []) is allows


def test_a_file_that_cannot_be_read_allows_nothing():
    assert not is_allowed(FINDING, [])
    assert not is_allowed(make(call_site=CallSite("<string>", 1, "<module>")), [])
    assert not is_allowed(make(call_site=None, evidence=SavedEvidence({})), [])


CODES = ["n-plus-one", "slow-query", "write-loop", "large-result", "pool-wait"]


@given(
    named=st.lists(st.sampled_from(CODES), min_size=1, max_size=4),
    separator=st.sampled_from([", ", ",", " ", "  ,  "]),
    code=st.sampled_from(CODES),
    before=st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20),
)
def test_a_comment_allows_the_codes_it_names_and_no_other(tmp_path_factory, named, separator, code, before):
    file = tmp_path_factory.mktemp("source") / "views.py"
    file.write_text(f"{before.replace('#', '')}  # querywatch: allow {separator.join(named)}\n", encoding="utf-8")
    finding = make(code=code, call_site=CallSite(str(file), 1, "f"), evidence=SavedEvidence({}))
    assert is_allowed(finding, []) is (code in named)


# -- the whole


BY_KEY = sa.text("SELECT id FROM orders WHERE id = :id")


def loop_with_a_comment(connection):
    for number in range(6):
        connection.execute(BY_KEY, {"id": number})  # querywatch: allow n-plus-one


def loop(connection):
    for number in range(6):
        connection.execute(BY_KEY, {"id": number})


@pytest.mark.parametrize(
    ("work", "allow", "found"),
    [
        pytest.param(loop, [], 1, id="nothing-allowed"),
        pytest.param(loop_with_a_comment, [], 0, id="by-a-comment"),
        pytest.param(loop, ["orders"], 0, id="by-a-subject"),
        pytest.param(loop, ["n-plus-one:orders"], 0, id="by-a-code-and-a-subject"),
        pytest.param(loop, ["GET /*"], 0, id="by-a-scope"),
        pytest.param(loop, ["*test_allowance.py:*"], 0, id="by-a-file"),
        pytest.param(loop, ["users"], 1, id="by-another-subject"),
    ],
)
def test_what_is_allowed_is_not_told(work, allow, found):
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    monitor, told = querywatch.install(engine, explain=False, slow_query_s=float("inf"), allow=allow), []
    monitor.on_finding(told.append)
    try:
        with querywatch.watch("GET /orders"), engine.connect() as connection:
            work(connection)
        assert monitor.flush(60.0)
        assert len(monitor.findings()) == len(told) == found
    finally:
        monitor.close()
        engine.dispose()
