"""Names that tell corpora apart in tables and logs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def named_corpora(paths: Iterable[Path]) -> dict[str, Path]:
    """Corpora by name: the file's without its suffix, and where others have that name too, with folders before it.

    ``a/dev.jsonl`` and ``b/dev.jsonl`` are ``a/dev`` and ``b/dev``. A corpus that is there twice is one.
    """
    corpora = {Path(os.path.abspath(path)): path for path in paths}
    return {_name(place, corpora.keys() - {place}): path for place, path in corpora.items()}


def _name(place: Path, others: Iterable[Path]) -> str:
    for folders in range(len(place.parts)):
        name = _with_folders(place, folders)
        if all(_with_folders(other, folders) != name for other in others):
            return name
    return str(place)  # a folder beside a manifest of its name


def _with_folders(place: Path, folders: int) -> str:
    before = place.parts[1:-1]
    return "/".join([*before[max(0, len(before) - folders) :], place.stem])
