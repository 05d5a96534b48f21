import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from querywatch import shape
from querywatch.shape import CUT_MARK, LIST_LIMIT, SCAN_LIMIT, take_shape

DIALECTS = ["postgresql", "mysql", "mariadb", "sqlite", "mssql", "oracle", ""]


@pytest.mark.parametrize(
    ("dialect", "sql", "expected"),
    [
        pytest.param("sqlite", "SELECT 'it''s', '', 'a'", "SELECT ?, ?, ?", id="quote-in-string"),
        pytest.param("postgresql", r"SELECT E'it\'s', e'\\', 'C:\'", "SELECT ?, ?, ?", id="backslash-in-e-string"),
        pytest.param("mysql", r"SELECT 'it\'s', '\\', 'a''b'", "SELECT ?, ?, ?", id="backslash-in-mysql"),
        pytest.param("mssql", "SELECT N'x', B'01', X'1F', U&'d'", "SELECT ?, ?, ?, ?", id="prefixed-strings"),
        pytest.param(
            "oracle", "SELECT q'[it's]', nq'{a'b}', Q'!it's!' FROM dual", "SELECT ?, ?, ? FROM dual", id="oracle-q"
        ),
        pytest.param("postgresql", "SELECT $$a'b$$, $x$ $$ $x$, v$a$b", "SELECT ?, ?, v$a$b", id="dollar-quoted"),
        pytest.param("sqlite", "SELECT 1, 1.5, .5, 5., 1e9, 1.5E-3, 0x1F", "SELECT ?, ?, ?, ?, ?, ?, ?", id="numbers"),
        pytest.param("postgresql", "SELECT 1_000, 0b01, 0o7, -5, +3", "SELECT ?, ?, ?, -?, +?", id="more-numbers"),
        pytest.param("sqlite", "SELECT c1, t2.c_3 FROM utf8mb4", "SELECT c1, t2.c_3 FROM utf8mb4", id="digit-in-name"),
        pytest.param("mysql", "SELECT 123abc, 5 FROM 1_t", "SELECT 123abc, ? FROM 1_t", id="mysql-name-from-digit"),
        pytest.param("postgresql", "SELECT x LIMIT 5OFFSET 2", "SELECT x LIMIT ?OFFSET ?", id="number-runs-into-word"),
        pytest.param(
            "sqlite", "a = ? AND b = ?2 AND c = :n AND d = $n", "a = ? AND b = ? AND c = ? AND d = ?", id="qmark"
        ),
        pytest.param("postgresql", "a = %s AND b = %(b_1)s", "a = ? AND b = ?", id="pyformat"),
        pytest.param("postgresql", "a = $1 AND b = $2::VARCHAR", "a = ? AND b = ?", id="numeric-with-cast"),
        pytest.param("postgresql", "a = %(a)s::TIMESTAMP(6) WITH TIME ZONE", "a = ?", id="cast-of-many-words"),
        pytest.param("postgresql", "a = %(a)s::NUMERIC(10, 2)[] AND b", "a = ? AND b", id="cast-to-array"),
        pytest.param("postgresql", 'a = $1::"Kind" AND b::int', "a = ? AND b::int", id="cast-of-column-stays"),
        pytest.param("oracle", "a = :1 AND b = :b_1", "a = ? AND b = ?", id="colon"),
        pytest.param("mssql", "a = @p1 AND b = @name", "a = ? AND b = @name", id="numbered-at"),
        pytest.param("postgresql", "a %% 2, a %%s, '%s'", "a % ?, a % s, ?", id="doubled-percent"),
        pytest.param("sqlite", "a %s", "a %s", id="modulo-on-sqlite"),
        pytest.param("postgresql", "x[1:2], y::int", "x[?:?], y::int", id="slice-and-cast"),
        pytest.param("postgresql", "a #> '{b}' -- c\n, d", "a #> ? , d", id="hash-is-an-operator"),
        pytest.param("mysql", "a # c\n, b -- c\n, 5--3", "a , b , ?--?", id="mysql-comments"),
        pytest.param("", "SELECT file#, a # c", "SELECT file#, a", id="generic-hash-comment"),
        pytest.param("postgresql", "a /* b /* 'c */ d */ e", "a e", id="nested-comment"),
        pytest.param("sqlite", "a /* b /* c */ e", "a e", id="no-nesting-on-sqlite"),
        pytest.param("mysql", "a /* b", "a", id="unclosed-comment"),
        pytest.param("postgresql", "  a \n\t FROM\r\nb  ; ", "a FROM b", id="white-space"),
        pytest.param("postgresql", '"it\'s  5", "a""b"', '"it\'s  5", "a""b"', id="quoted-name"),
        pytest.param("mysql", "`it's`, \"it's\"", "`it's`, ?", id="mysql-double-quote-is-a-string"),
        pytest.param("mssql", "[it's 5], [a]]b]", "[it's 5], [a]]b]", id="bracketed-name"),
        pytest.param("sqlite", "a = 'secret AND b", "a = ?", id="unclosed-string"),
        pytest.param("postgresql", 'a = "secret AND b', "a = ?", id="unclosed-name"),
        pytest.param("sqlite", "x IN (1, -2,'c' , NULL)", "x IN (?)", id="list"),
        pytest.param("sqlite", "x in(1,2) VALUES(1,2),(3,4)", "x in(?) VALUES(?)", id="list-without-space"),
        pytest.param("sqlite", "x IN (1, y, 2)", "x IN (?, y, ?)", id="list-with-a-column-stays"),
        pytest.param("sqlite", "f(1, 2), f(1)", "f(?, ?), f(?)", id="arguments-stay"),
        pytest.param(
            "postgresql", "VALUES ($1::INTEGER, $2::VARCHAR), ($3::INTEGER, $4::VARCHAR)", "VALUES (?)", id="rows"
        ),
        pytest.param("mysql", "(a, b) IN ((1, 2), (3, 4))", "(a, b) IN ((?))", id="list-of-tuples"),
        pytest.param("sqlite", "x IN (SELECT 1 FROM (SELECT 1) WHERE 1!=1) AND y", "x IN (?) AND y", id="empty-sqlite"),
        pytest.param("mysql", "x IN (NULL) AND (1 != 1) OR y", "x IN (?) OR y", id="empty-in"),
        pytest.param("postgresql", "(x NOT IN (NULL) OR (1 = 1))", "(x NOT IN (?))", id="empty-not-in"),
        pytest.param(
            "postgresql", "x IN (SELECT CAST(NULL AS NUMERIC(10, 2)) WHERE 1!=1)", "x IN (?)", id="empty-postgresql"
        ),
        pytest.param("sqlite", "x IS NULL AND y = NULL", "x IS NULL AND y = NULL", id="null-is-left-to-the-parser"),
        pytest.param("sqlite", "a\0b \ud800", "a\ufffdb \ufffd", id="not-encodable"),
        pytest.param("sqlite", "", "", id="empty"),
    ],
)
def test_replaces_values_and_nothing_else(dialect, sql, expected):
    assert take_shape(sql, dialect) == expected
    assert take_shape(expected, dialect) == expected


