"""Punctuation and capitals on what is written: the last stage of the written form.

The model reads the words as they were heard; what it decides is set on the tokens that were written for them. The mark
after a token is that after its last word. Sentences begin with a capital, but for what users replaced.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Sequence

from asr.events import Word
from asr.written.punctuation import Punctuation
from asr.written.punctuator import Decision, Punctuator
from asr.written.token import Token

_ENDS = (".", "?")
_ALWAYS = {"i": "I", "i'm": "I'm", "i'll": "I'll", "i'd": "I'd", "i've": "I've"}


class Marking:
    """Sets marks and capitals in one stream. Belongs to one caller."""

    def __init__(self, model: Punctuation) -> None:
        self._model = model
        self._punctuator = Punctuator(model)
        self._decisions: deque[Decision] = deque()
        self._tokens: deque[Token] = deque()  # that wait for decisions
        self._heard: deque[str] = deque()  # the words they stand for
        self._fresh = True  # whether a sentence begins with the next token

    def copy(self) -> Marking:
        """One that goes on from here by itself."""
        other = copy.copy(self)
        other._punctuator = self._punctuator.copy()
        other._decisions, other._tokens = self._decisions.copy(), self._tokens.copy()
        other._heard = self._heard.copy()
        return other

    def end_utterance(self) -> None:
        """What comes next is another utterance. Words that still wait, of one that gave no final, are forgotten."""
        self._punctuator.forget()
        for waiting in (self._decisions, self._tokens, self._heard):
            waiting.clear()

    def accept(self, words: Sequence[Word], given: int, tokens: Iterable[Token], over: bool) -> list[Token]:
        """What is settled.

        Args:
            words: of the utterance, as heard.
            given: how many of them were taken before.
            tokens: written for words that were taken, following on those before.
            over: whether the utterance ends with these words.
        """
        for at in range(given, len(words)):
            word, before = words[at], words[at - 1] if at else None
            timed = before is not None and word.end_s > 0
            self._punctuator.accept(word.text, word.start_s - before.end_s if timed and before else None)
            self._heard.append(word.text)
        self._decisions += self._punctuator.decide(over)
        self._tokens += tokens
        settled = []
        while self._tokens and self._tokens[0].words <= len(self._decisions):
            token = self._tokens.popleft()
            decided = [self._decisions.popleft() for _ in range(token.words)]
            heard = [self._heard.popleft() for _ in range(token.words)]
            settled.append(self._marked(token, heard, decided))
        return settled

    def _marked(self, token: Token, heard: Sequence[str], decided: Sequence[Decision]) -> Token:
        text, mark = token.text, decided[-1].mark
        if not token.replaced:
            if text == heard[0]:
                text = self._with_capital(text, decided[0].capital)
            if self._fresh:
                text = text[:1].upper() + text[1:]
        if mark and not (text.endswith(mark) or (text.endswith(_ENDS) and mark == ".")):
            text += mark
        self._fresh = mark in _ENDS
        return Token(text, token.words, token.replaced)

    def _with_capital(self, word: str, own: bool) -> str:
        always = _ALWAYS.get(word)
        if always is not None or not own:
            return always or word
        return self._model.forms.get(word) or word[:1].upper() + word[1:]
