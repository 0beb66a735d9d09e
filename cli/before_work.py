"""What is found out before hours of work, and not after them."""

from __future__ import annotations

import errno
import importlib.util
import os
import tempfile
from pathlib import Path

from asr.errors import ConfigError


def need_packages(*names: str) -> None:
    """Raise ConfigError that says what to install if packages are missing that only training needs."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"training needs {' and '.join(missing)}: pip install 'asr-stream[train]'")


def refuse_unwritable(path: Path) -> None:
    """Raise ConfigError if a file cannot be written there. Nothing is left behind, and what is there stays."""
    if path.exists() and not path.is_file() and not path.is_dir():
        return  # a pipe or a device
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        hint = "Name a file in a folder that is there and yours to write"
        raise ConfigError(f"cannot write {path}: {error.strerror}. {hint}") from error
