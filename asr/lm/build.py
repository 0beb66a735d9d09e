"""From files to a stored language model: what ``asr lm build`` does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import ConfigError, DataError
from asr.lm.arpa import open_text, read_arpa
from asr.lm.estimate import choose_vocabulary, estimate
from asr.lm.model import LanguageModel
from asr.lm.prune import prune
from asr.lm.table import SPECIAL, NgramTable
from asr.lm.text import WordNumbers, find_quoted, read_numbers, read_sentences
from asr.text.normalize import normalize

__all__ = [
    "BuildOptions",
    "TextScore",
    "build_from_arpa",
    "build_from_text",
    "read_sentences",
    "read_vocabulary",
    "score_text",
]

Report = Callable[[str], None]
# From so many words on, n-grams that occur once (of four words: twice) are not worth their memory.
_MUCH_TEXT = 50_000_000
_LEAST, _LEAST_OF_MUCH = (1, 1, 1, 1), (1, 2, 2, 3)


@dataclass(frozen=True)
class BuildOptions:
    """What kind of model to estimate from text."""

    order: int = 3  # longest n-gram, in words
    words: int = 60_000  # vocabulary, the most frequent words of the text
    least_count: int = 2  # a word seen less often than this is left unknown
    megabytes: float = 12.0  # of the stored model; n-grams that are missed least are dropped until it fits
    hold_out: int = 0  # every so-manieth sentence is left out, to measure the model on; 0 for none
    vocabulary: Path | None = None  # a file with a word a line, to take instead of the most frequent ones

    def __post_init__(self) -> None:
        if not 1 <= self.order <= len(_LEAST):
            raise ConfigError(f"order {self.order}: choose 1 to {len(_LEAST)}")
        if self.words < 1 or self.megabytes <= 0:
            raise ConfigError("a language model needs at least one word and some space: raise words or megabytes")


def build_from_text(
    paths: list[Path], options: BuildOptions, report: Report = print
) -> tuple[LanguageModel, NgramTable]:
    """Estimate a model from text files, plain or compressed, with one or more sentences a line.

    A file that is named twice counts twice. Returns the model, and the same as a table before rounding.
    """
    numbers = WordNumbers()
    held_out: dict[Path, np.ndarray] = {}
    texts: list[np.ndarray] = []
    for path, times in Counter(paths).items():
        text = read_numbers(path, numbers)
        if options.hold_out:
            held = np.cumsum(text == 1) % options.hold_out == 0
            held_out[path], text = text[held], text[~held]
        texts += [text] * times
    text = np.concatenate([np.zeros(0, dtype=np.int32), *texts])
    del texts
    words, ids = _choose(numbers.words, np.bincount(text, minlength=len(numbers.words)), options, report)
    text = ids[text]
    least = _LEAST_OF_MUCH if len(text) > _MUCH_TEXT else _LEAST
    table, counts = estimate(text, words, options.order, least[: options.order])
    del text
    report(f"estimated {_grams(table)}")
    fixed = LanguageModel.size((len(words),), (len(words),), words)

    def size(grams: tuple[int, ...], contexts: tuple[int, ...]) -> int:
        """As `LanguageModel.size`, whose compression of the words would take a second each time."""
        return LanguageModel.size(grams, contexts, SPECIAL) - LanguageModel.size((3,), (3,), SPECIAL) + fixed

    table, counts = prune(table, counts, size, int(options.megabytes * 1e6))
    report(f"kept {_grams(table)}")
    lm = LanguageModel.from_table(table)
    for path, held in held_out.items():
        report(f"{path.name}, held out: {score_text(lm, _split(held, numbers.words))}")
    return lm, table


def _choose(
    words: list[str], counts: np.ndarray, options: BuildOptions, report: Report
) -> tuple[tuple[str, ...], np.ndarray]:
    """The vocabulary, and for each word of the text its id there."""
    meant = find_quoted(words, counts)
    counts = np.bincount(meant, counts, len(words)).astype(np.int64)
    counts[: len(SPECIAL)] *= [1, 0, 0]
    if options.vocabulary is not None:
        chosen = SPECIAL + read_vocabulary(options.vocabulary)
    else:
        often = {word: int(n) for word, n in zip(words, counts, strict=True) if n >= options.least_count}
        chosen = choose_vocabulary(Counter(often), options.words)
        if len(chosen) == len(SPECIAL):
            raise DataError(
                f"no word occurs {options.least_count} times in the text: give more text, or lower the count"
            )
    number = {word: index for index, word in enumerate(chosen)}
    ids = np.array([number.get(words[index], 0) for index in meant.tolist()], dtype=np.int32)
    covered, total = counts[ids > 0].sum(), max(1, counts.sum())
    report(
        f"{total:,} words, {np.count_nonzero(counts[3:]):,} different; {len(chosen) - 3:,} kept, "
        f"which are {covered / total:.2%} of all"
    )
    return chosen, ids


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """The words of a file with one a line, each once. Raises DataError that names what is no word."""
    with open_text(path) as file:
        try:
            words = tuple(dict.fromkeys(line.strip() for line in file if line.strip()))
        except (UnicodeDecodeError, EOFError, OSError) as error:
            raise DataError(f"cannot read {path}: {error}. The file must be text in UTF-8") from error
    for word in words:
        if normalize(word) != word or " " in word:
            raise DataError(f"{path}: {word!r} is no word of a-z and apostrophes: write one in lower case in each line")
    if not words:
        raise DataError(f"{path} has no words: write one in each line")
    return words


def _split(text: np.ndarray, words: list[str]) -> Iterable[list[str]]:
    for sentence in np.split(text, np.flatnonzero(text == 1)[1:]):
        yield [words[number] for number in sentence[1:-1].tolist()]


@dataclass(frozen=True)
class TextScore:
    """How well a model foresees a text."""

    words: int
    unknown: int  # words that the model does not know, which are left out of the perplexity
    log_prob: float  # natural log, of the known words and the sentence ends
    predicted: int  # known words and sentence ends

    @property
    def perplexity(self) -> float:
        return math.exp(-self.log_prob / self.predicted) if self.predicted else math.nan

    def __str__(self) -> str:
        rate = self.unknown / self.words if self.words else 0.0
        return f"{self.words:,} words, perplexity {self.perplexity:.1f}, {rate:.2%} of the words unknown"


def score_text(lm: LanguageModel, sentences: Iterable[list[str]]) -> TextScore:
    """Perplexity and unknown words of sentences."""
    words = unknown = predicted = 0
    log_prob = 0.0
    for sentence in sentences:
        known_log_prob, missing = lm.score_sentence(sentence)
        words, unknown = words + len(sentence), unknown + missing
        predicted += len(sentence) - missing + 1
        log_prob += known_log_prob
    return TextScore(words, unknown, log_prob, predicted)


def build_from_arpa(path: Path, report: Report = print) -> tuple[LanguageModel, NgramTable]:
    """Convert a model in ARPA format."""
    table = read_arpa(path)
    report(f"read {_grams(table)}")
    return LanguageModel.from_table(table), table


def _grams(table: NgramTable) -> str:
    return ", ".join(f"{count:,} {n}-grams" for n, count in enumerate(table.counts, 1))
