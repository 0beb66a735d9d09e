"""Make word pieces for the model's second output: the letter sequences that join most often within words of a text.

    python pretrained/recipe/make_word_pieces.py pieces.txt text/*.txt.xz --pieces 1000

Byte-pair encoding (R. Sennrich, B. Haddow and A. Birch, "Neural machine translation of rare words with subword
units", 2016) over the text's most frequent words. The space stays a token of its own, so no piece spans two words.
The letters come first in the file: what no piece writes they can. Name it under ``[data] pieces`` of a training
configuration. Half a minute for half a million sentences.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from asr.lm.build import read_sentences
from asr.text.tokens import Tokenizer

WORDS = 40_000  # most frequent ones; rarer ones hardly move a count


def find_pieces(counts: Counter[str], pieces: int) -> list[str]:
    """The pieces that byte-pair encoding makes of these words, in the order in which it joins them."""
    words = [(list(word), count) for word, count in counts.most_common(WORDS)]
    pairs: Counter[tuple[str, str]] = Counter()
    found_in: defaultdict[tuple[str, str], set[int]] = defaultdict(set)

    def count(index: int, sign: int) -> None:
        parts, times = words[index]
        for pair in itertools.pairwise(parts):
            pairs[pair] += sign * times
            found_in[pair].add(index)

    for index in range(len(words)):
        count(index, 1)
    made: dict[str, None] = {}  # two ways of joining may come to the same piece
    while len(made) < pieces and pairs:
        pair = max(pairs, key=lambda pair: (pairs[pair], pair))
        made["".join(pair)] = None
        for index in found_in.pop(pair):
            count(index, -1)
            old, joined = words[index][0], list[str]()
            while old:
                size = 2 if tuple(old[:2]) == pair else 1
                joined.append("".join(old[:size]))
                old = old[size:]
            words[index] = joined, words[index][1]
            count(index, 1)
        del pairs[pair]
    return list(made)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("texts", type=Path, nargs="+", help="text files, plain or compressed, as for `asr lm build`")
    parser.add_argument("--pieces", type=int, default=1_000, help="how many (default: 1000)")
    parser.add_argument("--sentences", type=int, default=500_000, help="of each text at most so many (default: 500000)")
    options = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    for path in options.texts:
        for sentence in itertools.islice(read_sentences(path), options.sentences):
            counts.update(sentence)
    letters = Tokenizer.english_characters()
    counts = Counter({word: n for word, n in counts.items() if set(word) <= set(letters.alphabet)})
    pieces = find_pieces(counts, options.pieces)
    Tokenizer([*letters.tokens, *pieces]).save(options.output)
    print(f"{len(pieces)} pieces, from {pieces[0]!r} to {pieces[-1]!r}, of {len(counts):,} words")


if __name__ == "__main__":
    main()
