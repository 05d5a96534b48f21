"""Which of the scopes that ended are examined for findings: all, or a share of them.

In:  the name of each scope, and how many more wait.
Out: yes or no, the same for the same order of scopes.

Statistics count every scope. The first ones of a name are always examined, so that a new route is not missed. When
scopes end faster than they are read, one in ten has to do: what is wasteful in one request is in the next one too.
"""

from __future__ import annotations

# Scopes of one name that are examined whatever the share.
_FIRST = 10
# Names that are known; a program with more of them names its scopes by ids, and loses nothing by the share.
_NAMES_LIMIT = 10_000
# Scopes that wait, from which there is load.
_LOAD = 500
_SHARE_UNDER_LOAD = 0.1


class Sampler:
    """Chooses scopes. Belongs to the background thread.

    Args:
        share: Of the scopes of a name, 0 to 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        # Name -> scopes seen, and the part of a scope that is still owed.
        self._names: dict[str | None, tuple[int, float]] = {}
        #: Scopes that were passed over.
        self.skipped = 0

    def choose(self, name: str | None, waiting: int) -> bool:
        """Tell whether to examine the next scope.

        Args:
            name: Of the scope, None for an implicit one.
            waiting: Scopes that ended and were not read yet.
        """
        share = min(self._share, _SHARE_UNDER_LOAD) if waiting > _LOAD else self._share
        if share >= 1:
            return True
        seen, owed = self._names.get(name, (0, 0.0))
        owed += share
        chosen = (seen < _FIRST and share > 0) or owed >= 1
        if name in self._names or len(self._names) < _NAMES_LIMIT:
            self._names[name] = seen + 1, owed - 1 if owed >= 1 else owed
        self.skipped += not chosen
        return chosen
