"""``asr mic`` in a process of its own, with a microphone that plays files, into a pipe or on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyte

from asr.audio.resample import StreamResampler

FAKE = Path(__file__).parent / "fake_sounddevice"


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> Path:
    """Samples at 16 kHz as a WAV file at another rate."""
    resampler = StreamResampler(16_000, rate_hz)
    at_rate = np.concatenate([resampler.accept(samples), resampler.finish()])
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes((np.clip(at_rate, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def start(
    *arguments: object, wav: Path | list[Path] | None, fault: str = "", command: str = "mic", **options
) -> subprocess.Popen:
    """Run ``asr mic``. Several files are a microphone that goes away after each and comes back for the next."""
    files = [] if wav is None else wav if isinstance(wav, list) else [wav]
    environment = {**os.environ, "PYTHONPATH": str(FAKE), "FAKE_MIC_FAULT": fault, **options.pop("env", {})}
    environment["FAKE_MIC"] = os.pathsep.join(map(str, files))
    # Unbuffered: what `finish` reads would lack lines that a reader of one line has taken along.
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0, **options}
    return subprocess.Popen(
        [sys.executable, "-m", "asr.cli", command, *map(str, arguments)], env=environment, **options
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Wait for its end: status, standard output, standard error."""
    out, err = process.communicate(timeout=60)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


class Terminal:
    """A terminal emulation on a pseudo-terminal, which a thread keeps up to date."""

    def __init__(self, columns: int = 80, rows: int = 24, kind: type[pyte.HistoryScreen] = pyte.HistoryScreen) -> None:
        import pty

        self.main, self.end = pty.openpty()
        self.screen = kind(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self._written = bytearray()
        self.resize(columns, rows)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            while block := os.read(self.main, 65_536):
                with self._lock:
                    self._written += block
                    self._stream.feed(block)
        except OSError:  # how Linux says that the other end is closed
            pass

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with self._lock:
            self.screen.resize(rows, columns)

    @property
    def written(self) -> bytes:
        """All that was ever written to it."""
        with self._lock:
            return bytes(self._written)

    @property
    def lines(self) -> list[str]:
        """What is to be read, what has scrolled away included, without empty lines at the end."""
        with self._lock:
            width = self.screen.columns
            gone = ["".join(line[x].data for x in range(width)) for line in self.screen.history.top]
            lines = [line.rstrip() for line in (*gone, *self.screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def wait(self, until: Callable[[list[str]], bool], timeout_s: float = 60.0) -> list[str]:
        """Wait for what the lines should be."""
        due_s = time.monotonic() + timeout_s
        while not until(self.lines):
            assert time.monotonic() < due_s, "\n".join(self.lines)
            time.sleep(0.02)
        return self.lines

    def close(self) -> list[str]:
        """Wait for the other end to be closed by all; return the lines left."""
        os.close(self.end)
        self._thread.join(30)
        os.close(self.main)
        return self.lines
