"""Training of the grapheme-to-phoneme model on a dictionary: alignment, then n-grams of graphones.

Every letter stands for no, one or two phonemes. Which, is found by expectation maximisation over all alignments of all
words; then each word is written as its likeliest chain of graphones, and `asr.lm` estimates and prunes an n-gram model.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asr.compiler import jit
from asr.errors import ConfigError, DataError
from asr.lexicon.g2p import LETTERS, LONGEST, SEPARATOR, SPECIAL, GraphemeToPhoneme, shrink
from asr.lexicon.g2p_ngram import MOST_PHONEMES, pack_ngrams, packed_bytes
from asr.lexicon.phonemes import PHONEMES, TOKENS, Pronunciation
from asr.lm.estimate import choose_vocabulary, encode, estimate
from asr.lm.prune import prune
from asr.train.g2p_network import G2pNetworkOptions, train_network

_WEIGHTS = ((0.3, 0.7), (0.4, 0.6), (0.5, 0.5), (0.6, 0.4))  # of n-grams and network, to choose among
_OUTPUTS = 1 + len(PHONEMES) + len(PHONEMES) ** 2  # of a letter: nothing, one phoneme, two
_ENDINGS = re.compile(
    r"(?:'s|s'|'|ingly|edly|iness|fulness|ings|ing|ers|er|ed|es|s|ly|ness|less|ment|ments|able|ies|y|e)$"
)


@dataclass(frozen=True)
class G2pOptions:
    """How to train."""

    order: int = 6  # longest n-gram of graphones
    rounds: int = 12  # of expectation maximisation
    least_count: int = 4  # of a graphone; words that need a rarer one are left out
    ngram_megabytes: float = 0.75  # of the n-grams
    network: G2pNetworkOptions | None = field(default_factory=G2pNetworkOptions)  # None for n-grams alone
    tuning: float = 0.02  # share of the word families that the weights are chosen on

    def __post_init__(self) -> None:
        if not 0 <= self.tuning < 1:
            raise ConfigError("tuning is a share of the words: give at least 0 and less than 1")


@dataclass(frozen=True)
class G2pScore:
    """How often a model is wrong: its first answer against the nearest of a word's pronunciations."""

    words: int
    wrong: int
    phonemes: int  # of the nearest pronunciations
    edits: int

    def __str__(self) -> str:
        return (
            f"{self.words:,} held-out words: {self.wrong / self.words:.1%} wrong, "
            f"{self.edits / self.phonemes:.2%} of the phonemes"
        )


Dictionary = Mapping[str, Sequence[Pronunciation]]


