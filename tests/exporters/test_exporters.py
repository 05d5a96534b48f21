import subprocess
import sys

import pytest

from querywatch.config import Config
from querywatch.exporters import EXPORTERS
from querywatch.records import Snapshot

CLIENTS = ("prometheus_client", "opentelemetry", "structlog", "sqlglot")


def test_importing_and_starting_what_is_always_on_imports_no_client_library():
    program = """
import sys
from querywatch.config import Config
from querywatch.exporters import EXPORTERS
for module in EXPORTERS:
    module.start(Config(), None)
print(sorted(name for name in sys.argv[1:] if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program, *CLIENTS], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("module", EXPORTERS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_exporter_keeps_the_protocol(module, make_finding, make_span):
    config = Config(prometheus_port=0)
    exporter = module.start(config, lambda: Snapshot(taken_at=0.0, started_at=0.0))
    exporter.on_finding(make_finding())
    exporter.on_pass([make_span()])
    exporter.close()
    exporter.close()
    exporter.on_finding(make_finding())
    exporter.on_pass([make_span()])
    assert exporter.notes == ()
