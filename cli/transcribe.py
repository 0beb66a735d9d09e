"""``asr transcribe FILE…``: text of audio files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from asr.cli.first_use import notice
from asr.cli.recognition import add_recognition_arguments, add_writing_arguments, parse_hot_word

from asr.errors import AsrError, AudioError, ConfigError
from asr.events import Final
from asr.formats import FORMATS

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.search.decoder import DecoderOptions
    from asr.search.hotwords import HotWord
    from asr.written.replacements import Replacement

STDIN = "-"


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "transcribe",
        help="write the text of audio or video files",
        description="Transcribe audio or video files of any kind. Only text goes to standard output.",
        epilog="A file that cannot be read is reported and the others go on; the exit status is then 1.",
    )
    command.add_argument("files", nargs="+", metavar="FILE", help=f"a file with sound in it; {STDIN} is standard input")
    command.add_argument("--format", choices=sorted(FORMATS), default="txt", help="default: txt, an utterance a line")
    command.add_argument("--output", type=Path, metavar="DIR", help="write DIR/NAME.FORMAT for each file instead")
    add_recognition_arguments(command)
    add_writing_arguments(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Transcribe each file; return 0 if all went well, 1 if any did not."""
    import asr
    from asr.search.decoder import with_beam
    from asr.written.replacements import read_replacements

    targets = _targets(options.files, options.output, options.format)
    hot_words = [parse_hot_word(text) for text in options.hot_word]
    replacements = read_replacements(options.replace) if options.replace else ()
    recognizer = asr.load(options.model, pronunciations=options.pronunciations)
    with notice():
        recognizer.warm_up(unknown_words=bool(hot_words))
    decoding = with_beam(recognizer.bundle.decoding, options.beam)
    failed = 0
    for file, target in zip(options.files, targets, strict=True):
        name = "<stdin>" if file == STDIN else file
        live = options.format == "txt" and target is None  # text comes utterance by utterance
        finals, duration_s, failure = _transcribe(
            recognizer, file, name, decoding, hot_words, live, options.written, replacements
        )
        if failure is not None:
            failed += 1
            print(f"asr: {failure}", file=sys.stderr)
        if live or (failure is not None and not finals):
            continue  # what was recognised before the damage is still written, but nothing for nothing
        text = FORMATS[options.format](finals, name, duration_s)
        if target is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            continue
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            # The work is not lost: what could not be written goes to the terminal.
            failed += 1
            print(f"asr: cannot write {target} ({error.strerror}); its text follows", file=sys.stderr)
            sys.stdout.write(text)
    return 1 if failed else 0


def _targets(files: list[str], output: Path | None, suffix: str) -> list[Path | None]:
    """Where each file's text goes; fails before any work if two would go to the same place."""
    if output is None:
        return [None] * len(files)
    targets = [output / f"{'stdin' if file == STDIN else Path(file).stem}.{suffix}" for file in files]
    doubled = next((target for target in targets if targets.count(target) > 1), None)
    if doubled is not None:
        raise ConfigError(f"two files would both be written to {doubled}: transcribe them in separate runs")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {output}: {error.strerror}") from error
    return list(targets)


def _transcribe(
    recognizer: Recognizer,
    file: str,
    name: str,
    decoding: DecoderOptions,
    hot_words: list[HotWord],
    live: bool,
    written: bool,
    replacements: tuple[Replacement, ...],
) -> tuple[list[Final], float, AsrError | None]:
    """Transcribe one file; return what was recognised, the length, and what went wrong if anything did."""
    from tqdm import tqdm

    finals: list[Final] = []
    duration_s = 0.0
    source: str | BinaryIO = file
    if file == STDIN:
        if sys.stdin.isatty():
            hint = AudioError(f"{name} is a terminal: pipe a file into it, as in `asr transcribe - < talk.mp3`")
            return finals, duration_s, hint
        source = sys.stdin.buffer
    bar = tqdm(
        desc=Path(name).name,
        unit="s",
        disable=not sys.stderr.isatty(),
        leave=False,
        bar_format="{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s, {rate_fmt}",
    )

    def progress(read_s: float, stated_s: float | None) -> None:
        bar.total = max(stated_s or 0.0, read_s)
        bar.update(read_s - bar.n)

    try:
        events = recognizer.transcribe_events(
            source,
            decoding=decoding,
            hot_words=hot_words,
            progress=progress,
            written=written,
            replacements=replacements,
        )
        for event, read_s in events:
            duration_s = read_s
            if isinstance(event, Final):
                finals.append(event)
                if live:
                    tqdm.write(event.text, file=sys.stdout)
                    sys.stdout.flush()
    except AsrError as error:
        return finals, duration_s, error
    finally:
        bar.close()
    return finals, duration_s, None
