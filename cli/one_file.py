"""One file's text: what every process does that transcribes files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from asr.cli.first_use import notice
from asr.cli.places import STDIN
from asr.cli.turns import Turns
from asr.cli.url_file import UrlFile, open_url
from asr.cli.urls import is_url, local_path

from asr.channels import Channels, in_order
from asr.errors import AsrError
from asr.events import Final
from asr.formats import FORMATS, txt_line

if TYPE_CHECKING:
    from asr.search.hotwords import HotWord
    from asr.written.replacements import Replacement

Progress = Callable[[float, float | None], None]  # seconds read so far, and those that the file says it has


@dataclass(frozen=True)
class Wish:
    """How files are to be transcribed. It is all that a worker process needs to know."""

    model: str | None  # what `asr.load` takes
    pronunciations: Path | None  # the same
    beam: int | None  # hypotheses kept per step; None: as the model has it
    hot_words: tuple[HotWord, ...]  # to expect
    written: bool  # sentences, capitals and numbers as one writes them
    replacements: tuple[Replacement, ...]  # users' own
    format: str  # one of `FORMATS`
    channels: Channels = "mixed"


@dataclass(frozen=True)
class Outcome:
    """What became of a file."""

    text: str | None  # in the format wished for; None if nothing was recognised before something went wrong
    audio_s: float = 0.0  # length of what was heard
    failure: str | None = None  # what went wrong, in a line that names the file


class Transcriber:
    """A model and how to use it; serves any number of files, one after another."""

    def __init__(self, wish: Wish) -> None:
        """Load the model. Raises AsrError."""
        import asr
        from asr.search.decoder import with_beam

        self._wish = wish
        self._recognizer = asr.load(wish.model, pronunciations=wish.pronunciations)
        self._decoding = with_beam(self._recognizer.bundle.decoding, wish.beam)
        with notice():
            self._recognizer.warm_up(unknown_words=bool(wish.hot_words))

    def transcribe(
        self, source: str, name: str, progress: Progress | None = None, show: Callable[[str], None] | None = None
    ) -> Outcome:
        """Transcribe a file.

        What was recognised before a file turns out to be damaged is still its text, but nothing is not.

        Args:
            source: path, URL, or `STDIN`.
            name: what the file is called.
            progress: called as the file is read.
            show: called with the line of each utterance once it is over; of several channels, once it is its turn.
        """
        wish, finals, audio_s, failure = self._wish, list[Final](), 0.0, None
        turns = Turns()

        def tell(said: Sequence[Final]) -> None:
            for final in said:
                if show is not None:
                    show(txt_line(final))

        opened: str | BinaryIO = source
        if source == STDIN:
            if sys.stdin.isatty():
                hint = f"{name} is a terminal: pipe a file into it, as in `asr transcribe - < talk.mp3`"
                return Outcome(None, failure=hint)
            opened = sys.stdin.buffer
        try:
            if is_url(source):
                opened = open_url(local_path(source))
            for event, audio_s in self._recognizer.transcribe_events(
                opened,
                decoding=self._decoding,
                hot_words=wish.hot_words,
                progress=progress,
                written=wish.written,
                replacements=wish.replacements,
                partials=False,
                channels=wish.channels,
            ):
                if isinstance(event, Final):
                    finals.append(event)
                    tell(turns.add(event, audio_s))
        except AsrError as error:
            failure = str(error)
        finally:
            if isinstance(opened, UrlFile):
                opened.close()
        tell(turns.rest())
        if failure is not None and not finals:
            return Outcome(None, audio_s, failure)
        return Outcome(FORMATS[wish.format](in_order(finals), name, audio_s), audio_s, failure)

    def attempt(self, source: str, name: str, progress: Progress | None = None) -> Outcome:
        """`transcribe`, but a fault of ours, or too little memory, is the failure of this file alone."""
        try:
            return self.transcribe(source, name, progress)
        except Exception as error:
            return Outcome(None, failure=f"{name}: {type(error).__name__}: {error}")
