import base64
import builtins
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from sample_snapshot import build_snapshot

from querywatch.errors import MissingExtraError
from querywatch.records import Snapshot
from querywatch.report import html
from querywatch.report.html import render_html
from querywatch.report.json import dump_snapshot, load_snapshot

SAMPLE = build_snapshot()
VOID = {"meta", "img"}


class Document(HTMLParser):
    """The elements of a page in order, and whether each is closed where it should be."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page():
    return render_html(SAMPLE)


@pytest.fixture(scope="module")
def document(page):
    return Document(page)


def test_every_element_is_closed_and_every_id_is_there_once(document):
    assert document.open == []
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("snapshot", [SAMPLE, Snapshot(2.0, 1.0)], ids=["full", "empty"])
def test_every_link_leads_to_a_place_on_the_page(snapshot):
    document = Document(render_html(snapshot))
    ids = {attributes["id"] for _, attributes in document.elements if "id" in attributes}
    links = [attributes["href"] for attributes in document.all("a")]
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_everything_that_labels_is_there(document):
    ids = {attributes["id"] for _, attributes in document.elements if "id" in attributes}
    labels = {attributes["aria-labelledby"] for _, attributes in document.elements if "aria-labelledby" in attributes}
    assert labels <= ids


def test_nothing_is_loaded(page, document):
    assert "://" not in page
    assert not re.search(r"url\(|@import|src=|<link|<iframe|<img|<form", page)
    assert all("style" not in attributes for _, attributes in document.elements)
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]


def test_the_policy_allows_the_one_style_and_the_one_script_by_their_hashes(page, document):
    [policy] = [meta["content"] for meta in document.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        [body] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x00\x1b{{ 7 * 7 }}&amp;'\"\udcff"
SHOWN = "</script><img src=x onerror=alert(1)><U+202E><U+0000><U+001B>{{ 7 * 7 }}&amp;'\"<U+DCFF>"


def hostile(value):
    """Return a record with every text in it replaced, but the ones that are one of a few words."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, tuple):
        return tuple(hostile(item) for item in value)
    fields = getattr(value, "__dataclass_fields__", {})
    kept = {"severity", "proof", "evidence", "histogram", "proof_text"}
    return (
        replace(value, **{name: hostile(getattr(value, name)) for name in fields if name not in kept})
        if fields
        else value
    )


def test_foreign_text_shows_as_text_wherever_it_stands():
    snapshot = replace(hostile(replace(SAMPLE, dropped={})), dropped={HOSTILE: 1})
    text = render_html(snapshot)
    assert not set(text) & {"\u202e", "\x00", "\x1b", "\udcff"}
    document = Document(text)
    assert document.open == []
    assert (len(document.all("script")), document.all("img")) == (1, [])
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]
    assert document.text.count(SHOWN) > 100


def test_the_order_of_the_page(document):
    headings = [attributes["id"] for tag, attributes in document.elements if tag in {"h1", "h2"} and "id" in attributes]
    assert headings == ["overview", "findings", "indexes", "queries", "scopes", "notes"]
    assert len(document.all("h1")) == 1


@pytest.mark.parametrize(
    "part",
    [
        "3 things to mend",
        "User.orders in GET /users",
        "51 queries, 50 of them this one",
        "At shop/views.py:41 in list_users",
        "Fix Add .options(selectinload(User.orders)) to the select at shop/views.py:38.",
        "Proof replayed: 51 -> 2 queries, 38 ms -> 3 ms",
        "CREATE INDEX CONCURRENTLY orders_status_created_at_idx ON orders (status, created_at DESC)",
        "Before Seq Scan on orders 1,042 After Index Scan using orders_status_created_at_idx 8.44",
        "Before SCAN sessions After SEARCH sessions USING INDEX sessions_token_idx (token=?)",
        "Seq Scan orders most of the cost 19,730 rows expected · cost 907",
        "SCAN sessions reads the whole table",
        "14 UniqueViolation SQLSTATE 23505",
        "shop/checkout.py:73 in Checkout.pay",
        "sessions.db is an in-memory SQLite database",
        "Left out: 12 (statement texts beyond the limit of 5,000).",
    ],
)
def test_says(document, part):
    assert part in document.text


def test_can_be_read_without_javascript(document):
    hidden = [tag for tag, attributes in document.elements if "hidden" in attributes]
    assert set(hidden) == {"button"}
    assert len(hidden) == len(document.all("button"))


def test_a_saved_snapshot_gives_the_same_page(page):
    assert render_html(load_snapshot(dump_snapshot(SAMPLE))) == page


def test_an_empty_snapshot():
    document = Document(render_html(Snapshot(taken_at=1_778_000_000.0, started_at=1_778_000_000.0)))
    assert document.open == []
    assert "No statement seen yet" in document.text
    assert document.all("table") == []


def test_nothing_found():
    document = Document(render_html(replace(SAMPLE, findings=(), advice=())))
    assert "Nothing to mend" in document.text
    assert "Every statement that was seen is within its limits." in document.text


def test_the_same_statement_on_two_databases_is_two_rows():
    query = SAMPLE.queries[0]
    twice = replace(SAMPLE, queries=(query, replace(query, database="replica")))
    document = Document(render_html(twice))
    ids = [attributes["id"] for attributes in document.all("div") if attributes.get("id", "").startswith("query-")]
    assert ids == [f"query-{query.fingerprint.id}", f"query-{query.fingerprint.id}-2"]


def test_a_page_of_very_many_statements_says_what_it_leaves_out():
    query = SAMPLE.queries[0]
    many = tuple(replace(query, fingerprint=replace(query.fingerprint, id=f"{number:016x}")) for number in range(600))
    text = Document(render_html(replace(SAMPLE, queries=many))).text
    assert "100 statements with less time not shown" in text


def test_a_missing_jinja2_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def without_jinja2(name, *args, **kwargs):
        if name == "jinja2":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_jinja2)
    html._environment.cache_clear()
    with pytest.raises(MissingExtraError, match=r'pip install "querywatch\[report\]"'):
        render_html(SAMPLE)


def test_a_finding_shows_its_own_part_of_all_time_not_its_statements():
    slowest = max(SAMPLE.queries, key=lambda query: query.total_s)
    [finding, *_] = [finding for finding in SAMPLE.findings if finding.fingerprint == slowest.fingerprint.id]
    few_calls = replace(finding, total_s=sum(query.total_s for query in SAMPLE.queries) * 0.03)
    text = Document(render_html(replace(SAMPLE, findings=[few_calls]))).text
    assert "Of all time 3.0%" in text
