"""Several server processes on one port, for machines with several cores.

The process that starts them takes connections in, and hands each to the one with the fewest (`entrance`). Nothing else
is shared, so one that dies takes its own connections along and no others; it is replaced.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from asr.errors import ConfigError

from .entrance import Entrance, Porter, can_hand_over
from .logs import log_event
from .options import ServerOptions

_LOOK_S = 0.2  # from one look at the workers to the next
_PAUSE_S = 1.0  # before a worker that died is replaced
_GRACE_S = 5.0  # that workers get beyond their own time to finish


Serve = Callable[[ServerOptions, Entrance], None]


def run_workers(count: int, serve: Serve, options: ServerOptions) -> None:
    """Run ``serve(options, entrance)`` in ``count`` processes until SIGINT or SIGTERM.

    Args:
        count: of processes.
        serve: what a worker does; it must be importable by name, and end on SIGTERM.
        options: a port of 0 is replaced by a free one, the same for all.
    """
    if not can_hand_over():
        raise ConfigError("this system cannot share a port between processes: run without --workers")
    context = multiprocessing.get_context("spawn")
    porter = Porter(options.host, options.port, context.RawArray(ctypes.c_long, count))
    with contextlib.closing(porter):
        options = replace(options, port=porter.port, reuse_port=True)
        stopping = threading.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stopping.set())

        def start(number: int) -> multiprocessing.process.BaseProcess:
            entrance = porter.entrance(number)
            process = context.Process(target=_work, args=(serve, options, entrance))
            process.start()
            entrance.handed.close()  # it has its own
            return process

        workers = [start(number) for number in range(count)]
        begin_again: dict[int, float] = {}  # when to replace those that ended
        while not stopping.is_set():
            porter.serve(_LOOK_S)
            for number, worker in enumerate(workers):
                if number not in begin_again and not worker.is_alive():
                    log_event("worker ended", logging.ERROR, worker=worker.pid, status=worker.exitcode)
                    porter.forget(number)
                    begin_again[number] = time.monotonic() + _PAUSE_S
                if begin_again.get(number, math.inf) < time.monotonic():
                    del begin_again[number]
                    workers[number] = start(number)
    for worker in workers:
        worker.terminate()
    end = time.monotonic() + options.drain_s + _GRACE_S
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
        if worker.is_alive():
            worker.kill()


def _work(serve: Serve, options: ServerOptions, entrance: Entrance) -> None:
    """A worker. If the process that started it is gone, it finishes its streams and ends."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    serve(options, entrance)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        signal.raise_signal(signal.SIGTERM)
