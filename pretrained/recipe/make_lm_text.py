"""Clean texts for a language model of everything that recognition is measured on, and choose its vocabulary.

    python pretrained/recipe/make_lm_text.py OUT TEXT... --measured speech/*.dev.jsonl

Writes OUT/NAME.txt for each text: its lines but for those that hold eight words in a row of a transcript, or as a
sentence a whole transcript of four to seven words. Then OUT/vocabulary.txt: words of CMUdict that occur three
times, and others that occur 24 times, the most frequent first. Three to five minutes for 320 million words.
"""

from __future__ import annotations

import argparse
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from asr.lm.table import SPECIAL
from asr.lm.text import WordNumbers, find_quoted, number_text, read_chunks
from asr.train.cmudict import load_cmudict
from asr.train.corpus import read_corpus

WINDOW = 8  # words in a row that make a text known
SHORTEST = 4  # words of a transcript that a sentence of a text must not be
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_TABLE_BITS = 24


def hash_windows(words: np.ndarray, size: int) -> np.ndarray:
    """A hash of each stretch of so many words, uint64."""
    count = max(0, len(words) - size + 1)
    hashes = np.zeros(count, dtype=np.uint64)
    for k in range(size):
        hashes = (hashes ^ (words[k : k + count].astype(np.uint64) + np.uint64(1))) * _FACTOR
        hashes ^= hashes >> _SHIFT
    return hashes


class Measured:
    """The transcripts that no text may hold."""

    def __init__(self, corpora: list[Path], numbers: WordNumbers) -> None:
        self.numbers = numbers
        found: list[np.ndarray] = []
        for path in corpora:
            for utterance in read_corpus(path):
                words = np.array([numbers[word] for word in utterance.text.split()], dtype=np.int32)
                if len(words) >= WINDOW:
                    found.append(hash_windows(words, WINDOW))
                elif len(words) >= SHORTEST:
                    found.append(hash_windows(np.concatenate([[1], words, [2]]), len(words) + 2))
        self.hashes = np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *found]))
        self.maybe = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self.maybe[self._slot(self.hashes)] = True

    @staticmethod
    def _slot(hashes: np.ndarray) -> np.ndarray:
        return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)

    def held_by(self, text: np.ndarray) -> bool:
        """Whether a text of `number_text` holds one of them."""
        starts = np.flatnonzero(text == 1)
        lengths = np.diff(np.append(starts, len(text))) - 2
        parts = [hash_windows(text[text > 2], WINDOW)]
        for length in range(SHORTEST, WINDOW):
            at = starts[lengths == length][:, None] + np.arange(length + 2)
            hashes = np.zeros(len(at), dtype=np.uint64)
            for k in range(length + 2):
                hashes = (hashes ^ (text[at[:, k]].astype(np.uint64) + np.uint64(1))) * _FACTOR
                hashes ^= hashes >> _SHIFT
            parts.append(hashes)
        hashes = np.concatenate(parts)
        hashes = hashes[self.maybe[self._slot(hashes)]]
        return bool(np.isin(hashes, self.hashes).any())

    def clean(self, lines: list[str], text: np.ndarray | None = None) -> list[str]:
        """The lines that hold none."""
        if text is None:
            text = number_text("".join(lines), self.numbers)
        if not lines or not self.held_by(text):
            return lines
        if len(lines) == 1:
            return []
        half = len(lines) // 2
        left, right = self.clean(lines[:half]), self.clean(lines[half:])
        while left and right and self.held_by(number_text("".join(left[-WINDOW:] + right[:WINDOW]), self.numbers)):
            right = right[1:]  # across two lines
        return left + right


def choose_words(words: list[str], counts: np.ndarray, dictionary: Container[str]) -> list[str]:
    """The vocabulary, most frequent words first."""
    meant = find_quoted(words, counts)
    total = np.bincount(meant, counts, len(words)).astype(np.int64)
    chosen: list[tuple[int, str]] = []
    for number in range(len(SPECIAL), len(words)):
        word = words[number]
        known = word in dictionary or word.removesuffix("'s") in dictionary or word.removesuffix("'") in dictionary
        if total[number] >= (3 if known else 24):
            chosen.append((-int(total[number]), word))
    return [word for _, word in sorted(chosen)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("texts", type=Path, nargs="+", help="plain or compressed")
    parser.add_argument("--measured", type=Path, nargs="*", default=[], help="corpora whose transcripts to leave out")
    options = parser.parse_args(arguments)
    numbers = WordNumbers()
    measured = Measured(options.measured, numbers)
    counts = np.zeros(0, dtype=np.int64)
    options.output.mkdir(parents=True, exist_ok=True)
    for path in options.texts:
        name = path.name.split(".")[0]
        lines = kept = 0
        with (options.output / f"{name}.txt").open("w", encoding="utf-8") as file:
            for chunk in read_chunks(path):
                text = number_text(chunk, numbers)
                every = chunk.splitlines(keepends=True)
                clean = measured.clean(every, text)
                if len(clean) < len(every):
                    text = number_text("".join(clean), numbers)
                file.writelines(clean)
                lines, kept = lines + len(every), kept + len(clean)
                here = np.bincount(text, minlength=max(len(numbers.words), len(counts)))
                here[: len(counts)] += counts
                counts = here
        print(f"{name}: {lines:,} lines, {lines - kept:,} left out", flush=True)
    counts = np.concatenate([counts, np.zeros(len(numbers.words) - len(counts), dtype=np.int64)])
    words = choose_words(numbers.words, counts, load_cmudict())
    (options.output / "vocabulary.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    print(f"{len(words):,} words chosen")


if __name__ == "__main__":
    main()
