"""Results that are there whole or not at all, and so can be told from those that are still to be made."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_BEFORE_NS = 10 * 10**9  # more than the coarsest file system rounds


def write_whole(path: Path, text: str, outdated_by: Path | None = None) -> None:
    """Write a file so that whoever looks for it finds all of it or none, even if the machine stops meanwhile.

    Args:
        path: where; its folder is made if need be, and what is there is replaced.
        text: all of it.
        outdated_by: the file that the text was made from, if that had better be done again: the result is dated
            before it, so that `is_newer` says no.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = (
        path.parent / f".asr-{secrets.token_hex(6)}.part"
    )  # no part of the name, which may be as long as names can be
    try:
        with part.open("xb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())  # a name for data that are not on the disk yet would be half a file
        if outdated_by is not None:
            dated = outdated_by.stat().st_mtime_ns - _BEFORE_NS
            os.utime(part, ns=(dated, dated))
        os.replace(part, path)
    except BaseException:  # an interrupt too
        part.unlink(missing_ok=True)
        raise


def is_newer(result: Path, source: Path) -> bool:
    """Whether a result is there and not older than what it was made from."""
    try:
        return result.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False
