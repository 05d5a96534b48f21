import socket
import struct
import threading
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from querywatch.config import Config
from querywatch.errors import ConfigError
from querywatch.exporters import prometheus
from querywatch.records import Snapshot

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def serve():
    """Start exporters on free ports; all are closed at the end."""
    exporters = []

    def start(source, **settings):
        exporter = prometheus.start(Config(**({"prometheus_port": 0} | settings)), source)
        exporters.append(exporter)
        return exporter

    yield start
    for exporter in exporters:
        exporter.close()


def scrape(url, accept="text/plain"):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=5) as response:
        return response.headers["Content-Type"], response.read().decode()


def snapshot(*queries, **changes):
    return Snapshot(taken_at=2.0, started_at=1.0, queries=queries, **changes)


def list_server_threads():
    return {thread for thread in threading.enumerate() if thread.name == "querywatch-metrics"}


def test_serves_nothing_unless_a_port_is_set():
    assert prometheus.start(Config(), snapshot) is None


def test_a_scrape_shows_the_snapshot_of_now(serve, make_stats):
    calls = iter([3, 5])
    exporter = serve(lambda: snapshot(make_stats(calls=next(calls), counts={-1: 3})))
    assert exporter.url == f"http://127.0.0.1:{exporter.port}/metrics"
    for expected in (3, 5):
        content_type, text = scrape(exporter.url)
        assert content_type.startswith("text/plain")
        families = {family.name: family for family in text_string_to_metric_families(text)}
        samples = families["querywatch_query_duration_seconds"].samples
        bounds = [(sample.labels["le"], sample.value) for sample in samples if sample.name.endswith("_bucket")]
        assert len(bounds) == 28
        assert bounds[19:22] == [("0.5", 0), ("1.0", 3), ("2.0", 3)]
        assert bounds[-1] == ("+Inf", expected)
        assert families["querywatch_query_duration_seconds"].type == "histogram"


def test_speaks_openmetrics_when_asked(serve, make_stats):
    exporter = serve(lambda: snapshot(make_stats(), dropped={"statements": 1}))
    content_type, text = scrape(exporter.url, accept=OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics_parser.text_string_to_metric_families(text)}
    assert {"querywatch_query_duration_seconds", "querywatch_query", "querywatch_dropped"} <= names


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        pytest.param('a"b', 'a"b', id="quote"),
        pytest.param("a\\b", "a\\b", id="backslash"),
        pytest.param("a\nb{} 1", "a\nb{} 1", id="line-break"),
        pytest.param("bad\udcff", "bad\ufffd", id="invalid-utf-8"),
        pytest.param("x" * 10_000, "x" * 249 + "…", id="10-kB"),
        pytest.param("naïve 表", "naïve 表", id="other-scripts"),
    ],
)
def test_label_values_survive_the_way_through_the_text(serve, make_finding, subject, expected):
    exporter = serve(lambda: snapshot(findings=(make_finding(subject=subject),)))
    families = {family.name: family for family in text_string_to_metric_families(scrape(exporter.url)[1])}
    assert [sample.labels["subject"] for sample in families["querywatch_findings"].samples] == [expected]


@pytest.mark.parametrize("address", [pytest.param("127.0.0.1", id="loopback"), pytest.param("::1", id="ipv6")])
def test_takes_the_address_of_the_settings(serve, address):
    if address == "::1" and not _has_ipv6_loopback():
        pytest.skip("this machine has no IPv6 loopback address")
    exporter = serve(snapshot, prometheus_address=address)
    assert exporter.address == address
    assert "querywatch_build_info" in scrape(exporter.url)[1]


def _has_ipv6_loopback():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_port_in_use_is_one_clear_sentence(serve):
    port = serve(snapshot).port
    with pytest.raises(ConfigError) as caught:
        serve(snapshot, prometheus_port=port)
    assert str(caught.value) == (
        f"prometheus_port {port} on 127.0.0.1 is in use by another program or worker. "
        "Choose another port, or 0 to take a free one."
    )


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("192.0.2.1", id="not-of-this-machine"),
        pytest.param("no such host", id="not-a-name"),
        pytest.param("a" * 64 + ".example", id="label-too-long"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(serve, address):
    with pytest.raises(ConfigError, match=r"^prometheus_address '.*' with port 0 cannot be listened on .*127\.0\.0\.1"):
        serve(snapshot, prometheus_address=address)


def test_close_frees_the_port_and_ends_the_thread(serve):
    before = list_server_threads()
    exporter = serve(snapshot)
    assert len(list_server_threads() - before) == 1
    exporter.close()
    assert list_server_threads() == before
    again = serve(snapshot, prometheus_port=exporter.port)
    assert again.port == exporter.port


def test_a_snapshot_that_fails_is_counted_and_not_shown_as_an_error(serve, make_stats, capfd):
    outcomes = iter([RuntimeError("no"), snapshot(make_stats())])

    def source():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    exporter = serve(source)
    assert 'querywatch_internal_errors_total{stage="prometheus"} 1.0' in scrape(exporter.url)[1]
    text = scrape(exporter.url)[1]
    assert 'querywatch_internal_errors_total{stage="prometheus"} 1.0' in text
    assert "querywatch_query_duration_seconds_count" in text
    assert capfd.readouterr() == ("", "")


def test_scrapes_at_once_give_one_order_of_places(serve, make_stats):
    exporter = serve(lambda: snapshot(*(make_stats(n) for n in range(300))))
    pages = []
    threads = [threading.Thread(target=lambda: pages.append(scrape(exporter.url)[1])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pages)) == 1
    assert pages[0].count("querywatch_query_duration_seconds_count{") == 201


def test_a_scraper_that_hangs_up_leaves_no_trace_on_stderr(serve, capfd):
    waiting, hung_up = threading.Event(), threading.Event()

    def source():
        waiting.set()
        hung_up.wait(5)
        return snapshot()

    exporter = serve(source)
    with socket.create_connection((exporter.address, exporter.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert waiting.wait(5)
    hung_up.set()
    assert "querywatch_build_info" in scrape(exporter.url)[1]
    assert capfd.readouterr() == ("", "")


def test_a_registry_that_has_such_a_metric_notices_before_the_first_scrape():
    registry = CollectorRegistry()
    Counter("querywatch_dropped", "Somebody else's.", registry=registry)
    with pytest.raises(ValueError, match="querywatch_dropped"):
        registry.register(prometheus.SnapshotCollector(snapshot))
