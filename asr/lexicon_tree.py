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
from asr.lm import LanguageModel
from asr.lm.table import SPECIAL

PLACE = np.dtype(  # 16 bytes, so that a place is never cut by the edge of a cache line
    [
        ("first_child", np.uint32),  # where its children begin; they end where the next place's begin
        ("first_row", np.uint32),  # the first pronunciation that passes through here
        ("last_row", np.uint32),  # and the one after the last
        ("token", np.uint8),  # the sound that leads here
        ("ends", np.uint8),  # how many of the rows end here: the first ones, the likeliest word first
        ("ahead", np.uint8),  # code of the likeliest word (as a unigram) that ends below here
        ("unknown", np.uint8),  # 1 if the language model knows no word that ends below here
    ],
    align=True,
)
_MOST_ENDS = 255


class TreeArrays(NamedTuple):
    """The tree as compiled code sees it."""

    places: np.recarray[Any, Any]  # PLACE (places + 1,): the last one only says where the children end
    words: np.ndarray  # int32 (pronunciations,): the word of each
    by_token: np.ndarray  # int32 (tokens,): the root's child by a token, or -1


@dataclass(frozen=True)
class LexiconTree:
    """A lexicon joined with a language model's vocabulary."""

    arrays: TreeArrays
    words: tuple[str, ...]  # by number: first the language model's, which keep theirs, then those only in the lexicon
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
            index = ids.setdefault(word, len(words))
            if index == len(words):
                words.append(word)
            if index >= known or index >= len(SPECIAL):
                rows.add((spoken, -likely[index] if index < known else 1, index))
        return cls(_arrays(sorted(rows), known, len(tokens)), tuple(words), known)

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
            sounds.append(int(places.token[place]))
        return tuple(sounds)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def find(self, sounds: Sequence[int]) -> int:
        """The place that tokens lead to from the root, or -1."""
        place = 0
        for sound in sounds:
            first, last = (int(self.arrays.places.first_child[at]) for at in (place, place + 1))
            children = np.flatnonzero(self.arrays.places.token[first:last] == sound)
            if not len(children):
                return -1
            place = first + int(children[0])
        return place

    def ending(self, place: int) -> list[int]:
        """The words that end at a place."""
        row, ends = int(self.arrays.places.first_row[place]), int(self.arrays.places.ends[place])
        return [int(word) for word in self.arrays.words[row : row + ends]]


def _arrays(rows: list[tuple[bytes, int, int]], known: int, tokens: int) -> TreeArrays:
    """The tree of sorted rows: sounds, how unlikely (a negative code, or 1 for words not known), word."""
    rows = [row for i, row in enumerate(rows) if i < _MOST_ENDS or rows[i - _MOST_ENDS][0] != row[0]]
    count = len(rows)
    longest = max((len(row[0]) for row in rows), default=0)
    text = b"".join(row[0].ljust(longest, b"\xff") for row in rows)
    sounds = np.frombuffer(text, dtype=np.uint8).reshape(count, longest)
    length = np.array([len(row[0]) for row in rows], dtype=np.int64)
    cost = np.array([row[1] for row in rows] + [2], dtype=np.int64)  # and one that no maximum takes
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
    levels = []
    below = 1  # the number of the first place of the next level
    for depth in range(longest + 1):
        breaks = np.flatnonzero(same < depth) if depth else np.zeros(min(1, count), dtype=np.int64)
        first = breaks[length[breaks] >= depth] if count else np.zeros(0, dtype=np.int64)
        last = np.append(breaks, count)[np.searchsorted(breaks, first, "right")]
        begun = np.zeros(count + 1, dtype=np.int64)
        begun[1:] = np.cumsum((same <= depth) & (length > depth)) if depth else np.cumsum((same < 1) & (length > 0))
        level = np.recarray(len(first), dtype=PLACE)
        level.first_child, level.first_row, level.last_row = below + begun[first], first, last
        level.token = sounds[first, depth - 1] if depth else 0
        level.ends = np.where(length[first] == depth, run[first], 0) if depth else 0
        under = first + level.ends
        empty = under >= last
        pairs = np.stack([np.where(empty, count, under), np.where(empty, count, last)], axis=1).ravel()
        least = np.minimum.reduceat(cost, np.minimum(pairs, count))[::2] if len(first) else cost[:0]
        level.unknown = least > 0
        level.ahead = np.where(least > 0, 0, -least)
        levels.append(level)
        below += int(begun[-1])
    if not count:
        levels = [np.recarray(1, dtype=PLACE)]
        levels[0][0] = (1, 0, 0, 0, 0, 0, 1)
    end = np.recarray(1, dtype=PLACE)
    end[0] = (below, count, count, 0, 0, 0, 1)
    places = np.concatenate([*levels, end]).view(np.recarray)
    by_token = np.full(tokens, -1, dtype=np.int32)
    for child in range(int(places.first_child[0]), int(places.first_child[1])):
        by_token[places.token[child]] = child
    words = np.array([row[2] for row in rows], dtype=np.int32)
    for array in (places, words, by_token):
        array.flags.writeable = False
    return TreeArrays(places, words, by_token)
