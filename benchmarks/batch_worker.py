"""Transcribes files in one way for `batch.py`, which see. Needs nothing of this project for a peer."""

from __future__ import annotations

import json
import os
import sys
import time
import wave
from collections.abc import Iterator

Outcome = tuple[str, str]  # a path, and its text


def seconds_of(path: str) -> float:
    with wave.open(path) as file:
        return file.getnframes() / file.getframerate()


def own(way: str, count: int, paths: list[str]) -> Iterator[Outcome]:
    from asr.cli.one_file import Outcome as Done
    from asr.cli.one_file import Transcriber, Wish
    from asr.cli.ray_pool import RayPool
    from asr.cli.worker_pool import WorkerPool

    wish = Wish(None, None, None, (), False, (), "txt")
    if way == "here":
        transcriber = Transcriber(wish)
        for path in paths:
            yield path, transcriber.attempt(path, path).text or ""
        return
    with RayPool(wish, "local", count) if way == "ray" else WorkerPool(wish, count) as pool:
        for number, message in pool.transcribe(paths):
            if isinstance(message, Done):
                yield paths[number], message.text or ""


def moonshine(paths: list[str]) -> Iterator[Outcome]:
    import numpy as np
    from moonshine_voice import ModelArch, Transcriber
    from moonshine_voice.utils import get_assets_path

    transcriber = Transcriber(os.path.join(get_assets_path(), "tiny-en"), ModelArch.TINY)
    for path in paths:
        with wave.open(path) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
            transcript = transcriber.transcribe_without_streaming(samples.tolist(), file.getframerate())
        yield path, " ".join(line.text for line in transcript.lines)


def faster_whisper(paths: list[str]) -> Iterator[Outcome]:
    from faster_whisper import WhisperModel

    model = WhisperModel("tiny.en", device="cpu", compute_type="int8", cpu_threads=1)  # from a hub, the first time
    for path in paths:
        segments, _ = model.transcribe(path, language="en")
        yield path, " ".join(segment.text.strip() for segment in segments)


PEERS = {"moonshine": moonshine, "faster-whisper": faster_whisper}


def cpu_s() -> float:
    """CPU time so far of this process and all below it, which are Ray's own, too."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        try:
            with open(f"/proc/{pid}/stat") as file:
                total += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    waiting += map(int, file.read().split())
        except OSError:
            continue  # it has ended
    return total / os.sysconf("SC_CLK_TCK")


def main() -> None:
    way, *count = sys.argv[1:]
    paths = json.load(sys.stdin)
    began_s = time.monotonic()
    outcomes = PEERS[way](paths) if way in PEERS else own(way, int(count[0]) if count else 1, paths)
    texts: dict[str, str] = {}
    first_s = None
    skipped = max(1, len(paths) // 5)
    heard_s = from_s = from_cpu_s = to_s = to_cpu_s = 0.0
    for path, text in outcomes:
        texts[path] = text
        first_s = time.monotonic() if first_s is None else first_s
        if len(texts) == skipped:
            from_s, from_cpu_s = time.monotonic(), cpu_s()
        elif len(texts) > skipped:
            heard_s += seconds_of(path)
        if len(texts) == len(paths):
            to_s, to_cpu_s = time.monotonic(), cpu_s()
    assert first_s is not None
    result = {"rate": heard_s / (to_s - from_s), "per_cpu": heard_s / (to_cpu_s - from_cpu_s), "texts": texts}
    print(json.dumps({**result, "first_s": first_s - began_s, "whole_s": time.monotonic() - began_s}))


if __name__ == "__main__":
    main()