def test_insertmanyvalues_of_any_length_is_one():
    def batch(rows):
        values = ", ".join(f"(%(x__{row})s, %(y__{row})s, {row})" for row in range(rows))
        return (
            "INSERT INTO t (x, y) SELECT p0::VARCHAR, p1::INTEGER "
            f"FROM (VALUES {values}) AS imp_sen(p0, p1, sen_counter) RETURNING t.id"
        )

    expected = (
        "INSERT INTO t (x, y) SELECT p0::VARCHAR, p1::INTEGER "
        "FROM (VALUES (?)) AS imp_sen(p0, p1, sen_counter) RETURNING t.id"
    )
    assert {take_shape(batch(rows), "postgresql") for rows in (1, 2, 1000, 5000)} == {expected}


@pytest.mark.parametrize("count", [1, 2, 3000, 10_000])
def test_a_list_is_read_beyond_the_limit(count):
    members = ", ".join(f"%(id_1_{number})s::INTEGER" for number in range(count))
    assert take_shape(f"SELECT a FROM t WHERE id IN ({members}) LIMIT 5", "postgresql") == (
        "SELECT a FROM t WHERE id IN (?) LIMIT ?"
    )


def test_a_long_text_is_cut_and_marked_in_a_stable_way():
    def insert(rows):
        return "INSERT INTO t (a, b) VALUES " + ", ".join(f"({row}, 'secret {row}')" for row in range(rows))

    shapes = {take_shape(insert(rows), "sqlite") for rows in (50_000, 50_001, 60_000)}
    assert shapes == {"INSERT INTO t (a, b) VALUES (?)" + CUT_MARK}
    assert take_shape(*shapes, "sqlite") in shapes
    assert len(insert(50_000)) > LIST_LIMIT


def test_a_cut_never_shows_the_rest_of_a_string():
    for before in range(SCAN_LIMIT - 20, SCAN_LIMIT + 5):
        text = "SELECT " + "c" * (before - 7) + " = 'secret''secret' AND d = 98765432198765"
        cut = take_shape(text, "sqlite")
        assert "secret" not in cut
        assert "9" not in cut
        assert len(cut) <= SCAN_LIMIT + len(CUT_MARK) + 1


# -- secrets --------------------------------------------------------------------------------------------------------

SECRET = "hunter"

