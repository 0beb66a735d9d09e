"""Processes that transcribe files, each with a model of its own.

They only read: what they recognise goes to the process that started them, which alone writes. So one that is killed
leaves nothing half done, and all of them can be killed at any time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType

from asr.cli.one_file import Outcome, Transcriber, Wish

from asr.errors import AsrError

_PROGRESS_S = 0.5  # between two messages of how far a file is
_FAILED_STARTS = 3  # in a row, after which no more workers are started
_TRIES = 2  # of a file whose worker dies: it may have died of something else

_READY = "ready"


class _Worker:
    """A process, the pipe to it, and the file that it is at."""

    def __init__(self, wish: Wish) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks, held or not
        self.pipe, other = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(other, wish), daemon=True)
        self.process.start()
        other.close()  # so that the pipe ends when the process does
        self.started = False
        self.file: int | None = None

    def end(self) -> str:
        """Kill it; return what it died of, if it was dead."""
        self.process.join(1.0)  # a pipe ends a moment before its process
        status = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.pipe.close()
        if status is not None and status < 0:
            return signal.Signals(-status).name
        return f"status {status}"


class WorkerPool:
    """Some processes, from ``with`` to its end."""

    def __init__(self, wish: Wish, count: int) -> None:
        self._wish = wish
        self._count = count
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def transcribe(self, names: Sequence[str]) -> Iterator[tuple[int, Outcome | float]]:
        """Transcribe files. Gives each one's number with its outcome, in any order, and before that at times the share
        of it that is done.

        A worker has one file at a time, and gets the next when its outcome was taken: nothing queues up.

        Raises AsrError if workers cannot start, as when the model is damaged.
        """
        waiting, tries = deque(range(len(names))), [0] * len(names)
        # The first one compiles what has to be compiled, and the others load the result.
        while not any(worker.started for worker in self._workers):
            self._start_up_to(1)
            self._receive(names, waiting, tries)
        left = len(names)
        while left:
            self._start_up_to(min(self._count, left))
            for worker in self._workers:
                if worker.started and worker.file is None and waiting:
                    self._give(worker, waiting.popleft(), names)
            for number, message in self._receive(names, waiting, tries):
                left -= isinstance(message, Outcome)
                yield number, message

    def _start_up_to(self, count: int) -> None:
        """Start workers until there are so many. Raises AsrError if there is none and they die as they start."""
        while len(self._workers) < count and self._failed_starts < _FAILED_STARTS:
            with _interrupts_wait():
                self._workers.append(_Worker(self._wish))
        if not self._workers:
            raise AsrError("worker processes die as they start. Is there enough memory? Try fewer --jobs")

    def _give(self, worker: _Worker, number: int, names: Sequence[str]) -> None:
        worker.file = number
        with suppress(OSError):  # it may be dead, which the next look at its pipe shows
            worker.pipe.send(names[number])

    def _receive(
        self, names: Sequence[str], waiting: deque[int], tries: list[int]
    ) -> list[tuple[int, Outcome | float]]:
        """Wait for messages; return those about files."""
        messages: list[tuple[int, Outcome | float]] = []
        ready = connection.wait([worker.pipe for worker in self._workers])
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                messages += self._bury(worker, names, waiting, tries)
                continue
            if isinstance(message, AsrError):
                raise message
            if message == _READY:
                worker.started, self._failed_starts = True, 0
                continue
            assert worker.file is not None
            messages.append((worker.file, message))
            if isinstance(message, Outcome):
                worker.file = None
        return messages

    def _bury(
        self, worker: _Worker, names: Sequence[str], waiting: deque[int], tries: list[int]
    ) -> list[tuple[int, Outcome | float]]:
        """Take a dead worker away; its file is tried once more, then given up."""
        self._workers.remove(worker)
        cause, number = worker.end(), worker.file
        if not worker.started:
            self._failed_starts += 1
        if number is None:
            return []
        tries[number] += 1
        if tries[number] < _TRIES:
            waiting.appendleft(number)
            return [(number, 0.0)]
        hint = "Is there enough memory? Try fewer --jobs" if cause == "SIGKILL" else "Convert it to another format"
        failure = f"{names[number]}: the process that read it died twice ({cause}). {hint}"
        return [(number, Outcome(None, failure=failure))]


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait until a process is started and known; the process itself is started deaf to it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which would let interrupts in again when it is started with the first process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: connection.Connection, wish: Wish) -> None:
    """A worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started this one ends it
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        transcriber = Transcriber(wish)
    except AsrError as error:
        pipe.send(error)
        return
    pipe.send(_READY)
    told_s = 0.0

    def progress(read_s: float, stated_s: float | None) -> None:
        nonlocal told_s
        if stated_s and time.monotonic() - told_s >= _PROGRESS_S:
            told_s = time.monotonic()
            pipe.send(min(1.0, read_s / stated_s))

    while True:
        try:
            name = pipe.recv()
        except (EOFError, OSError):
            return  # whoever started this process is gone
        pipe.send(transcriber.attempt(name, name, progress))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
