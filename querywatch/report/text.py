"""A snapshot as plain text: findings first, then the index advice, the statements by time, and the scopes.

In:  a snapshot, or one finding.
Out: text without colour; the terminal, a test's failure and the end of `querywatch run` all show the same block.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from querywatch.histogram import quantile
from querywatch.report import facts, wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from querywatch.records import Finding, IndexAdvice, QueryStats, ScopeStats, Snapshot

#: Columns of a block's head; what is longer moves the rest to the right.
_COLUMN = 16
_QUERIES_SHOWN = 20
_SCOPES_SHOWN = 20


def render_text(snapshot: Snapshot, *, width: int = 100) -> str:
    """Return the whole report.

    Args:
        snapshot: What a monitor knew at one moment.
        width: Columns of the terminal. Words that are longer, such as a path, are not broken.

    Returns:
        Text that ends with a newline.
    """
    sections = [
        _head(snapshot),
        *(render_finding(found, advice=facts.advice_for(found, snapshot), width=width) for found in _worst(snapshot)),
        *(render_advice(advice, width=width) for advice in _unspoken(snapshot)),
        _queries(snapshot, width),
        _scopes(snapshot.scopes, width),
        _notes(snapshot, width),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def render_finding(finding: Finding, *, advice: IndexAdvice | None = None, width: int | None = 100) -> str:
    """Return one finding as a block of a few lines: what, where it hurts, where it comes from, the fix, the proof.

    Args:
        finding: Any finding.
        advice: The index it asks for, where there is one: its measured proof is shown.
        width: Columns; None for no line breaks but those between the facts.

    Returns:
        Lines without a newline at the end.
    """
    return _block(facts.facts_of_finding(finding, advice), width)


def render_advice(advice: IndexAdvice, *, width: int | None = 100) -> str:
    """Return an index advice as a block like a finding's.

    Args:
        advice: Any advice.
        width: As in `render_finding`.

    Returns:
        Lines without a newline at the end.
    """
    return _block(facts.facts_of_advice(advice), width)


def _block(seen: facts.Facts, width: int | None) -> str:
    head = [text for text in (seen.code, seen.scope, seen.subject) if text]
    line = "".join(f"{text:<{_COLUMN - 2}}  " for text in head)
    rows = [("at", seen.at), ("fix", seen.fix), ("proof", seen.proof)]
    # What was counted says it shorter than the sentence. A long sentence would hide the subject: a line of its own.
    what = seen.impact or seen.why
    if seen.impact or (width is not None and len(line) + len(what) <= width):
        line += what
    else:
        rows.insert(0, ("why", seen.why))
    return "\n".join([line.rstrip(), *(_labelled(label, text, width) for label, text in rows if text)])


def _labelled(label: str, text: str, width: int | None) -> str:
    first = f"{'':<{_COLUMN}}{label:<6}"
    return first + text if width is None else _wrapped(text, width, first)


def _wrapped(text: str, width: int, first: str = "") -> str:
    """Break lines at spaces only: a path or a name broken in two cannot be clicked or searched for."""
    return textwrap.fill(
        text,
        # However narrow the terminal, there is room for a word or two.
        max(width, len(first) + 20),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _worst(snapshot: Snapshot) -> list[Finding]:
    return facts.by_weight(snapshot.findings)


def _unspoken(snapshot: Snapshot) -> Iterator[IndexAdvice]:
    """Yield the advice that no finding shows already."""
    shown = [facts.advice_for(finding, snapshot) for finding in snapshot.findings]
    return (advice for advice in snapshot.advice if advice not in shown)


def _head(snapshot: Snapshot) -> str:
    calls = sum(query.calls for query in snapshot.queries)
    errors = sum(error.count for query in snapshot.queries for error in query.errors)
    totals = [
        wording.counted(len(snapshot.findings), "finding"),
        wording.counted(len(snapshot.queries), "statement"),
        wording.counted(calls, "call"),
        f"{wording.duration(sum(query.total_s for query in snapshot.queries))} in the database",
    ]
    if errors:
        totals.append(wording.counted(errors, "error"))
    databases = ", ".join(f"{wording.one_line(known.name)} ({known.system})" for known in snapshot.databases)
    watched = wording.duration(snapshot.taken_at - snapshot.started_at)
    return (
        f"{databases or 'no database yet'}, watched for {watched} until {wording.moment(snapshot.taken_at)} UTC\n"
        + (", ".join(totals))
    )


def _queries(snapshot: Snapshot, width: int) -> str:
    """Return the statements by total time, as a table."""
    queries = sorted(snapshot.queries, key=lambda query: -query.total_s)
    if not queries:
        return "No statement has been seen yet."
    total_s = sum(query.total_s for query in queries)
    shown = queries[:_QUERIES_SHOWN]
    title = "Queries by total time" + (f", {len(shown)} of {len(queries):,}" if len(shown) < len(queries) else "")
    header: tuple[str, ...] = ("share", "total", "calls", "mean", "p95", "errors", "query")
    rows = [_query_row(query, total_s) for query in shown]
    if not any(query.errors for query in shown):
        header, rows = _without(5, header), [_without(5, row) for row in rows]
    return f"{title}\n{_table(header, rows, width)}"


def _query_row(query: QueryStats, total_s: float) -> tuple[str, ...]:
    p95_s = quantile(query.histogram, 0.95)
    site = f"  {wording.one_line(str(query.call_sites[-1]))}" if query.call_sites else ""
    return (
        wording.share(query.total_s / total_s if total_s else 0.0),
        wording.duration(query.total_s),
        wording.count(query.calls),
        wording.duration(query.mean_s),
        # The middle of the slowest bucket may lie above the slowest call.
        wording.duration(None if p95_s is None else min(p95_s, query.max_s)),
        wording.count(sum(error.count for error in query.errors)),
        wording.one_line(query.fingerprint.summary) + site,
    )


def _scopes(scopes: Sequence[ScopeStats], width: int) -> str:
    """Return what a request, task or test costs, as a table."""
    if not scopes:
        return ""
    shown = sorted(scopes, key=lambda scope: -scope.database_s)[:_SCOPES_SHOWN]
    title = "Scopes by database time" + (f", {len(shown)} of {len(scopes):,}" if len(shown) < len(scopes) else "")
    rows = [
        (
            wording.count(scope.scopes),
            wording.count(scope.calls / scope.scopes if scope.scopes else 0),
            wording.count(scope.max_calls),
            wording.duration(scope.database_s / scope.scopes if scope.scopes else 0.0),
            wording.duration(scope.database_s),
            wording.one_line(scope.name) if scope.name else f"(no name)  {wording.one_line(scope.kind)}",
        )
        for scope in shown
    ]
    return f"{title}\n{_table(('times', 'queries each', 'at most', 'database each', 'in all', 'scope'), rows, width)}"


def _notes(snapshot: Snapshot, width: int) -> str:
    notes = [wording.one_line(note) for note in snapshot.notes]
    notes += [
        f"Left out: {wording.count(number)} ({wording.one_line(reason)})."
        for reason, number in snapshot.dropped.items()
        if number
    ]
    return "\n".join(["Notes", *(_wrapped(note, width, "  - ") for note in notes)]) if notes else ""


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int) -> str:
    """Lay out columns of numbers to the right, and the last column, a text, to the left and cut at *width*."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns[:-1]]
    room = max(width - sum(widths) - 2 * (len(widths) + 1), 20)
    return "\n".join(
        "  " + "  ".join([f"{cell:>{size}}" for cell, size in zip(row, widths, strict=False)] + [_cut(row[-1], room)])
        for row in (header, *rows)
    )


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 3]}..."


def _without(position: int, cells: Iterable[str]) -> tuple[str, ...]:
    return tuple(cell for number, cell in enumerate(cells) if number != position)
