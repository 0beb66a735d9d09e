"""A word to whoever waits for the kernels to be compiled, which happens once on a machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE_S = 2.0


@contextmanager
def notice() -> Iterator[None]:
    """Say on a terminal what takes so long, if it does."""
    line = "asr: compiling for this machine; only the first run takes this long"
    timer = threading.Timer(_PATIENCE_S, lambda: print(line, file=sys.stderr))
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
