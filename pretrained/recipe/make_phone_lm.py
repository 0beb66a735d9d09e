"""Make the phoneme trigram that CTC-CRF's denominator weighs readings with, from sentences and a lexicon.

    python pretrained/recipe/make_phone_lm.py phone_lm.safetensors lexicon.safetensors text/*.txt

Every word is said in its first way; sentences with a word that the lexicon lacks are left out, and so is what a text
has beyond ``--most`` phonemes. Every fiftieth sentence is held out, and the perplexity on these is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from asr.errors import DataError
from asr.lexicon.lexicon import Lexicon
from asr.lexicon.phonemes import Pronunciation
from asr.lm.build import read_sentences
from asr.train.phone_lm import PhoneLm, count_trigrams

HOLD_OUT = 50
CHUNK_PHONEMES = 1_000_000  # counted at a time


def say_sentences(path: Path, first: Mapping[str, Pronunciation], most: int) -> Iterator[list[int]]:
    """The phonemes of each sentence that can be said, a 0 after each."""
    spoken = 0
    for sentence in read_sentences(path):
        if spoken >= most:
            return
        if sentence and all(word in first for word in sentence):
            phonemes = [phoneme for word in sentence for phoneme in first[word]]
            spoken += len(phonemes)
            yield [*phonemes, 0]


def make_phone_lm(lexicon: Lexicon, texts: Sequence[Path], most: int) -> tuple[PhoneLm, float]:
    """The trigram, and its perplexity on the sentences held out."""
    first = {word: said[0] for word, said in lexicon.items()}
    counts, held_out, here = count_trigrams(np.zeros(0, np.int64)), list[int](), list[int]()
    for path in texts:
        for number, phonemes in enumerate(say_sentences(path, first, most)):
            if number % HOLD_OUT == HOLD_OUT - 1:
                held_out += phonemes
                continue
            here += phonemes
            if len(here) > CHUNK_PHONEMES:
                counts += count_trigrams(np.array(here))
                here.clear()
    counts += count_trigrams(np.array(here))
    lm = PhoneLm.from_counts(counts)
    if not held_out:
        raise DataError(f"the texts have fewer than {HOLD_OUT} sentences that the lexicon can say: give more text")
    return lm, lm.perplexity(np.array(held_out))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("lexicon", type=Path, help="lexicon.safetensors")
    parser.add_argument("texts", type=Path, nargs="+", help="plain or compressed")
    parser.add_argument("--most", type=int, default=7_000_000, help="phonemes of a text (default: 7000000)")
    options = parser.parse_args(arguments)
    lm, perplexity = make_phone_lm(Lexicon.load(options.lexicon), options.texts, options.most)
    lm.save(options.output)
    print(f"phoneme trigram: perplexity {perplexity:.2f} on held-out sentences")


if __name__ == "__main__":
    main()
