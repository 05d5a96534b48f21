"""Which statement to EXPLAIN, when, and how often: so that asking for plans can never hurt the application's database.

In:  examples of statements that ran, with their values.
Out: plans, which hold no value.

Only EXPLAIN, never EXPLAIN ANALYZE: no statement is run. One at a time, on a connection of our own, in a read-only
transaction with limits (`dialects/`). What cannot be planned safely is left out rather than tried: a text with a
second statement in it, DDL, anything but SELECT, UPDATE and DELETE.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from querywatch.dialects import find_dialect
from querywatch.dialects.connection import NoPlansError, converse
from querywatch.errors import ExplainError, ExplainTimeoutError
from querywatch.predicates import parse_predicates
from querywatch.records import Plan
from querywatch.shape import take_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Engine

    from querywatch.config import Config
    from querywatch.dialects import DialectModule
    from querywatch.records import Database, PlanNode
    from querywatch.samples import Example

#: A statement is planned again after this time, or when a call of it takes this many times as long as then.
_AGAIN_S = 600.0
_MUCH_SLOWER = 4.0
#: A statement that is not slow is worth a plan if its calls take this share of its database's time.
_BUSY_RATIO = 0.01
#: After an error a database is left alone for this time, doubled with each further one.
_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 900.0

_STATEMENTS_KEPT = 10_000
_NOTES_KEPT = 20
_LONGEST_STATEMENT = 100_000
_MOST_PARAMETERS = 1_000

_QUOTED = re.compile(r"""'(?:[^']|'')*+'|"(?:[^"]|"")*+\"""")
_HIDES_TEXT = re.compile(r"--|/\*|\\|\$[A-Za-z_]*\$|\0")
_BEGINS = re.compile(r"(SELECT|WITH|UPDATE|DELETE)\b", re.IGNORECASE)
# INTO makes a table, and a CTE of PostgreSQL may write.
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|INTO)\b", re.IGNORECASE)
_LOCKS = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b", re.IGNORECASE)


class _Planned(NamedTuple):
    at: float
    typical_s: float


class _Pause(NamedTuple):
    until: float
    length_s: float


