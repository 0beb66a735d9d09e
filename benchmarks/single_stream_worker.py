"""Runs one engine for `single_stream.py`, which see. Needs nothing of this project for a peer."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

RATE_HZ = 16_000
CHUNK = RATE_HZ // 10
Recognize = Callable[[np.ndarray], str]


def chunks(samples: np.ndarray) -> list[np.ndarray]:
    return [samples[i : i + CHUNK] for i in range(0, len(samples), CHUNK)]


def own(precision: str, beam: int | None) -> Recognize:

    import asr
    from asr.search.decoder import with_beam

    recognizer = asr.load(precision=precision)  # type: ignore[arg-type]
    decoding = with_beam(recognizer.bundle.decoding, beam)

    def recognize(samples: np.ndarray) -> str:
        stream = recognizer.stream(RATE_HZ, decoding=decoding)
        events = [event for chunk in chunks(samples) for event in stream.accept(chunk)]
        return " ".join(event.text for event in events + stream.finish() if isinstance(event, asr.Final))

    return recognize


def moonshine() -> Recognize:
    from moonshine_voice import ModelArch, Transcriber
    from moonshine_voice.utils import get_assets_path

    transcriber = Transcriber(os.path.join(get_assets_path(), "tiny-en"), ModelArch.TINY)

    def recognize(samples: np.ndarray) -> str:
        stream = transcriber.create_stream()
        stream.start()
        for chunk in chunks(samples):
            stream.add_audio(chunk.tolist(), RATE_HZ)
        lines = stream.stop().lines
        stream.close()
        return " ".join(line.text for line in lines)

    return recognize


def pocketsphinx() -> Recognize:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE_HZ, loglevel="FATAL")

    def recognize(samples: np.ndarray) -> str:
        decoder.start_utt()
        for chunk in chunks(samples):
            decoder.process_raw(np.clip(chunk * 32768, -32768, 32767).astype("<i2").tobytes())
            decoder.hyp()  # a partial, as a live transcript asks for
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    return recognize


def main() -> None:
    path, core, engine, *rest = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    if engine.startswith("asr"):
        recognize = own("float32" if engine.endswith("float32") else "int8", int(rest[0]) if rest else None)
    else:
        recognize = {"moonshine": moonshine, "pocketsphinx": pocketsphinx}[engine]()
    with np.load(path) as file:
        audio = [file[name] for name in file.files]
    recognize(audio[0])
    started = time.process_time()
    texts = [recognize(samples) for samples in audio]
    cpu_s = time.process_time() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": cpu_s, "texts": texts, "peak_mib": peak_mib}))


if __name__ == "__main__":
    main()
