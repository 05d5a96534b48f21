import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_snapshot import build_snapshot

from querywatch import records
from querywatch.errors import SnapshotError
from querywatch.records import CallSite, Finding, SavedEvidence, Snapshot
from querywatch.report.json import FORMAT_VERSION, dump_snapshot, load_snapshot

TEXTS = st.text(st.characters(codec=None), max_size=12)
FLOATS = st.floats(allow_nan=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def as_saved(snapshot):
    """Return *snapshot* as it comes back: its evidence has lost its class and nothing else."""
    return replace(
        snapshot,
        findings=tuple(replace(found, evidence=SavedEvidence(found.evidence.as_dict())) for found in snapshot.findings),
    )


def test_reads_back_what_was_saved():
    snapshot = build_snapshot()
    assert load_snapshot(dump_snapshot(snapshot)) == as_saved(snapshot)


def test_reads_back_an_empty_snapshot():
    snapshot = Snapshot(taken_at=2.0, started_at=1.0)
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot


@given(
    st.builds(
        Snapshot,
        taken_at=FLOATS,
        started_at=FLOATS,
        queries=st.lists(
            st.builds(
                records.QueryStats,
                fingerprint=st.builds(records.Fingerprint, TEXTS, st.integers(), TEXTS, TEXTS, TEXTS, st.tuples(TEXTS)),
                database=TEXTS,
                calls=st.integers(),
                errors=st.tuples(st.builds(records.ErrorCount, TEXTS, st.none() | TEXTS, st.integers())),
                total_s=FLOATS,
                max_s=FLOATS,
                histogram=st.builds(
                    records.Histogram, st.dictionaries(st.integers(-8000, 8000), st.integers(0)), st.integers(0)
                ),
                rows=st.none() | st.integers(),
                last_seen_at=FLOATS,
                call_sites=st.tuples(st.builds(CallSite, TEXTS, st.integers(), TEXTS)),
            ),
            max_size=2,
        ).map(tuple),
        findings=st.tuples(
            st.builds(
                Finding,
                code=TEXTS,
                kind=st.none() | TEXTS,
                severity=st.sampled_from(["info", "warning", "error"]),
                message=TEXTS,
                fix=TEXTS,
                fix_kind=TEXTS,
                subject=TEXTS,
                database=st.none() | TEXTS,
                fingerprint=st.none() | TEXTS,
                call_site=st.none() | st.builds(CallSite, TEXTS, st.integers(), TEXTS),
                scope=st.none() | TEXTS,
                count=st.integers(),
                total_s=st.none() | FLOATS,
                first_seen_at=FLOATS,
                last_seen_at=FLOATS,
                evidence=st.builds(SavedEvidence, st.dictionaries(TEXTS, JSON_VALUES, max_size=3)),
            )
        ),
        dropped=st.dictionaries(TEXTS, st.integers(), max_size=2),
        notes=st.tuples(TEXTS),
    )
)
def test_loses_nothing(snapshot):
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot


def test_keeps_what_is_no_number_of_json():
    snapshot = replace(build_snapshot(), taken_at=math.inf)
    text = dump_snapshot(snapshot)
    assert "Infinity" not in text
    assert load_snapshot(text).taken_at == math.inf


def test_ignores_a_field_it_does_not_know_and_fills_in_one_that_came_later():
    document = json.loads(dump_snapshot(build_snapshot()))
    document["snapshot"]["queries"][0]["colour"] = "blue"
    del document["snapshot"]["notes"]
    assert load_snapshot(json.dumps(document)) == as_saved(replace(build_snapshot(), notes=()))


def changed(**changes):
    return json.dumps(json.loads(dump_snapshot(Snapshot(2.0, 1.0))) | changes)


def with_snapshot(**changes):
    return changed(snapshot=asdict(Snapshot(2.0, 1.0)) | changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("", "not JSON", id="empty"),
        pytest.param("SELECT 1", "not JSON", id="not-json"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        pytest.param("1" * 5_000, "not JSON", id="endless-number"),
        pytest.param("[]", "not a saved snapshot", id="other-json"),
        pytest.param('{"format": "coverage"}', "not a saved snapshot", id="other-format"),
        pytest.param(changed(format_version=FORMAT_VERSION + 1), "Upgrade querywatch", id="newer"),
        pytest.param(changed(format_version="1"), "format_version", id="version-is-no-number"),
        pytest.param(changed(snapshot=None), "snapshot must be an object, got None", id="no-snapshot"),
        pytest.param(changed(snapshot={"taken_at": 1.0}), "snapshot.started_at is missing", id="field-missing"),
        pytest.param(
            with_snapshot(taken_at=True), "snapshot.taken_at must be a number, got True", id="bool-is-no-time"
        ),
        pytest.param(with_snapshot(taken_at=10**400), "snapshot.taken_at must be a number", id="beyond-floats"),
        pytest.param(with_snapshot(notes=[1]), "snapshot.notes[0] must be a text, got 1", id="text-expected"),
        pytest.param(with_snapshot(plans=7), "snapshot.plans must be a list, got 7", id="list-expected"),
        pytest.param(with_snapshot(dropped=[]), "snapshot.dropped must be an object", id="object-expected"),
        pytest.param(
            with_snapshot(findings=[{"code": "x", "kind": None, "severity": "fatal"}]), "fatal", id="severity"
        ),
    ],
)
def test_says_in_one_sentence_why_it_cannot_be_read(text, sentence):
    with pytest.raises(SnapshotError) as caught:
        load_snapshot(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "buckets", [{"x": 1}, {"9000": 1}, {"1.5": 1}], ids=["word", "beyond-any-duration", "fraction"]
)
def test_refuses_buckets_that_no_duration_falls_in(buckets):
    document = json.loads(dump_snapshot(build_snapshot()))
    document["snapshot"]["queries"][0]["histogram"]["counts"] = buckets
    with pytest.raises(SnapshotError, match=r"snapshot\.queries\[0\]\.histogram\.counts"):
        load_snapshot(json.dumps(document))
