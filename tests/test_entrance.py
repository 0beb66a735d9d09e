"""Connections are taken in by one process and handed to several."""

from __future__ import annotations

import ctypes
import socket
import threading
from collections.abc import Iterator

import pytest
from asr.server.entrance import AWAY, Entrance, Porter, can_hand_over

from asr.errors import ConfigError

pytestmark = pytest.mark.skipif(not can_hand_over(), reason="this system hands no connections over")


@pytest.fixture
def porter() -> Iterator[Porter]:
    """One for three workers, which hands out as long as the test runs."""
    porter, over = Porter("127.0.0.1", 0, (ctypes.c_long * 3)()), threading.Event()

    def serve() -> None:
        while not over.is_set():
            porter.serve(0.02)

    thread = threading.Thread(target=serve)
    thread.start()
    yield porter
    over.set()
    thread.join()
    porter.close()


class Worker:
    """What a worker's process does, without serving."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._listening = entrance.listening()
        self._listening.settimeout(10)
        self.taken: list[socket.socket] = []
        entrance.count(0)

    def take(self) -> tuple[str, int]:
        """Accept a connection, and say where it is from."""
        connection, address = self._listening.accept()
        self.taken.append(connection)
        self._entrance.count(len(self.taken))
        return address

    def end(self) -> None:
        for each in [self._listening, *self.taken]:
            each.close()


def test_whoever_has_the_fewest_is_handed_the_next(porter) -> None:
    """Of connections that stay, each worker gets as many as the others; where some have left, the next ones go."""
    workers = [Worker(porter.entrance(number)) for number in range(3)]
    clients = []
    for _ in range(4):
        for _ in workers:
            clients.append(socket.create_connection(("127.0.0.1", porter.port), timeout=10))
        addresses = {worker.take() for worker in workers}
        assert addresses == {client.getsockname() for client in clients[-3:]}
    workers[1]._entrance.count(0)
    for _ in range(3):
        clients.append(socket.create_connection(("127.0.0.1", porter.port), timeout=10))
        assert workers[1].take() == clients[-1].getsockname()
        workers[1]._entrance.count(0)
    # Bytes go through.
    clients[-1].sendall(b"hello")
    assert workers[1].taken[-1].recv(5) == b"hello"
    for each in [*workers]:
        each.end()
    for client in clients:
        client.close()


def test_nobody_is_handed_to_a_worker_that_is_not_there(porter) -> None:
    """Before the first worker is ready connections wait for it; one that has ended, told or not, gets no more."""
    clients = [socket.create_connection(("127.0.0.1", porter.port), timeout=10)]
    first, second = (porter.entrance(number) for number in (0, 1))
    workers = [Worker(second)]
    assert workers[0].take() == clients[0].getsockname()
    workers.insert(0, Worker(first))
    workers[0].end()  # which nobody knows yet
    for _ in range(4):
        clients.append(socket.create_connection(("127.0.0.1", porter.port), timeout=10))
        workers[1].take()
    porter.forget(0)
    assert first.guests[0] == AWAY
    again = Worker(porter.entrance(0))
    clients.append(socket.create_connection(("127.0.0.1", porter.port), timeout=10))
    assert again.take() == clients[-1].getsockname()
    for worker in (workers[1], again):
        worker.end()
    for client in clients:
        client.close()


def test_an_address_that_is_taken_is_named() -> None:
    """Where another program listens, the error says so."""
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConfigError, match="cannot listen on 127"):
        Porter("127.0.0.1", other.getsockname()[1], (ctypes.c_long * 1)())
