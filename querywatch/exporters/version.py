"""The version that metrics and spans name as their author."""

from __future__ import annotations


def read_version() -> str:
    """Return querywatch's version, `unknown` where it runs from files that were never installed."""
    from importlib import metadata  # noqa: PLC0415 - costs 10 ms, and only exporters that run need it

    try:
        return metadata.version("querywatch")
    except metadata.PackageNotFoundError:
        return "unknown"
