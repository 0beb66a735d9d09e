"""``asr mic``: text of what a microphone hears, while it is spoken."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import wave
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from asr.cli.first_use import notice
from asr.cli.live_text import LiveText
from asr.cli.microphone import CHUNK_MS, Microphone, list_microphones
from asr.cli.recognition import add_recognition_arguments, add_writing_arguments, parse_hot_word

from asr.errors import AudioError, ConfigError
from asr.events import Event, Final
from asr.formats import event_fields

_SILENT_S = 3.0  # of nothing but zeros: no microphone is that quiet


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "mic",
        help="write what a microphone hears, while it is spoken",
        description="Transcribe a microphone live, until Ctrl-C. On a terminal the utterance being spoken is rewritten "
        "in place, what may still change dim; into a pipe or a file goes each utterance once it is over.",
    )
    command.add_argument("--list", action="store_true", help="show the microphones there are, and end")
    command.add_argument("--device", metavar="NAME", help="number or part of the name of one (default: the system's)")
    command.add_argument("--events", action="store_true", help="write every event, partials too, as a line of JSON")
    command.add_argument("--save", type=Path, metavar="WAV", help="also keep what was heard")
    add_recognition_arguments(command)
    add_writing_arguments(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Transcribe until interrupted; return 0 then, 1 if the microphone went away."""
    if options.list:
        sys.stdout.write(list_microphones())
        return 0
    import asr
    from asr.search.decoder import with_beam
    from asr.written.replacements import read_replacements

    hot_words = [parse_hot_word(text) for text in options.hot_word]
    replacements = read_replacements(options.replace) if options.replace else ()
    device = int(options.device) if (options.device or "").isdecimal() else options.device
    microphone = Microphone(device)  # before the model is loaded: a wrong name is known at once
    recognizer = asr.load(options.model, pronunciations=options.pronunciations)
    with notice():
        recognizer.warm_up(unknown_words=bool(hot_words))
    stream = recognizer.stream(
        microphone.sample_rate_hz,
        decoding=with_beam(recognizer.bundle.decoding, options.beam),
        hot_words=hot_words,
        written=options.written,
        replacements=replacements,
    )
    silence = _SilenceWatch(microphone.name)
    failure: AudioError | None = None
    with (
        _recording(options.save, microphone.sample_rate_hz) as save,
        closing(_Writer(options.events)) as writer,
        microphone,
        _until_interrupted(microphone),
    ):
        if sys.stderr.isatty():
            print(f"asr: listening to {microphone.name}; Ctrl-C ends", file=sys.stderr)
        try:
            for chunk in microphone:
                save(chunk)
                silence.heard(chunk)
                writer.write(stream.accept(chunk))
        except AudioError as error:
            failure = error
        writer.write(stream.finish())
    if microphone.overflows:
        print(f"asr: sound was lost {microphone.overflows} times: this machine could not keep up", file=sys.stderr)
    if failure is not None:
        raise failure
    return 0


class _Writer:
    """Events to standard output, in the way that suits it."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._live = None
        if sys.stdout.isatty() and not as_json:
            self._live = LiveText(colour=not os.environ.get("NO_COLOR"))

    def write(self, events: list[Event]) -> None:
        for event in events:
            if self._json:
                kind = "final" if isinstance(event, Final) else "partial"
                sys.stdout.write(json.dumps({"type": kind, **event_fields(event)}) + "\n")
            elif self._live is not None:
                sys.stdout.write(self._live.show(event, shutil.get_terminal_size().columns))
            elif isinstance(event, Final):
                sys.stdout.write(event.text + "\n")
        if events:
            sys.stdout.flush()  # whoever reads a pipe waits for it, too

    def close(self) -> None:
        if self._live is not None:
            sys.stdout.write(self._live.close())
            sys.stdout.flush()


class _SilenceWatch:
    """Says so when a microphone begins with nothing but zeros: it is muted, or may not be used."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._chunks_left = round(_SILENT_S * 1000 / CHUNK_MS)

    def heard(self, chunk: bytes) -> None:
        if self._chunks_left == 0:
            return
        if any(chunk):
            self._chunks_left = 0  # zeros may from now on be what a noise gate makes of a pause
            return
        self._chunks_left -= 1
        if self._chunks_left == 0:
            print(
                f"asr: {self._name} gives nothing but silence: is it muted, or may this program not use it?",
                file=sys.stderr,
            )


@contextmanager
def _until_interrupted(microphone: Microphone) -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, end the recording and what was said be written; a second one ends all."""

    def stop(number: int, frame: object) -> None:
        microphone.stop()
        signal.signal(number, before[signal.Signals(number)])

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextmanager
def _recording(path: Path | None, sample_rate_hz: int) -> Iterator[Any]:
    """A function that keeps chunks in a WAV file, or does nothing."""
    if path is None:
        yield lambda chunk: None
        return
    try:
        opened = path.open("wb")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    with opened, wave.open(opened, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        yield file.writeframes
