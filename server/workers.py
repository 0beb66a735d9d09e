"""Several server processes on one port, for machines with several cores.

The kernel hands each new connection to one of them (SO_REUSEPORT). Nothing is shared, so one that dies takes its
own connections along and no others; it is replaced.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from asr.errors import ConfigError

from .logs import log_event
from .options import ServerOptions

_PAUSE_S = 1.0  # before a worker that died is replaced
_GRACE_S = 5.0  # that workers get beyond their own time to finish


def run_workers(count: int, serve: Callable[[ServerOptions], None], options: ServerOptions) -> None:
    """Run ``serve(options)`` in ``count`` processes until SIGINT or SIGTERM.

    Args:
        count: of processes.
        serve: what a worker does; it must be importable by name, and end on SIGTERM.
        options: a port of 0 is replaced by a free one, the same for all.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("this system cannot share a port between processes: run without --workers")
    with _reserve(options) as reserved:
        options = replace(options, port=reserved.getsockname()[1], reuse_port=True)
        stopping = threading.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stopping.set())
        context = multiprocessing.get_context("spawn")

        def start() -> multiprocessing.process.BaseProcess:
            process = context.Process(target=_work, args=(serve, options))
            process.start()
            return process

        workers = [start() for _ in range(count)]
        while not stopping.wait(0.2):
            for i, worker in enumerate(workers):
                if worker.is_alive():
                    continue
                log_event("worker ended", logging.ERROR, worker=worker.pid, status=worker.exitcode)
                stopping.wait(_PAUSE_S)
                if not stopping.is_set():
                    workers[i] = start()
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + options.drain_s + _GRACE_S
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
            if worker.is_alive():
                worker.kill()


def _work(serve: Callable[[ServerOptions], None], options: ServerOptions) -> None:
    """A worker. If the process that started it is gone, it finishes its streams and ends."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    serve(options)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        signal.raise_signal(signal.SIGTERM)


def _reserve(options: ServerOptions) -> socket.socket:
    """A socket that holds the port without listening, so that connections go to the workers alone."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        reserved = socket.socket(found[0][0], socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(found[0][4])
    except OSError as error:
        raise ConfigError(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from error
    return reserved
