from dataclasses import replace

import pytest
from sample_snapshot import ORDERS_PAGE, LoopEvidence, NoEvidence, build_snapshot

from querywatch.records import SavedEvidence, Snapshot
from querywatch.report.text import render_advice, render_finding, render_text

SAMPLE = build_snapshot()
FINDINGS = {(found.code, found.scope): found for found in SAMPLE.findings}
LOOP = FINDINGS["n-plus-one", "GET /users"]
SLOW = FINDINGS["slow-query", "GET /orders"]
INDEX = FINDINGS["missing-index", None]


def test_n_plus_one():
    assert render_finding(LOOP) == (
        "n-plus-one      GET /users      User.orders     51 queries, 50 of them this one\n"
        "                at    shop/views.py:41  in list_users\n"
        "                fix   Add .options(selectinload(User.orders)) to the select at shop/views.py:38.\n"
        "                proof replayed: 51 -> 2 queries, 38 ms -> 3 ms"
    )


def test_n_plus_one_without_a_replay_says_what_was_counted():
    seen = replace(LOOP, evidence=LoopEvidence("SELECT 1", 50, 51, 428, proof=None), total_s=14.9)
    assert render_finding(seen).splitlines()[-1] == (
        "                proof counted 21,400 times in 428 scopes, 15 s in all, last at 17:14:23 UTC"
    )


def test_slow_query():
    assert render_finding(replace(SLOW, total_s=51.2)) == (
        "slow-query      GET /orders     orders\n"
        "                why   Half of its calls take more than 41 ms; it reads 40,000 rows to return 20.\n"
        "                at    shop/views.py:88  in list_orders\n"
        "                fix   Create the index orders(status, created_at), see missing-index.\n"
        "                proof counted 1,180 times, 51 s in all, last at 17:14:23 UTC"
    )


MISSING_INDEX = (
    "missing-index   orders(status, created_at DESC)\n"
    "                why   An index on orders(status, created_at DESC) helps SELECT orders: Seq Scan on orders, "
    "40,000 rows estimated, 20 returned.\n"
    "                fix   Run: CREATE INDEX CONCURRENTLY orders_status_created_at_idx "
    "ON orders (status, created_at DESC)\n"
    "                proof re-planned with a hypothetical index: "
    "cost 1042 -> 8.4: Index Scan using orders_status_created_at_idx"
)


def test_missing_index_shows_what_its_advice_measured():
    assert render_finding(INDEX, advice=SAMPLE.advice[0], width=None) == MISSING_INDEX


def test_missing_index_knows_its_proof_by_itself():
    advice = SAMPLE.advice[0]
    evidence = SavedEvidence({"proof": advice.proof, "proof_text": advice.proof_text})
    assert render_finding(replace(INDEX, evidence=evidence), width=None) == MISSING_INDEX


def test_an_advice_without_costs():
    assert render_advice(SAMPLE.advice[1], width=None) == (
        "missing-index   sessions(token)\n"
        "                why   SCAN on sessions, 52,000 rows estimated\n"
        "                fix   CREATE INDEX sessions_token_idx ON sessions (token)\n"
        "                proof re-planned on a copy: SEARCH sessions USING INDEX sessions_token_idx (token=?)"
    )


def test_a_short_sentence_stands_beside_the_subject():
    seen = replace(SLOW, message="Took 812 ms.", scope=None, call_site=None)
    assert render_finding(seen).splitlines()[0] == "slow-query      orders          Took 812 ms."


def test_a_path_is_never_broken():
    site = replace(ORDERS_PAGE, file="a/" * 60 + "views.py")
    assert str(site) in render_finding(replace(SLOW, call_site=site), width=40)


def test_what_acts_on_a_terminal_is_written_out():
    hostile = "\x1b[2J\u202eGET\n/users\r"
    seen = replace(SLOW, scope=hostile, message=hostile, fix=hostile, subject=hostile, call_site=None)
    text = render_text(replace(SAMPLE, findings=(seen,), notes=(hostile,), scopes=()))
    assert "<U+001B>[2J<U+202E>GET /users" in text
    assert not set(text) & {"\x1b", "\u202e", "\r"}


def test_the_whole_report():
    text = render_text(SAMPLE)
    assert text.startswith(
        "shop (postgresql), sessions.db (sqlite), watched for 21 min 6 s until 2026-05-05 17:14:25 UTC\n"
        "4 findings, 40 statements, 40,169 calls, "
    )
    order = ["n-plus-one  ", "slow-query      GET /orders", "missing-index   orders", "slow-query      monthly_report"]
    order += ["missing-index   sessions", "Queries by total time, 20 of 40\n", "Scopes by database time\n", "Notes\n"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    # The index that a finding speaks of is not shown twice.
    assert text.count("CREATE INDEX") == 2
    assert text.endswith("  - Left out: 12 (statement texts beyond the limit of 5,000).\n")


def test_a_row_of_the_queries():
    [row] = [line for line in render_text(SAMPLE).splitlines() if "SELECT orders  shop/views.py:88" in line]
    share, total, _unit, calls, *_rest = row.split()
    query = max(SAMPLE.queries, key=lambda known: known.total_s)
    assert (share, total, calls) == ("49%", f"{query.total_s:.0f}", "1,180")


def test_errors_have_a_column_only_if_there_are_any():
    calm = replace(SAMPLE, queries=tuple(replace(query, errors=()) for query in SAMPLE.queries))
    assert "errors" in render_text(SAMPLE)
    assert "errors" not in render_text(calm)


@pytest.mark.parametrize("width", [0, 40, 80, 100, 200])
def test_lines_keep_within_the_width(width):
    text = render_text(SAMPLE, width=width)
    heads = ("n-plus-one", "slow-query", "missing-index", "shop (", "4 findings")
    lines = [line for line in text.splitlines() if not line.startswith(heads)]
    # A word is never broken, a table keeps its numbers.
    assert max(map(len, lines)) <= max(width, 90)


def test_an_empty_snapshot():
    assert render_text(Snapshot(taken_at=1_778_000_000.0, started_at=1_778_000_000.0)) == (
        "no database yet, watched for 0 ms until 2026-05-05 16:53:20 UTC\n"
        "0 findings, 0 statements, 0 calls, 0 ms in the database\n"
        "\n"
        "No statement has been seen yet.\n"
    )


def test_the_worst_comes_first():
    findings = [replace(SLOW, severity="info", scope="a"), replace(SLOW, total_s=1.0, scope="b")]
    findings += [replace(SLOW, total_s=2.0, scope="c"), replace(LOOP, total_s=None, scope="d", evidence=NoEvidence())]
    text = render_text(replace(SAMPLE, findings=tuple(findings), queries=(), scopes=(), advice=(), notes=()))
    heads = [line.split()[1] for line in text.splitlines() if line.startswith(("slow-query", "n-plus-one"))]
    assert heads == ["d", "c", "b", "a"]
