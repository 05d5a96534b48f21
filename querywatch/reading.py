"""Which relationships a scope loaded eagerly, and which of them anything read.

In:  what `capture.reads` sees of SELECTs, of objects that are made from their rows, and of attributes that are read.
Out: a few names and counts for each scope; `eager_loads` makes records of them.

A read counts for the SELECT that the object came from, wherever and whenever it happens: in a thread, in another scope,
after the scope ended. So each object of such a SELECT carries a token. As long as one of the tokens lives, somebody
may still read, and nothing is said.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

#: Among the names that were read: whatever there was may have been read, by a way that tells no names.
ANY = "*"

# SELECTs of one scope that are told apart; more than a request has.
_SELECTS_LIMIT = 200


class Token:
    """What the objects of one class that one SELECT loaded have in common. It lives as long as one of them.

    Args:
        names: Of the SELECT: the relationships that were read.
    """

    __slots__ = ("__weakref__", "names")

    def __init__(self, names: set[str]) -> None:
        self.names = names


class EagerRelationship:
    """One relationship that one SELECT loaded for its objects.

    Args:
        name: Such as `User.orders`.
        parent: Class that has it.
        strategy: `joined`, `selectin`, `subquery` or `immediate`.
        is_mapped: Whether the mapping asks for it, and not an option of the SELECT.
        target: Base of the hierarchy of the class that it leads to.
        lookups: How often the scope had looked for an object of that class by its key.
    """

    __slots__ = ("is_mapped", "lookups", "name", "parent", "samples", "strategy", "target")

    def __init__(  # noqa: PLR0913 - a record
        self, name: str, parent: type[Any], strategy: str, *, is_mapped: bool, target: type[Any], lookups: int
    ) -> None:
        self.name = name
        self.parent = parent
        self.target = target
        self.lookups = lookups
        self.strategy = strategy
        self.is_mapped = is_mapped
        #: Of the statements that loaded nothing else, by id; none for a join.
        self.samples: dict[int, Any] = {}


class EagerSelect:
    """One ORM SELECT of a watched scope that loads, or may load, relationships beside its own rows.

    Args:
        samples: Of the SELECT.
        code: Code object of the application's line, None where the stack held none.
        line: Its line number, 0 with no code.
        strategies: Relationship of SQLAlchemy's -> strategy, of those that an option names; None stands for all others.
    """

    __slots__ = ("callers", "code", "counts", "eager", "line", "names", "samples", "strategies", "tokens")

    def __init__(self, samples: Any, code: CodeType | None, line: int, strategies: dict[Any, str]) -> None:
        self.samples = samples
        self.code = code
        self.line = line
        self.strategies = strategies
        #: Code objects of the application's functions that were running, innermost first.
        self.callers: tuple[CodeType, ...] = ()
        #: What it loaded beside its rows, by name.
        self.eager: dict[str, EagerRelationship] = {}
        #: Relationships of its objects that were read.
        self.names: set[str] = set()
        #: Class -> objects that were made from its rows.
        self.counts: dict[type[Any], int] = {}
        #: Class -> token of those objects.
        self.tokens: dict[type[Any], weakref.ref[Token]] = {}

    def count(self, cls: type[Any]) -> Token:
        """Count an object of exactly the class *cls*, and return the token that it has to carry."""
        reference = self.tokens.get(cls)
        token = None if reference is None else reference()
        if token is None:
            token = Token(self.names)
            self.tokens[cls] = weakref.ref(token)
        self.counts[cls] = self.counts.get(cls, 0) + 1
        return token

    def count_parents(self, relationship: EagerRelationship) -> int:
        """Return for how many objects *relationship* was loaded."""
        return sum(count for cls, count in list(self.counts.items()) if issubclass(cls, relationship.parent))

    def has_living(self, relationship: EagerRelationship) -> bool:
        """Tell whether one of those objects is still there, so that somebody may read it yet."""
        return any(
            reference() is not None
            for cls, reference in list(self.tokens.items())
            if issubclass(cls, relationship.parent)
        )


class ScopeReads:
    """What is seen of one scope whose reads are watched."""

    __slots__ = ("loading", "lookups", "names", "selects")

    def __init__(self) -> None:
        #: Base of a hierarchy -> how often an object of it was looked for by its key, in the session at first.
        self.lookups: dict[type[Any], int] = {}
        #: Relationships that were read in it, of whatever object.
        self.names: set[str] = set()
        #: SQLAlchemy's compile state -> the SELECT.
        self.selects: dict[Any, EagerSelect] = {}
        #: Class -> the latest SELECT that makes objects of it.
        self.loading: dict[type[Any], EagerSelect] = {}

    @property
    def is_full(self) -> bool:
        """Whether it takes no more SELECTs."""
        return len(self.selects) >= _SELECTS_LIMIT

    def was_read(self, select: EagerSelect, relationship: EagerRelationship) -> bool:
        """Tell whether *relationship* was read, or may have been: of an object of *select*, or in the scope."""
        wanted = {relationship.name, ANY}
        if not (wanted.isdisjoint(self.names) and wanted.isdisjoint(select.names)):
            return True
        # `session.get()` and the other way of a relationship find what it brought, and send nothing. An immediate load
        # looks there itself.
        is_looked_up = self.lookups.get(relationship.target, 0) > relationship.lookups
        return is_looked_up and relationship.strategy != "immediate"


class ReadShares:
    """Which scopes are watched: the largest share that a monitor asks for."""

    def __init__(self) -> None:
        self._shares: dict[int, float] = {}
        #: 0 while no monitor wants reads.
        self.share = 0.0
        self._owed = 0.0

    def set_share(self, owner: int, share: float) -> None:
        """Let *owner* have its share of scopes.

        Args:
            owner: Number of the monitor.
            share: 0 to 1; 0 takes its wish back.
        """
        if share > 0:
            self._shares[owner] = share
        else:
            self._shares.pop(owner, None)
        self.share = max(self._shares.values(), default=0.0)

    def choose(self) -> ScopeReads | None:
        """Return a place for the reads of a scope that begins, None if it is not to be watched."""
        # Two threads may lose a part of a scope to each other; the share is not that exact.
        self._owed += self.share
        if self._owed < 1:
            return None
        self._owed -= 1
        return ScopeReads()


#: Of this process.
read_shares = ReadShares()
