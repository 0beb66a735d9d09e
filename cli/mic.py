"""``asr mic``: text of what a microphone hears, while it is spoken."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from asr.cli.capture import Back, Capture, Gone
from asr.cli.devices import device_table, find_devices
from asr.cli.live_stream import LaterStream, LiveStream, ServerStream
from asr.cli.microphone import CHUNK_MS, DeviceGone
from asr.cli.outputs import KeptSound, KeptText, TextOutput
from asr.cli.recognition import add_recognition_arguments, add_writing_arguments, parse_hot_word
from asr.cli.sound_library import quiet_libraries
from asr.cli.status_line import StatusLine

from asr.errors import AudioError, ConfigError
from asr.events import Event, Final

_SILENT_S = 3.0  # of nothing but zeros: no microphone is that quiet
_PATIENCE_S = 2.0  # for a model: if it takes longer, it is being compiled


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "mic",
        help="write what a microphone hears, while it is spoken",
        description="Transcribe a microphone live, until Ctrl-C. On a terminal the utterance being spoken is rewritten "
        "in place, what may still change dim, above a line with the time and the level; into a pipe or a file goes "
        "each utterance once it is over.",
    )
    command.add_argument("--list", action="store_true", help="show the microphones there are, as `asr devices` does")
    command.add_argument("--device", metavar="NAME", help="number or part of the name of one (default: the system's)")
    command.add_argument("--reconnect", action="store_true", help="wait for a device that goes away, and go on with it")
    command.add_argument("--events", action="store_true", help="write every event, partials too, as a line of JSON")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="also add each utterance to a file as soon as it is over: NAME.txt, .srt, .vtt or .jsonl",
    )
    command.add_argument("--save", type=Path, metavar="WAV", help="also keep what was heard, in a new file")
    command.add_argument("--server", metavar="URL", help="let a server recognise, as ws://HOST:2700, and load no model")
    command.add_argument("--token", help="for the server (default: the variable ASR_TOKEN, if it is set)")
    add_recognition_arguments(command)
    add_writing_arguments(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Transcribe until interrupted; return 0 then, 1 if the microphone went away or a file is incomplete."""
    if options.list:
        sys.stdout.write(device_table(find_devices()))
        return 0
    if options.save is not None and options.output is not None and _same_place(options.save, options.output):
        raise ConfigError(
            f"--save and --output are both {options.save}: name two files, one for sound and one for text"
        )
    make_stream = _stream_maker(options)
    device = int(options.device) if (options.device or "").isdecimal() else options.device
    with quiet_libraries():
        return _listen(options, Capture(device, options.reconnect), make_stream)


def _listen(options: argparse.Namespace, capture: Capture, make_stream: Callable[[int], LiveStream]) -> int:
    status = StatusLine(capture.name, capture.sample_rate_hz, blocks="█░" if _can_write("█░") else "#.")
    failure: AudioError | None = None
    with (
        closing(TextOutput(options.events, status)) as shown,
        closing(KeptSound(options.save, capture.sample_rate_hz, shown.tell)) as sound,  # first: it may be refused
        closing(KeptText(options.output, shown.tell)) as notes,
        capture,  # from here on nothing that is said is lost, though the model is not loaded yet
        _until_interrupted(capture),
    ):
        stream = LaterStream(lambda: make_stream(capture.sample_rate_hz))
        watch = _Watch(capture, shown, status, "connecting" if options.server else "loading the model")
        watch.begin()

        def write(events: Iterable[Event]) -> None:
            for event in events:
                if isinstance(event, Final):
                    notes.write(event)  # first: what can be seen is on the disk
                shown.write(event)
            shown.draw()

        try:
            for heard in capture:
                watch.see(heard, stream.ready)
                if isinstance(heard, bytes):
                    sound.write(heard)
                    write(stream.accept(heard))
                elif isinstance(heard, Gone):
                    write(stream.flush())
        except DeviceGone as error:
            failure = error
        watch.end(stream.ready)
        write(stream.finish())
    if capture.overflows:
        print(f"asr: sound was lost {capture.overflows} times: this machine could not keep up", file=sys.stderr)
    if failure is not None:
        raise failure
    return 1 if notes.failed or sound.failed else 0


