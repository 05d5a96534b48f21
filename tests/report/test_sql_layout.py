import pytest
from hypothesis import given
from hypothesis import strategies as st

from querywatch.report.sql_layout import lay_out


def printed(sql):
    return ["  " * line.depth + "".join(word.text for word in line.words) for line in lay_out(sql)]


@pytest.mark.parametrize(
    ("sql", "lines"),
    [
        pytest.param("", [], id="empty"),
        pytest.param(
            "SELECT a, b FROM t WHERE a = ? AND b BETWEEN ? AND ? ORDER BY a LIMIT ?",
            ["SELECT a, b", "FROM t", "WHERE a = ?", "  AND b BETWEEN ? AND ?", "ORDER BY a", "LIMIT ?"],
            id="clauses",
        ),
        pytest.param(
            "SELECT a FROM t LEFT OUTER JOIN u ON u.t = t.id JOIN v ON v.u = u.id",
            ["SELECT a", "FROM t", "LEFT OUTER JOIN u ON u.t = t.id", "JOIN v ON v.u = u.id"],
            id="joins",
        ),
        pytest.param(
            "WITH x AS (SELECT a FROM t) SELECT a FROM x",
            ["WITH x AS (", "  SELECT a", "  FROM t", ")", "SELECT a", "FROM x"],
            id="subquery",
        ),
        pytest.param("DELETE FROM t WHERE id IN (?)", ["DELETE FROM t", "WHERE id IN (?)"], id="delete"),
        pytest.param("UPDATE t SET a = ?", ["UPDATE t", "SET a = ?"], id="update"),
        pytest.param(
            "SELECT sum(a) FILTER (WHERE b > ?), extract(year FROM c) FROM t",
            ["SELECT sum(a) FILTER (WHERE b > ?), extract(year FROM c)", "FROM t"],
            id="call",
        ),
        pytest.param("SELECT 'it''s FROM' FROM t", ["SELECT 'it''s FROM'", "FROM t"], id="text"),
        pytest.param("SELECT 1 -- one\nFROM t", ["SELECT 1 -- one", "FROM t"], id="comment"),
        pytest.param("SELECT 'never closed FROM t", ["SELECT 'never closed FROM t"], id="unterminated"),
        pytest.param("))) SELEC )", ["))) SELEC )"], id="not-sql"),
    ],
)
def test_a_clause_begins_a_line(sql, lines):
    assert printed(sql) == lines


@given(st.text(alphabet="SELECT FROM WHERE AND (')\"[]-*/?\n,;é", max_size=80) | st.text(max_size=80))
def test_changes_nothing_but_white_space(sql):
    joined = "".join(word.text for line in lay_out(sql) for word in line.words)
    assert "".join(joined.split()) == "".join(sql.split())


def test_a_huge_statement_is_cut_and_says_so():
    lines = printed("SELECT " + "x, " * 2_000_000)
    assert lines[-1] == "... 5,980,007 more characters"


def test_words_have_classes():
    [line] = lay_out("SELECT \"a\", 'b', 7, ? /* c */")
    assert [(word.kind, word.text) for word in line.words if word.kind] == [
        ("keyword", "SELECT"),
        ("name", '"a"'),
        ("text", "'b'"),
        ("number", "7"),
        ("mark", "?"),
        ("comment", "/* c */"),
    ]
