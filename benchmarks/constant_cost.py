"""Half an hour in one stream: what a second of audio costs, and the memory it takes, as time goes by.

Speech is concatenated to the wanted length and fed in 100 ms chunks as fast as it is taken. Prints one
row for each five minutes of audio, and the last five against the first.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path

import numpy as np
from speech import RATE_HZ, load_speech, machine

import asr
from asr.search.decoder import with_beam

CHUNK = RATE_HZ // 10
WINDOW_S = 300


def resident_mib() -> float:
    """Memory of this process that is in RAM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this benchmark reads /proc: run it on Linux")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", help="speech to use (default: the tests' clips)")
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--beam", type=int, help="hypotheses kept per step; 0 decodes greedily")
    options = parser.parse_args()

    audio, _ = load_speech(options.manifest, 300.0)
    loop = np.concatenate([part for clip in audio for part in (clip, np.zeros(RATE_HZ // 2, dtype=np.float32))])
    recognizer = asr.load()
    decoding = with_beam(recognizer.bundle.decoding, options.beam)
    warm = recognizer.stream(RATE_HZ, decoding=decoding)
    warm.accept(loop[: 20 * RATE_HZ])
    warm.finish()

    print(f"{machine()}; {len(loop) / RATE_HZ:.0f} s of speech, repeated; 100 ms chunks, one thread")
    print(f"{'audio':>12}{'ms of CPU per s':>18}{'slowest chunk ms':>18}{'resident MiB':>14}{'words':>8}")
    stream = recognizer.stream(RATE_HZ, decoding=decoding)
    position, rows = 0, []
    for window in range(options.minutes * 60 // WINDOW_S):
        words, slowest = 0, 0.0
        gc.collect()
        started = time.process_time()
        for _ in range(WINDOW_S * RATE_HZ // CHUNK):
            chunk = loop.take(range(position, position + CHUNK), mode="wrap")
            position = (position + CHUNK) % len(loop)
            before = time.perf_counter()
            events = stream.accept(chunk)
            slowest = max(slowest, time.perf_counter() - before)
            words += sum(len(event.words) for event in events if isinstance(event, asr.Final))
        cost = 1000 * (time.process_time() - started) / WINDOW_S
        rows.append((cost, resident_mib()))
        label = f"{window * 5}-{window * 5 + 5} min"
        print(f"{label:>12}{cost:>18.2f}{1000 * slowest:>18.1f}{rows[-1][1]:>14.1f}{words:>8}", flush=True)
    ratio, growth = rows[-1][0] / rows[0][0], rows[-1][1] - rows[0][1]
    print(f"last five minutes / first five: cost x{ratio:.3f}, memory {growth:+.1f} MiB")


if __name__ == "__main__":
    main()
