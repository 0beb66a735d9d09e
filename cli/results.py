"""Results of files: whether they are there and up to date, and how they come there, on this machine or elsewhere."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from asr.cli.places import Place
from asr.cli.urls import is_url, modified_s, size_of, write_url
from asr.cli.whole_file import write_whole

_BEFORE_S = 10.0  # more than the coarsest file system rounds
_EARLY_S = 86_400.0  # a result that says it is from before 1970's second day is to be made anew


def is_done(place: Place) -> bool:
    """Whether a result is there and not older than what it was made from, as far as their stores know the times."""
    if place.is_pipe:
        return False
    there, made_s = _changed_s(place.target)
    if not there or (made_s is not None and made_s < _EARLY_S):
        return False
    source_there, changed_s = _changed_s(place.source)
    if not source_there:
        return False  # what is wrong with it is told when it is opened
    return made_s is None or changed_s is None or made_s >= changed_s


def write_result(place: Place, text: str, beginning: bool) -> None:
    """Write a result so that it is there whole or not at all.

    Args:
        place: where.
        text: all of it.
        beginning: whether it is no more than the beginning of a damaged file: a result, but one to be made anew when
            the file is whole. So it is dated before the file; where dates cannot be set it gets a name of its own.

    Raises OSError.
    """
    if isinstance(place.target, str):
        write_url(_of_a_beginning(place.target) if beginning else place.target, text)
        return
    dated_s = None
    if beginning and not place.is_pipe:
        _, changed_s = _changed_s(place.source)
        dated_s = changed_s - _BEFORE_S if changed_s is not None else 0.0
    write_whole(place.target, text, dated_s)


def source_size(source: str) -> int:
    """Bytes, at least one, for whoever wants to know what takes long; one if nobody knows."""
    if is_url(source):
        return max(1, size_of(source) or 1)
    try:
        return max(1, os.stat(source).st_size)
    except OSError:
        return 1  # its failure is told when it is opened


def _changed_s(place: Path | str) -> tuple[bool, float | None]:
    """Whether a file is there, and its time in seconds since 1970."""
    if isinstance(place, str) and is_url(place):
        return modified_s(place)
    try:
        return True, os.stat(place).st_mtime_ns / 1e9
    except OSError:
        return False, None


def _of_a_beginning(url: str) -> str:
    folder, _, name = url.rpartition("/")
    path = PurePosixPath(name)
    return f"{folder}/{path.stem}.partial{path.suffix}"
