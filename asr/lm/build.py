"""From files to a stored language model: what ``asr lm build`` does."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.errors import ConfigError, DataError
from asr.lm.arpa import open_text, read_arpa
from asr.lm.estimate import choose_vocabulary, encode, estimate, sentence_words
from asr.lm.model import LanguageModel
from asr.lm.prune import prune
from asr.lm.table import SPECIAL, UNKNOWN, NgramTable

# An n-gram should not run across two sentences of a paragraph.
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
Report = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """What kind of model to estimate from text."""

    order: int = 3  # longest n-gram, in words
    words: int = 60_000  # vocabulary, the most frequent words of the text
    least_count: int = 2  # a word seen less often than this is left unknown
    megabytes: float = 12.0  # of the stored model; n-grams that are missed least are dropped until it fits
    hold_out: int = 0  # every so-manieth sentence is left out, to measure the model on; 0 for none

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 6:
            raise ConfigError(f"order {self.order}: choose 1 to 6")
        if self.words < 1 or self.megabytes <= 0:
            raise ConfigError("a language model needs at least one word and some space: raise words or megabytes")


def build_from_text(
    paths: list[Path], options: BuildOptions, report: Report = print
) -> tuple[LanguageModel, NgramTable]:
    """Estimate a model from text files, plain or compressed, with one or more sentences a line.

    A file that is named twice counts twice. Returns the model, and the same as a table before rounding.
    """

    def sentences() -> Iterator[list[str]]:
        return itertools.chain.from_iterable(_part(path, options.hold_out, False) for path in paths)

    counts: Counter[str] = Counter()
    for sentence in sentences():
        counts.update(sentence)
    total, different = counts.total(), len(counts)
    counts.pop(UNKNOWN, None)
    frequent = Counter({word: n for word, n in counts.items() if n >= options.least_count})
    if not frequent:
        raise DataError(f"no word occurs {options.least_count} times in the text: give more text, or lower the count")
    words = choose_vocabulary(frequent, options.words)
    covered = sum(counts[word] for word in words)
    report(f"{total:,} words, {different:,} different; {len(words) - 3:,} kept, which are {covered / total:.2%} of all")
    table, raw = estimate(encode(sentences(), words), words, options.order)
    report(f"estimated {_grams(table)}")
    bare = LanguageModel.size((0,) * options.order, words)
    empty = LanguageModel.size((0,) * options.order, SPECIAL)
    table = prune(table, raw, lambda n: LanguageModel.size(n, SPECIAL) - empty + bare, int(options.megabytes * 1e6))
    report(f"kept {_grams(table)}")
    lm = LanguageModel.from_table(table)
    if options.hold_out:
        for path in dict.fromkeys(paths):
            report(f"{path.name}, held out: {score_text(lm, _part(path, options.hold_out, True))}")
    return lm, table


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


def read_sentences(path: Path) -> Iterator[list[str]]:
    """The sentences of a text file, as lists of spoken words."""
    with open_text(path) as file:
        try:
            for line in file:
                for sentence in _SENTENCE_END.split(line):
                    words = sentence_words(sentence)
                    if words:
                        yield words
        except (UnicodeDecodeError, EOFError, OSError) as error:
            raise DataError(f"cannot read {path}: {error}. The file must be text in UTF-8") from error


def _part(path: Path, hold_out: int, held: bool) -> Iterator[list[str]]:
    """The sentences that are held out, or the others."""
    for index, sentence in enumerate(read_sentences(path)):
        if (hold_out > 0 and index % hold_out == 0) == held:
            yield sentence


def _grams(table: NgramTable) -> str:
    return ", ".join(f"{count:,} {n}-grams" for n, count in enumerate(table.counts, 1))
