"""The second language model in the word search: what it says of the likeliest hypotheses before they are settled.

The n-gram model speaks at once, with every word of every hypothesis; the recurrent one, which is dearer, some steps
later and only of the words of the likeliest hypotheses. What it changes is added to their nodes' bonus, and so to all
that follows from them. A memory is made for a text only when what comes after it is weighed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asr.compiler import entry, inner
from asr.search.ranking import nth_greatest
from asr.search.second_kernel import AT_ONCE, band_of, chance, remember, sum_band
from asr.search.second_lm import BANDS, ROWS, WORDS
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
_WEIGHED, _WANTED = 1, 2  # of a node: its word is weighed; its text's memory is wanted


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
            place[node] = _WEIGHED
            node = np.int64(nodes.before[node])
    for n in range(1, found):
        if place[n] & _WEIGHED and nodes.word[n] < s.known:
            _want_memory(s, np.int64(nodes.before[n]))
    for turn in range(2):  # what is wanted by the words that are weighed; then what the best text wants
        _remember_wanted(s)
        if turn == 0:
            _sum_bands(s)
            gains[0] = 0.0
            for n in range(1, found):  # each after the one before it
                gain = _gain(s, n) if _is_weighed(s, n) else 0.0
                gains[n] = gains[nodes.before[n]] + gain
                nodes.bonus[n] += gains[n]
                nodes.weighed[n] |= place[n] & _WEIGHED
            for i in range(count):
                h.score[i] += gains[h.node[i]]
            # Whichever text is settled next, its memory must not be lost with those before it.
            _want_memory(s, np.int64(h.node[best_hypothesis(s)]))


@_inner
def _is_weighed(s: Search, n: int) -> bool:
    """Whether the model is asked about a node's word now, and remembers what is before it."""
    weighed = s.places[n] & _WEIGHED != 0 and s.nodes.word[n] < s.known
    return weighed and s.nodes.memory[s.nodes.before[n]] >= 0


@_inner
def _want_memory(s: Search, node: Any) -> None:
    """Want the memory of a text, and of those before it that lack one."""
    while s.nodes.memory[node] < 0 and s.places[node] & _WANTED == 0:
        s.places[node] |= _WANTED
        if node > 0:
            node = np.int64(s.nodes.before[node])


@_inner
def _remember_wanted(s: Search) -> None:
    """Make the memories that are wanted, as far as there is room: each after that of the text before."""
    m, work, nodes, count, row = s.second, s.second.work, s.nodes, 0, 0
    found = s.counts[NODES]
    n = np.int64(0)
    while n <= found:
        wanted = n < found and s.places[n] & _WANTED != 0 and nodes.memory[n] < 0
        waits = wanted and n > 0 and nodes.memory[nodes.before[n]] < 0  # perhaps for one that is being worked out
        if count and (n == found or waits or count == AT_ONCE):
            remember(m, count)
            for k in range(count):
                nodes.memory[work.node[k]] = work.row[k]
            count = 0
            continue
        while wanted and not waits and row < len(m.taken) and m.taken[row]:
            row += 1
        if wanted and not waits and row < len(m.taken):
            m.taken[row] = 1
            work.row[count], work.node[count] = row, n
            _go_on(s, count, n)
            count += 1
        n += 1


@_inner
def _go_on(s: Search, k: int, node: Any) -> None:
    """Let the text to be worked out in a place be that of a node: what is before it is remembered."""
    m, work = s.second, s.second.work
    work.before[k], work.number[k] = m.carried[0], _unknown(s) + 1  # the start of an utterance
    if node > 0:
        word = np.int64(s.nodes.word[node])
        work.before[k] = s.nodes.memory[s.nodes.before[node]]
        work.number[k] = m.ids[word] if word < len(m.ids) else _unknown(s)


@entry
def carry(s: Search, node: int) -> None:
    """Remember the text of a node when the next utterance begins."""
    m, nodes, last = s.second, s.nodes, len(s.second.taken)
    known = np.int64(node)
    while known > 0 and nodes.memory[known] < 0:
        known = np.int64(nodes.before[known])
    row = np.int64(nodes.memory[known])
    while row < 0 or known != node:
        going = known
        if row >= 0:  # the next one on the way to the text
            going = np.int64(node)
            while nodes.before[going] != known:
                going = np.int64(nodes.before[going])
        _go_on(s, 0, going)
        if row >= 0:  # perhaps not a node's own
            m.work.before[0] = row
        m.work.row[0] = last
        remember(m, 1)
        known, row = going, np.int64(last)
    for i in range(m.cell.shape[1]):
        m.cell[last, i], m.hidden[last, i] = m.cell[row, i], m.hidden[row, i]
    m.hidden_scale[last] = m.hidden_scale[row]
    m.carried[0] = last


@_inner
def _sum_bands(s: Search) -> None:
    """Work out the sums of probabilities that the words to be weighed need."""
    m, found = s.second, s.counts[NODES]
    for band in range(BANDS):
        count = 0
        for n in range(1, found + 1):
            if count and (n == found or count == AT_ONCE):
                sum_band(m, np.int64(band), count)
                count = 0
            if n == found or not _is_weighed(s, n):
                continue
            row = np.int64(s.nodes.memory[s.nodes.before[n]])
            needed = band == 0 or band == band_of(m.model, np.int64(m.ids[s.nodes.word[n]]))[0]
            if needed and m.sums[row, band] == math.inf:
                m.sums[row, band] = 0.0  # so that it is not asked for twice
                m.work.row[count] = row
                count += 1


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
        words += s.second.model.shapes[WORDS + band, ROWS]
    return words
