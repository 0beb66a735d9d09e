"""Hot words for the word search: phrases of words, each of which has one or more pronunciations.

All phrases of a stream are followed at once by one automaton, after A. V. Aho and M. J. Corasick, "Efficient
string matching: an aid to bibliographic search" (1975). A state says how many of a phrase's words were closed and
how many tokens of a pronunciation of the next one were heard. Tokens lead on within a word; closing it leads to the
state between words. As a phrase's tokens come, its boost is lent piece by piece, so that the right hypothesis is not
lost before the phrase is whole; if the phrase then breaks off, the loan is taken back.

Words that are not in the lexicon's tree, or not with these pronunciations, end in states of the automaton instead of
places of the tree. So any word can be recognised once it is hot, also outside of its phrase.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import ConfigError, DataError
from asr.search.hotwords import HotWord
from asr.search.lexicon_tree import LexiconTree
from asr.search.word_state import NOTHING, OUTSIDE, HotArrays
from asr.text.normalize import normalize

Pronounce = Callable[[str], Sequence[Sequence[str]]]  # a word's pronunciations, each as tokens
_SAID = "&@#%*/"  # signs that are said
_State = tuple[tuple[str, ...], tuple[int, ...]]  # the phrase's words that are closed, and tokens of the next one


def spoken_words(phrase: str) -> list[str]:
    """The words of a phrase as one writes it: *X-ray* is *x ray*, *Beyoncé* is *beyonce*.

    What is read aloud in ways that its letters do not say, such as digits, is left for the pronunciation to refuse.
    """
    plain = not any(char.isdigit() or unicodedata.category(char).startswith("S") or char in _SAID for char in phrase)
    return normalize(phrase).split() if plain else phrase.lower().split()


@dataclass(frozen=True)
class HotPhrases:
    """The automaton, and the words that it adds to the lexicon."""

    arrays: HotArrays
    words: tuple[str, ...]  # numbered after those of the tree


def build_phrases(
    hot_words: Iterable[HotWord],
    tree: LexiconTree,
    tokens: Sequence[str],
    pronounce: Pronounce,
    refund: float = 0.0,
) -> HotPhrases:
    """The automaton of a set of phrases.

    Args:
        hot_words: the phrases.
        tree: where words end that need no help to be recognised.
        tokens: the network's.
        pronounce: gives every pronunciation of a word, those in the tree among them.
        refund: what a word costs by being unknown to the language model. A phrase with a boost gets that back.

    Raises:
        ConfigError: that names a phrase with a word that cannot be pronounced.
    """
    return _Builder(tree, tokens, pronounce, refund).build(hot_words)


class _Builder:
    def __init__(self, tree: LexiconTree, tokens: Sequence[str], pronounce: Pronounce, refund: float) -> None:
        self._tree, self._tokens, self._pronounce, self._refund = tree, tokens, pronounce, refund
        self._number = {token: index for index, token in enumerate(tokens)}
        self._ids: dict[str, int] = {}
        self._words: list[str] = []  # that the tree lacks
        self._spoken: dict[str, list[tuple[int, ...]]] = {}
        self._states: dict[_State, int] = {((), ()): NOTHING}
        self._lent = [0.0, 0.0]
        self._earned = [0.0, 0.0]
        self._whole: dict[int, float] = {}  # boost of the phrases that end in a state
        self._close: list[dict[int, int]] = [{}, {}]
        self._extra: list[list[int]] = [[], []]

    def build(self, hot_words: Iterable[HotWord]) -> HotPhrases:
        phrases = [(hot, spoken_words(hot.phrase)) for hot in hot_words]
        for hot, words in phrases:
            for word in words:
                try:
                    self._learn(word)
                except DataError as error:
                    raise ConfigError(f"hot word {hot.phrase!r}: {error}") from error
        for hot, words in phrases:
            self._add(words, hot.boost)
        for state, boost in self._whole.items():
            self._earned[state] = boost
        return self._finish()

    def _learn(self, word: str) -> None:
        """Find a word's number and pronunciations, and let it be recognised by each of them."""
        if word in self._ids:
            return
        index = self._tree.number(word)
        if index < 0:
            index = len(self._tree.words) + len(self._words)
            self._words.append(word)
        spoken = dict.fromkeys(tuple(self._token(word, sound) for sound in sounds) for sounds in self._pronounce(word))
        if not spoken or () in spoken:
            raise DataError(f"nothing says how {word!r} is pronounced")
        self._ids[word], self._spoken[word] = index, list(spoken)
        for sounds in spoken:
            place = self._tree.find(sounds)
            for end in range(1, len(sounds) + 1):
                state = self._state(((), sounds[:end]))
            if place < 0 or index not in self._tree.ending(place):
                self._extra[state].append(index)

    def _token(self, word: str, sound: str) -> int:
        if sound not in self._number:
            raise DataError(f"the pronunciation of {word!r} has the sound {sound!r}, which the model lacks")
        return self._number[sound]

    def _state(self, state: _State) -> int:
        index = self._states.setdefault(state, len(self._lent))
        if index == len(self._lent):
            self._lent.append(0.0)
            self._earned.append(0.0)
            self._close.append({})
            self._extra.append([])
        return index

    def _add(self, words: list[str], boost: float) -> None:
        """Add a phrase. What is lent grows evenly over its words, and within each over its tokens."""
        back = 0.0
        for done, word in enumerate(words):
            before = tuple(words[:done])
            cost = self._refund if boost > 0 and not self._is_known(word) else 0.0
            after = self._state(((*before, word), ()))
            for sounds in self._spoken[word]:
                for end in range(1, len(sounds) + 1):
                    state = self._state((before, sounds[:end]))
                    # That a word is unknown counts from where it leaves the tree.
                    off = cost if self._tree.find(sounds[:end]) < 0 else 0.0
                    self._lend(state, boost * (done + end / len(sounds)) + back + off)
                self._close[state][self._ids[word]] = after
            back += cost
            if done + 1 < len(words):
                self._lend(after, boost * (done + 1) + back)
        whole = boost * len(words) + back
        # A phrase that is named twice counts once, with the higher boost.
        self._whole[after] = max(self._whole.get(after, whole), whole)

    def _is_known(self, word: str) -> bool:
        return self._ids[word] < self._tree.known

    def _lend(self, state: int, loan: float) -> None:
        self._lent[state] = max(self._lent[state], loan)

    def _finish(self) -> HotPhrases:
        count = len(self._lent)
        after = np.full((count, len(self._tokens)), OUTSIDE, dtype=np.int32)
        extra: list[list[int]] = list(self._extra)
        by_depth = sorted(self._states.items(), key=lambda item: (len(item[0][0]), len(item[0][1])))
        below: dict[int, list[tuple[int, int]]] = {}
        for (words, sounds), index in by_depth:
            if sounds:
                below.setdefault(self._states[words, sounds[:-1]], []).append((sounds[-1], index))
        for (words, sounds), index in by_depth:
            back = self._fallback(words, sounds)
            if words:
                after[index] = after[back]
                self._lent[index] = max(self._lent[index], self._lent[back])
                self._earned[index] += self._earned[back]
                self._close[index] = {**self._close[back], **self._close[index]}
                extra[index] = extra[back]
            for token, child in below.get(index, []):
                after[index, token] = child
        lent, earned = np.array(self._lent), np.array(self._earned)
        first_close = np.concatenate([[0], np.cumsum([len(close) for close in self._close])])
        pairs = [(state, word, to) for state, close in enumerate(self._close) for word, to in close.items()]
        closed = np.array(pairs, dtype=np.int32).reshape(-1, 3)
        bounds = np.concatenate([[0], np.cumsum([len(words) for words in extra])])
        arrays = HotArrays(
            next=after,
            lent=lent,
            earned=earned,
            more=(after != OUTSIDE).any(axis=1),
            first_close=first_close.astype(np.int32),
            close_word=np.ascontiguousarray(closed[:, 1]),
            close_state=np.ascontiguousarray(closed[:, 2]),
            first_extra=bounds[:-1].astype(np.int32),
            last_extra=bounds[1:].astype(np.int32),
            extra_word=np.array([word for words in extra for word in words], dtype=np.int32),
        )
        return HotPhrases(arrays, tuple(self._words))

    def _fallback(self, words: tuple[str, ...], sounds: tuple[int, ...]) -> int:
        """The state that has forgotten as few of a phrase's first words as possible."""
        for begin in range(1, len(words) + 1):
            state = self._states.get((words[begin:], sounds))
            if state is not None:
                return state
        return OUTSIDE if sounds else NOTHING
