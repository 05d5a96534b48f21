"""A snapshot such as a shop on PostgreSQL and SQLite would leave behind: every part of a report has something to show.

`python tests/report/sample_snapshot.py out.html` renders it, to look at the page while it is being worked on.
"""

import math
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from querywatch.histogram import HistogramBuilder
from querywatch.records import (
    CallSite,
    Database,
    ErrorCount,
    Finding,
    Fingerprint,
    IndexAdvice,
    IndexSpec,
    Plan,
    PlanNode,
    QueryStats,
    ScopeStats,
    Snapshot,
)

STARTED_AT = 1_778_000_000.0
TAKEN_AT = STARTED_AT + 1_265.5

USERS_PAGE = CallSite("shop/views.py", 41, "list_users")
ORDERS_PAGE = CallSite("shop/views.py", 88, "list_orders")
REPORT_JOB = CallSite("shop/jobs/monthly_report.py", 132, "MonthlyReport.collect")

LAZY_ORDERS = "SELECT orders.id, orders.user_id, orders.status, orders.created_at FROM orders WHERE ? = orders.user_id"
OPEN_ORDERS = (
    "SELECT orders.id, orders.user_id, orders.status, orders.total_cents, orders.created_at FROM orders "
    "WHERE orders.status = ? AND orders.created_at > ? ORDER BY orders.created_at DESC LIMIT ?"
)
MONTHLY = (
    "WITH monthly AS (SELECT date_trunc(?, o.created_at) AS month, o.user_id, sum(i.quantity * i.price_cents) AS total "
    "FROM orders AS o JOIN items AS i ON i.order_id = o.id WHERE o.created_at >= ? AND o.status IN (?) "
    "GROUP BY date_trunc(?, o.created_at), o.user_id) SELECT u.email, m.month, m.total, "
    "CASE WHEN m.total > ? THEN ? ELSE ? END AS tier FROM monthly AS m JOIN users AS u ON u.id = m.user_id "
    "WHERE NOT EXISTS (SELECT ? FROM refunds WHERE refunds.user_id = u.id AND refunds.month = m.month) "
    "ORDER BY m.total DESC, u.email LIMIT ?"
)
SEARCH = (
    "SELECT products.id, products.name FROM products WHERE lower(products.name) LIKE ? ORDER BY products.name LIMIT ?"
)
SESSIONS = "SELECT sessions.token, sessions.user_id, sessions.expires_at FROM sessions WHERE sessions.token = ?"
PAY = "INSERT INTO payments (order_id, provider, amount_cents) VALUES (?, ?, ?)"

#: Statement, database, calls, median in ms, spread, rows, errors, call sites.
STATEMENTS = [
    (LAZY_ORDERS, "shop", 21_400, 0.62, 0.5, 64_200, (), (USERS_PAGE,)),
    (OPEN_ORDERS, "shop", 1_180, 41.0, 0.35, 23_600, (), (ORDERS_PAGE,)),
    (MONTHLY, "shop", 6, 1_840.0, 0.4, 5_400, (ErrorCount("QueryCanceled", "57014", 2),), (REPORT_JOB,)),
    (SEARCH, "shop", 940, 6.4, 0.7, 8_460, (), (CallSite("shop/search.py", 27, "search"),)),
    (SESSIONS, "sessions.db", 5_300, 0.74, 0.6, 5_290, (), (CallSite("shop/auth.py", 19, "load_session"),)),
    (
        PAY,
        "shop",
        480,
        2.1,
        0.8,
        463,
        (ErrorCount("UniqueViolation", "23505", 14), ErrorCount("OperationalError", None, 3)),
        (CallSite("shop/checkout.py", 73, "Checkout.pay"), CallSite("shop/jobs/retry.py", 31, "retry_payments")),
    ),
]

TABLES = ["users", "items", "products", "carts", "addresses", "coupons", "reviews", "shipments", "refunds"]


@dataclass(frozen=True)
class LoopEvidence:
    """What the sample's N+1 saw."""

    sql: str
    calls: int
    scope_calls: int
    scopes: int
    proof: str

    def as_dict(self):
        return asdict(self)


@dataclass(frozen=True)
class NoEvidence:
    """For a finding that is its own proof."""

    def as_dict(self):
        return {}


def fingerprint(sql, number):
    words = sql.replace("(", " ").split()
    tables = tuple(words[at + 1] for at, word in enumerate(words[:-1]) if word in {"FROM", "INTO", "UPDATE", "JOIN"})
    tables = tuple(dict.fromkeys(table for table in tables if table != "SELECT"))
    operation = "SELECT" if words[0] == "WITH" else words[0]
    return Fingerprint(f"{number:016x}", 1, sql, f"{operation} {' '.join(tables[:3])}", operation, tables)