def word_family(word: str) -> str:
    """What a word's forms have in common, roughly, so that none of a held-out word's forms is trained on."""
    while len(word) > 4:
        shorter = _ENDINGS.sub("", word)
        if shorter == word or len(shorter) < 3:
            break
        word = shorter
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def split_families(dictionary: Dictionary, share: float, key: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """A dictionary in two by word families: all but a share, and that share. Another key makes another split."""
    most: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for word, pronunciations in dictionary.items():
        place = int.from_bytes(hashlib.sha256((key + word_family(word)).encode()).digest()[:4], "big") / 2**32
        (rest if place < share else most)[word] = pronunciations
    return most, rest


def train_g2p(
    dictionary: Dictionary, options: G2pOptions | None = None, report: Callable[[str], None] = print
) -> GraphemeToPhoneme:
    """Train a model on the words of a dictionary that are written with letters and apostrophes."""
    options = options or G2pOptions()
    training, tuning = split_families(dictionary, options.tuning, "tuning")
    pairs = [
        (word, said)
        for word, pronunciations in training.items()
        if set(word) <= set(LETTERS) and len(word) <= LONGEST
        for said in pronunciations
        if 0 < len(said) <= MOST_PHONEMES * len(word)
    ]
    if not pairs:
        raise DataError("the dictionary has no words of a to z: nothing to train on")
    chains = align(pairs, options.rounds, report)
    counts = Counter(graphone for chain in chains for graphone in chain)
    frequent = Counter({graphone: n for graphone, n in counts.items() if n >= options.least_count})
    if not frequent:
        raise DataError(f"nothing comes up {options.least_count} times: give a larger dictionary")
    vocabulary = choose_vocabulary(frequent, 256 - SPECIAL)
    graphones = vocabulary[SPECIAL:]
    chains = [chain for chain in chains if all(graphone in frequent for graphone in chain)]
    report(f"{len(chains):,} of {len(pairs):,} pronunciations aligned, {len(graphones)} graphones")
    table, raw = estimate(encode(chains, vocabulary), vocabulary, options.order)
    size = int(options.ngram_megabytes * 1e6)
    ngrams = pack_ngrams(prune(table, raw, lambda counts, _: packed_bytes(counts), size)[0])
    report("kept " + ", ".join(f"{n:,} {k}-grams" for k, n in enumerate(np.diff(ngrams.starts).tolist(), 1)))
    if options.network is None:
        return GraphemeToPhoneme(graphones, ngrams)
    number = {graphone: index for index, graphone in enumerate(graphones)}
    words = [
        ([LETTERS.index(graphone[0]) for graphone in chain], [number[graphone] for graphone in chain])
        for chain in chains
    ]
    letters = [LETTERS.index(graphone[0]) for graphone in graphones]
    network = shrink(train_network(words, letters, len(LETTERS), options.network, report).parameters_by_name())
    if not tuning:
        return GraphemeToPhoneme(graphones, ngrams, network, (0.5, 0.5))
    return min(
        (GraphemeToPhoneme(graphones, ngrams, network, weights) for weights in _WEIGHTS),
        key=lambda model: (lambda score: (score.wrong, score.edits))(measure_g2p(model, tuning)),
    )


def measure_g2p(model: GraphemeToPhoneme, dictionary: Dictionary) -> G2pScore:
    """Compare a model with a dictionary of words it was not trained on."""
    words = wrong = phonemes = edits = 0
    for word, pronunciations in dictionary.items():
        if not set(word) <= set(LETTERS) or not pronunciations:
            continue
        answer = model.pronounce(word)[0][0]
        distance, length = min((_edits(answer, said), len(said)) for said in pronunciations)
        words, wrong, phonemes, edits = words + 1, wrong + (distance > 0), phonemes + length, edits + distance
    return G2pScore(words, wrong, phonemes, edits)


def _edits(a: Sequence[int], b: Sequence[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def align(pairs: Sequence[tuple[str, Pronunciation]], rounds: int, report: Callable[[str], None]) -> list[list[str]]:
    """Each word as its likeliest chain of graphones."""
    letters, letters_at = _flat([LETTERS.index(char) for char in word] for word, _ in pairs)
    sounds, sounds_at = _flat(said for _, said in pairs)
    weights = np.zeros((len(LETTERS), _OUTPUTS))
    weights[:, 0] = 0.1
    weights[:, 1 : len(PHONEMES) + 1] = 1 / len(PHONEMES)
    weights[:, len(PHONEMES) + 1 :] = 0.05 / len(PHONEMES) ** 2
    for turn in range(rounds):
        weights /= weights.sum(axis=1, keepdims=True)
        expected = np.full_like(weights, 1e-4)
        total = _expect(letters, letters_at, sounds, sounds_at, weights, expected)
        weights = expected
        if turn in (0, rounds - 1):
            report(f"alignment, round {turn + 1}: {total / len(letters):.4f} nats a letter")
    weights /= weights.sum(axis=1, keepdims=True)
    outputs = np.zeros(len(letters), dtype=np.int32)
    _best(letters, letters_at, sounds, sounds_at, weights, outputs)
    names = [*LETTERS]
    chains = []
    for begin, end in zip(letters_at[:-1].tolist(), letters_at[1:].tolist(), strict=True):
        chain = []
        for letter, output in zip(letters[begin:end].tolist(), outputs[begin:end].tolist(), strict=True):
            chain.append(SEPARATOR.join([names[letter], *(TOKENS[p] for p in _phonemes_of(output))]))
        chains.append(chain)
    return chains


def _flat(rows: Iterable[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    rows = list(rows)
    at = np.cumsum([0, *map(len, rows)])
    return np.fromiter((x for row in rows for x in row), dtype=np.int32, count=int(at[-1])), at


def _phonemes_of(output: int) -> tuple[int, ...]:
    count = len(PHONEMES)
    if output == 0:
        return ()
    if output <= count:
        return (output,)
    first, second = divmod(output - count - 1, count)
    return first + 1, second + 1


_COUNT = len(PHONEMES)


@jit()
def _output(sounds: np.ndarray, begin: int, size: int) -> int:
    """Which output of a letter the ``size`` phonemes before ``begin`` are."""
    if size == 0:
        return 0
    if size == 1:
        return int(sounds[begin - 1])
    return int(_COUNT + 1 + (sounds[begin - 2] - 1) * _COUNT + sounds[begin - 1] - 1)


@jit()
def _expect(
    letters: np.ndarray,
    letters_at: np.ndarray,
    sounds: np.ndarray,
    sounds_at: np.ndarray,
    weights: np.ndarray,
    expected: np.ndarray,
) -> float:
    """Add each word's expected use of each output of each letter; returns the words' log likelihood."""
    total = 0.0
    for pair in range(len(letters_at) - 1):
        word = letters[letters_at[pair] : letters_at[pair + 1]]
        said = sounds[sounds_at[pair] : sounds_at[pair + 1]]
        n, m = len(word), len(said)
        ahead, behind = np.zeros((n + 1, m + 1)), np.zeros((n + 1, m + 1))
        ahead[0, 0] = behind[n, m] = 1.0
        for i in range(1, n + 1):
            for j in range(m + 1):
                for size in range(min(j, 2) + 1):
                    ahead[i, j] += ahead[i - 1, j - size] * weights[word[i - 1], _output(said, j, size)]
        for i in range(n - 1, -1, -1):
            for j in range(m + 1):
                for size in range(min(m - j, 2) + 1):
                    behind[i, j] += behind[i + 1, j + size] * weights[word[i], _output(said, j + size, size)]
        likelihood = ahead[n, m]
        if likelihood <= 0.0:
            continue
        total += np.log(likelihood)
        for i in range(1, n + 1):
            for j in range(m + 1):
                for size in range(min(j, 2) + 1):
                    output = _output(said, j, size)
                    share = ahead[i - 1, j - size] * weights[word[i - 1], output] * behind[i, j]
                    expected[word[i - 1], output] += share / likelihood
    return total


@jit()
def _best(
    letters: np.ndarray,
    letters_at: np.ndarray,
    sounds: np.ndarray,
    sounds_at: np.ndarray,
    weights: np.ndarray,
    outputs: np.ndarray,
) -> None:
    """Each letter's output in its word's likeliest alignment."""
    for pair in range(len(letters_at) - 1):
        begin = letters_at[pair]
        word = letters[begin : letters_at[pair + 1]]
        said = sounds[sounds_at[pair] : sounds_at[pair + 1]]
        n, m = len(word), len(said)
        best = np.full((n + 1, m + 1), -np.inf)
        taken = np.zeros((n + 1, m + 1), dtype=np.int8)
        best[0, 0] = 0.0
        for i in range(1, n + 1):
            for j in range(m + 1):
                for size in range(min(j, 2) + 1):
                    score = best[i - 1, j - size] + np.log(weights[word[i - 1], _output(said, j, size)])
                    if score > best[i, j]:
                        best[i, j] = score
                        taken[i, j] = size
        j = m
        for i in range(n, 0, -1):
            size = taken[i, j]
            outputs[begin + i - 1] = _output(said, j, size)
            j -= size
