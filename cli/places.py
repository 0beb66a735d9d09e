"""Which files are to be transcribed, and where the text of each goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.errors import ConfigError

STDIN = "-"

# What is taken from a folder: other files lie there too, and are no failures.
_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (  # noqa: SIM905 (forty strings are no easier to read)
        "3g2 3gp aac ac3 aif aifc aiff amr ape au avi caf flac flv gsm m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg "
        "mpg mts oga ogg ogv opus ra rm spx vob voc w64 wav webm wma wmv wv"
    ).split(" ")
)


@dataclass(frozen=True)
class Place:
    """A file with sound in it, and where its text goes."""

    source: str  # path, as it was given or found
    target: Path

    @property
    def name(self) -> str:
        """What people call the file."""
        return "<stdin>" if self.source == STDIN else self.source


def find_places(sources: list[str], output: Path, suffix: str, recursive: bool) -> tuple[list[Place], list[str]]:
    """Places for all files, those of a folder in the order of their names; and why some folders could not be read.

    Args:
        sources: files, and folders if ``recursive`` says so.
        output: folder of the results; the folders below a source are made anew below it.
        suffix: of the results.
        recursive: whether to look into folders, and those in them.

    Raises ConfigError if two results would be one file.
    """
    places: list[Place] = []
    unreadable: list[str] = []
    for source in sources:
        if recursive and source != STDIN and Path(source).is_dir():
            places += [Place(str(path), output / _renamed(below, suffix)) for path, below in _walk(source, unreadable)]
        else:
            below = Path("stdin" if source == STDIN else Path(source).name)
            places.append(Place(source, output / _renamed(below, suffix)))
    _refuse_doubles(places)
    return places, unreadable


def _walk(folder: str, unreadable: list[str]) -> Iterator[tuple[Path, Path]]:
    """Files with sound below a folder, each also as seen from there."""

    def failed(error: OSError) -> None:
        unreadable.append(f"{error.filename}: the folder cannot be read ({error.strerror})")

    for place, folders, files in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            # Some systems put a hidden file beside each that has the same suffix and no sound.
            if os.path.splitext(name)[1].lower() in _SUFFIXES and not name.startswith("."):
                path = Path(place, name)
                yield path, path.relative_to(folder)


def _renamed(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}.{suffix}")


def _refuse_doubles(places: list[Place]) -> None:
    taken: dict[str, Place] = {}
    for place in places:
        other = taken.setdefault(os.path.normcase(place.target), place)
        if other is not place:
            raise ConfigError(
                f"{other.name} and {place.name} would both be written to {place.target}: transcribe them in separate "
                "runs, or rename one"
            )
