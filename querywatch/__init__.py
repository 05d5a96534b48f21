"""The database monitor that lives inside your SQLAlchemy application.

import querywatch

monitor = querywatch.install(engine)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querywatch.bootstrap import install, uninstall
    from querywatch.config import Config
    from querywatch.errors import ConfigError, MissingExtraError, QuerywatchError, ReplayError
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
    from querywatch.replay import Replay, aprove, prove
    from querywatch.scope import watch
else:
    _MODULES = {
        "Config": "config",
        "ConfigError": "errors",
        "MissingExtraError": "errors",
        "Monitor": "monitor",
        "QuerywatchError": "errors",
        "Replay": "replay",
        "ReplayError": "errors",
        "aprove": "replay",
        "install": "bootstrap",
        "prove": "replay",
        "uninstall": "bootstrap",
        "watch": "scope",
    }

    # pytest imports the plugin in every session of whoever has querywatch installed. SQLAlchemy, which takes a third of
    # a second, is imported with the first of these names that is used.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - not needed by whoever only imports the package

        value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'records')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


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
    "Replay",
    "ReplayError",
    "Snapshot",
    "aprove",
    "install",
    "prove",
    "uninstall",
    "watch",
]
