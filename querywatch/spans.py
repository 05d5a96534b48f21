"""What is worth a span in the caller's trace.

In:  samples with slow and failed calls; an N+1 with the samples it was found in.
Out: `SpanRecord`s, built in the background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from querywatch.compiled import read_operation
from querywatch.records import Finding, Fingerprint, SpanRecord
from querywatch.scope_record import find_asker_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from querywatch.samples import Samples


def describe_occurrences(
    samples: Iterable[Samples], find_fingerprint: Callable[[str, str], Fingerprint]
) -> Iterator[SpanRecord]:
    """Yield the slow and failed calls that were not described before.

    Args:
        samples: Of one scope.
        find_fingerprint: From shape and SQLAlchemy dialect name to fingerprint.
    """
    for each in samples:
        database = each.source.database
        new = each.occurrences[each.folded.occurrences :]
        each.folded.occurrences += len(new)
        for occurrence in new:
            failure = occurrence.failure
            operation, collection = read_operation(occurrence.compiled)
            yield SpanRecord(
                fingerprint=find_fingerprint(each.shape, database.dialect),
                database=database,
                started_at=occurrence.ended_at - occurrence.elapsed_s,
                ended_at=occurrence.ended_at,
                error_type=None if failure is None else failure.error_type,
                sqlstate=None if failure is None else failure.sqlstate,
                calls=1,
                batch_size=occurrence.batch_size,
                kind="slow" if failure is None else "failed",
                call_site=find_asker_site(occurrence.asker),
                parent=occurrence.trace,
                operation=operation,
                collection=collection,
            )


def describe_burst(
    finding: Finding, samples: Iterable[Samples], find_fingerprint: Callable[[str, str], Fingerprint]
) -> Iterator[SpanRecord]:
    """Yield one span for a whole N+1.

    Args:
        finding: An `n-plus-one`.
        samples: Of its scope.
        find_fingerprint: From shape and SQLAlchemy dialect name to fingerprint.
    """
    for each in samples:
        fingerprint = find_fingerprint(each.shape, each.source.database.dialect)
        if fingerprint.id != finding.fingerprint or each.repeated_at is None:
            continue
        operation, collection = read_operation(each.compiled)
        yield SpanRecord(
            fingerprint=fingerprint,
            database=each.source.database,
            started_at=each.repeated_at,
            ended_at=max(each.looked_at or 0.0, each.repeated_at),
            error_type=None,
            sqlstate=None,
            calls=finding.count,
            batch_size=None,
            kind="n-plus-one",
            call_site=finding.call_site,
            parent=each.trace,
            total_s=finding.total_s,
            operation=operation,
            collection=collection,
        )
        return
