"""A proposed fix, put into the SELECTs of a run.

In:  findings, whose evidence holds the loader options as they would be typed.
Out: the same options as SQLAlchemy's objects, added to the SELECTs that the fix names.

The typed text is what is tried, not the finding's path, so that nobody is told to type what was not replayed. It is
read by a pattern, never evaluated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import inspect, orm

from querywatch.callsite import describe_caller, find_caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Mapper, ORMExecuteState

    from querywatch.records import Finding

_STEP = re.compile(
    r"(^|\.|,\s*)(\w+)\("
    r"(?:(\w+)\.(\w+)(?:,\s*recursion_depth=(-?\d+))?"  # of an attribute
    r"|(?:(\w+),\s*)?\[([\w,\s]+)\])\)"  # of subclasses: of a named class, or of the one that the step before leads to
)
_LOADERS = frozenset({"selectinload", "joinedload", "subqueryload", "immediateload", "undefer", "selectin_polymorphic"})
# No loader option fills these collections.
_QUERIED_LAZY = frozenset({"dynamic", "write_only"})


class Step(NamedTuple):
    """One call of a chain, such as `selectinload(User.orders)` or `selectin_polymorphic(Employee, [Manager])`.

    Args:
        loader: Name of SQLAlchemy's function.
        owner: Name of the class, as typed; None where the step before says it.
        key: Name of the attribute, None where subclasses are named.
        depth: `recursion_depth`, None where not given.
        subclasses: Their names.
    """

    loader: str
    owner: str | None
    key: str | None
    depth: int | None
    subclasses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The fix of one finding, if it is a loader option.

    Args:
        finding: Says so.
        options: As typed.
        path: Attributes from the class of the SELECT on.
        parent_site: Line of the SELECT as `file:line`, None for every SELECT of the class.
    """

    finding: Finding
    options: str
    path: tuple[str, ...]
    parent_site: str | None


def read_suggestion(finding: Finding) -> Suggestion | None:
    """Return the loader options that a finding proposes, None if its fix is something else.

    Args:
        finding: An `n-plus-one`.
    """
    evidence = finding.evidence.as_dict()
    options = evidence.get("options")
    if not options or not _parse_chains(options):
        return None
    return Suggestion(finding, options, tuple(evidence.get("path") or ()), evidence.get("parent_site"))


class Injection:
    """The options of some suggestions, for the length of a run.

    Args:
        suggestions: What to add; none for a run of the code as it is.
    """

    def __init__(self, suggestions: tuple[Suggestion, ...]) -> None:
        self._suggestions = suggestions
        #: How many SELECTs took an option.
        self.selects = 0

    def inject(self, state: ORMExecuteState) -> None:
        """Add the options to a statement that is about to run, if it is one they are meant for.

        Args:
            state: What `do_orm_execute` gives.
        """
        # Lazy loads and refreshes inherit options from the SELECT of their parents; they are not what the fix names.
        if not self._suggestions or not state.is_select or state.is_relationship_load or state.is_column_load:
            return
        options = [option for suggestion in self._suggestions for option in _build(suggestion, state)]
        if options:
            state.statement = state.statement.options(*options)
            self.selects += 1


def _build(suggestion: Suggestion, state: ORMExecuteState) -> Iterator[Any]:
    """Yield an option for each entity of the statement that the suggestion is about."""
    entities = list(_list_entities(state.statement))
    if not entities or not _is_here(suggestion.parent_site, entities[0][1]):
        return
    for entity, mapper in entities:
        options = [_build_chain(entity, mapper, chain) for chain in _parse_chains(suggestion.options)]
        if None not in options:
            yield from options


def _is_here(site: str | None, mapper: Mapper[Any]) -> bool:
    """Tell whether the running line is *site*, found as it was when the SELECT of the first run was counted."""
    if site is None:
        return True
    caller = find_caller(mapper.class_.__module__.partition(".")[0])
    return caller.code is not None and str(describe_caller(caller.code, caller.line)) == site


def _list_entities(statement: Any) -> Iterator[tuple[Any, Mapper[Any]]]:
    """Yield the classes (and aliases of classes) that a SELECT loads whole objects of."""
    for description in getattr(statement, "column_descriptions", ()):
        inspected = inspect(description["expr"], raiseerr=False)
        if getattr(inspected, "is_mapper", False) or getattr(inspected, "is_aliased_class", False):
            yield inspected.entity, inspected.mapper


def _parse_chains(options: str) -> tuple[tuple[Step, ...], ...]:
    """Read one chain of options, or several with commas in between; none if anything in them is not known."""
    chains: list[tuple[Step, ...]] = []
    end = 0
    for match in _STEP.finditer(options):
        joint, loader, owner, key, depth, base, subclasses = match.groups()
        if match.start() != end or loader not in _LOADERS or (joint == "") is not (end == 0):
            return ()
        # At the head of a chain the class is named, later the step before says it: the other way SQLAlchemy raises.
        if subclasses and (base is None) is not (joint == "."):
            return ()
        end = match.end()
        names = tuple(name.strip() for name in (subclasses or "").split(",") if name.strip())
        step = Step(loader, owner or base, key, int(depth) if depth else None, names)
        if joint == ".":
            chains[-1] += (step,)
        else:
            chains.append((step,))
    return tuple(chains) if end == len(options) else ()


def _build_chain(entity: Any, mapper: Mapper[Any], steps: tuple[Step, ...]) -> Any:
    """Return SQLAlchemy's option; None if the entity has no such attributes."""
    option: Any = None
    for step in steps:
        owner = mapper if step.owner is None else _find_mapper(mapper, step.owner)
        if owner is None:
            return None
        loader = getattr(orm if option is None else option, step.loader)
        # Of the entity's own class or one above it: through the entity, which may be an alias.
        holder = entity if option is None and mapper.isa(owner) else owner.class_
        if step.key is None:
            classes = [found.class_ for name in step.subclasses if (found := _find_mapper(mapper, name)) is not None]
            # SQLAlchemy's own SELECT of a subclass, which this option sends, is none that somebody could add it to.
            if mapper.class_ in classes:
                return None
            option = loader(holder, classes) if option is None else loader(classes)
            continue
        if not owner.has_property(step.key):
            return None
        option = loader(getattr(holder, step.key), **({} if step.depth is None else {"recursion_depth": step.depth}))
        relationship = owner.relationships.get(step.key)
        if relationship is not None:
            if relationship.lazy in _QUERIED_LAZY:
                return None
            mapper = relationship.mapper
    return option


def _find_mapper(mapper: Mapper[Any], name: str) -> Mapper[Any] | None:
    """Find a class by name among those above and below *mapper* in its hierarchy."""
    family = (*mapper.iterate_to_root(), *mapper.self_and_descendants)
    return next((each for each in family if each.class_.__name__ == name), None)
