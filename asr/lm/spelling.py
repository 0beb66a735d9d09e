"""The spelling trie: which letters go on to words of a language model, for a search that writes letters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asr.compiler import jit
from asr.errors import ModelError
from asr.lm.table import SPECIAL


class Spelling(NamedTuple):
    """Nodes are letters, the root is node 0, the children of a node lie side by side."""

    letter: np.ndarray  # uint8 (nodes,): the letter that leads to a node
    first_letter: np.ndarray  # uint32 (nodes + 1,): where a node's children begin
    spelt: np.ndarray  # uint32 (nodes,): the word that ends here, or 0
    ahead: np.ndarray  # uint8 (nodes,): code of the likeliest word at or below here


@jit(_nrt=False)
def spell(spelling: Spelling, node: int, letter: int) -> int:
    """The node one letter on, or -1."""
    for child in range(np.int64(spelling.first_letter[node]), np.int64(spelling.first_letter[node + 1])):
        if spelling.letter[child] == letter:
            return child
    return -1


def build_spelling(words: tuple[str, ...], prob: np.ndarray) -> tuple[str, Spelling]:
    """The alphabet and the trie of a vocabulary; letter i of the alphabet is number i in the trie.

    Args:
        words: the special ones come first and are not spelt.
        prob: uint8, code of each word's probability, greater for likelier words.
    """
    spelt = {word: index for index, word in enumerate(words) if index >= len(SPECIAL)}
    letters = "".join(sorted({char for word in spelt for char in word}))
    if len(letters) > 255:
        raise ModelError(f"the vocabulary has {len(letters)} different letters, at most 255 are possible")
    number = {char: index for index, char in enumerate(letters)}
    prefixes = sorted({word[:end] for word in spelt for end in range(len(word) + 1)} | {""}, key=lambda p: (len(p), p))
    at = {prefix: index for index, prefix in enumerate(prefixes)}
    ahead = np.zeros(len(prefixes), dtype=np.uint8)
    children = np.zeros(len(prefixes), dtype=np.int64)
    for prefix in reversed(prefixes):
        index = at[prefix]
        if prefix in spelt:
            ahead[index] = max(ahead[index], prob[spelt[prefix]])
        if prefix:
            parent = at[prefix[:-1]]
            ahead[parent] = max(ahead[parent], ahead[index])
            children[parent] += 1
    trie = Spelling(
        np.array([number[prefix[-1]] if prefix else 0 for prefix in prefixes], dtype=np.uint8),
        np.concatenate([[1], 1 + np.cumsum(children)]).astype(np.uint32),
        np.array([spelt.get(prefix, 0) for prefix in prefixes], dtype=np.uint32),
        ahead,
    )
    for array in trie:
        array.flags.writeable = False
    return letters, trie
