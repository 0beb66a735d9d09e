"""Word error rates of speech that goes on: each speaker's utterances one after another in one stream, and each alone.

    python benchmarks/running_speech.py MANIFEST… [--pause-s 0.5]

In one stream the network knows the voice already, and the recurrent language model what was said before. A speaker's
utterances follow each other as they stand in the manifest, whose rows have a `speaker`; with a pause of faint noise
between them, if asked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from speech import RATE_HZ, machine

import asr
from asr.text.score import ErrorCount, count_word_errors
from asr.train.corpus import SampleCache, read_corpus

_FAINT = 1e-4  # standard deviation of a pause's noise, of full scale


def errors(recognizer: asr.Recognizer, utterances: list[tuple[str, np.ndarray]], pause_s: float) -> ErrorCount:
    """What is wrong in the words of one stream."""
    rng, events = np.random.default_rng(0), list[asr.Event]()
    stream = recognizer.stream(RATE_HZ, written=False, partials=False)
    for number, (_, samples) in enumerate(utterances):
        if number:
            events += stream.accept(rng.normal(0, _FAINT, round(pause_s * RATE_HZ)).astype(np.float32))
        events += stream.accept(samples)
    events += stream.finish()
    heard = " ".join(event.spoken for event in events if isinstance(event, asr.Final))
    return count_word_errors(" ".join(text for text, _ in utterances), heard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--model", help="default: the shipped one")
    parser.add_argument("--pause-s", type=float, default=0.0, help="between utterances (default: none but their own)")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    recognizer = asr.load(options.model)
    print(machine())
    print("| corpus | speakers | utterances | words | alone, WER % | in one stream, WER % |")
    print("|---|---|---|---|---|---|")
    for manifest in options.manifests:
        utterances = read_corpus(manifest)
        speakers = {row["id"]: row.get("speaker", "") for row in map(json.loads, manifest.read_text().splitlines())}
        cache = SampleCache(manifest, utterances, RATE_HZ, options.cache)
        parts: dict[str, list[tuple[str, np.ndarray]]] = {}
        for number, utterance in enumerate(utterances):
            parts.setdefault(speakers[utterance.id], []).append((utterance.text, cache[number]))
        alone = sum((errors(recognizer, [pair], 0.0) for part in parts.values() for pair in part), ErrorCount())
        together = sum((errors(recognizer, part, options.pause_s) for part in parts.values()), ErrorCount())
        counts = f"{len(parts)} | {len(utterances)} | {alone.length}"
        print(f"| {manifest.stem} | {counts} | {100 * alone.rate:.2f} | {100 * together.rate:.2f} |", flush=True)


if __name__ == "__main__":
    main()
