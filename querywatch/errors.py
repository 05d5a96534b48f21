"""The errors querywatch raises. All are raised to the person who set it up, none inside a query."""


class QuerywatchError(Exception):
    """Base of every error of querywatch."""


class ConfigError(QuerywatchError):
    """A setting is wrong. The message says which, the value seen, and what to do."""


class MissingExtraError(QuerywatchError):
    """A feature needs a package that is not installed. The message names the pip command."""

    def __init__(self, feature: str, extra: str) -> None:
        """Name the feature and the extra that brings it.

        Args:
            feature: What the user asked for, as the subject of a sentence.
            extra: The extra's name, such as ``report``.
        """
        super().__init__(f'{feature} needs a package that is not installed. Run: pip install "querywatch[{extra}]"')
        self.extra = extra


class ExplainError(QuerywatchError):
    """The database refused to plan a statement. The application's query is not affected."""


class ExplainTimeoutError(ExplainError):
    """The server stopped an EXPLAIN at its time limit."""


class SnapshotError(QuerywatchError):
    """A saved snapshot cannot be read. The message says why."""


class ReplayError(QuerywatchError):
    """A callable cannot be replayed, because what it does could not be rolled back. Nothing of it was kept."""
