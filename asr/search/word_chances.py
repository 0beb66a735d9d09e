"""What the language model says in the word search: of a closed word, and of one that is not finished.

An answer after the words before costs a search through the model's n-grams, so answers are remembered; what it says of
single words costs one look-up, and is asked first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.compiler import inner
from asr.lm.lookup import score_and_advance
from asr.search.lexicon_tree import AHEAD, ENDING
from asr.search.ranking import NEVER
from asr.search.word_state import ALPHA, BETA, FEW, OFF, OOV, UNKNOWN, Search
from asr.search.word_table import mix

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)


@_inner
def ask(s: Search, node: int, word: int) -> Any:
    """The place in `asked` of what the language model says of a word after a node's words."""
    context = np.int64(s.nodes.context[node])
    known = word if word < s.known else np.int64(0)
    at = np.int64(mix(mix(np.uint64(0), context), known) & np.uint64(len(s.asked) - 1))
    if s.asked.context[at] == context and s.asked.word[at] == known:
        return at
    total, after = score_and_advance(s.lm, context, known)
    s.asked.context[at], s.asked.word[at] = context, known
    s.asked.after[at] = after if len(s.lm.starts) > 1 else -1  # single words remember nothing
    s.asked.log_prob[at] = total
    return at


@_inner
def word_bonus(s: Search, node: int, word: int) -> float:
    """What a word adds to the bonus, hot words apart."""
    if not s.has_lm:
        return s.weights[BETA]
    bonus = s.weights[BETA] + s.weights[ALPHA] * s.asked.log_prob[ask(s, node, word)]
    return bonus if word < s.known else bonus + s.weights[OOV]


@_inner
def single_unknown(s: Search) -> float:
    """What the language model says of a word that it does not know, with what it costs."""
    return s.singles[UNKNOWN]


@_inner
def single_word(s: Search, word: int) -> float:
    """What the language model says of a word by itself, with what an unknown one costs."""
    return s.singles[np.int64(s.lm.prob[word]) if word < s.known and s.has_lm else UNKNOWN]


@_inner
def single_row(s: Search, row: int) -> float:
    """The same of the word of a pronunciation in the tree: what it needs lies beside that of its neighbours."""
    return s.singles[np.int64(s.tree.chance[row]) if s.tree.words[row] < s.known else UNKNOWN]


@_inner
def single_ending(s: Search, place: int) -> float:
    """The same of the likeliest word that ends at a place."""
    at = s.tree.places[place]
    return s.singles[UNKNOWN if at.unknown & ENDING else np.int64(at.ending)]


@_inner
def single_ahead(s: Search, place: int) -> float:
    """The same of the likeliest word that one unfinished at a place may become."""
    if place == OFF:
        return s.singles[UNKNOWN]
    at = s.tree.places[place]
    return s.singles[UNKNOWN if at.unknown & AHEAD else np.int64(at.ahead)]


@_inner
def words_ahead(s: Search, node: int, place: int, single: float) -> float:
    """The same after a node's words, where so few words are left that each can be asked about."""
    if not s.has_lm or place == OFF:
        return single
    at = s.tree.places[place]
    first, last = np.int64(at.first_row) + at.ends, np.int64(at.last_row)
    if first >= last or last - first > s.switches[FEW]:
        return single
    context = np.int64(s.nodes.context[node])
    slot = np.int64(mix(mix(np.uint64(0), context), place) & np.uint64(len(s.foreseen) - 1))
    if s.foreseen.context[slot] == context and s.foreseen.place[slot] == place:
        return s.foreseen.log_prob[slot]
    most = NEVER
    for row in range(first, last):
        most = max(most, word_bonus(s, node, np.int64(s.tree.words[row])))
    most -= s.weights[BETA]
    s.foreseen.context[slot], s.foreseen.place[slot], s.foreseen.log_prob[slot] = context, place, most
    return most
