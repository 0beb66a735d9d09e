"""Results that are there whole or not at all, and so can be told from those that are still to be made."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, text: str, dated_s: float | None = None) -> None:
    """Write a file so that whoever looks for it finds all of it or none, even if the machine stops meanwhile.

    Args:
        path: where; its folder is made if need be, and what is there is replaced.
        text: all of it.
        dated_s: when it shall say it was made, in seconds since 1970; by default now.

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
        if dated_s is not None:
            os.utime(part, (dated_s, dated_s))
        os.replace(part, path)
    except BaseException:  # an interrupt too
        part.unlink(missing_ok=True)
        raise
