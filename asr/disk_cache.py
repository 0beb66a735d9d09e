"""Numba's functions, and what it compiled kept on disk wherever there is a place for that.

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
from numba.core.caching import FunctionCache

from asr.compiler import Compiled


class _Cache(FunctionCache):
    """Numba's cache of a function, which also asks whether the functions that it calls are still the same.

    What cannot be read, as after an upgrade that renamed something, is thrown away and compiled anew.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            self._cache_file._source_stamp = _stamp(self._py_func)  # now, since those that it calls may come after it
            return super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling something from another version comes upon
            try:
                self.flush()
            except OSError:  # not ours to write
                self.disable()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:  # a full disk: what is compiled serves this process
            self.disable()


def _stamp(function: Callable[..., Any]) -> tuple[tuple[str, float, int], ...]:
    """When each file with a part of a compiled function was changed, and how long it is."""
    seen: set[Callable[..., Any]] = set()
    waiting = [function]
    while waiting:
        one: Any = waiting.pop()
        if one not in seen:
            seen.add(one)
            called = (one.__globals__.get(name) for name in one.__code__.co_names)
            waiting += [other.py_func for other in called if isinstance(other, Compiled)]
    stamps = []
    for path in sorted({one.__code__.co_filename for one in seen}):
        found = Path(path).stat()
        stamps.append((Path(path).name, found.st_mtime, found.st_size))
    return tuple(stamps)


def make_dispatcher(function: Callable[..., Any], options: dict[str, Any], kept: bool) -> Any:
    """What `numba.njit` makes of a function; ``kept`` on disk, or only as a part of those that call it."""
    compiled: Any = numba.njit(**options)(function)
    if not kept:
        return compiled
    try:
        compiled._cache = _Cache(function)
        return compiled
    except RuntimeError:  # no place to write
        folder = _own_folder()
    if folder is None:
        return compiled
    config: Any = numba.config  # where a cache goes is decided when it is made
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        compiled._cache = _Cache(function)
    finally:
        config.CACHE_DIR = before
    return compiled


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
