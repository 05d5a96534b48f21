"""Text of the application -> text that every receiver takes: valid Unicode of bounded length."""

from __future__ import annotations


def clean(text: str, limit: int) -> str:
    """Make *text* valid Unicode and short.

    One label or attribute with a lone surrogate makes the encoder refuse the whole page or batch.

    Args:
        text: A name or a statement; may hold surrogates, where bytes were decoded with `surrogateescape`.
        limit: Most characters to keep; a longer text ends with an ellipsis. At least 1.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