def _stream_maker(options: argparse.Namespace) -> Callable[[int], LiveStream]:
    """What opens a stream for sound of a given rate, once it is called. Refuses now what can never work."""
    from asr.written.replacements import read_replacements

    hot_words = [parse_hot_word(text) for text in options.hot_word]
    replacements = read_replacements(options.replace) if options.replace else ()
    if options.server is None:
        if options.token is not None:
            raise ConfigError("--token is for a server: say which with --server")

        def load(sample_rate_hz: int) -> LiveStream:
            import asr
            from asr.search.decoder import with_beam

            recognizer = asr.load(options.model, pronunciations=options.pronunciations)
            recognizer.warm_up(unknown_words=bool(hot_words))
            return recognizer.stream(
                sample_rate_hz,
                decoding=with_beam(recognizer.bundle.decoding, options.beam),
                hot_words=hot_words,
                written=options.written,
                replacements=replacements,
            )

        return load
    for name in ("model", "pronunciations", "beam"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name} is the server's to choose: give it to `asr serve`, or leave --server out")
    try:
        from asr.server.client import Client
    except ModuleNotFoundError as error:
        raise ConfigError(f"--server needs {error.name}: pip install 'asr-stream[server]'") from error

    def connect(sample_rate_hz: int) -> LiveStream:
        return ServerStream(
            Client(
                options.server,
                options.token or os.environ.get("ASR_TOKEN"),
                sample_rate=sample_rate_hz,
                hot_words=hot_words,
                written=options.written,
                replacements={rule.spoken: rule.written for rule in replacements},
            )
        )

    return connect


class _Watch:
    """Tells whoever speaks how it goes: in the status line, and on standard error what should not be missed."""

    def __init__(self, capture: Capture, shown: TextOutput, status: StatusLine, first: str) -> None:
        self._capture, self._shown, self._status = capture, shown, status
        self._people = sys.stderr.isatty()
        self._preparing = first  # what is done until the stream is ready
        self._began_s = time.monotonic()
        self._away = False
        self._silent_chunks_left = round(_SILENT_S * 1000 / CHUNK_MS)

    def begin(self) -> None:
        if self._people:
            self._shown.tell(f"listening to {self._capture.name}; Ctrl-C ends")

    def see(self, heard: bytes | Gone | Back, ready: bool) -> None:
        """Take what the microphone gave into account."""
        if isinstance(heard, bytes):
            self._status.heard(heard)
            self._notice_silence(heard)
        else:
            self._away = isinstance(heard, Gone)
            self._shown.tell(heard.message if isinstance(heard, Gone) else f"{heard.name} is there: listening again")
        if not ready and time.monotonic() - self._began_s > _PATIENCE_S and self._preparing == "loading the model":
            self._preparing = "compiling for this machine; only the first run takes this long"
            if self._people and not self._shown.is_live:
                self._shown.tell(self._preparing)
        name = self._status.name = self._capture.name
        self._status.state = f"waiting for {name}" if self._away else "" if ready else self._preparing
        self._status.losses = self._capture.overflows
        self._shown.draw()

    def end(self, ready: bool) -> None:
        if self._people and not ready:
            self._shown.tell("what was said comes when the model is ready; Ctrl-C drops it")

    def _notice_silence(self, chunk: bytes) -> None:
        """Say so when a microphone begins with nothing but zeros: it is muted, or may not be used."""
        if self._silent_chunks_left == 0 or not chunk:
            return
        if any(chunk):
            self._silent_chunks_left = 0  # zeros may from now on be what a noise gate makes of a pause
            return
        self._silent_chunks_left -= 1
        if self._silent_chunks_left == 0:
            self._shown.tell(self._capture.silent_line)


@contextmanager
def _until_interrupted(capture: Capture) -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, end the recording and what was said be written; a second one ends all."""

    def stop(number: int, frame: object) -> None:
        capture.stop()
        signal.signal(number, before[signal.Signals(number)])

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _same_place(one: Path, other: Path) -> bool:
    return os.path.normcase(one.resolve()) == os.path.normcase(other.resolve())


def _can_write(characters: str) -> bool:
    try:
        characters.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
