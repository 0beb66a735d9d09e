"""Hot words: phrases that a speaker is likely to say, which the search then prefers.

All phrases of a stream are followed at once by one automaton (A. V. Aho and M. J. Corasick, "Efficient
string matching: an aid to bibliographic search", 1975). A phrase begins and ends at a word's edge. As its
letters come, its boost is lent piece by piece, so that the right hypothesis is not lost before the phrase
is whole; if the phrase then breaks off, the loan is taken back, so unfinished phrases gain nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import ConfigError, DataError
from asr.search.beam_search import HotArrays
from asr.text.tokens import Tokenizer

DEFAULT_BOOST = 4.0


@dataclass(frozen=True)
class HotWord:
    """A word or phrase to expect."""

    phrase: str  # in the model's own alphabet, words separated by spaces
    boost: float = DEFAULT_BOOST  # natural log, per word: how much likelier it is made; below 0: less likely

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            raise ConfigError("a hot word is empty: leave it out")
        if not -100 <= self.boost <= 100:
            raise ConfigError(f"hot word {self.phrase!r}: boost {self.boost} is not within -100 to 100")


def build_automaton(
    hot_words: Iterable[HotWord],
    tokenizer: Tokenizer,
    edge: str = " ",
    refund: Callable[[str], tuple[float, int]] | None = None,
) -> HotArrays:
    """The automaton of a set of phrases, over the letters of the tokenizer's alphabet.

    Args:
        hot_words: the phrases.
        tokenizer: must be able to write them.
        edge: what stands before and after a phrase: a space, or nothing if words are not told apart.
        refund: what a word costs by being unknown to the language model, and after how many of its letters this
            shows. Its phrase gets that back from there on.

    Raises:
        ConfigError: that names a phrase that the tokens cannot write.
    """
    alphabet = tokenizer.alphabet
    phrases: list[_Phrase] = []
    for hot in hot_words:
        words = hot.phrase.lower().split()
        text = edge + " ".join(words) + edge
        try:
            tokenizer.encode(text)
        except DataError as error:
            raise ConfigError(f"hot word {hot.phrase!r}: {error}") from error
        refunds: list[tuple[int, float]] = []
        place = len(edge)
        for word in words:
            cost, letters = refund(word) if refund is not None and hot.boost > 0 else (0.0, 0)
            refunds.append((place + letters + 1, cost))
            place += len(word) + 1
        phrases.append(_Phrase([alphabet.index(letter) for letter in text], hot.boost * len(words), refunds))
    return _automaton(phrases, len(alphabet), len(edge))


@dataclass(frozen=True)
class _Phrase:
    letters: list[int]  # places in the alphabet
    boost: float
    refunds: list[tuple[int, float]]  # from which letter on, counted from 1, and how much


def _automaton(phrases: Sequence[_Phrase], letters: int, edge: int) -> HotArrays:
    children: list[dict[int, int]] = [{}]
    lent, earned = [0.0], [0.0]
    complete: set[int] = set()
    for phrase in phrases:
        sequence, state = phrase.letters, 0
        for place, letter in enumerate(sequence, 1):
            if letter not in children[state]:
                children[state][letter] = len(children)
                children.append({})
                lent.append(0.0)
                earned.append(0.0)
            state = children[state][letter]
            if place < len(sequence):
                share = max(0, place - edge) / max(1, len(sequence) - 2 * edge)
                back = sum(cost for begin, cost in phrase.refunds if begin <= place)
                lent[state] = max(lent[state], phrase.boost * share + back)
        boost = phrase.boost + sum(cost for _, cost in phrase.refunds)
        if state not in complete or boost > earned[state]:
            earned[state] = boost  # a phrase that is named twice counts once, with the higher boost
        complete.add(state)
    after = np.zeros((len(children), letters), dtype=np.int32)
    fallback = [0] * len(children)
    waiting = deque([0])
    while waiting:
        state = waiting.popleft()
        back = fallback[state]
        if state:
            after[state] = after[back]
            lent[state] = max(lent[state], lent[back])
            earned[state] += earned[back]
        for letter, child in children[state].items():
            fallback[child] = int(after[back, letter]) if state else 0
            after[state, letter] = child
            waiting.append(child)
    return HotArrays(after, np.array(lent), np.array(earned))
