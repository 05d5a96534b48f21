"""The demo from begin to end: open the shop, let customers in, show what is found, show what mending it brings.

In:  the command's options.
Out: lines on a console, and two reports in a folder.

Nothing is prepared: what it prints is what the monitor found in the requests that were just made.
"""

from __future__ import annotations

import dataclasses
import queue
import sys
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import create_engine, text

from querywatch.demo.data import ORDERS
from querywatch.demo.database import open_database
from querywatch.demo.measure import PAGES, Cost, Page, describe_change, measure
from querywatch.demo.server import bind_port, serve
from querywatch.demo.shop import Shop, open_shop
from querywatch.demo.traffic import Browser, Traffic
from querywatch.errors import ConfigError
from querywatch.findings import key_of
from querywatch.records import SavedEvidence
from querywatch.report import facts, wording
from querywatch.report.html import render_html
from querywatch.report.json import dump_snapshot
from querywatch.report.saving import save_report
from querywatch.report.text import render_finding

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from querywatch.records import Finding, IndexAdvice, Snapshot

_REQUESTS_LIMIT = 20_000
_FLUSH_LIMIT_S = 10.0
_WIDTH = 100
_SWITCH_INTERVAL_S = 0.001
_REPORT = "querywatch-report"
_SYSTEMS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Options(NamedTuple):
    """What the command line offers.

    Args:
        duration_s: How long customers are let in, in seconds.
        database_url: None for a temporary SQLite file.
        port: Of the shop; 0 takes a free one.
        metrics_port: Of querywatch's metrics; 0 takes a free one.
        out: Folder of the reports.
    """

    duration_s: float
    database_url: str | None
    port: int
    metrics_port: int
    out: Path


def give_tour(options: Options, console: Console) -> Snapshot:
    """Run the demo.

    Args:
        options: What the user asked for.
        console: Where it is shown.

    Returns:
        What the monitor knew when the customers had left.

    Raises:
        ConfigError: A port is in use, or the database or the folder cannot be used.
        KeyboardInterrupt: The user stopped it; everything is cleaned up.
    """
    if not options.out.is_dir():
        raise ConfigError(f"--out: there is no folder {str(options.out)!r}. Create it, or choose another one.")
    with ExitStack() as stack:
        # Shop, customers and querywatch share one interpreter here, as they never would: with Python's 5 ms between
        # switches a query would seem to take as long as it waits for the others.
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        bound = stack.enter_context(bind_port(options.port))
        with console.status("filling the shop"):
            url = stack.enter_context(open_database(options.database_url))
        shop = open_shop(url, options.metrics_port)
        stack.callback(shop.engine.dispose)
        stack.callback(shop.monitor.close)
        address = stack.enter_context(serve(shop.app, bound))
        return _Tour(options, console, shop, address).give()


