"""The written form of a stream: settled as its words are, and never taken back.

Tokens go through stages, each of which reads what the one before has settled: users' replacements and the grammar, then
replacements of what is written. A stage holds back what depends on words to come (`asr.written.words`); a model that
sets capitals and punctuation would be a further stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from asr.events import Alternative, Final, Partial, Word
from asr.written.grammar import write_here
from asr.written.replacements import Replacement, Replacements
from asr.written.words import Pieces, Undecided, Words

_REPLACED = " "  # what later stages see of a replacement: no word has a space


class Token(NamedTuple):
    """What is written for a stretch of words."""

    text: str
    words: int
    replaced: bool = False  # as a user wants it: no stage changes it


class _Stage:
    """Makes tokens of tokens, from left to right."""

    def __init__(self, write: Callable[[Words, int], list[Token]]) -> None:
        self._write = write
        self._texts: list[str] = []
        self._inputs: list[Token] = []
        self._at = 0

    def accept(self, tokens: Iterable[Token], over: bool) -> list[Token]:
        """What is settled by these tokens; ``over`` says that none will follow."""
        for token in tokens:
            self._inputs.append(token)
            self._texts.append(_REPLACED if token.replaced else token.text)
        settled: list[Token] = []
        while self._at < len(self._inputs):
            try:
                made = self._write(Words(self._texts, self._at, over), self._at)
            except Undecided:
                break
            for token in made:
                taken = self._inputs[self._at : self._at + token.words]
                same = len(taken) == 1 and (taken[0].replaced or token.text == taken[0].text)
                settled.append(taken[0] if same else Token(token.text, sum(one.words for one in taken), token.replaced))
                self._at += token.words
        return settled


class Writer:
    """Writes one stream's utterances. Belongs to one caller."""

    def __init__(self, replacements: Iterable[Replacement] = (), numerals: bool = True) -> None:
        """Args:
        replacements: users' own, which go before the grammar.
        numerals: whether the grammar writes; without it only the replacements do.
        """
        self._own = Replacements(replacements)
        self._numerals = numerals
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance."""
        self._stages = self._make_stages()
        self._given = 0
        self._settled: list[Token] = []

    def partial(self, partial: Partial, stable_words: int) -> Partial:
        """A partial whose settled words are written; the others stay as heard.

        Args:
            partial: of the utterance, as heard.
            stable_words: how many leading words of it cannot change.
        """
        new = [word.text for word in partial.words[self._given : stable_words]]
        self._given += len(new)
        self._settled += self._run(self._stages, new, over=False)
        words = _join(self._settled, partial.words)
        tail = partial.words[sum(token.words for token in self._settled) :]
        stable = len(" ".join(word.text for word in words))
        words += tail
        return Partial(" ".join(word.text for word in words), words, stable)

    def final(self, final: Final) -> Final:
        """A final, and its alternatives, written to the end."""
        words = self.write(final.words)
        alternatives = []
        for other in final.alternatives:
            written = self.write(other.words)
            alternatives.append(Alternative(" ".join(word.text for word in written), written, other.score))
        text = " ".join(word.text for word in words)
        return Final(text, words, final.reason, final.score, tuple(alternatives))

    def write(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """Whole utterance: its written tokens, each with the words it stands for."""
        return _join(self._run(self._make_stages(), [word.text for word in words], over=True), words)

    def _make_stages(self) -> list[_Stage]:
        stages = [_Stage(self._first)]
        if self._own:
            stages.append(_Stage(self._replace))
        return stages

    @staticmethod
    def _run(stages: Sequence[_Stage], words: Iterable[str], over: bool) -> list[Token]:
        tokens = [Token(word, 1) for word in words]
        for stage in stages:
            tokens = stage.accept(tokens, over)
        return tokens

    def _first(self, words: Words, at: int) -> list[Token]:
        """Replacements of what is said, then the grammar."""
        return self._replaced(words, at) or _tokens(write_here(words, at) if self._numerals else None, words[at])

    def _replace(self, words: Words, at: int) -> list[Token]:
        """Replacements of what is written."""
        return self._replaced(words, at) or [Token(words[at], 1)]

    def _replaced(self, words: Words, at: int) -> list[Token]:
        found = self._own.find(words, at)
        return [] if found is None else [Token(*found, replaced=True)]


def _tokens(pieces: Pieces | None, word: str) -> list[Token]:
    return [Token(word, 1)] if pieces is None else [Token(text, count) for text, count in pieces]


def _join(tokens: Iterable[Token], words: Sequence[Word]) -> tuple[Word, ...]:
    """Words for tokens: from the start of the first to the end of the last, as sure as the least sure."""
    joined, at = [], 0
    for token in tokens:
        heard = tuple(words[at : at + token.words])
        at += token.words
        if len(heard) == 1 and heard[0].text == token.text:
            joined.append(heard[0])
            continue
        confidence = min(word.confidence for word in heard)
        joined.append(Word(token.text, heard[0].start_s, heard[-1].end_s, confidence, heard))
    return tuple(joined)


def write_text(text: str, replacements: Iterable[Replacement] = (), numerals: bool = True) -> str:
    """The written form of plain lower-case words: *twenty five dollars* as *$25*."""
    words = tuple(Word(word, 0.0, 0.0, 1.0) for word in text.split())
    return " ".join(word.text for word in Writer(replacements, numerals).write(words))
