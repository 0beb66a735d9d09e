"""Word error rates of the shipped model by way of search: greedy, beam without and with the language model.

    python benchmarks/accuracy.py MANIFEST…

The network runs once over each corpus; what it says is then decoded in each way, utterances whole. Prints the
table of the model card.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from speech import machine

import asr
from asr.search.decoder import DecoderOptions
from asr.train.corpus import SampleCache, read_corpus
from asr.tune import Emission, word_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--model", help="default: the shipped one")
    parser.add_argument("--beams", type=int, nargs="+", default=[16, 32, 100])
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    recognizer = asr.load(options.model)
    tuned = recognizer.bundle.decoding
    ways: dict[str, DecoderOptions] = {"greedy": replace(tuned, method="greedy")}
    for beam in options.beams:
        ways[f"beam {beam}"] = replace(tuned, beam=beam, alpha=0.0)
    for beam in options.beams:
        ways[f"LM, beam {beam}"] = replace(tuned, beam=beam)
    print(machine())
    print("| corpus | words | " + " | ".join(ways) + " |")
    print("|---|---|" + "---|" * len(ways))
    started = time.monotonic()
    for manifest in options.manifests:
        utterances = read_corpus(manifest)
        samples = SampleCache(manifest, utterances, recognizer.sample_rate_hz, options.cache)
        errors = []
        for method in ("greedy", "beam"):
            emissions = [Emission(recognizer.emissions(samples[i], method), u.text) for i, u in enumerate(utterances)]
            errors += [word_errors(recognizer, emissions, way) for way in ways.values() if way.method == method]
        rates = " | ".join(f"{100 * count.rate:.2f}" for count in errors)
        print(f"| {manifest.stem} | {errors[0].length} | {rates} |", flush=True)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
