"""C files beside Python's, compiled at first use with the system's C compiler and kept in the user's cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asr.errors import ConfigError

# Sums in any order, but not -ffast-math: linked with it, a library makes the whole process flush subnormals to zero.
LOOSE = ("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math")


def compiled(source: Path, flags: Sequence[str], purpose: str, others: Sequence[Path] = ()) -> ctypes.CDLL:
    """The library made of a C file, or of several.

    Args:
        source: the file.
        flags: for the compiler, besides those that make a library. With ``-march=native`` another processor gets a
            library of its own, also where they share the cache folder.
        purpose: what needs it, the beginning of an error.
        others: further C files of the library, and headers that they include.

    Raises:
        ConfigError: there is no C compiler, or it refuses a file.
    """
    compiler = os.environ.get("CC", "cc")
    key = "\n".join([*(path.read_text(encoding="utf-8") for path in (source, *others)), compiler, *flags, _processor()])
    name = f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asr"
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / name
            files = [str(path) for path in (source, *others) if path.suffix == ".c"]
            command = [compiler, *flags, "-shared", "-fPIC", *files, "-o", str(built), "-lm"]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except FileNotFoundError as error:
                raise ConfigError(f"{purpose} needs a C compiler: no {compiler} found") from error
            except subprocess.CalledProcessError as error:
                lines = [line for line in error.stderr.splitlines() if "error" in line] or ["no reason given"]
                raise ConfigError(f"{purpose}: {compiler} cannot compile {source.name}: {lines[0]}") from error
            os.replace(built, folder / name)  # at once: another process may be waiting for the same file
    return ctypes.CDLL(str(folder / name))


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    named = ("model name", "flags", "CPU part", "Features")
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(named)}))
