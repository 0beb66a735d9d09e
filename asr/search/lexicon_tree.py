"""The tree of pronunciations: which sounds may follow in a word, and which words end where.

Built once from a lexicon and a language model's vocabulary, then read by all streams. Its nodes are called
places, to tell them from the search's own nodes. Place 0 is the root, where a word begins; the children of a
place lie side by side, by token. Pronunciations are sorted by their sounds, so that those which pass through a
place are a range of rows, of which the first ones end there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from asr.errors import DataError
from asr.lexicon.lexicon import Lexicon
from asr.lexicon.phonemes import TOKENS
from asr.lm import LanguageModel
from asr.lm.table import SPECIAL
from asr.text.word_list import WordList

PLACE = np.dtype(  # 16 bytes, so that a place is never cut by the edge of a cache line
    [
        ("first_child", np.uint32),  # where its children begin; they end where the next place's begin
        ("first_row", np.uint32),  # the first pronunciation that passes through here
        ("last_row", np.uint32),  # and the one after the last
        ("ends", np.uint8),  # how many of the rows end here: the first ones, the likeliest word first
        ("ending", np.uint8),  # code of the likeliest word (as a unigram) that ends here
        ("ahead", np.uint8),  # the same of those that end below here
        ("unknown", np.uint8),  # ENDING, AHEAD: the language model knows none that ends here, or below
    ],
    align=True,
)
_MOST_ENDS = 255
ENDING, AHEAD = 1, 2  # in a place's ``unknown``


class TreeArrays(NamedTuple):
    """The tree as compiled code sees it."""

    places: np.recarray[Any, Any]  # PLACE (places + 1,): the last one only says where the children end
    token: np.ndarray  # uint8 (places + 1,): the sound that leads to each, side by side, as they are looked through
    words: np.ndarray  # int32 (pronunciations,): the word of each
    chance: np.ndarray  # uint8 (pronunciations,): code of the word's probability by itself; 0 if the model knows it not
    by_token: np.ndarray  # int32 (tokens,): the root's child by a token, or -1


@dataclass(frozen=True)
class LexiconTree:
    """A lexicon joined with a language model's vocabulary."""

    arrays: TreeArrays
    words: WordList  # by number: first the language model's, which keep theirs, then those only in the lexicon
    known: int  # words of the language model

    @classmethod
    def build(
        cls,
        pronunciations: Iterable[tuple[str, Sequence[str]]],
        tokens: Sequence[str],
        lm: LanguageModel | None = None,
    ) -> LexiconTree:
        """Build the tree.

        Args:
            pronunciations: words, each with one of its pronunciations; a word may come several times. Words of
                the language model that are missing here cannot be recognised.
            tokens: the network's; those of the pronunciations are among them.
            lm: the language model, which says how likely words are.

        Raises:
            DataError: that names a word whose pronunciation is empty or has an unknown token.
        """
        if len(tokens) > 256:
            raise DataError(f"{len(tokens)} tokens: a lexicon's tree holds at most 256")
        number = {token: index for index, token in enumerate(tokens)}
        words = list(lm.words) if lm is not None else list(SPECIAL)
        known = len(words)
        ids = dict(lm.ids) if lm is not None else {}
        likely = lm.arrays.prob[:known].tolist() if lm is not None else [0] * known
        rows = set()
        for word, sounds in pronunciations:
            try:
                spoken = bytes([number[sound] for sound in sounds])
            except KeyError as error:
                raise DataError(f"the pronunciation of {word!r} has the sound {error}, which the model lacks") from None
            if not spoken:
                raise DataError(f"the pronunciation of {word!r} is empty")
            at = ids.setdefault(word, len(words))
            if at == len(words):
                words.append(word)
            if at >= known or at >= len(SPECIAL):
                rows.add((spoken, -likely[at] if at < known else 1, at))
        ordered = sorted(rows)
        longest = max((len(spoken) for spoken, _, _ in ordered), default=0)
        text = b"".join(spoken.ljust(longest, b"\0") for spoken, _, _ in ordered)
        matrix = np.frombuffer(text, dtype=np.uint8).reshape(len(ordered), longest)
        cost, index = (np.array([row[k] for row in ordered], dtype=np.int64) for k in (1, 2))
        return cls(_arrays(matrix, cost, index, len(tokens)), WordList(words), known)

    @classmethod
    def of_lexicon(cls, lexicon: Lexicon, lm: LanguageModel | None = None, own: Lexicon | None = None) -> LexiconTree:
        """The tree of a model's lexicon, whose phoneme ids are the network's tokens.

        Args:
            lexicon: the model's.
            lm: the language model, which says how likely words are.
            own: a user's, whose words are said as it says and in no other way.
        """
        words = lm.words if lm is not None else WordList(SPECIAL)
        known = len(words)
        likely = np.array(lm.arrays.prob[:known], dtype=np.int64) if lm is not None else np.zeros(known, dtype=np.int64)
        numbers, sounds = [], []
        for part in (lexicon,) if own is None else (own, lexicon):
            number = part.words.places_in(words)
            if lm is None:  # a search without one knows no special words either
                number[number < known] = -1
            missing = np.flatnonzero(number < 0)  # not in the language model
            number[missing] = len(words) + np.arange(len(missing))
            words += tuple(part.words[place] for place in missing.tolist())
            if own is not None and part is lexicon:
                number[[lexicon.find(word) for word in own.words if word in lexicon]] = -1
            arrays = part.arrays
            numbers.append(np.repeat(number, np.diff(arrays.first)))
            length = np.diff(arrays.begin)
            rows = np.zeros((len(length), int(length.max(initial=0))), dtype=np.uint8)
            rows[np.arange(rows.shape[1]) < length[:, None]] = arrays.phonemes
            sounds.append(rows)
        wide = max(rows.shape[1] for rows in sounds)
        matrix, index = sounds[0], numbers[0]  # most often the only ones, and large: not copied
        if own is not None:
            matrix = np.concatenate([np.pad(rows, ((0, 0), (0, wide - rows.shape[1]))) for rows in sounds])
            index = np.concatenate(numbers)
            matrix, index = matrix[index >= 0], index[index >= 0]
        cost = np.where(index < known, -likely[np.minimum(index, known - 1)], 1)
        order = np.lexsort((index, cost, matrix.view(f"S{wide}").ravel())) if wide else np.zeros(0, dtype=np.int64)
        return cls(_arrays(matrix[order], cost[order], index[order], len(TOKENS)), words, known)

    def number(self, word: str) -> int:
        """A word's number, or -1."""
        return self._numbers.get(word, -1)

    def pronunciations(self, word: str) -> list[tuple[int, ...]]:
        """How a word is spoken, as tokens."""
        rows = np.flatnonzero(self.arrays.words == self.number(word))
        return [self._sounds(int(row)) for row in rows]

    def _sounds(self, row: int) -> tuple[int, ...]:
        """The tokens of a row: those of the places that it passes through."""
        places, sounds, place = self.arrays.places, [], 0
        while not places.first_row[place] <= row < places.first_row[place] + places.ends[place]:
            first, last = (int(places.first_child[at]) for at in (place, place + 1))
            place = first + int(np.searchsorted(places.last_row[first:last], row, "right"))
            sounds.append(int(self.arrays.token[place]))
        return tuple(sounds)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def find(self, sounds: Sequence[int]) -> int:
        """The place that tokens lead to from the root, or -1."""
        place, (first_child, token) = 0, self._children
        for sound in sounds:
            first, last = int(first_child[place]), int(first_child[place + 1])
            place = first + int(token[first:last].searchsorted(sound))
            if place == last or token[place] != sound:
                return -1
        return place

    @cached_property
    def _children(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each place's children begin and the sounds that lead to them, as plain arrays: looking up a field of a
        record array by name takes ten times as long."""
        return np.asarray(self.arrays.places)["first_child"], np.asarray(self.arrays.token)

    def ending(self, place: int) -> list[int]:
        """The words that end at a place."""
        places = np.asarray(self.arrays.places)
        row, ends = int(places["first_row"][place]), int(places["ends"][place])
        return [int(word) for word in self.arrays.words[row : row + ends]]


def _look_ahead(levels: list[np.recarray[Any, Any]], cost: np.ndarray) -> None:
    """Write into each place what the likeliest word costs that ends behind it, from the last level to the first."""
    nothing = 2  # costs more than any word
    behind = np.zeros(0, dtype=np.int64)  # of the next level's places: the least that ends there or behind them
    for level in reversed(levels):
        children = np.diff(np.append(level.first_child, level.first_child[:1] + len(behind)))
        parents = np.flatnonzero(children)
        least = np.full(len(level), nothing, dtype=np.int64)
        if len(parents):
            starts = (level.first_child - level.first_child[0]).astype(np.int64)
            least[parents] = np.minimum.reduceat(behind, starts[parents])
        # Rows of the same sounds are in the order of their costs.
        own = cost[np.minimum(level.first_row, len(cost) - 1)] if len(cost) else least
        own = np.where(level.ends > 0, own, nothing)
        level.unknown = np.where(own > 0, ENDING, 0) + np.where(least > 0, AHEAD, 0)
        level.ending, level.ahead = np.maximum(-own, 0), np.maximum(-least, 0)
        behind = np.minimum(least, own)


def _arrays(sounds: np.ndarray, cost: np.ndarray, index: np.ndarray, tokens: int) -> TreeArrays:
    """The tree of sorted rows: their sounds ``(rows, longest)`` uint8, zero behind the last; how unlikely their words
    are (a negative code, or 1 for words not known); the words."""
    count, longest = sounds.shape
    length = (sounds != 0).sum(axis=1).astype(np.int64)
    # More than a place can count end nowhere; the likeliest stay.
    if count > _MOST_ENDS:
        crowded = np.zeros(count, dtype=bool)
        crowded[_MOST_ENDS:] = (sounds[_MOST_ENDS:] == sounds[:-_MOST_ENDS]).all(axis=1)
        if crowded.any():
            return _arrays(sounds[~crowded], cost[~crowded], index[~crowded], tokens)
    # With how many sounds each row begins as the one before it does.
    same = np.zeros(count, dtype=np.int64)
    if count > 1:
        differs = sounds[1:] != sounds[:-1]
        differs = np.concatenate([differs, np.ones((count - 1, 1), dtype=bool)], axis=1)
        same[1:] = np.minimum(differs.argmax(axis=1), np.minimum(length[1:], length[:-1]))
    alike = np.zeros(count, dtype=bool)  # the same sounds as the row before
    alike[1:] = (same[1:] == length[1:]) & (length[1:] == length[:-1])
    heads = np.flatnonzero(~alike)
    run = np.zeros(count + 1, dtype=np.int64)
    run[heads] = np.diff(np.append(heads, count))
    levels, token = [], []
    below = 1  # the number of the first place of the next level
    for depth in range(longest + 1):
        breaks = np.flatnonzero(same < depth) if depth else np.zeros(min(1, count), dtype=np.int64)
        first = breaks[length[breaks] >= depth] if count else np.zeros(0, dtype=np.int64)
        last = np.append(breaks, count)[np.searchsorted(breaks, first, "right")]
        begun = np.zeros(count + 1, dtype=np.int64)
        begun[1:] = np.cumsum((same <= depth) & (length > depth)) if depth else np.cumsum((same < 1) & (length > 0))
        level = np.recarray(len(first), dtype=PLACE)
        level.first_child, level.first_row, level.last_row = below + begun[first], first, last
        token.append(sounds[first, depth - 1] if depth else np.zeros(len(first), np.uint8))
        level.ends = np.where(length[first] == depth, run[first], 0) if depth else 0
        levels.append(level)
        below += int(begun[-1])
    _look_ahead(levels, cost)
    if not count:
        levels, token = [np.recarray(1, dtype=PLACE)], [np.zeros(1, np.uint8)]
        levels[0][0] = (1, 0, 0, 0, 0, 0, ENDING | AHEAD)
    end = np.recarray(1, dtype=PLACE)
    end[0] = (below, count, count, 0, 0, 0, ENDING | AHEAD)
    places = np.concatenate([*levels, end]).view(np.recarray)
    led = np.concatenate([*token, np.zeros(1, np.uint8)])
    by_token = np.full(tokens, -1, dtype=np.int32)
    for child in range(int(places.first_child[0]), int(places.first_child[1])):
        by_token[led[child]] = child
    words, chance = index.astype(np.int32), np.maximum(-cost, 0).astype(np.uint8)
    for array in (places, led, words, chance, by_token):
        array.flags.writeable = False
    return TreeArrays(places, led, words, chance, by_token)
