"""Make modern English texts, with capitals and punctuation, of git repositories under open licences.

    git clone --bare https://github.com/OWNER/NAME CLONES/OWNER+NAME
    python pretrained/recipe/make_modern_text.py CLONES OUT --measured speech/*.dev.jsonl

Writes OUT/NAME.txt for each source of modern_text/sources.py, which names the repositories, the commits and the
licences: a paragraph or a turn of talk a line, without markup, code, speakers, lines that are there before and
sentences of the measured transcripts. A missing clone is named with the command that makes it, the other sources go
on, and the exit status is 1. Seven minutes for 81 million words.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from modern_text.cleaning import Measured, clean
from modern_text.clones import Clone
from modern_text.sources import SOURCES, Source

from asr.errors import DataError


def find_clones(source: Source, folder: Path) -> list[Clone] | None:
    """The clones of a source's repositories; None if one is missing, and then each that is has been named."""
    clones: list[Clone] = []
    for repository in source.repositories:
        try:
            clones.append(Clone(folder, repository))
        except DataError as error:
            print(f"{source.name}: {error}", file=sys.stderr, flush=True)
    return clones if len(clones) == len(source.repositories) else None


def write_text(source: Source, clones: Sequence[Clone], measured: Measured, path: Path) -> tuple[int, int]:
    """Make the text of a source, whole or not at all. Returns lines and words."""
    files = itertools.chain.from_iterable(clone.files() for clone in clones)
    part = path.with_suffix(".part")
    lines = words = 0
    with part.open("w", encoding="utf-8", newline="\n") as out:
        for line in clean(source.read(files), measured, source.fewest, source.whole):
            out.write(f"{line}\n")
            lines, words = lines + 1, words + len(line.split())
    part.replace(path)
    return lines, words


def main(arguments: Sequence[str] | None = None) -> None:
    names = [source.name for source in SOURCES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path, help="folder of clones named OWNER+NAME")
    parser.add_argument("output", type=Path)
    parser.add_argument("--measured", type=Path, nargs="*", default=[], help="manifests whose transcripts to leave out")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="of these sources")
    options = parser.parse_args(arguments)
    try:
        measured = Measured(options.measured)
    except DataError as error:
        raise SystemExit(f"make_modern_text: {error}") from error
    options.output.mkdir(parents=True, exist_ok=True)
    missing = False
    for source in SOURCES:
        if source.name not in options.only:
            continue
        clones = find_clones(source, options.clones)
        if clones is None:
            missing = True
            continue
        lines, words = write_text(source, clones, measured, options.output / f"{source.name}.txt")
        print(f"{source.name}: {lines:,} lines, {words:,} words", flush=True)
    if missing:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
