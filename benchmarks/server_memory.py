"""A server's memory over many connections: it must be flat, however they end.

    python benchmarks/server_memory.py [--connections 10000]

Each connection opens a stream and speaks a little; in turns it then ends as it should, is reset in the middle of a
word, sends nonsense, or closes without a word. Memory is the process's own (USS), after every tenth of the connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from server_load import cut
from speech import load_speech, machine
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

TOGETHER = 20  # connections at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    clips, _ = load_speech(None, 60.0)
    pcm = cut(clips, 1.5)[0]
    command = [sys.executable, "-m", "asr.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(line for line in server.stderr if "listening on" in line).split()[-1] + "/v1/stream"
        threading.Thread(target=server.stderr.read, daemon=True).start()  # a full pipe would stop it
        print(f"{machine()}\n{'connections':>12}{'MiB':>8}{'finals':>9}")
        print(f"{0:>12}{memory_mib(server.pid):>8.1f}")
        part, finals = options.connections // 10, 0
        for i in range(10):
            finals += asyncio.run(many(address, pcm, part))
            print(f"{(i + 1) * part:>12}{memory_mib(server.pid):>8.1f}{finals:>9}", flush=True)
        server.terminate()


async def many(address: str, pcm: bytes, count: int) -> int:
    """Open connections, some at a time; return how many finals came."""
    free = asyncio.Semaphore(TOGETHER)

    async def one(number: int) -> int:
        async with free:
            return await use(address, pcm, number % 4)

    return sum(await asyncio.gather(*(one(number) for number in range(count))))


async def use(address: str, pcm: bytes, ending: int) -> int:
    finals = 0
    with suppress(ConnectionClosed, OSError, InvalidStatus):  # the machine may be full for a moment
        async with connect(address, compression=None) as client:
            await client.send(pcm)
            if ending == 0:
                await client.send('{"type": "end"}')
                async for message in client:
                    finals += json.loads(message)["type"] == "final"
            elif ending == 1:
                raw: socket.socket = client.transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.transport.abort()
            elif ending == 2:
                await client.send("nonsense")
                async for _ in client:
                    pass
    return finals


def memory_mib(pid: int) -> float:
    """Memory that a process shares with no other."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_"):
            total += int(line.split()[1])
    return total / 1024


if __name__ == "__main__":
    main()
