"""The written form of a stream: settled as its words are, and never taken back.

Tokens go through stages, each of which reads what the one before has settled: users' replacements and the grammar, then
replacements of what is written, then punctuation and capitals. A stage holds back what depends on words to come
(`asr.written.words`, `asr.written.marking`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from asr.events import Alternative, Final, Partial, Word
from asr.written.grammar import write_here
from asr.written.marking import Marking
from asr.written.punctuation import Punctuation
from asr.written.replacements import Replacement, Replacements
from asr.written.token import Token
from asr.written.words import Pieces, Undecided, Words

_REPLACED = " "  # what later stages see of a replacement: no word has a space


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


class _Utterance:
    """What is settled of one utterance."""

    def __init__(self, stages: Sequence[_Stage], marking: Marking | None) -> None:
        self._stages, self._marking = stages, marking
        self._given = 0
        self._settled: list[Token] = []

    def accept(self, words: Sequence[Word], over: bool) -> list[Token]:
        """All that is settled by these words, the first of which were given before."""
        new = words[self._given :]
        tokens = [Token(word.text, 1) for word in new]
        for stage in self._stages:
            tokens = stage.accept(tokens, over)
        if self._marking is not None:
            tokens = self._marking.accept(words, self._given, tokens, over)
        self._given = max(self._given, len(words))
        self._settled += tokens
        return self._settled


class Writer:
    """Writes one stream's utterances. Belongs to one caller."""

    def __init__(
        self,
        replacements: Iterable[Replacement] = (),
        numerals: bool = True,
        punctuation: Punctuation | None = None,
    ) -> None:
        """Args:
        replacements: users' own, which go before the grammar.
        numerals: whether the grammar writes; without it the others do alone.
        punctuation: the model that sets marks and capitals; none sets none.
        """
        self._own = Replacements(replacements)
        self._numerals = numerals
        self._marking = None if punctuation is None else Marking(punctuation)
        self._begin()

    def reset(self) -> None:
        """Begin a new utterance. What was said before it still tells where sentences begin."""
        if self._marking is not None:
            self._marking.end_utterance()
        self._begin()

    def _begin(self) -> None:
        self._utterance = _Utterance(self._make_stages(), self._marking)
        self._before = None if self._marking is None else self._marking.copy()

    def partial(self, partial: Partial, stable_words: int) -> Partial:
        """A partial whose settled words are written; the others stay as heard.

        Args:
            partial: of the utterance, as heard.
            stable_words: how many leading words of it cannot change.
        """
        settled = self._utterance.accept(partial.words[:stable_words], over=False)
        words = _join(settled, partial.words)
        tail = partial.words[sum(token.words for token in settled) :]
        stable = len(" ".join(word.text for word in words))
        words += tail
        return Partial(" ".join(word.text for word in words), words, stable)

    def final(self, final: Final) -> Final:
        """A final, and its alternatives, written to the end. What comes after it is another utterance."""
        ended = _stopped if final.reason == "end" and self._marking is not None else tuple
        words = ended(_join(self._utterance.accept(final.words, over=True), final.words))
        alternatives = []
        for other in final.alternatives:
            written = ended(self.write(other.words))
            alternatives.append(Alternative(" ".join(word.text for word in written), written, other.score))
        self.reset()
        text = " ".join(word.text for word in words)
        return Final(text, words, final.reason, final.score, tuple(alternatives))

    def write(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """Whole utterance in place of this one: its written tokens, each with the words it stands for."""
        marking = None if self._before is None else self._before.copy()
        return _join(_Utterance(self._make_stages(), marking).accept(words, over=True), words)

    def _make_stages(self) -> list[_Stage]:
        stages = [_Stage(self._first)]
        if self._own:
            stages.append(_Stage(self._replace))
        return stages

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


def _stopped(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """With a full stop in place of a comma after the last word: nothing follows that it would part from."""
    if not words or not words[-1].text.endswith(","):
        return words
    return (*words[:-1], replace(words[-1], text=f"{words[-1].text[:-1]}."))


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


def write_text(
    text: str,
    replacements: Iterable[Replacement] = (),
    numerals: bool = True,
    punctuation: Punctuation | None = None,
) -> str:
    """The written form of plain lower-case words: *twenty five dollars* as *$25*."""
    words = tuple(Word(word, 0.0, 0.0, 1.0) for word in text.split())
    return " ".join(word.text for word in Writer(replacements, numerals, punctuation).write(words))
