"""Results of files in a folder: what is there already is left, one that fails ends no other, and all is told at the
end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from asr.cli.one_file import Outcome, Transcriber, Wish
from asr.cli.places import STDIN, Place
from asr.cli.progress import BatchProgress, file_progress
from asr.cli.whole_file import is_newer, write_whole
from asr.cli.worker_pool import WorkerPool


@dataclass
class Tally:
    """What a run did."""

    written: int = 0
    skipped: int = 0
    audio_s: float = 0.0  # of sound that was heard
    failures: dict[str, list[str]] = field(default_factory=dict)  # by the file's name
    unwritten: dict[str, str] = field(default_factory=dict)  # text that could not be written, by the file's name

    def fail(self, name: str, line: str) -> None:
        """Note what went wrong with a file."""
        self.failures.setdefault(name, []).append(line)

    def complaints(self) -> str:
        """A line for each failure, in the order of names, whatever the order in which they came."""
        return "".join(f"asr: {line}\n" for name in sorted(self.failures) for line in self.failures[name])

    def summary(self, wall_s: float, interrupted: bool) -> str:
        """The whole in a line."""
        seconds = round(wall_s)
        whole = f"{self.written:,} {'file' if self.written == 1 else 'files'} written"
        whole += (
            f"; {self.audio_s / 3600:.2f} h of sound in {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        )
        if self.audio_s:
            whole += f", {self.audio_s / max(1e-9, wall_s):.0f} times real time"
        if self.skipped:
            whole += f"; {self.skipped:,} skipped, as their results are there (--overwrite makes them anew)"
        if self.failures:
            whole += f"; {len(self.failures):,} failed"
        if interrupted:
            whole += "; interrupted: the same command goes on from here"
        return f"asr: {whole}\n"


def run_batch(
    wish: Wish, places: Sequence[Place], unreadable: Sequence[str], jobs: int | None, overwrite: bool, summary: bool
) -> int:
    """Write the results of all files that need it; return 0 if all went well, 1 if something failed.

    Args:
        wish: how to transcribe.
        places: files, and where their results go.
        unreadable: why some folders could not be read: failures too.
        jobs: worker processes at most; None for one a core.
        overwrite: make also the results that are there.
        summary: whether to say at the end what was done; failures are told in any case.
    """
    todo = [place for place in places if overwrite or not _is_done(place)]
    tally = Tally(skipped=len(places) - len(todo))
    for line in unreadable:
        tally.fail(line, line)
    began_s, interrupted, ended = time.monotonic(), False, False
    try:
        with closing(_outcomes(wish, todo, jobs)) as outcomes:
            for place, outcome in outcomes:
                _take(place, outcome, tally)
        ended = True
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        sys.stderr.write(tally.complaints())
        # A model that cannot be loaded is one line, and not one of nothing done besides.
        if summary and (ended or interrupted or tally.written):
            sys.stderr.write(tally.summary(time.monotonic() - began_s, interrupted))
        for name in sorted(tally.unwritten):
            sys.stdout.write(tally.unwritten[name])
        sys.stdout.flush()
    return 1 if tally.failures else 0


def _is_done(place: Place) -> bool:
    return place.source != STDIN and is_newer(place.target, Path(place.source))


def _outcomes(wish: Wish, todo: Sequence[Place], jobs: int | None) -> Generator[tuple[Place, Outcome], None, None]:
    """Each file's outcome, in any order."""
    if not todo:
        return  # no model for nothing
    workers = min(jobs or _usable_cores(), len(todo))
    if workers == 1 or any(place.source == STDIN for place in todo):
        yield from _outcomes_here(wish, todo)
        return
    # The largest first: at the end no process is left with a long one while the others have none.
    sizes = {place: _size(place.source) for place in todo}
    todo = sorted(todo, key=lambda place: -sizes[place])
    with closing(BatchProgress([sizes[place] for place in todo])) as progress, WorkerPool(wish, workers) as pool:
        for number, message in pool.transcribe([place.source for place in todo]):
            progress.update(number, message)
            if isinstance(message, Outcome):
                yield todo[number], message


def _outcomes_here(wish: Wish, todo: Sequence[Place]) -> Generator[tuple[Place, Outcome], None, None]:
    """The same without other processes."""
    transcriber = Transcriber(wish)
    if len(todo) == 1:
        (place,) = todo
        with file_progress(place.name) as report:
            outcome = transcriber.attempt(place.source, place.name, report)
        yield place, outcome
        return
    with closing(BatchProgress([_size(place.source) for place in todo])) as progress:
        for number, place in enumerate(todo):

            def report_share(read_s: float, stated_s: float | None, number: int = number) -> None:
                if stated_s:
                    progress.update(number, min(1.0, read_s / stated_s))

            outcome = transcriber.attempt(place.source, place.name, report_share)
            progress.update(number, outcome)
            yield place, outcome


def _take(place: Place, outcome: Outcome, tally: Tally) -> None:
    """Write a file's result, and count it."""
    tally.audio_s += outcome.audio_s
    if outcome.failure is not None:
        tally.fail(place.name, outcome.failure)
    if outcome.text is None:
        return
    # The beginning of a damaged file is a result, but one to be made anew when the file is whole.
    partial = outcome.failure is not None and place.source != STDIN
    try:
        write_whole(place.target, outcome.text, outdated_by=Path(place.source) if partial else None)
    except OSError as error:
        # The work is not lost. It waits for the end, so that its place does not depend on which file was ready first.
        tally.fail(place.name, f"cannot write {place.target} ({error.strerror}); its text is on standard output")
        tally.unwritten[place.name] = outcome.text
        return
    tally.written += 1


def _size(source: str) -> int:
    try:
        return max(1, os.stat(source).st_size)
    except OSError:
        return 1  # its failure is told when it is opened


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
