"""A report on disk: only its owner can read it, and nobody ever sees half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def save_report(path: str | os.PathLike[str], text: str) -> None:
    """Write *text* to *path* with mode 0600, replacing what was there in one step.

    A device or a pipe, such as `/dev/stdout`, is written to and not replaced.

    Args:
        path: The file; its directory must exist. A symbolic link is followed.
        text: The whole report.

    Raises:
        OSError: The file cannot be written. What was there before is untouched.
    """
    # A file name of the host may hold bytes that are no UTF-8; a report must not fail on one.
    data = text.encode(errors="backslashreplace")
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        target.write_bytes(data)
        return
    target = target.resolve()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:50]}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
