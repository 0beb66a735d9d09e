"""How well marks and capitals are set, on text that has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr.events import Word
from asr.train.marked_text import CAPITAL, QUESTION, SMALL, STOP, MarkedText, WordForms
from asr.written.punctuation import MARKS, Punctuation
from asr.written.punctuator import Punctuator
from asr.written.writer import Writer

CAPITALS = "Aa"  # what they are called among the marks
CAPITALS_TOLD = "Aa*"  # the same where sentences end as the reference says: what a model knows of names alone


@dataclass
class Hits:
    """How often something was set, is there, and both."""

    both: int = 0
    here: int = 0  # in the reference
    set: int = 0

    @property
    def precision(self) -> float:
        return self.both / max(1, self.set)

    @property
    def recall(self) -> float:
        return self.both / max(1, self.here)

    @property
    def f1(self) -> float:
        return 2 * self.both / max(1, self.here + self.set)


@dataclass
class PunctuationScore:
    """Hits of each mark, and of capitals, those at the starts of sentences among them."""

    hits: dict[str, Hits] = field(
        default_factory=lambda: {name: Hits() for name in (*MARKS[1:], CAPITALS, CAPITALS_TOLD)}
    )

    def add(self, name: str, here: bool, is_set: bool) -> None:
        """Count one place."""
        hits = self.hits[name]
        hits.here += here
        hits.set += is_set
        hits.both += here and is_set

    def table(self) -> str:
        """Precision, recall and F1 in lines."""
        lines = [f"{'':4} {'precision':>9} {'recall':>7} {'F1':>6} {'places':>8}"]
        lines += [
            f"{name:4} {hits.precision:9.3f} {hits.recall:7.3f} {hits.f1:6.3f} {hits.here:8,}"
            for name, hits in self.hits.items()
            if name != CAPITALS_TOLD or hits.here
        ]
        return "\n".join(lines)


def pieces(text: MarkedText) -> Iterator[slice]:
    """Stretches without gaps."""
    start = 0
    for end in [*np.flatnonzero(text.ends).tolist(), len(text.ends) - 1]:
        if end >= start:
            yield slice(start, end + 1)
        start = end + 1


def score_text(model: Punctuation, text: MarkedText, forms: WordForms) -> PunctuationScore:
    """Marks and capitals set on a text's words alone, without pauses, against its own.

    The last mark of each paragraph and the first capital count for nothing: where a text begins and ends is given.
    """
    score = PunctuationScore()
    for piece in pieces(text):
        spoken = [forms.words[number] for number in text.words[piece]]
        heard = tuple(Word(word, 0.0, 0.0, 1.0) for word in spoken)
        written = [word.text for word in Writer(numerals=False, punctuation=model).write(heard)]
        marks, capitals = text.marks[piece].tolist(), text.capitals[piece].tolist()
        count_places(score, written, marks, capitals)
        count_capitals(score, CAPITALS_TOLD, _own_capitals(model, spoken), marks, capitals)
    return score


def _own_capitals(model: Punctuation, spoken: Sequence[str]) -> list[bool]:
    """Whether each word has a capital wherever it stands."""
    punctuator = Punctuator(model)
    for word in spoken:
        punctuator.accept(word, None)
    return [decision.capital for decision in punctuator.decide(True)]


def count_places(
    score: PunctuationScore, written: Sequence[str], marks: Sequence[int], capitals: Sequence[int]
) -> None:
    """Count what was written for each word against its mark and its capital."""
    for word, mark in zip(written[:-1], marks[: len(written) - 1], strict=True):
        for name in MARKS[1:]:
            score.add(name, MARKS[mark] == name, word.endswith(name))
    count_capitals(score, CAPITALS, [not word.islower() for word in written], marks, capitals)


def count_capitals(
    score: PunctuationScore, name: str, found: Sequence[bool], marks: Sequence[int], capitals: Sequence[int]
) -> None:
    """Count which words have a capital: those that sentences begin with, and those whose own it is.

    For `CAPITALS_TOLD` what was found at the starts of sentences is of no account.
    """
    for at in range(1, len(found)):
        starts = marks[at - 1] in (STOP, QUESTION)
        if starts or capitals[at] in (SMALL, CAPITAL):
            told = starts and name == CAPITALS_TOLD
            score.add(name, starts or capitals[at] == CAPITAL, told or found[at])
