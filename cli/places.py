"""Which files are to be transcribed, and where the text of each goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from asr.cli.urls import file_system, find_below, is_url, local_path, name_of, refuse_unwritable

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

    source: str  # path or URL, as it was given or found
    target: Path | str  # a string is a URL

    @property
    def name(self) -> str:
        """What people call the file."""
        return "<stdin>" if self.source == STDIN else self.source

    @property
    def is_pipe(self) -> bool:
        """Whether the file can be read once, and in this process only: standard input, or a named pipe."""
        return self.source == STDIN or (not is_url(self.source) and Path(self.source).is_fifo())


def find_places(sources: list[str], output: Path | str, suffix: str, recursive: bool) -> tuple[list[Place], list[str]]:
    """Places for all files, those of a folder in the order of their names; and why some folders could not be read.

    Args:
        sources: files, and folders if ``recursive`` says so.
        output: folder of the results, or its URL; the folders below a source are made anew below it.
        suffix: of the results.
        recursive: whether to look into folders, and those in them.

    Raises ConfigError if two results would be one file, or if URLs cannot be used.
    """
    if isinstance(output, str):
        refuse_unwritable(output)
    places: list[Place] = []
    unreadable: list[str] = []
    for source in map(local_path, sources):
        if is_url(source):
            found = _found_at(source, recursive, unreadable)
            places += [Place(url, _below(output, _renamed(below, suffix))) for url, below in found]
        elif recursive and source != STDIN and Path(source).is_dir():
            found = [(str(path), PurePath(below)) for path, below in _walk(source, unreadable)]
            places += [Place(path, _below(output, _renamed(below, suffix))) for path, below in found]
        else:
            name = PurePath("stdin" if source == STDIN else Path(source).name)
            places.append(Place(source, _below(output, _renamed(name, suffix))))
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
            if _has_sound(name):
                path = Path(place, name)
                yield path, path.relative_to(folder)


def _has_sound(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _SUFFIXES and not name.startswith(".")


def _found_at(url: str, recursive: bool, unreadable: list[str]) -> list[tuple[str, PurePath]]:
    """A file at a URL, or those with sound below a folder, each also as seen from there."""
    if not recursive:
        file_system(url)  # what must be installed is said once, and not for each file
        return [(url, PurePosixPath(name_of(url)))]
    try:
        below = find_below(url)
        if below is None:
            return [(url, PurePosixPath(name_of(url)))]
        hidden = ((file, path, any(part.startswith(".") for part in path.parts)) for file, path in below)
        return [(file, path) for file, path, is_hidden in hidden if _has_sound(path.name) and not is_hidden]
    except ConfigError:
        raise
    except Exception as error:  # each store has its own
        unreadable.append(f"{url}: the folder cannot be read ({type(error).__name__}: {error})")
        return []


def _below(output: Path | str, path: PurePath) -> Path | str:
    return output / path if isinstance(output, Path) else f"{output.rstrip('/')}/{path.as_posix()}"


def _renamed(path: PurePath, suffix: str) -> PurePath:
    return path.with_name(f"{path.stem}.{suffix}")


def _refuse_doubles(places: list[Place]) -> None:
    taken: dict[str, Place] = {}
    for place in places:
        target = place.target if isinstance(place.target, str) else os.path.normcase(place.target)
        other = taken.setdefault(target, place)
        if other is not place:
            raise ConfigError(
                f"{other.name} and {place.name} would both be written to {place.target}: transcribe them in separate "
                "runs, or rename one"
            )
