"""A server for a test, and what the engine itself makes of the same audio."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from asr.server.app import App
from asr.server.options import ServerOptions

import asr
from asr.recognizer import Recognizer


@contextmanager
def serving(recognizer: Recognizer, **options) -> Iterator[tuple[str, App]]:
    """A server in a thread; gives its address and the app."""
    ready, found = threading.Event(), {}

    def run() -> None:
        async def main() -> None:
            found["app"], found["loop"] = App(recognizer, ServerOptions(port=0, **options)), asyncio.get_running_loop()

            def started(port: int) -> None:
                found["port"] = port
                ready.set()

            await found["app"].run(started)

        asyncio.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    stop = found["loop"].call_soon_threadsafe, found["app"].stop
    try:
        yield f"ws://127.0.0.1:{found['port']}", found["app"]
    finally:
        if thread.is_alive():
            stop[0](stop[1])
        thread.join(30)
        assert not thread.is_alive()


def wait_until_ready(address: str) -> None:
    """Until the server takes new streams: for two seconds after a burst it may not."""
    deadline_s = time.monotonic() + 30
    while not is_ready(address):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def is_ready(address: str) -> bool:
    """Whether the server says that it takes new streams."""
    try:
        with urllib.request.urlopen(address.replace("ws:", "http:") + "/readyz"):
            return True
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return False


def pcm_of(samples: np.ndarray) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def wav_of(data: bytes, rate_hz: int, channels: int = 1, code: int = 1, bits: int = 16, before: bytes = b"") -> bytes:
    """A WAV file as it goes into a pipe, of unknown length, with other chunks before its samples."""
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate_hz, rate_hz * frame, frame, bits)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + before
    return b"RIFF\xff\xff\xff\xff" + head + b"data\xff\xff\xff\xff" + data


def texts_of(recognizer: Recognizer, pcm: bytes, **options) -> list[str]:
    """What the engine gives the same bytes."""
    stream = recognizer.stream(16_000, **options)
    events = [*stream.accept(pcm), *stream.finish()]
    return [event.text for event in events if isinstance(event, asr.Final)]
