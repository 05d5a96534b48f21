"""A snapshot as one HTML page that needs nothing else: no network, no other file, no JavaScript to be read.

In:  a snapshot.
Out: the page.

Statements and names come from foreign programs. Every text is escaped by the template engine, what would act on the
reader's screen is written out (`wording.visible`), and the page's own policy allows its one style sheet and its one
script by their hashes: text that slipped through could still load and run nothing.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from querywatch.errors import MissingExtraError
from querywatch.report import wording
from querywatch.report.page import build_page

if TYPE_CHECKING:
    from jinja2 import Environment

    from querywatch.records import Snapshot


def render_html(snapshot: Snapshot) -> str:
    """Return the report as one self-contained page.

    Args:
        snapshot: What a monitor knew at one moment.

    Returns:
        The page, to be saved as UTF-8.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    environment = _environment()
    style, script = _asset("style.css"), _asset("script.js")
    return environment.get_template("page.html.jinja").render(
        page=build_page(snapshot),
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
    )


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  an extra
    except ImportError:
        raise MissingExtraError("The HTML report", "report") from None
    environment = Environment(
        loader=PackageLoader("querywatch.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for word in (
        wording.cost,
        wording.count,
        wording.counted,
        wording.duration,
        wording.function_name,
        wording.moment,
        wording.percent,
        wording.share,
        wording.size,
    ):
        environment.filters[word.__name__] = word
    return environment


def _shown(value: Any) -> Any:
    """Return *value* as the page shows it: a dash for what is not known, nothing that acts on the screen."""
    if value is None:
        return wording.UNKNOWN
    # What is marked as safe is the page's own markup, never a foreign text. The rest becomes text here and not in
    # the template, or a record that holds texts, such as a call site, would slip by.
    return value if hasattr(value, "__html__") else wording.visible(str(value))


@cache
def _asset(name: str) -> Any:
    from markupsafe import Markup  # noqa: PLC0415  comes with jinja2, an extra

    return Markup(files("querywatch.report").joinpath("templates", name).read_text(encoding="utf-8"))  # noqa: S704  our own file


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
