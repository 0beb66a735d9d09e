"""``asr transcribe FILE…``: text of audio files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from asr.cli.places import STDIN, find_places
from asr.cli.recognition import add_recognition_arguments, add_writing_arguments, parse_hot_word
from asr.cli.urls import is_url, local_path

from asr.channels import Channels
from asr.errors import ConfigError
from asr.formats import FORMATS

if TYPE_CHECKING:
    from asr.cli.one_file import Wish


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "transcribe",
        help="write the text of audio or video files",
        description="Transcribe audio or video files of any kind. Only text goes to standard output.",
        epilog="A file that cannot be read is reported and the others go on; the exit status is then 1.",
    )
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=f"a file with sound in it, or its address: https://…, s3://…, gs://…; {STDIN} is standard input",
    )
    command.add_argument("--format", choices=sorted(FORMATS), default="txt", help="default: txt, an utterance a line")
    command.add_argument(
        "--channels",
        choices=get_args(Channels),
        default="mixed",
        help="separate: hear each channel by itself, as where each speaker has one, and say whose each utterance is "
        "(default: mixed)",
    )
    command.add_argument("--output", metavar="DIR", help="write DIR/NAME.FORMAT for each file instead")
    command.add_argument(
        "--recursive",
        action="store_true",
        help="go through folders, and make theirs anew below DIR; what has a result newer than itself is skipped, so "
        "that an interrupted run goes on where it was",
    )
    command.add_argument("--overwrite", action="store_true", help="with --recursive: skip nothing")
    command.add_argument(
        "--jobs", type=int, metavar="N", help="with --output: processes that share the files (default: one a core)"
    )
    command.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="with --output: let the machines of a Ray cluster work (ray://HOST:10001 or auto; local starts one here); "
        "they must find files and model under the same names",
    )
    add_recognition_arguments(command)
    add_writing_arguments(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Transcribe each file; return 0 if all went well, 1 if any did not."""
    from asr.cli.one_file import Wish

    from asr.written.replacements import read_replacements

    _refuse_useless(options)
    wish = Wish(
        model=options.model,
        pronunciations=options.pronunciations,
        beam=options.beam,
        hot_words=tuple(parse_hot_word(text) for text in options.hot_word),
        written=options.written,
        replacements=tuple(read_replacements(options.replace)) if options.replace else (),
        format=options.format,
        channels=options.channels,
    )
    return _print_texts(wish, options.files) if options.output is None else _write_texts(wish, options)


def _refuse_useless(options: argparse.Namespace) -> None:
    if options.output is None:
        given = {"--recursive": options.recursive, "--overwrite": options.overwrite, "--jobs": options.jobs is not None}
        given["--ray"] = options.ray is not None
        for name in (name for name, is_given in given.items() if is_given):
            raise ConfigError(f"{name} is for results in a folder: say where with --output DIR")
        if len(options.files) > 1 and options.format != "txt":  # one after the other they are no file of that kind
            raise ConfigError(f"several files as {options.format} need a file each: say where with --output DIR")
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: at least 1")


def _write_texts(wish: Wish, options: argparse.Namespace) -> int:
    from asr.cli.batch import Workers, run_batch

    folder = local_path(options.output)
    output = folder if is_url(folder) else Path(folder)
    places, unreadable = find_places(options.files, output, options.format, options.recursive)
    try:
        if isinstance(output, Path):
            output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {output}: {error.strerror}") from error
    # Whoever names a file wants it done; whoever names a folder wants what is missing done.
    overwrite = options.overwrite or not options.recursive
    summary = options.recursive or (len(places) > 1 and sys.stderr.isatty())
    return run_batch(wish, places, unreadable, Workers(options.jobs, options.ray), overwrite, summary)


def _print_texts(wish: Wish, files: list[str]) -> int:
    """Texts to standard output, in the order of the files; those of format txt utterance by utterance."""
    from asr.cli.one_file import Transcriber
    from asr.cli.progress import file_progress
    from tqdm import tqdm

    def show(text: str) -> None:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    transcriber = Transcriber(wish)
    live = wish.format == "txt"
    failed = 0
    for file in files:
        name = "<stdin>" if file == STDIN else file
        with file_progress(name) as progress:
            outcome = transcriber.transcribe(file, name, progress, show if live else None)
        if outcome.failure is not None:
            failed += 1
            print(f"asr: {outcome.failure}", file=sys.stderr)
        if outcome.text is not None and not live:
            sys.stdout.write(outcome.text)
            sys.stdout.flush()
    return 1 if failed else 0
