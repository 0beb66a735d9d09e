"""Live streams on one server: how late replies are, and what they cost, by number of streams.

    python benchmarks/server_load.py [MANIFEST] --streams 25 50 100 200 --workers 2
    python benchmarks/server_load.py --peer pocketsphinx --python PEERS/bin/python --streams 2 4 8

Starts `asr serve` and a client process on the same machine, which therefore shares its cores. Each stream plays speech
in chunks of 100 ms as a microphone would, over the Vosk protocol, which answers every chunk: the latency is the
time from a chunk's sending to its answer, with the words found so far. Where chunks are answered late for good,
the machine is full. Texts are compared with those of the same audio alone. The last column is how long the event loop
was ever held up. With --peer, the same load goes to `peer_server.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from speech import RATE_HZ, load_speech, machine
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import asr
from asr.search.decoder import with_beam

CHUNK_S = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """What the clients saw."""

    latency_s: list[float] = field(default_factory=list)  # of every chunk
    final_s: list[float] = field(default_factory=list)  # from the last audio to the final
    texts: dict[int, str] = field(default_factory=dict)
    refused: int = 0
    dropped: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", help="speech to use (default: the tests' clips)")
    parser.add_argument("--streams", type=int, nargs="+", default=[25, 50, 100, 150, 200])
    parser.add_argument("--seconds", type=float, default=20.0, help="of audio per stream (default: 20)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--beam", type=int, help="hypotheses that the search keeps (default: the model's number)")
    parser.add_argument("--peer", choices=("pocketsphinx", "moonshine"), help="serve this engine instead")
    parser.add_argument("--python", default=sys.executable, help="of an environment with the peer and websockets")
    options = parser.parse_args()
    clips, _ = load_speech(options.manifest, 300.0)
    pcms = cut(clips, options.seconds)
    alone = [] if options.peer else texts_alone(pcms, options.beam)
    command = [sys.executable, "-m", "asr.cli", "serve", "--port", "0", "--workers", str(options.workers)]
    command += ["--max-connections", "5000", "--max-per-address", "5000"]
    command += [] if options.beam is None else ["--beam", str(options.beam)]
    if options.peer:
        server_path = Path(__file__).parent / "peer_server.py"
        command = [options.python, str(server_path), options.peer, "--processes", str(options.workers)]
    print(f"{options.peer or 'asr'} on {machine()}, {os.cpu_count()} cores; ", end="")
    print(f"{options.workers} workers, {options.seconds:.0f} s per stream")
    print(f"{'streams':>8}{'latency ms: p50':>17}{'p95':>7}{'p99':>7}{'final ms: p50':>15}{'p95':>7}", end="")
    print(f"{'CPU s per s':>13}{'MiB':>7}{'refused':>9}{'dropped':>9}{'texts as alone':>16}{'loop ms':>9}")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = [next(line for line in server.stderr if "listening on" in line) for _ in range(options.workers)]
        address = lines[0].split()[-1] + "/vosk"
        threading.Thread(target=server.stderr.read, daemon=True).start()  # a full pipe would stop it
        for count in options.streams:
            pids = family(server.pid)
            before, started = cpu_s(pids), time.monotonic()
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seen: Seen = pool.apply(play_all, (address, pcms, count))
            spent = (cpu_s(pids) - before) / (time.monotonic() - started)
            latency, final = (1000 * np.percentile(values, [50, 95, 99]) for values in (seen.latency_s, seen.final_s))
            same = sum(text == alone[i % len(pcms)] for i, text in seen.texts.items()) if alone else 0
            print(f"{count:>8}{latency[0]:>17.0f}{latency[1]:>7.0f}{latency[2]:>7.0f}", end="")
            print(f"{final[0]:>15.0f}{final[1]:>7.0f}{spent:>13.2f}{memory_mib(pids):>7.0f}", end="")
            print(f"{seen.refused:>9}{seen.dropped:>9}{f'{same} of {len(seen.texts)}' if alone else '':>16}", end="")
            print(f"{loop_late_ms(address):>9.0f}" if alone else "", flush=True)
        server.terminate()


def loop_late_ms(address: str) -> float:
    """The longest that a worker's event loop was ever held up; several questions reach all workers."""
    http = address.replace("ws:", "http:").replace("/vosk", "/metrics")
    late = []
    for _ in range(8):
        with urllib.request.urlopen(http) as response:
            found = re.search(r"^asr_event_loop_late_seconds_max (\S+)", response.read().decode(), re.MULTILINE)
        late.append(float(found.group(1)) if found else 0.0)
    return 1000 * max(late)


def cut(clips: list[np.ndarray], seconds: float) -> list[bytes]:
    """Recordings of one length, each from several clips with pauses between."""
    whole = np.concatenate([part for clip in clips for part in (clip, np.zeros(RATE_HZ // 2, dtype=np.float32))])
    size = int(seconds * RATE_HZ)
    parts = [np.resize(np.roll(whole, -start), size) for start in range(0, len(whole), size)]
    return [(np.clip(part, -1, 1) * 32767).astype("<i2").tobytes() for part in parts]


def texts_alone(pcms: list[bytes], beam: int | None) -> list[str]:
    recognizer = asr.load()
    decoding = with_beam(recognizer.bundle.decoding, beam)
    texts = []
    for pcm in pcms:
        stream = recognizer.stream(RATE_HZ, decoding=decoding, written=False)
        events = [*stream.accept(pcm), *stream.finish()]
        texts.append(" ".join(event.text for event in events if isinstance(event, asr.Final)))
    return texts


def play_all(address: str, pcms: list[bytes], count: int) -> Seen:
    """All streams, in this process."""
    seen = Seen()

    async def together() -> None:
        # Streams start spread over a second, as people do.
        await asyncio.gather(*(play(address, pcms[i % len(pcms)], i, i / count, seen) for i in range(count)))

    asyncio.run(together())
    return seen


async def play(address: str, pcm: bytes, index: int, delay_s: float, seen: Seen) -> None:
    """One stream in real time."""
    await asyncio.sleep(delay_s)
    sent: list[float] = []
    finals: list[str] = []
    try:
        async with connect(address, compression=None) as socket:
            await socket.send('{"config": {"sample_rate": 16000, "words": 0}}')

            async def listen() -> None:
                for number in range(chunks + 1):
                    message = json.loads(await socket.recv())
                    late_s = time.monotonic() - sent[number]
                    (seen.latency_s if number < chunks else seen.final_s).append(late_s)
                    if message.get("text"):
                        finals.append(message["text"])

            size = int(CHUNK_S * RATE_HZ) * 2
            chunks = -(-len(pcm) // size)
            listening = asyncio.create_task(listen())
            begin = time.monotonic()
            for number in range(chunks):
                await asyncio.sleep(max(0.0, begin + (number + 1) * CHUNK_S - time.monotonic()))
                sent.append(time.monotonic())
                await socket.send(pcm[number * size : (number + 1) * size])
            sent.append(time.monotonic())
            await socket.send('{"eof" : 1}')
            await listening
            seen.texts[index] = " ".join(finals)
    except InvalidStatus:
        seen.refused += 1
    except (ConnectionClosed, OSError):
        seen.dropped += 1


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [pid, *map(int, children)]


def cpu_s(pids: list[int]) -> float:
    """CPU time that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_mib(pids: list[int]) -> float:
    """Memory that processes have to themselves or share with one another."""
    total = 0.0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
    return total


if __name__ == "__main__":
    main()
