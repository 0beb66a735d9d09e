"""The second language model in the word search: what it says of the likeliest hypotheses before they are settled.

The n-gram model speaks at once, with every word of every hypothesis; the recurrent one, which is dearer, some steps
later and only of the words of the likeliest hypotheses. What it changes is added to their nodes' bonus, and so to all
that follows from them. A memory is made for a text only when what comes after it is weighed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.compiler import inner
from asr.search.ranking import nth_greatest
from asr.search.second_kernel import chance, remember
from asr.search.second_lm import BANDS, WORDS
from asr.search.word_chances import ask
from asr.search.word_reading import best_hypothesis
from asr.search.word_state import (
    ALPHA,
    HYPOTHESES,
    NODES,
    SECOND_MOST,
    SECOND_RANGE,
    SECOND_SHARE,
    Search,
)

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)


@_inner
def weigh(s: Search) -> None:
    """Ask the second model about the likeliest hypotheses, and change the scores of all that share their words."""
    h, nodes, place, gains = s.hypotheses, s.nodes, s.places, s.gains
    count, found = s.counts[HYPOTHESES], s.counts[NODES]
    if count == 0:
        return
    best = best_hypothesis(s)
    floor = h.score[best] - s.weights[SECOND_RANGE]
    most = s.switches[SECOND_MOST]
    if count > most:
        for i in range(count):
            s.ranks[i] = h.score[i]
        floor = max(floor, nth_greatest(s.ranks, count, most))
    for row in range(len(s.second.taken)):
        s.second.taken[row] = 0
    for n in range(found):
        place[n] = 0
        if nodes.memory[n] >= 0:
            s.second.taken[nodes.memory[n]] = 1
    for i in range(count):
        node: Any = np.int64(h.node[i])
        while h.score[i] >= floor and node > 0 and place[node] == 0 and nodes.weighed[node] == 0:
            place[node] = 1
            node = np.int64(nodes.before[node])
    gains[0] = 0.0
    for n in range(1, found + 1):  # each after the one before it, and one turn more
        text = np.int64(-1)  # whose memory is needed
        if n == found:
            for i in range(count):
                h.score[i] += gains[h.node[i]]
            # Whichever text is settled next, its memory must not be lost with those before it.
            text = np.int64(h.node[best_hypothesis(s)])
        elif place[n] == 1 and nodes.word[n] < s.known:
            text = np.int64(nodes.before[n])
        remembered = text >= 0 and _need_memory(s, text)
        if n < found:
            gains[n] = gains[nodes.before[n]] + (_gain(s, n) if remembered else 0.0)
            nodes.bonus[n] += gains[n]
            nodes.weighed[n] |= place[n]


@_inner
def _gain(s: Search, node: int) -> float:
    """By how much the second model changes what is added for a node's word."""
    before, word = np.int64(s.nodes.before[node]), np.int64(s.nodes.word[node])
    number = np.int64(s.second.ids[word])
    second = chance(s.second, s.nodes.memory[before], number)
    if number == _unknown(s):
        second += np.float64(s.lm.prob_codes[0, s.lm.prob[word]]) - s.second.rest[0]
    first = np.float64(s.asked.log_prob[ask(s, before, word)])
    return s.weights[SECOND_SHARE] * s.weights[ALPHA] * (second - first)


@_inner
def _unknown(s: Search) -> Any:
    """The number of the unknown word; that of the start of an utterance follows it."""
    words = np.int64(-2)
    for band in range(BANDS):
        words += s.second.model.shapes[WORDS + band, 2]
    return words


@_inner
def _need_memory(s: Search, node: Any) -> bool:
    """Make the memory of a text, and of those before it that lack one. Whether there was room."""
    nodes = s.nodes
    while nodes.memory[node] < 0:
        at = node
        while at > 0 and nodes.memory[nodes.before[at]] < 0:
            at = np.int64(nodes.before[at])
        row = 0
        while row < len(s.second.taken) and s.second.taken[row]:
            row += 1
        if row == len(s.second.taken):
            return False
        before, number = np.int64(-1), _unknown(s) + 1  # the start of an utterance
        if at > 0:
            word = np.int64(nodes.word[at])
            before = np.int64(nodes.memory[nodes.before[at]])
            number = np.int64(s.second.ids[word]) if word < len(s.second.ids) else _unknown(s)
        remember(s.second, before, row, number)
        s.second.taken[row] = 1
        nodes.memory[at] = row
    return True