def query(number, row):
    sql, database, calls, median_ms, spread, rows, errors, call_sites = row
    chance = random.Random(number)
    durations = [chance.lognormvariate(math.log(median_ms / 1000), spread) for _ in range(calls)]
    histogram = HistogramBuilder()
    histogram.add(durations)
    return QueryStats(
        fingerprint=fingerprint(sql, 0x9F3A_11C0_0000_0000 + number * 0x0000_51D3_7A2B_9E01),
        database=database,
        calls=calls,
        errors=errors,
        total_s=sum(durations),
        max_s=max(durations),
        histogram=histogram.build(),
        rows=rows,
        last_seen_at=TAKEN_AT - number * 7,
        call_sites=call_sites,
    )


def everyday_statements():
    """Yield what a shop runs besides: 34 cheap statements."""
    for number in range(34):
        table = TABLES[number % len(TABLES)]
        site = (CallSite(f"shop/{table}.py", 20 + 3 * number, f"load_{table}"),)
        sql = [
            f"SELECT {table}.id, {table}.name, {table}.updated_at FROM {table} WHERE {table}.id = ?",
            f"SELECT count(*) FROM {table} WHERE {table}.updated_at > ?",
            f"UPDATE {table} SET name = ?, updated_at = ? WHERE {table}.id = ?",
            f"DELETE FROM {table} WHERE {table}.id IN (?)",
        ][number // len(TABLES)]
        yield sql, "shop", 600 - 17 * number, 0.3 + 0.08 * (number % 11), 0.4, None if number % 3 else 500, (), site


def build_snapshot():
    rows = [*STATEMENTS, *everyday_statements()]
    queries = [query(number, row) for number, row in enumerate(rows)]
    by_sql = {known.fingerprint.sql: known for known in queries}
    return Snapshot(
        taken_at=TAKEN_AT,
        started_at=STARTED_AT,
        databases=(
            Database("shop", "postgresql", "postgresql", "db.internal", 5432),
            Database("sessions.db", "sqlite", "sqlite"),
        ),
        queries=tuple(sorted(queries, key=lambda known: -known.total_s)),
        findings=tuple(findings(by_sql)),
        plans=tuple(plans(by_sql)),
        advice=tuple(advice(by_sql)),
        scopes=(
            ScopeStats("GET /orders", "request", 1_180, 2_360, 51.2, 58.9, 2),
            ScopeStats("GET /users", "request", 428, 21_828, 15.4, 33.6, 51),
            ScopeStats("monthly_report", "task", 6, 42, 11.6, 12.8, 7),
            ScopeStats("GET /products/search", "request", 940, 1_880, 7.7, 13.2, 2),
            ScopeStats("POST /checkout", "request", 463, 4_167, 3.9, 11.4, 11),
            ScopeStats("GET /", "request", 2_204, 2_204, 0.9, 12.1, 1),
            ScopeStats(None, "checkout", 96, 288, 0.4, 0.6, 5),
        ),
        dropped={"statement texts beyond the limit of 5,000": 12},
        notes=(
            "sessions.db is an in-memory SQLite database: it has no second connection, so no plan could be taken.",
            "Statistics of public.refunds are 41 days old; its row counts in plans may be wrong. Run ANALYZE refunds.",
        ),
    )


def findings(by_sql):
    def of(sql):
        return {"fingerprint": by_sql[sql].fingerprint.id, "database": by_sql[sql].database}

    seen = {"first_seen_at": STARTED_AT + 4, "last_seen_at": TAKEN_AT - 2}
    yield Finding(
        code="slow-query",
        kind=None,
        severity="warning",
        message="Half of its calls take more than 41 ms; it reads 40,000 rows to return 20.",
        fix="Create the index orders(status, created_at), see missing-index.",
        fix_kind="index",
        subject="orders",
        call_site=ORDERS_PAGE,
        scope="GET /orders",
        count=1_180,
        total_s=by_sql[OPEN_ORDERS].total_s,
        evidence=NoEvidence(),
        **of(OPEN_ORDERS),
        **seen,
    )
    yield Finding(
        code="n-plus-one",
        kind="lazy_load",
        severity="error",
        message="User.orders is loaded one parent at a time: 50 statements.",
        fix="Add .options(selectinload(User.orders)) to the select at shop/views.py:38.",
        fix_kind="selectinload",
        subject="User.orders",
        call_site=USERS_PAGE,
        scope="GET /users",
        count=21_400,
        total_s=by_sql[LAZY_ORDERS].total_s,
        evidence=LoopEvidence(LAZY_ORDERS, 50, 51, 428, "replayed: 51 -> 2 queries, 38 ms -> 3 ms"),
        **of(LAZY_ORDERS),
        **seen,
    )
    yield Finding(
        code="missing-index",
        kind=None,
        severity="warning",
        message="An index on orders(status, created_at DESC) helps SELECT orders: Seq Scan on orders, "
        "40,000 rows estimated, 20 returned.",
        fix="Run: CREATE INDEX CONCURRENTLY orders_status_created_at_idx ON orders (status, created_at DESC)",
        fix_kind="create_index",
        subject="orders(status, created_at DESC)",
        call_site=None,
        scope=None,
        count=1_180,
        total_s=by_sql[OPEN_ORDERS].total_s,
        evidence=NoEvidence(),
        **of(OPEN_ORDERS),
        **seen,
    )
    yield Finding(
        code="slow-query",
        kind=None,
        severity="info",
        message="It ran into statement_timeout twice; it sums all items of a year.",
        fix="Narrow the range of created_at, or keep the sums in a table of their own.",
        fix_kind="rewrite",
        subject="orders",
        call_site=REPORT_JOB,
        scope="monthly_report",
        count=6,
        total_s=by_sql[MONTHLY].total_s,
        evidence=NoEvidence(),
        **of(MONTHLY),
        **seen,
    )


def plans(by_sql):
    taken = {"captured_at": STARTED_AT + 30}
    yield Plan(
        by_sql[OPEN_ORDERS].fingerprint.id,
        "postgresql",
        "shop",
        shape="5b1e09c2aa774d10",
        root=PlanNode(
            "Limit",
            rows_estimated=20,
            cost=1_042.3,
            children=(
                PlanNode(
                    "Sort",
                    rows_estimated=19_730,
                    cost=1_042.25,
                    detail="Sort Key: orders.created_at DESC",
                    children=(
                        PlanNode(
                            "Seq Scan",
                            table="orders",
                            rows_estimated=19_730,
                            cost=907.0,
                            detail="Filter: ((created_at > ?) AND (status = ?))",
                        ),
                    ),
                ),
            ),
        ),
        **taken,
    )
    scan_items = PlanNode("Seq Scan", table="items", rows_estimated=120_000, rows_actual=121_404, cost=2_140.0)
    hash_orders = PlanNode(
        "Hash",
        rows_estimated=38_800,
        rows_actual=40_000,
        cost=1_007.0,
        children=(PlanNode("Seq Scan", table="orders", rows_estimated=38_800, rows_actual=40_000, cost=1_007.0),),
    )
    join = PlanNode(
        "Hash Join",
        rows_estimated=116_400,
        rows_actual=120_988,
        cost=5_310.0,
        detail="Hash Cond: (i.order_id = o.id)",
        children=(scan_items, hash_orders),
    )
    yield Plan(
        by_sql[MONTHLY].fingerprint.id,
        "postgresql",
        "shop",
        shape="c41d2b7e90ff0a36",
        root=PlanNode(
            "Limit",
            rows_estimated=100,
            rows_actual=100,
            cost=12_904.0,
            children=(
                PlanNode(
                    "Hash Anti Join",
                    rows_estimated=900,
                    rows_actual=5_400,
                    cost=12_900.0,
                    detail="Hash Cond: ((u.id = refunds.user_id) AND (m.month = refunds.month))",
                    children=(
                        PlanNode(
                            "HashAggregate",
                            rows_estimated=9_000,
                            rows_actual=5_820,
                            cost=11_700.0,
                            detail="Group Key: date_trunc(?, o.created_at), o.user_id",
                            children=(join,),
                        ),
                        PlanNode("Index Only Scan", "refunds", "refunds_user_id_month_key", 320, 311, 14.2),
                    ),
                ),
            ),
        ),
        **taken,
    )
    yield Plan(
        by_sql[SESSIONS].fingerprint.id,
        "sqlite",
        "sessions.db",
        shape="77aa31c0de5510bb",
        root=PlanNode("QUERY PLAN", children=(PlanNode("SCAN", table="sessions", detail="SCAN sessions"),)),
        **taken,
    )


def advice(by_sql):
    yield IndexAdvice(
        index=IndexSpec("orders", ("status", "created_at DESC"), name="orders_status_created_at_idx"),
        ddl="CREATE INDEX CONCURRENTLY orders_status_created_at_idx ON orders (status, created_at DESC)",
        reason="Seq Scan on orders, 40,000 rows estimated, 20 returned",
        fingerprints=(by_sql[OPEN_ORDERS].fingerprint.id, by_sql[MONTHLY].fingerprint.id),
        database="shop",
        cost_before=1_042.3,
        cost_after=8.44,
        proof="hypopg",
        proof_text="cost 1042 -> 8.4: Index Scan using orders_status_created_at_idx",
        size_bytes=1_310_720,
        write_cost=0.4,
    )
    yield IndexAdvice(
        index=IndexSpec("sessions", ("token",), name="sessions_token_idx"),
        ddl="CREATE INDEX sessions_token_idx ON sessions (token)",
        reason="SCAN on sessions, 52,000 rows estimated",
        fingerprints=(by_sql[SESSIONS].fingerprint.id,),
        database="sessions.db",
        cost_before=None,
        cost_after=None,
        proof="scratch",
        proof_text="SEARCH sessions USING INDEX sessions_token_idx (token=?)",
    )


if __name__ == "__main__":
    from querywatch.report.html import render_html

    Path(sys.argv[1]).write_text(render_html(build_snapshot()))
