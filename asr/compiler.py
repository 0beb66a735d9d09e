"""Numba's decorator, with what it compiled kept on disk wherever there is a place for that.

Beside the package's files if they can be written, else in the user's cache folder: so Numba has it. A service often has
neither, and then gets a folder of its own among the temporary files; without any, it compiles at every start.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function at its first use, without the GIL, float division as in NumPy."""
    options = {"nogil": True, "error_model": "numpy", **options}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no place to write
            folder = _own_folder()
        if folder is None:
            return numba.njit(**options)(function)
        config: Any = numba.config  # where caches go is decided when a function is decorated
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            config.CACHE_DIR = before

    return decorate


def _own_folder() -> Path | None:
    """A folder that nobody else can write to: what is loaded from there is run."""
    if not hasattr(os, "getuid"):
        return None
    folder = Path(tempfile.gettempdir()) / f"asr-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if ours else None
