"""Results of files in a folder: what is there already is left, one that fails ends no other, and all is told at the
end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asr.cli.one_file import Outcome, Transcriber, Wish
from asr.cli.places import Place
from asr.cli.progress import BatchProgress, file_progress
from asr.cli.results import is_done, source_size, write_result
from asr.cli.worker_pool import WorkerPool

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.cli.ray_pool import RayPool


@dataclass(frozen=True)
class Workers:
    """Who transcribes the files."""

    jobs: int | None = None  # processes at most; None: one a core
    ray: str | None = None  # address of the cluster that they are in; None: this machine, without Ray


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
    wish: Wish,
    places: Sequence[Place],
    unreadable: Sequence[str],
    workers: Workers,
    overwrite: bool,
    summary: bool,
) -> int:
    """Write the results of all files that need it; return 0 if all went well, 1 if something failed.

    Args:
        wish: how to transcribe.
        places: files, and where their results go.
        unreadable: why some folders could not be read: failures too.
        workers: who transcribes.
        overwrite: make also the results that are there.
        summary: whether to say at the end what was done; failures are told in any case.
    """
    todo = [place for place in places if overwrite or not is_done(place)]
    tally = Tally(skipped=len(places) - len(todo))
    for line in unreadable:
        tally.fail(line, line)
    began_s, interrupted, ended = time.monotonic(), False, False
    try:
        with closing(_outcomes(wish, todo, workers)) as outcomes:
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


def _outcomes(wish: Wish, todo: Sequence[Place], workers: Workers) -> Generator[tuple[Place, Outcome], None, None]:
    """Each file's outcome, in any order."""
    if not todo:
        return  # no model for nothing
    from_pipe = next((place.name for place in todo if place.is_pipe), None)
    if workers.ray is None and (min(workers.jobs or _usable_cores(), len(todo)) == 1 or from_pipe is not None):
        yield from _outcomes_here(wish, todo)
        return
    if from_pipe is not None:
        raise ConfigError(f"--ray: other machines cannot read {from_pipe}: name files")
    # The largest first: at the end no process is left with a long one while the others have none.
    sizes = {place: source_size(place.source) for place in todo}
    todo = sorted(todo, key=lambda place: -sizes[place])
    with closing(BatchProgress([sizes[place] for place in todo])) as progress, _pool(wish, workers, len(todo)) as pool:
        for number, message in pool.transcribe([place.source for place in todo]):
            progress.update(number, message)
            if isinstance(message, Outcome):
                yield todo[number], message


def _pool(wish: Wish, workers: Workers, files: int) -> WorkerPool | RayPool:
    if workers.ray is None:
        return WorkerPool(wish, min(workers.jobs or _usable_cores(), files))
    from asr.cli.ray_pool import RayPool

    return RayPool(wish, workers.ray, workers.jobs)


def _outcomes_here(wish: Wish, todo: Sequence[Place]) -> Generator[tuple[Place, Outcome], None, None]:
    """The same without other processes."""
    transcriber = Transcriber(wish)
    if len(todo) == 1:
        (place,) = todo
        with file_progress(place.name) as report:
            outcome = transcriber.attempt(place.source, place.name, report)
        yield place, outcome
        return
    with closing(BatchProgress([source_size(place.source) for place in todo])) as progress:
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
    try:
        write_result(place, outcome.text, beginning=outcome.failure is not None)
    except OSError as error:
        # The work is not lost. It waits for the end, so that its place does not depend on which file was ready first.
        reason = error.strerror or error
        tally.fail(place.name, f"cannot write {place.target} ({reason}); its text is on standard output")
        tally.unwritten[place.name] = outcome.text
        return
    tally.written += 1


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
