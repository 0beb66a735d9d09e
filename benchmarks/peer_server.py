"""A minimal server of the Vosk protocol around a peer engine, for `server_load.py`, which see.

    python benchmarks/peer_server.py pocketsphinx|moonshine --processes 2

As vosk-server is built: a decoder a connection, decoding in threads, no batching. Needs only the peer and websockets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import sys

import numpy as np
from websockets.asyncio.server import ServerConnection, serve

RATE_HZ = 16_000


class PocketSphinx:
    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=RATE_HZ, loglevel="FATAL")
        self._decoder.start_utt()

    def accept(self, pcm: bytes) -> str:
        self._decoder.process_raw(pcm)
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    def finish(self) -> str:
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


class Moonshine:
    _transcriber = None

    def __init__(self) -> None:
        from moonshine_voice import ModelArch, Transcriber
        from moonshine_voice.utils import get_assets_path

        if Moonshine._transcriber is None:
            Moonshine._transcriber = Transcriber(os.path.join(get_assets_path(), "tiny-en"), ModelArch.TINY)
        self._stream = Moonshine._transcriber.create_stream()
        self._stream.start()

    def accept(self, pcm: bytes) -> str:
        self._stream.add_audio((np.frombuffer(pcm, dtype="<i2") / 32768).tolist(), RATE_HZ)
        return " ".join(line.text for line in self._stream.update_transcription().lines)

    def finish(self) -> str:
        return " ".join(line.text for line in self._stream.stop().lines)


async def handle(client: ServerConnection, engine: type[PocketSphinx] | type[Moonshine]) -> None:
    loop = asyncio.get_running_loop()
    recognizer = await loop.run_in_executor(None, engine)
    async for message in client:
        if isinstance(message, bytes):
            text = await loop.run_in_executor(None, recognizer.accept, message)
            await client.send(json.dumps({"partial": text}))
        elif "eof" in json.loads(message):
            await client.send(json.dumps({"text": await loop.run_in_executor(None, recognizer.finish)}))
            return


def run(engine: str, port: int) -> None:
    chosen = {"pocketsphinx": PocketSphinx, "moonshine": Moonshine}[engine]

    async def main() -> None:
        chosen()  # load
        async with serve(lambda client: handle(client, chosen), "127.0.0.1", port, reuse_port=True, compression=None):
            print(f"listening on ws://127.0.0.1:{port}", file=sys.stderr, flush=True)
            await asyncio.Future()

    asyncio.run(main())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("pocketsphinx", "moonshine"))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        processes = [multiprocessing.Process(target=run, args=(options.engine, port)) for _ in range(options.processes)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
