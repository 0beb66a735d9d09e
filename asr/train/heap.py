"""Memory that the allocator keeps, given back to the system.

Training keeps what it frees, since asking for it anew takes a third of the time (`asr.cli.train`). But batches differ
in length, and what one leaves does not always fit the next: within two hours that grew to 12 GB.
"""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return what is free within the heap. Elsewhere than on Linux with glibc, nothing."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
