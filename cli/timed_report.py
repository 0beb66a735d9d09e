"""Lines that say how far long work is, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def timed_report() -> Callable[[str], None]:
    """A function that prints a line with the seconds since now."""
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", file=sys.stderr)

    return report
