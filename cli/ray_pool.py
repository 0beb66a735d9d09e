"""Transcribing on the machines of a Ray cluster, in actors with a model each; on this machine alone if need be.

The same work as `asr.cli.worker_pool`: actors only read, and what they recognise comes here, where it is written. A
cluster's machines need this package, and must find the files and the model under the names that they have here.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from asr.cli.one_file import Outcome, Transcriber, Wish

from asr.errors import AsrError, ConfigError

LOCAL = "local"  # instead of an address: Ray is started here, and ends with the run

_AHEAD = 2  # files that an actor has at a time: one to work at, one so that it need not wait for the next
_FAILED_STARTS = 3  # in a row, after which no more actors are started
_TRIES = 2  # of a file whose actor is lost, and of starting Ray: it may have been something else


class Worker:
    """A model in a process of its own. It becomes an actor by `ray.remote`."""

    def load(self, wish: Wish) -> AsrError | None:
        """Load the model; what is wrong with it is no reason to try again, and so is returned."""
        try:
            self._transcriber = Transcriber(wish)
        except AsrError as error:
            return error
        return None

    def transcribe(self, name: str) -> Outcome:
        return self._transcriber.attempt(name, name)


@dataclass(eq=False)
class _Actor:
    """An actor as it is seen from here."""

    handle: Any
    loading: Any  # what `load` will have returned; None once it has
    files: deque[int] = field(default_factory=deque)  # that it has been given, the one it is at first


class RayPool:
    """Some actors, from ``with`` to its end.

    Args:
        wish: how to transcribe.
        address: of the cluster, as `ray.init` takes it (ray://HOST:10001, auto), or `LOCAL`.
        count: actors at most; None for one a core of the cluster.
    """

    def __init__(self, wish: Wish, address: str, count: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ConfigError("--ray needs Ray: pip install 'asr-stream[ray]'") from error
        self._ray = ray
        self._wish, self._address, self._count = wish, address, count or 0
        self._actors: list[_Actor] = []
        self._tasks: dict[Any, _Actor] = {}  # by what will be their outcome
        self._failed_starts = 0
        self._silence = ExitStack()

    def __enter__(self) -> RayPool:
        ray = self._ray
        # Ray prints to standard output that workers are lost, whatever it is told; that is for texts alone.
        self._silence.enter_context(redirect_stdout(self._silence.enter_context(open(os.devnull, "w"))))
        for tries_left in reversed(range(_TRIES if self._address == LOCAL else 1)):
            try:
                self._connect()
                break
            except Exception as error:  # of Ray, of gRPC, of the system
                ray.shutdown()
                # Where much else runs, Ray may find that it has started too slowly.
                if not tries_left:
                    self._silence.close()
                    message = f"--ray {self._address}: no cluster can be used there ({_line(error)})"
                    raise ConfigError(message) from error
        self._make = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Worker)
        self._wish_there = ray.put(self._wish)
        return self

    def _connect(self) -> None:
        here = {"include_dashboard": False, "num_cpus": self._count or None} if self._address == LOCAL else {}
        self._ray.init(self._address, log_to_driver=False, logging_level="ERROR", **here)
        self._count = self._count or max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors.clear()
        self._tasks.clear()
        self._ray.shutdown()
        self._silence.close()

    def transcribe(self, names: Sequence[str]) -> Iterator[tuple[int, Outcome | float]]:
        """Transcribe files. Gives each one's number with its outcome, in any order; 0.0 for one that is begun anew.

        An actor has few files at a time, and gets the next when an outcome was taken: nothing queues up.

        Raises AsrError if actors cannot start, as when the model is damaged.
        """
        waiting, tries, left = deque(range(len(names))), [0] * len(names), len(names)
        while left:
            # The first one compiles what has to be compiled, and the others beside it load the result.
            any_loaded = any(actor.loading is None for actor in self._actors)
            self._start_up_to(min(self._count, left) if any_loaded else 1)
            for actor in sorted(self._actors, key=lambda actor: len(actor.files)):
                while actor.loading is None and waiting and len(actor.files) < self._share(len(waiting)):
                    self._give(actor, waiting.popleft(), names)
            for number, message in self._receive(names, waiting, tries):
                left -= isinstance(message, Outcome)
                yield number, message

    def _share(self, waiting: int) -> int:
        """How many files an actor may have: at the end nobody has a second one while others have none."""
        return _AHEAD if waiting >= self._count else 1

    def _start_up_to(self, count: int) -> None:
        while len(self._actors) < count and self._failed_starts < _FAILED_STARTS:
            handle = self._make.remote()
            self._actors.append(_Actor(handle, handle.load.remote(self._wish_there)))
        if not self._actors:
            raise AsrError("Ray's actors die as they start. Is there enough memory? Try fewer --jobs")

    def _give(self, actor: _Actor, number: int, names: Sequence[str]) -> None:
        actor.files.append(number)
        self._tasks[actor.handle.transcribe.remote(names[number])] = actor

    def _receive(
        self, names: Sequence[str], waiting: deque[int], tries: list[int]
    ) -> list[tuple[int, Outcome | float]]:
        """Wait for actors to have done something; return what is to be said of files."""
        loading = {actor.loading: actor for actor in self._actors if actor.loading is not None}
        ready, _ = self._ray.wait([*self._tasks, *loading], num_returns=1)
        messages: list[tuple[int, Outcome | float]] = []
        for reference in ready:
            actor = self._tasks.pop(reference, None) or loading[reference]
            if actor not in self._actors:  # buried, with what it had
                continue
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                messages += self._bury(actor, names, waiting, tries, error)
                continue
            if actor.loading is not None:
                if result is not None:
                    raise result
                actor.loading, self._failed_starts = None, 0
                continue
            messages.append((actor.files.popleft(), result))
        return messages

    def _bury(
        self, actor: _Actor, names: Sequence[str], waiting: deque[int], tries: list[int], error: Exception
    ) -> list[tuple[int, Outcome | float]]:
        """Take a lost actor away; the file it was at is tried once more, then given up; the next one waits again."""
        self._actors.remove(actor)
        with suppress(Exception):
            self._ray.kill(actor.handle)  # it may be alive and out of reach
        self._tasks = {task: other for task, other in self._tasks.items() if other is not actor}
        if actor.loading is not None:
            self._failed_starts += 1
        if not actor.files:
            return []
        number, *others = actor.files
        waiting.extendleft(reversed(others))
        tries[number] += 1
        if tries[number] < _TRIES:
            waiting.appendleft(number)
            return [(number, 0.0)]
        failure = f"{names[number]}: the process that read it was lost twice ({_line(error)}). Is there enough memory?"
        return [(number, Outcome(None, failure=failure))]


def _line(error: Exception) -> str:
    """What an error says, in a line: Ray's have many."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