class Explainer:
    """Takes plans within limits, and remembers what it took.

    Args:
        config: `slow_query_s`, `explain_per_minute` and `explain_timeout_s` count.
        clock: Monotonic seconds.
        wall_clock: Unix time, stamped on the plans.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._clock = clock
        self._wall_clock = wall_clock
        self._taken: deque[float] = deque()
        self._planned: OrderedDict[tuple[Database, str], _Planned] = OrderedDict()
        self._pauses: dict[Database, _Pause] = {}
        self._without_plans: set[Database] = set()
        self._notes: dict[str, None] = {}
        #: Plans that could not be taken because the database did not answer or refused.
        self.errors = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people about plans that cannot be taken, oldest first; at most 20."""
        return tuple(self._notes)

    def take_plans(self, examples: Sequence[Example]) -> list[Plan]:
        """Plan the statements that are due: slow ones first, then the busiest. Never raises.

        Args:
            examples: One per statement and database; a statement's figures are those so far.
        """
        plans = []
        for example in self._choose(examples):
            plan = self._take(example)
            if plan is not None:
                plans.append(plan)
        return plans

    def _choose(self, examples: Sequence[Example]) -> Iterator[Example]:
        slow = self._config.slow_query_s
        totals: dict[Database, float] = {}
        for example in examples:
            totals[example.database] = totals.get(example.database, 0.0) + example.total_s
        worth = [
            example
            for example in examples
            if example.max_s >= slow or example.total_s >= _BUSY_RATIO * totals[example.database]
        ]
        worth.sort(key=lambda example: (example.max_s >= slow, example.total_s), reverse=True)
        for example in worth:
            if self._is_rate_reached():
                return
            if self._is_due(example):
                yield example

    def _is_rate_reached(self) -> bool:
        now = self._clock()
        while self._taken and now - self._taken[0] >= 60:  # noqa: PLR2004 -- per minute, as the setting says
            self._taken.popleft()
        return len(self._taken) >= self._config.explain_per_minute

    def _is_due(self, example: Example) -> bool:
        database, now = example.database, self._clock()
        pause = self._pauses.get(database)
        if database in self._without_plans or (pause is not None and now < pause.until):
            return False
        last = self._planned.get((database, example.fingerprint.id))
        if last is None:
            return True
        return now - last.at >= _AGAIN_S or (last.typical_s > 0 and example.typical_s >= _MUCH_SLOWER * last.typical_s)

    def _take(self, example: Example) -> Plan | None:
        database = example.database
        dialect = find_dialect(database.dialect)
        key = (database, example.fingerprint.id)
        self._planned[key] = _Planned(self._clock(), example.typical_s)
        self._planned.move_to_end(key)
        if len(self._planned) > _STATEMENTS_KEPT:
            self._planned.popitem(last=False)
        if dialect is None or not may_explain(example.statement, database.dialect, example.parameters):
            return None
        try:
            obstacle = dialect.describe_obstacle(example.engine)
            if obstacle is not None:
                raise NoPlansError(obstacle)  # noqa: TRY301 -- one place says it
            self._taken.append(self._clock())
            root = _ask(dialect, example, self._config.explain_timeout_s)
        except NoPlansError as error:
            self._without_plans.add(database)
            self._note(f"{database.name}: {error}.")
        except ExplainTimeoutError:
            # A lock or a busy server: the statement may be tried again when the pause is over.
            self._planned.pop(key, None)
            self._fail(database, "its server did not plan a statement within the time limit")
        except ExplainError as error:
            # This statement cannot be planned; the database is well.
            self.errors += 1
            self._note(f"{database.name}: no plan of {example.fingerprint.summary}: {error}.")
        except Exception as error:  # noqa: BLE001 -- the driver's own classes; none may reach the monitor's thread
            self._planned.pop(key, None)
            self._fail(database, f"a connection of our own failed ({type(error).__name__})")
        else:
            self._pauses.pop(database, None)
            return Plan(
                fingerprint=example.fingerprint.id,
                dialect=database.dialect,
                database=database.name,
                captured_at=self._wall_clock(),
                shape=hash_shape(root),
                root=root,
            )
        return None

    def _fail(self, database: Database, reason: str) -> None:
        self.errors += 1
        last = self._pauses.get(database)
        length_s = min(_LONGEST_PAUSE_S, last.length_s * 2) if last is not None else _FIRST_PAUSE_S
        self._pauses[database] = _Pause(self._clock() + length_s, length_s)
        self._note(f"{database.name}: {reason}; plans are tried again later.")

    def _note(self, sentence: str) -> None:
        if len(self._notes) < _NOTES_KEPT:
            self._notes[sentence] = None


def may_explain(statement: str, dialect: str, parameters: Any = ()) -> bool:
    """Whether a text is one SELECT, UPDATE or DELETE, beyond doubt, and of a size that is quick to plan.

    A driver may send a text with a `;` in it as two statements, and the second would be run. So where this reading of
    quotes and comments could differ from the server's, the answer is no.
    """
    if len(statement) > _LONGEST_STATEMENT:
        return False
    if isinstance(parameters, list | tuple | dict) and len(parameters) > _MOST_PARAMETERS:
        return False
    if ";" in statement.rstrip("; \t\r\n"):
        bare = _QUOTED.sub("?", statement.rstrip("; \t\r\n"))
        if ";" in bare or _HIDES_TEXT.search(statement):
            return False
    shape = _QUOTED.sub("?", take_shape(statement, dialect)).lstrip("( ")
    begins = _BEGINS.match(shape)
    if begins is None or ";" in shape:
        return False
    if begins[1].upper() in {"UPDATE", "DELETE"}:
        return True
    return _WRITES.search(_LOCKS.sub("", shape)) is None


def hash_shape(root: PlanNode) -> str:
    """Return 16 hexadecimal digits of the tree's kinds, tables and indexes; rows and costs do not count."""
    digest = hashlib.blake2b(digest_size=8)

    def add(node: PlanNode) -> None:
        digest.update("\0".join((node.kind, node.table or "", node.index or "", "(")).encode())
        for child in node.children:
            add(child)
        digest.update(b")")

    add(root)
    return digest.hexdigest()


def _ask(dialect: DialectModule, example: Example, timeout_s: float) -> PlanNode:
    engine: Engine = example.engine
    predicates = parse_predicates(example.statement, example.database.dialect)
    aliases = {instance.alias.lower(): instance.table for instance in predicates}

    def work(connection: Any) -> PlanNode:
        with dialect.open_reader(connection, engine, timeout_s=timeout_s):
            return dialect.take_plan(connection, example.statement, example.parameters, aliases)

    return converse(engine, work)
