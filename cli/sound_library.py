"""PortAudio, by way of the sounddevice package: imported only where sound is wanted, and kept from writing on the
terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TextIO

from asr.cli.sound_faults import FaultKind, fault_line

from asr.errors import ConfigError

_STDERR = 2  # the number by which C knows it


def sound_library() -> ModuleType:
    """The sounddevice package, or a ConfigError that says how to get it."""
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise ConfigError(f"the microphone needs {error.name}: pip install 'asr-stream[mic]'") from error
    except OSError as error:  # its wheels for Linux come without the C library
        raise ConfigError(fault_line(FaultKind.NO_PORTAUDIO, reason=str(error))) from error
    library: ModuleType = sounddevice
    return library


def look_again(library: ModuleType) -> None:
    """Have PortAudio see the devices that there are now: it knows those that there were when it began.

    No stream may be open.
    """
    library._terminate()
    with quiet_libraries():  # they tell at length what they do not find
        library._initialize()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what C libraries write to standard error from the screen; Python's own writing goes on.

    PortAudio writes there, also from threads of its own, whatever an operation failed of.
    """
    try:
        kept = os.dup(_STDERR)
    except OSError:  # closed
        yield
        return
    before, ours = sys.stderr, None
    if before is not None and _number(before) == _STDERR:
        before.flush()
        ours = open(kept, "w", encoding=before.encoding, errors=before.errors, buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = ours
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, _STDERR)
    os.close(nothing)
    try:
        yield
    finally:
        if ours is not None:
            with suppress(OSError):
                ours.close()
            sys.stderr = before
        os.dup2(kept, _STDERR)
        os.close(kept)


def _number(file: TextIO) -> int | None:
    try:
        return file.fileno()
    except (AttributeError, OSError, ValueError):  # no real file, as in a notebook
        return None
