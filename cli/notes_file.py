"""Finished utterances in a file, each on the disk as soon as it is finished."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asr.captions import Cue, captions
from asr.errors import ConfigError
from asr.events import Final
from asr.formats import event_fields, srt_cue, vtt_cue

SUFFIXES = (".txt", ".srt", ".vtt", ".jsonl")
_LINGER_S = 0.5  # that a subtitle may stay after its last word, of the 0.9 s of silence that ended the utterance
_TAIL_BYTES = 4096  # of a file that is there, in which its last subtitle's times are looked for


class NotesFile:
    """A file that only grows. One that is there is added to: subtitles then go on after its last one's number and time.

    What cannot be written, as on a full disk, is kept and tried again with every later utterance and at the end.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises ConfigError if it cannot be written, or its suffix is none of `SUFFIXES`."""
        self.path = path
        self._suffix = path.suffix.lower()
        if self._suffix not in SUFFIXES:
            raise ConfigError(f"--output {path}: the name must end in {', '.join(SUFFIXES)}")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error
        self._waiting = b""  # that could not be written yet
        self._cues, self._offset_s = 0, 0.0  # of subtitles that were there before
        self._begin()

    def _begin(self) -> None:
        """Find where an earlier run, perhaps interrupted within a line, has left off."""
        found = os.fstat(self._file)
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        if self._suffix == ".vtt" and size == 0:
            self._waiting = b"WEBVTT\n"
        if size == 0:
            return
        os.lseek(self._file, max(0, size - _TAIL_BYTES), os.SEEK_SET)
        tail = os.read(self._file, _TAIL_BYTES).decode("utf-8", errors="replace")
        if not tail.endswith("\n"):
            self._waiting = b"\n"
        if self._suffix in (".srt", ".vtt"):
            self._offset_s = max([0.0, *(_seconds(found) for found in _TIMES.findall(tail))])
            self._cues = max(
                [0, *(int(number) for number in re.findall(r"^(\d+)\r?\n[\d:,]+ -->", tail, re.MULTILINE))]
            )

    def write(self, finals: Sequence[Final]) -> None:
        """Add utterances. Returns when they are on the disk.

        Raises OSError if they cannot be written now; they are not lost.
        """
        self._waiting += "".join(self._record(final) for final in finals).encode("utf-8")
        self._flush()

    def close(self) -> None:
        """Write what is still to be written. Raises OSError if that cannot be."""
        try:
            self._flush()
        finally:
            os.close(self._file)

    def _flush(self) -> None:
        while self._waiting:
            done = os.write(self._file, self._waiting)
            self._waiting = self._waiting[done:]
        _sync(self._file)

    def _record(self, final: Final) -> str:
        if self._suffix == ".txt":
            return f"{final.text}\n"
        if self._suffix == ".jsonl":
            return json.dumps({"type": "final", **event_fields(final)}) + "\n"
        blocks = []
        for cue in _whole(final):
            self._cues += 1
            moved = replace(cue, start_s=cue.start_s + self._offset_s, end_s=cue.end_s + self._offset_s)
            text = srt_cue(self._cues, moved) if self._suffix == ".srt" else vtt_cue(moved)
            blocks.append("\n" + text if self._suffix == ".vtt" or self._cues > 1 else text)
        return "".join(blocks)


_NUMBERS = re.compile(r"^(\d+)\r?\n[\d:,]+ -->", re.MULTILINE)
_TIMES = re.compile(r"--> (?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})")


def _seconds(found: tuple[str, str, str, str]) -> float:
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in found)
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000


def _whole(final: Final) -> list[Cue]:
    """Subtitles of an utterance, when nobody knows yet what follows: the last one ends before that can begin."""
    cues = list(captions([final]))
    if cues:
        linger_s = _LINGER_S if final.reason == "silence" else 0.0
        cues[-1] = replace(cues[-1], end_s=min(cues[-1].end_s, final.end_s + linger_s))
    return cues


def _sync(file: int) -> None:
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a pipe has no disk
            raise