#: What surrounds the secret within its literal: everything that means something to some lexer.
NOISE = st.lists(
    st.sampled_from(
        [
            "'",
            "''",
            '"',
            "\\",
            "`",
            "$$",
            "$a$",
            "[",
            "]",
            "--",
            "/*",
            "*/",
            "#",
            "\n",
            " ",
            "(",
            ")",
            ",",
            "?",
            "%s",
            ";",
            "é",
        ]
    ),
    max_size=6,
).map("".join)


def _plain(text):
    return "'" + text.replace("'", "''") + "'"


def _escaped(text, quote="'"):
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


def _dollar(text):
    return "$q$" + text.replace("$", "") + "$q$"


def _block(text):
    return "/*" + text.replace("*", "").replace("/", "") + "*/ 1"


def _line(mark):
    return lambda text: mark + text.replace("\n", " ") + "\n1"


ANSI = [_plain, lambda text: "N" + _plain(text), _block, _line("--")]
QUOTINGS = {
    "postgresql": [*ANSI, lambda text: "E" + _escaped(text), _dollar, lambda text: f"/* {_block(text)} */ 1"],
    "mysql": [_escaped, lambda text: _escaped(text, '"'), _block, _line("-- "), _line("#")],
    "sqlite": ANSI,
    "mssql": ANSI,
    "oracle": [*ANSI, lambda text: "q'[" + text.replace("]", "") + "]'"],
    "": [*ANSI, lambda text: "E" + _escaped(text), _dollar],
}


@st.composite
def statements_with_secrets(draw):
    dialect = draw(st.sampled_from(sorted(QUOTINGS)))
    values = [
        draw(st.sampled_from(QUOTINGS[dialect]))(draw(NOISE) + SECRET + draw(NOISE))
        for _ in range(draw(st.integers(1, 4)))
    ]
    return (
        dialect,
        "SELECT a FROM t WHERE " + " AND ".join(f"c = {value}" for value in values) + " ORDER BY z",
        len(values),
    )


@settings(max_examples=400, deadline=None)
@given(statements_with_secrets())
def test_no_secret_survives_and_nothing_else_is_lost(case):
    dialect, sql, count = case
    assert take_shape(sql, dialect) == "SELECT a FROM t WHERE " + " AND ".join(["c = ?"] * count) + " ORDER BY z"


@settings(max_examples=200, deadline=None)
@given(statements_with_secrets(), st.integers(0, 200))
def test_no_secret_survives_in_half_a_statement(case, length):
    dialect, sql, _ = case
    assert SECRET not in take_shape(sql[:length], dialect)


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"[0-9]{3,}(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", fullmatch=True), st.sampled_from(DIALECTS))
def test_no_number_survives(number, dialect):
    for text in (f"a={number}", f"f({number},{number})", f"a-{number} b", f"IN ({number})", f"({number}+{number})"):
        assert not any(digit in take_shape(text, dialect) for digit in "0123456789")


#: Pieces that mean something to some lexer, apart by blanks.
PIECES = (
    r"""' '' " \ ` $$ $a$ [ ] -- /* */ # ( ) , ? %s %% %(a)s :a :: $1 @p1 E' q'[ N' U&' 1 0x1 .5 1e a IN VALUES NULL"""
)
LONGER_PIECES = [" ", "\n", "\0", "(SELECT 1 WHERE 1!=1)", "(NULL) AND (1 != 1)", "\ud800", CUT_MARK]
SQL_LIKE = st.lists(st.one_of(st.sampled_from([*PIECES.split(), *LONGER_PIECES]), st.characters()), max_size=30).map(
    "".join
)


@settings(max_examples=500, deadline=None)
@given(SQL_LIKE, st.sampled_from(DIALECTS))
@example("\ud800\0'", "")
def test_any_text_has_a_shape_that_can_be_encoded(text, dialect):
    take_shape(text, dialect).encode()


HOSTILE = """' " ` ( [ { $ : % @ / - # E' q'[ U&' (1, (NULL, /* /** $a$ %( 1:: 1e 1_ 1. IN( VALUES( ?::a( ?::a(1,"""
LONGER_HOSTILE = ["(  ", "\n ", "-- \n", "/* a */", "(1),", "?::a with ", "(SELECT ", "(SELECT CAST(NULL AS "]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("piece", [*HOSTILE.split(), *LONGER_HOSTILE])
def test_hostile_text_takes_linear_time(piece, dialect, monkeypatch):
    monkeypatch.setattr(shape, "SCAN_LIMIT", 10**9)
    text = piece * (200_000 // len(piece))
    began = time.perf_counter()
    take_shape(text + "x", dialect)
    # Linear: 0.3 s. Quadratic: more than 10 s.
    assert time.perf_counter() - began < 3
