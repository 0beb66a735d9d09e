"""A word to whoever waits for Numba to compile, once on a machine: where no library came with the package."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE_S = 2.0


@contextmanager
def notice() -> Iterator[None]:
    """Say on a terminal what takes so long, if it does."""
    line = "asr: compiling recognition for this machine, once: about 20 seconds, on a slow one a minute"
    timer = threading.Timer(_PATIENCE_S, lambda: print(line, file=sys.stderr))
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
