"""What hot words are worth: recall of each utterance's rare words, and false alarms with 100 distractors.

    python benchmarks/hot_words.py MANIFEST --minutes 30

A rare word is one that is not among the 5,000 likeliest of the language model, or is unknown to it. Each
utterance is decoded without hot words, with its own rare words, with these and 100 rare words of other
utterances, and with the 100 alone. A false alarm is a hot word that was written and not said.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from speech import machine

import asr
from asr.search.hotwords import HotWord
from asr.text.score import ErrorCount, count_word_errors
from asr.train.corpus import SampleCache, read_corpus

COMMON = 5_000
DISTRACTORS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--boosts", type=float, nargs="+", default=[2.0, 4.0, 6.0, 8.0])
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    recognizer = asr.load()
    lm = recognizer.bundle.lm
    assert lm is not None
    ranked = np.argsort(-lm.arrays.prob_codes[0][lm.arrays.prob], kind="stable")
    common = {lm.words[i] for i in ranked[:COMMON]}
    utterances = read_corpus(options.manifest)
    samples = SampleCache(options.manifest, utterances, recognizer.sample_rate_hz, options.cache)
    items: list[tuple[np.ndarray, list[str], list[str]]] = []
    audio_s = 0.0
    for index, utterance in enumerate(utterances):
        audio_s += len(samples[index]) / recognizer.sample_rate_hz
        if audio_s > 60 * options.minutes:
            break
        words = utterance.text.split()
        items.append((recognizer.emissions(samples[index]), words, rare_words(words, common)))
    pool = rare_words([word for utterance in utterances for word in utterance.text.split()], common)
    print(f"{machine()}; {len(items)} utterances, {sum(len(rare) for _, _, rare in items)} rare words")
    print(f"{'boost':>6} {'hot words':<26}{'recall %':>9}{'false alarms per 1,000 words':>30}{'WER %':>8}")
    for boost in [0.0, *options.boosts]:
        for name in ["none"] if boost == 0 else ["own", f"own and {DISTRACTORS} others", f"{DISTRACTORS} others"]:
            rng = np.random.default_rng(0)
            said = heard = alarms = 0
            errors = ErrorCount()
            for log_probs, words, rare in items:
                others = [str(word) for word in rng.choice(pool, 2 * DISTRACTORS, replace=False) if word not in words]
                hot = (rare if "own" in name else []) + (others[:DISTRACTORS] if "others" in name else [])
                decoder = recognizer.make_decoder()
                assert isinstance(decoder, asr.search.word_beam.WordBeamDecoder)
                decoder.set_hot_words([HotWord(word, boost) for word in hot])
                decoder.accept(log_probs)
                text = decoder.finals()[0].text.split()
                errors += count_word_errors(" ".join(words), " ".join(text))
                wanted, found = Counter(w for w in words if w in rare), Counter(text)
                said += wanted.total()
                heard += (wanted & found).total()
                alarms += sum(count for word, count in (found - Counter(words)).items() if word in hot)
            print(
                f"{boost:>6.1f} {name:<26}{100 * heard / said:>9.1f}{1000 * alarms / errors.length:>30.2f}"
                f"{100 * errors.rate:>8.2f}",
                flush=True,
            )


def rare_words(words: list[str], common: set[str]) -> list[str]:
    return sorted({word for word in words if word not in common and len(word) > 2})


if __name__ == "__main__":
    main()
