"""What a proposed index is called: `table_column_idx`, as PostgreSQL itself would call it.

In:  table, columns, and the names that are taken.
Out: a name within the identifier limit that nothing has yet.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

#: PostgreSQL's limit in bytes, the lowest of the databases known here; it cuts longer names without an error.
_LONGEST_BYTES = 63


def name_index(table: str, columns: Sequence[str], taken: Collection[str]) -> str:
    """Return a name such as `orders_user_id_created_at_idx`.

    Args:
        table: Its schema, if it has one, does not count.
        columns: Directions do not count.
        taken: Names it cannot have, in any case.
    """
    used = {name.lower() for name in taken}
    stem = "_".join([table.rpartition(".")[2], *(column.partition(" ")[0] for column in columns)])
    name = _shorten(stem, "_idx")
    number = 1
    while name.lower() in used:
        name = _shorten(stem, f"_idx{number}")
        number += 1
    return name


def _shorten(stem: str, end: str) -> str:
    room = _LONGEST_BYTES - len(end)
    text = stem.encode()
    if len(text) <= room:
        return stem + end
    # Two long names that begin alike must not become one.
    mark = "_" + hashlib.blake2b(text, digest_size=3).hexdigest()
    return text[: room - len(mark)].decode(errors="ignore") + mark + end
