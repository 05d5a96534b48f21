"""Findings that somebody has looked at and wants to hear no more of.

In:  a finding; patterns of the settings, comments in the source.
Out: yes or no.

The comment `# querywatch: allow n-plus-one` stands in the statement of the finding's line, on the line above it, or at
the select that loaded the parents. It names codes, because the next problem of the line is another one.
"""

from __future__ import annotations

import ast
import linecache
import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from querywatch.records import Finding

_COMMENT = re.compile(r"#\s*querywatch:\s*allow\s+(?P<codes>[\w*,\s-]+)")


def is_allowed(finding: Finding, patterns: Iterable[str]) -> bool:
    """Tell whether a finding is to be left out.

    Args:
        finding: Any finding.
        patterns: Texts such as `User.orders`: its code, subject, `code:subject`, scope, database, fingerprint, or its
            line as `file:line`. `*` stands for any text: `shop/views.py:*` is every line of a file.
    """
    return matches(finding, patterns) or _has_comment(finding)


def matches(finding: Finding, patterns: Iterable[str]) -> bool:
    """Tell whether a pattern names a finding; see `is_allowed`."""
    names = [finding.code, finding.subject, f"{finding.code}:{finding.subject}"]
    names += [name for name in (finding.scope, finding.database, finding.fingerprint) if name is not None]
    if finding.call_site is not None:
        names.append(str(finding.call_site))
    # Only `*` is a sign: a parametrized test's name has brackets, a URL has question marks.
    plain = [pattern.replace("[", "[[]").replace("?", "[?]") for pattern in patterns]
    return any(fnmatchcase(name, pattern) for pattern in plain for name in names)


def _has_comment(finding: Finding) -> bool:
    places = [str(finding.call_site)] if finding.call_site is not None else []
    parent_site = finding.evidence.as_dict().get("parent_site")
    if isinstance(parent_site, str):
        places.append(parent_site)
    return any(_allows(place, finding.code) for place in places)


def _allows(place: str, code: str) -> bool:
    file, _, line = place.rpartition(":")
    lines = linecache.getlines(file)
    # Most files have none, and need not be parsed.
    if not any("querywatch" in text and _COMMENT.search(text) for text in lines):
        return False
    first, last = _find_statement("".join(lines), int(line))
    # Of a statement too long for a comment at its end, it stands above.
    above = [text for text in lines[max(0, first - 2) : first - 1] if text.strip().startswith("#")]
    texts = [*lines[first - 1 : last], *above]
    comments = [_COMMENT.search(text) for text in texts]
    named = {name for comment in comments if comment is not None for name in re.split(r"[\s,]+", comment["codes"])}
    return code in named or "*" in named


@lru_cache(maxsize=256)
def _find_statement(source: str, line: int) -> tuple[int, int]:
    """Return the first and the last line of the statement that a line is part of; of a block, of its head."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return line, line
    found = line, line
    # Outer statements come first, so the innermost one stays.
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            if node.lineno <= line <= last:
                found = node.lineno, last
    return found
