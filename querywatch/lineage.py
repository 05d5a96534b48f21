"""Which line loaded the objects whose attribute was read, and along which relationships.

In:  the samples of one scope.
Out: for each class, the line of the application's SELECT that it descends from, and the relationships in between.

The ORM tells the whole way only where loader options were given. Else it is put together: an `Order` whose `items` were
loaded one by one may itself have come by `User.orders`, and so the option belongs to the SELECT of `User`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from querywatch.callsite import describe_caller

if TYPE_CHECKING:
    from collections.abc import Iterable

    from querywatch.records import CallSite
    from querywatch.samples import Asker, LoadMark, Samples

# Relationships in a row; a longer way is a walk along a tree.
_DEPTH_LIMIT = 5


class Origin(NamedTuple):
    """Where the objects of one class came from.

    Args:
        site: Line of the application's SELECT, None where unknown.
        path: Relationships from the class of that SELECT to these objects.
        to_one: For each of them, whether it leads to one object.
        entity: Class of that SELECT, None where unknown.
        rows: Rows of that SELECT (of the last relationship's statements, where there is a path), None where unknown.
    """

    site: CallSite | None
    path: tuple[str, ...] = ()
    to_one: tuple[bool, ...] = ()
    entity: str | None = None
    rows: int | None = None


_UNKNOWN = Origin(None)


class _Load(NamedTuple):
    """Statements of one kind that loaded objects of one class."""

    mark: LoadMark
    site: CallSite | None
    rows: int | None


class Lineage:
    """The origins of the classes of one scope.

    Args:
        samples: Of the scope, folded.
    """

    def __init__(self, samples: Iterable[Samples]) -> None:
        # Base class -> what loaded its objects.
        self._selects: dict[str, _Load] = {}
        self._loads: dict[str, list[_Load]] = {}
        # Base class -> rows of all SELECTs for its objects, as far as they are known.
        self._rows: Counter[str] = Counter()
        self._bases: dict[str, str] = {}
        for each in samples:
            for asker, (calls, _contexts) in list(each.askers.items()):
                self._add(each, asker, calls)

    def _add(self, samples: Samples, asker: Asker, calls: int) -> None:
        mark = asker.mark
        if mark.entity is None or mark.entity_base is None:
            return
        self._bases[mark.entity] = mark.entity_base
        if mark.parent is not None and mark.path:
            self._bases.setdefault(mark.path[-1].partition(".")[0], mark.parent)
        total = samples.folded.total_rows
        rows = None if total is None else round(total * calls / (samples.folded.samples or 1))
        site = describe_caller(asker.code, asker.line) if asker.code is not None else None
        load = _Load(mark, site, rows)
        if mark.kind == "select":
            self._rows[mark.entity_base] += rows or 0
            known = self._selects.get(mark.entity_base)
            if known is None or (rows or 0) > (known.rows or 0):
                self._selects[mark.entity_base] = load
            for name, is_one, base in mark.joined:
                joined = mark._replace(
                    kind="eager", path=(name,), to_one=(is_one,), entity=base, parent=mark.entity_base
                )
                self._loads.setdefault(base, []).append(_Load(joined, site, rows))
        elif mark.path:
            self._loads.setdefault(mark.entity_base, []).append(load)

    def find_parents(self, mark: LoadMark, contexts: int) -> Origin:
        """Return where the objects came from of which *contexts* statements loaded more.

        Args:
            mark: Of those statements.
            contexts: How many there were.
        """
        before = mark.path[:-1]
        if before:
            root = before[0].partition(".")[0]
            select = self._selects.get(self._bases.get(root, root))
            if select is None:
                return Origin(None, before, mark.to_one[:-1])
            return Origin(select.site, before, mark.to_one[:-1], select.mark.entity)
        if mark.parent is None:
            return _UNKNOWN
        origin = self._find_origin(mark.parent, contexts, mark.path[-1:], _DEPTH_LIMIT)
        is_walk = mark.kind == "lazy_load" and mark.entity_base == mark.parent
        if not origin.path and origin.rows is not None and self._rows[mark.parent] < contexts and not is_walk:
            return _UNKNOWN  # most came from elsewhere, and not from the line that loaded one, such as the current user
        return origin

    def _find_origin(self, base: str, needed: int, without: tuple[str, ...], depth: int) -> Origin:
        """Return the origin of at least *needed* objects of a class, along none of the relationships *without*."""
        select = self._selects.get(base)
        found = _UNKNOWN if select is None else Origin(select.site, entity=select.mark.entity, rows=select.rows)
        if depth == 0 or (select is not None and (select.rows is None or select.rows >= needed)):
            return found
        for load in self._loads.get(base, ()):
            if load.mark.path[-1] in without:
                continue
            if len(load.mark.path) > 1:
                parents = self.find_parents(load.mark, needed)
            elif load.mark.parent is not None:
                # However many parents there were: each may have had many of these objects.
                parents = self._find_origin(load.mark.parent, 0, (*without, load.mark.path[-1]), depth - 1)
            else:
                root = load.mark.path[0].partition(".")[0]
                parents = self._find_origin(self._bases.get(root, root), 0, (*without, load.mark.path[-1]), depth - 1)
            if select is None or parents.site is not None:
                return Origin(
                    parents.site,
                    (*parents.path, load.mark.path[-1]),
                    (*parents.to_one, load.mark.to_one[-1]),
                    parents.entity,
                    load.rows,
                )
        return found