class _Tour:
    """The running demo."""

    def __init__(self, options: Options, console: Console, shop: Shop, address: str) -> None:
        self._options = options
        self._console = console
        self._shop = shop
        self._monitor = shop.monitor
        self._address = address
        self._found: queue.SimpleQueue[Finding] = queue.SimpleQueue()
        self._monitor.on_finding(self._found.put)
        #: Slow queries that have been found, and whose plan has not been looked at yet.
        self._unexplained: list[Finding] = []
        #: The customers, while there are any.
        self._traffic: Traffic | None = None
        # A file or a pipe has no width; rich would say 80.
        self._width = console.width if console.is_terminal else _WIDTH

    def give(self) -> Snapshot:
        system = _SYSTEMS[self._shop.engine.dialect.name]
        self._say(f"shop on {system}, {ORDERS:,} orders    {self._address}    metrics {self._monitor.metrics_address}")
        self._warm_up()
        self._let_customers_in()
        self._monitor.flush(_FLUSH_LIMIT_S)
        self._show_findings()
        self._show_explained(last=True)
        snapshot = self._monitor.snapshot()
        self._compare(snapshot)
        self._save(snapshot)
        return snapshot

    def _warm_up(self) -> None:
        """Ask for one page, so that nobody waits for what is imported at the first one."""
        browser = Browser(self._address)
        browser.fetch("/orders/1")
        browser.close()
        self._monitor.flush(_FLUSH_LIMIT_S)

    def _let_customers_in(self) -> None:
        bar = Progress(
            TextColumn("traffic"),
            BarColumn(),
            TextColumn("{task.fields[requests]} requests"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        ends_at = time.monotonic() + self._options.duration_s
        with bar, Traffic(self._address, _REQUESTS_LIMIT) as traffic:
            self._traffic = traffic
            task = bar.add_task("", total=self._options.duration_s, requests="0")
            while (left_s := ends_at - time.monotonic()) > 0 and not traffic.is_over:
                done_s = self._options.duration_s - left_s
                bar.update(task, completed=done_s, requests=f"{traffic.requests:,}")
                self._show_findings(wait_s=min(left_s, 0.1))
                self._show_explained()
            bar.update(task, completed=self._options.duration_s, requests=f"{traffic.requests:,}")
        failed = f", {traffic.failures:,} failed" if traffic.failures else ""
        if failed or not self._console.is_terminal:
            self._say(f"traffic  {traffic.requests:,} requests{failed} in {wording.duration(self._options.duration_s)}")

    def _show_findings(self, wait_s: float = 0.0) -> None:
        """Print what has been found since the last call; wait up to *wait_s* seconds for the first."""
        try:
            finding = self._found.get(timeout=wait_s) if wait_s else self._found.get_nowait()
            while True:
                if finding.code == "slow-query":
                    self._unexplained.append(finding)
                else:
                    self._show(finding)
                finding = self._found.get_nowait()
        except queue.Empty:
            return

    def _show_explained(self, *, last: bool = False) -> None:
        """Print each slow query whose fix is known by now: its plan is taken after it was found. All, at the *last*."""
        if not self._unexplained:
            return
        known = {key_of(finding): finding for finding in self._monitor.findings()}
        waiting, self._unexplained = self._unexplained, []
        for finding in (known.get(key_of(found), found) for found in waiting):
            if finding.severity == "info":
                continue  # a statement that is usually fast: nothing to mend
            if last or finding.fix_kind != "none":
                self._show(finding)
            else:
                self._unexplained.append(finding)

    def _show(self, finding: Finding) -> None:
        page = next((page for page in PAGES if page.fixed and page.scope == finding.scope), None)
        if finding.code == "n-plus-one" and page is not None and page.fixed is not None:
            finding = self._prove(finding, page, page.fixed)
        advice = facts.advice_for(finding, self._monitor.snapshot())
        self._say(f"\n{render_finding(finding, advice=advice, width=self._width)}")

    def _prove(self, finding: Finding, page: Page, fixed: Page) -> Finding:
        """Ask for the page and its mended twin, and keep what both cost as the finding's proof."""
        with self._alone():
            change = describe_change(self._measure(page), self._measure(fixed))
        proof = f"measured with {fixed.path}: {change}"
        return dataclasses.replace(finding, evidence=SavedEvidence({**finding.evidence.as_dict(), "proof": proof}))

    def _compare(self, snapshot: Snapshot) -> None:
        """Print the table of bad pages beside mended ones."""
        rows = [("route", "before", "after the fixes")]
        for page in PAGES:
            before = self._measure(page)
            if page.fixed is None and not self._create_indexes(snapshot):
                continue
            rows.append((page.scope, _describe(before), _describe(self._measure(page.fixed or page))))
        self._say()
        for route, before_text, after_text in rows:
            self._say(f"{route:<20}  {before_text:<24}  {after_text}")

    def _create_indexes(self, snapshot: Snapshot) -> list[IndexAdvice]:
        """Really create the suggested indexes in the shop's own tables."""
        engine = create_engine(self._shop.engine.url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                for advice in snapshot.advice:
                    connection.execute(text(advice.ddl))
        finally:
            engine.dispose()
        return list(snapshot.advice)

    def _alone(self) -> AbstractContextManager[None]:
        """Keep customers waiting while the block runs: what is measured must not depend on who else is there."""
        return self._traffic.paused() if self._traffic else nullcontext()

    def _measure(self, page: Page) -> Cost:
        return measure(page, self._address, self._monitor)

    def _save(self, snapshot: Snapshot) -> None:
        page, saved = (self._options.out / f"{_REPORT}{suffix}" for suffix in (".html", ".json"))
        save_report(page, render_html(snapshot))
        save_report(saved, dump_snapshot(snapshot))
        for note in snapshot.notes:
            self._say(f"note    {wording.one_line(note)}")
        self._say(f"report  {page}    saved as {saved}")

    def _say(self, line: str = "") -> None:
        # No markup and no highlighting: SQL holds brackets. No wrapping: a path broken in two cannot be clicked.
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _describe(cost: Cost) -> str:
    return f"{wording.counted(cost.queries, 'query', 'queries'):<10}  {wording.duration(cost.seconds):>8}"
