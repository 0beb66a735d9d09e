"""Where a microphone's text goes: standard output in the way that suits it, a terminal's screen, and files."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

from asr.cli.live_text import LiveText
from asr.cli.notes_file import NotesFile
from asr.cli.status_line import StatusLine

from asr.errors import ConfigError
from asr.events import Event, Final, Partial
from asr.formats import event_fields

_FRAME_S = 0.1  # between two drawings of the screen


class TextOutput:
    """Events to standard output: on a terminal a screen of live text, elsewhere utterances or lines of JSON."""

    def __init__(self, as_json: bool, status: StatusLine) -> None:
        self._json = as_json
        self._status = status
        self._live: LiveText | None = None
        self._partial: Partial | None = None
        self._due_s = 0.0
        if sys.stdout.isatty() and not as_json and os.environ.get("TERM") != "dumb":
            self._live = LiveText(colour=not os.environ.get("NO_COLOR"))

    @property
    def is_live(self) -> bool:
        """Whether there is a screen."""
        return self._live is not None

    def write(self, event: Event) -> None:
        """Show an event."""
        self._partial = event if isinstance(event, Partial) else None
        if self._json:
            kind = "partial" if self._partial else "final"
            sys.stdout.write(json.dumps({"type": kind, **event_fields(event)}) + "\n")
        elif isinstance(event, Final):
            sys.stdout.write(self._live.final(event.text) if self._live else event.text + "\n")
        self._due_s = 0.0
        sys.stdout.flush()  # whoever reads a pipe waits for it, too

    def draw(self) -> None:
        """Bring the screen up to date, if there is one and it is time."""
        if self._live is not None and time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _FRAME_S
            size = shutil.get_terminal_size()
            status = self._status.draw(size.columns - 1)
            sys.stdout.write(self._live.frame(self._partial, status, size.columns, size.lines))
            sys.stdout.flush()

    def tell(self, message: str) -> None:
        """Put a line for people on standard error, above what is rewritten."""
        if self._live is not None:
            sys.stdout.write(self._live.clear())
            sys.stdout.flush()
        print(f"asr: {message}", file=sys.stderr)
        self._due_s = 0.0

    def close(self) -> None:
        """Leave the terminal as it was; an utterance that never was finished can still be read."""
        if self._live is not None:
            unfinished = self._live.final(self._partial.text) if self._partial else ""
            sys.stdout.write(unfinished + self._live.clear())
            sys.stdout.flush()
        elif self._partial is not None and not self._json:
            self.tell(f"not finished: {self._partial.text}")


class KeptText:
    """Finished utterances to a `NotesFile`, if one is wanted. A disk that is full is told of once."""

    def __init__(self, path: Path | None, tell: Callable[[str], None]) -> None:
        """Raises ConfigError if the file cannot be written."""
        self._notes = None if path is None else NotesFile(path)
        self._tell = tell
        self.failed = False  # whether text is missing in the file

    def write(self, final: Final) -> None:
        """Add an utterance."""
        self._attempt(lambda notes: notes.write([final]))

    def close(self) -> None:
        self._attempt(NotesFile.close)

    def _attempt(self, do: Callable[[NotesFile], None]) -> None:
        if self._notes is None:
            return
        try:
            do(self._notes)
            self.failed = False
        except OSError as error:
            if not self.failed:
                self._tell(f"cannot write {self._notes.path}: {error.strerror}; its text waits to be written")
            self.failed = True


class KeptSound:
    """Chunks to a new WAV file, if one is wanted, at most as long as such a file can be. What goes wrong is told once.

    A recording that is there is never touched, and a file that got no sound is not left behind.
    """

    def __init__(self, path: Path | None, sample_rate_hz: int, tell: Callable[[str], None]) -> None:
        """Raises ConfigError if the file cannot be written, or is there already."""
        self.failed = False  # whether sound is missing in the file
        self._path, self._tell = path, tell
        self._wav: wave.Wave_write | None = None
        self._heard = False
        if path is None:
            return
        # Devices and pipes are there already, and have nothing to lose.
        self._is_new = path.is_file() or not path.exists()
        try:
            self._file = path.open("xb" if self._is_new else "wb")
        except FileExistsError as error:
            message = f"{path} is there already: name another file for --save, or move that one away"
            raise ConfigError(message) from error
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error
        self._wav = wave.open(self._file, "wb")  # noqa: SIM115 (closed in close)
        self._wav.setnchannels(1)
        self._wav.setsampwidth(2)
        self._wav.setframerate(sample_rate_hz)

    def write(self, chunk: bytes) -> None:
        """Add a chunk."""
        if self._wav is not None and not self.failed and chunk:
            self._heard = True
            self._attempt(self._wav, lambda wav: wav.writeframes(chunk))

    def close(self) -> None:
        if self._wav is not None:
            self._attempt(self._wav, wave.Wave_write.close)
            self._file.close()
            if self._is_new and not self._heard and self._path is not None:
                self._path.unlink(missing_ok=True)

    def _attempt(self, wav: wave.Wave_write, do: Callable[[wave.Wave_write], None]) -> None:
        try:
            do(wav)
        except (OSError, struct.error) as error:
            if not self.failed:
                reason = error.strerror if isinstance(error, OSError) else "a WAV file holds no more than 4 GiB"
                self._tell(f"cannot write {self._path}: {reason}; listening goes on")
            self.failed = True
