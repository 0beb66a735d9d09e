"""The library of compiled functions that came with the package, if there is one for this machine and these sources.

Built by `asr.build_library` when the package is. A function's name in it is made of the kinds of its arguments and of
the sources that it was compiled from: what fits neither is not found, and Numba compiles it at its first use.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
FOLDER = PACKAGE / "compiled"
SWITCH = "ASR_COMPILED"  # environment variable: `numba` leaves the libraries alone
MACHINE = "ASR_MACHINE"  # environment variable: the kind of machine that is built for, if it is not this one's
# The files that compiled code is made of.
SOURCES = (
    *("array_table.py", "array_types.py", "build_library.py", "compiler.py"),
    *("lexicon/lexicon.py", "lm/lookup.py"),
    *(
        f"network/{name}.py"
        for name in (
            "fbank_kernel",
            "flat_products",
            "lanes",
            "quantized_kernel",
            "quantized_weights",
            "rows_kernel",
            "shape",
            "vectors",
        )
    ),
    *(f"network/packed_{name}.py" for name in ("block", "kernel", "tile", "weights")),
    *(f"search/{name}.py" for name in ("lexicon_tree", "ranking", "second_kernel", "second_lm")),
    *(f"search/word_{name}.py" for name in ("chances", "choice", "growth", "reading", "search", "settling")),
    *(f"search/word_{name}.py" for name in ("state", "table", "weighing")),
    *("written/punctuation_kernel.py", "written/sentence_hints.py"),
)


@dataclass(frozen=True)
class Level:
    """A kind of processor that there is a library for."""

    name: str  # of the file
    machine: str  # as `uname -m` has it
    llvm_cpu: str  # LLVM's name of the least such processor
    llvm_features: str  # what it has besides, as LLVM writes it
    flags: frozenset[str]  # what the processor must have, as Linux names it


_V3 = frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_TILES = frozenset({"amx_tile", "amx_int8"})
LEVELS = (  # best first
    Level(
        "amx", "x86_64", "x86-64-v4", "+avx512vnni,+amx-tile,+amx-int8,-prefer-256-bit", _V4 | {"avx512_vnni"} | _TILES
    ),
    Level("avx512vnni", "x86_64", "x86-64-v4", "+avx512vnni,-prefer-256-bit", _V4 | {"avx512_vnni"}),
    Level("avx2", "x86_64", "x86-64-v3", "", _V3),
    Level("dotprod", "aarch64", "generic", "+dotprod", frozenset({"asimddp"})),
    Level("neon", "aarch64", "generic", "", frozenset()),  # which each of them has
)


def machine() -> str:
    """The kind of machine, as `uname -m` has it; nothing on Windows, for which there is no library."""
    return os.environ.get(MACHINE) or (os.uname().machine if hasattr(os, "uname") else "")


@cache
def processor_flags() -> frozenset[str]:
    """What Linux says that this processor can do; nothing where it does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return flags_in(file)
    except OSError:
        return frozenset()


def flags_in(lines: Iterable[str]) -> frozenset[str]:
    """The flags of the first processor of such a list: x86 and ARM have a word of their own for them."""
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


@cache
def has_tiles() -> bool:
    """Whether this processor has AMX, and Linux lets this process use it: a process must ask once, before it does."""
    if not processor_flags() >= _TILES or platform.machine() != "x86_64":
        return False
    try:
        # arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
        return bool(ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0)
    except (OSError, AttributeError):
        return False


def levels() -> list[Level]:
    """The kinds that this machine is of, best first."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return []
    mine = [level for level in LEVELS if level.machine == machine() and level.flags <= processor_flags()]
    return [level for level in mine if not level.flags & _TILES or has_tiles()]


@cache
def library() -> Library | None:
    """The best library for this machine."""
    if os.environ.get(SWITCH) == "numba":
        return None
    for level in levels():
        try:
            return Library(FOLDER / f"{level.name}.so")
        except OSError:  # not there, or not to be run from there
            continue
    return None


class Library:
    """A library of compiled functions. Raises OSError if it cannot be loaded."""

    def __init__(self, path: Path) -> None:
        self._loaded = ctypes.CDLL(str(path))

    def function(self, name: str, kinds: Sequence[str]) -> Callable[[Sequence[int]], int] | None:
        """What takes the words of arguments of these kinds, and gives what the function gives: an integer, if anything.

        None if the library has nothing of the kind.
        """
        try:
            compiled = self._loaded[symbol(name, kinds)]
        except AttributeError:
            return None
        compiled.restype = ctypes.c_int32
        compiled.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)

        def call(words: Sequence[int]) -> int:
            result, failure = ctypes.c_int64(), ctypes.c_void_p()
            # As Numba hands arguments over: where the result goes, where a failure goes, then the words.
            status = compiled(ctypes.byref(result), ctypes.byref(failure), struct.pack(f"{len(words)}q", *words))
            if status:
                raise RuntimeError(f"compiled code of {name} failed with status {status}")
            return result.value

        return call


@cache
def _stamp() -> bytes:
    """Of the sources as they are now."""
    total = hashlib.sha256()
    for name in SOURCES:
        total.update((PACKAGE / name).read_bytes())
    return total.digest()


def symbol(name: str, kinds: Sequence[str]) -> str:
    """The name in a library of a function for arguments of these kinds."""
    told = hashlib.sha256(_stamp() + repr((name, tuple(kinds))).encode()).hexdigest()
    return f"{name.partition(':')[2]}_{told[:24]}"
