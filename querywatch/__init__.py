"""The database monitor that lives inside your SQLAlchemy application.

import querywatch

monitor = querywatch.install(engine)
"""

from querywatch.bootstrap import install, uninstall
from querywatch.config import Config
from querywatch.errors import ConfigError, MissingExtraError, QuerywatchError
from querywatch.monitor import Monitor
from querywatch.records import (
    CallSite,
    Finding,
    Fingerprint,
    IndexAdvice,
    IndexSpec,
    Plan,
    PlanNode,
    QueryStats,
    Snapshot,
)
from querywatch.scope import watch

__all__ = [
    "CallSite",
    "Config",
    "ConfigError",
    "Finding",
    "Fingerprint",
    "IndexAdvice",
    "IndexSpec",
    "MissingExtraError",
    "Monitor",
    "Plan",
    "PlanNode",
    "QueryStats",
    "QuerywatchError",
    "Snapshot",
    "install",
    "uninstall",
    "watch",
]
