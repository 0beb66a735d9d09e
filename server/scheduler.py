"""All streams of a process, advanced together in one thread.

Connections submit commands; the thread applies them and calls `Recognizer.advance` on whatever is ready, so
that one batched step serves all. Streams without work cost nothing. Outcomes go back to the event loop
together, so the loop is woken a few times a second however many streams there are.

Steps are cheaper per stream the more streams they advance. So where several streams are live, a step waits a little
until many of them are ready; a stream alone never waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from asr.errors import AsrError
from asr.recognizer import Recognizer
from asr.search.decoder import with_beam
from asr.stream import Stream

from .codec import Audio, Command, End, Flush, Outcome, SetHotWords, Settings
from .lag import Lag
from .logs import log_event

_MEMORY_S = 2.0  # over which the load is averaged
_GATHER_S = 0.02  # from one step's start to the next, unless most of the live streams are ready
_DELIVERED_TOGETHER = 16  # outcomes: each is a message to write and send
_LIVE_S = 0.25  # a stream is live if it was advanced so lately


@dataclass(frozen=True)
class Load:
    """How busy the thread is."""

    streams: int
    busy: float  # share of the recent time that it worked, 0 to 1; one client that sends fast can make it 1
    lag_s: float  # how long commands wait at the least, lately: what tells that the machine cannot keep up


class Job:
    """One connection's stream in the scheduler. Its methods are for the event loop's thread."""

    def __init__(self, scheduler: Scheduler, stream: Stream, deliver: Callable[[Outcome], None]) -> None:
        self._scheduler = scheduler
        self.stream = stream
        self.deliver = deliver
        self.waiting: deque[tuple[float, Command]] = deque()
        self.current: Command | None = None
        self.closed = False

    def submit(self, command: Command) -> None:
        """Queue a command. Its outcomes are delivered in order."""
        self._scheduler._submit(self, command)

    def close(self) -> None:
        """Forget the stream and whatever is queued."""
        self._scheduler._close(self)


class Scheduler:
    """See the module. Make it in the event loop's thread, and `stop` it when done."""

    def __init__(self, recognizer: Recognizer, beam: int | None = None) -> None:
        """Streams search as the model's makers tuned it, but with this beam if one is given: see `ServerOptions`."""
        self.recognizer = recognizer
        self._decoding = with_beam(recognizer.bundle.decoding, beam)
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._active: dict[Job, None] = {}  # jobs that have something to do, in the order they came
        self._jobs: set[Job] = set()
        self._stopping = False
        self._busy = 0.0
        self._lag = Lag()
        self._measured_at = time.monotonic()
        self._stepped_at = 0.0  # when the last step began
        self._live: set[int] = set()  # ids of jobs advanced since the window began
        self._live_before = 0  # in the window before
        self._window_at = 0.0
        self._waited_s = -1.0  # longest wait of a command that this step has begun; negative: it began none
        self._thread = threading.Thread(target=self._run, name="asr-scheduler", daemon=True)
        self._thread.start()

    def open(self, settings: Settings, deliver: Callable[[Outcome], None]) -> Job:
        """Open a stream. Raises AsrError for settings that cannot work.

        ``deliver`` is called in the event loop's thread with each outcome.
        """
        stream = self.recognizer.stream(
            settings.sample_rate_hz,
            settings.encoding,
            settings.channels,
            settings.rules,
            settings.decoding(self._decoding),
            settings.hot_words,
            settings.written,
            settings.replacements,
        )
        job = Job(self, stream, deliver)
        with self._changed:
            self._jobs.add(job)
        return job

    def load(self) -> Load:
        with self._changed:
            now = time.monotonic()
            faded = math.exp(-(now - self._measured_at) / _MEMORY_S)
            return Load(len(self._jobs), self._busy * faded, self._lag.seconds(now))

    def stop(self) -> None:
        """End the thread; what is queued is dropped."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _submit(self, job: Job, command: Command) -> None:
        with self._changed:
            job.waiting.append((time.monotonic(), command))
            self._active[job] = None
            self._changed.notify()

    def _close(self, job: Job) -> None:
        with self._changed:
            job.closed = True
            job.waiting.clear()
            self._jobs.discard(job)
            self._active.pop(job, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._active and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                ready = len(self._active)
            self._gather(ready)
            with self._changed:
                jobs = list(self._active)
            busy_from = time.monotonic()
            try:
                outcomes = self._step(jobs)
            except Exception as failure:  # one broken step must not silence all streams
                log_event("step failed", logging.ERROR, failure=failure, streams=len(jobs))
                error = RuntimeError("a step failed")
                outcomes = [(job, Outcome(job.current or End(), (), True, 0.0, error)) for job in jobs]
            with self._changed:
                for job in jobs:
                    if not job.waiting and job.current is None:
                        self._active.pop(job, None)
                self._measure(busy_from)
            # In several calls, between which the loop hears other connections.
            for begin in range(0, len(outcomes), _DELIVERED_TOGETHER):
                self._loop.call_soon_threadsafe(_deliver, outcomes[begin : begin + _DELIVERED_TOGETHER])

    def _gather(self, ready: int) -> None:
        """Wait a moment if more streams are about to be ready. A plain sleep: new commands must not end it."""
        now = time.monotonic()
        if now - self._window_at > _LIVE_S:
            self._live_before, self._window_at = len(self._live), now
            self._live.clear()
        if 2 * ready < max(self._live_before, len(self._live)):
            time.sleep(max(0.0, self._stepped_at + _GATHER_S - now))
        self._stepped_at = time.monotonic()

    def _measure(self, busy_from: float) -> None:
        now = time.monotonic()
        faded = math.exp(-(now - self._measured_at) / _MEMORY_S)
        self._busy = self._busy * faded + (1 - math.exp(-(now - busy_from) / _MEMORY_S))
        self._measured_at = now
        if self._waited_s >= 0:
            self._lag.note(now, self._waited_s)
        self._waited_s = -1.0

    def _step(self, jobs: list[Job]) -> list[tuple[Job, Outcome]]:
        outcomes: list[tuple[Job, Outcome]] = []
        for job in jobs:
            # What fills no block is done with at once; the first command that fills one is stepped through.
            while job.current is None and not job.closed:
                with self._changed:
                    if not job.waiting:
                        break
                    submitted, command = job.waiting.popleft()
                self._waited_s = max(self._waited_s, time.monotonic() - submitted)
                error = _apply(job.stream, command)
                if error is not None or not job.stream.ready:
                    outcomes.append((job, Outcome(command, (), True, job.stream.position_s, error)))
                else:
                    job.current = command
        stepping = [job for job in jobs if job.current is not None]
        self._live.update(map(id, stepping))
        events = self.recognizer.advance([job.stream for job in stepping])
        for job, new in zip(stepping, events, strict=True):
            assert job.current is not None
            done = not job.stream.ready
            if new or done:
                outcomes.append((job, Outcome(job.current, tuple(new), done, job.stream.position_s)))
            if done:
                job.current = None
        return outcomes


def _apply(stream: Stream, command: Command) -> AsrError | None:
    """Give a command to a stream; return what is wrong with it, if anything is."""
    try:
        match command:
            case Audio(data):
                stream.push(data)
            case SetHotWords(hot_words):
                stream.set_hot_words(hot_words)
            case Flush():
                stream.push_flush()
            case End():
                stream.end()
    except AsrError as error:
        return error
    return None


def _deliver(outcomes: list[tuple[Job, Outcome]]) -> None:
    for job, outcome in outcomes:
        if not job.closed:
            job.deliver(outcome)
