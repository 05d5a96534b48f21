"""What differs between databases, one module each: whether the driver works while fetching, EXPLAIN, catalog, DDL."""

from __future__ import annotations
