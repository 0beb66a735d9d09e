"""What a reader of live text sees: how much of it flickers, and how late words come and settle.

    python benchmarks/partials.py [MANIFEST] --minutes 10

Speech is fed in chunks of several lengths, as if in real time; the computation is not counted, so the delays
are those of the network's lookahead, the blocks it works in, the chunks and the search. A word's end is the
recogniser's own, from the alignment of its final text.

    flicker    characters that were shown and then changed or taken back, per word of the final texts
    shown      from a word's end to the first partial with this word at its place
    settled    from a word's end to the first event in which it can no longer change
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from speech import RATE_HZ, load_speech, machine

import asr
from asr.search.decoder import with_beam


@dataclass
class Seen:
    """What one way of feeding showed."""

    words: int = 0
    flicker: int = 0  # characters
    shown_s: list[float] = field(default_factory=list)
    settled_s: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", help="speech to use (default: the tests' clips)")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--beam", type=int, help="hypotheses kept per step; 0 decodes greedily")
    parser.add_argument("--written", action="store_true", help="the written form, whose words wait for others")
    parser.add_argument("--model")
    parser.add_argument("--chunks", type=int, nargs="+", default=[20, 100, 250, 500, 1000], metavar="MS")
    options = parser.parse_args()
    recognizer = asr.load(options.model)
    decoding = with_beam(recognizer.bundle.decoding, options.beam)
    audio, _ = load_speech(options.manifest, 60 * options.minutes)
    print(f"{machine()}; {sum(map(len, audio)) / RATE_HZ:.0f} s of speech, {decoding.method} {decoding.beam}")
    print(f"{'chunk ms':>9}{'words':>7}{'flicker':>9}{'shown ms: median':>18}{'p95':>7}", end="")
    print(f"{'settled ms: median':>20}{'p95':>7}")
    for chunk_ms in options.chunks:
        seen = Seen()
        for samples in audio:
            watch(recognizer.stream(RATE_HZ, decoding=decoding, written=options.written), samples, chunk_ms, seen)
        shown, settled = (1000 * np.percentile(values, [50, 95]) for values in (seen.shown_s, seen.settled_s))
        print(
            f"{chunk_ms:>9}{seen.words:>7}{seen.flicker / seen.words:>9.2f}"
            f"{shown[0]:>18.0f}{shown[1]:>7.0f}{settled[0]:>20.0f}{settled[1]:>7.0f}",
            flush=True,
        )


def watch(stream: asr.Stream, samples: np.ndarray, chunk_ms: int, seen: Seen) -> None:
    """Feed one recording with a second of silence after it and note what was shown when."""
    size = RATE_HZ * chunk_ms // 1000
    samples = np.concatenate([samples, np.zeros(RATE_HZ, dtype=np.float32)])
    history: list[tuple[float, asr.Event]] = []
    for begin in range(0, len(samples), size):
        chunk = samples[begin : begin + size]
        history += [((begin + len(chunk)) / RATE_HZ, event) for event in stream.accept(chunk)]
    history += [(len(samples) / RATE_HZ, event) for event in stream.finish()]
    utterance: list[tuple[float, asr.Event]] = []
    for time_s, event in history:
        utterance.append((time_s, event))
        if isinstance(event, asr.Final):
            judge(utterance, event, seen)
            utterance = []


def judge(events: list[tuple[float, asr.Event]], final: asr.Final, seen: Seen) -> None:
    """Note the delays of an utterance's words and what changed on the way."""
    before = ""
    for _, event in events:
        seen.flicker += len(before) - shared(before, event.text)
        before = event.text
    place = 0
    for index, word in enumerate(final.words):
        end = place + len(word.text)
        seen.words += 1
        shown = (t for t, e in events if len(e.words) > index and e.words[index].text == word.text)
        settled = (t for t, e in events if e.stable_chars >= end)
        seen.shown_s.append(next(shown) - word.end_s)
        seen.settled_s.append(next(settled) - word.end_s)
        place = end + 1


def shared(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


if __name__ == "__main__":
    main()
