"""Forgetting in the word search: words that are old are settled, and nodes and marks that none needs are dropped."""

from __future__ import annotations

import numpy as np

from asr.compiler import inner
from asr.search.word_reading import ancestor, best_hypothesis, likeliest_mark, read
from asr.search.word_state import (
    ALTERNATIVES,
    HYPOTHESES,
    KEEP,
    MARKS,
    NODES,
    SETTLED_SOUNDS,
    SETTLED_WORDS,
    SOUNDS,
    WORDS,
    Search,
)

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)


@_inner
def settle(s: Search, oldest: int) -> None:
    """Give up the hypotheses that differ from the best one before the step ``oldest``; settle the words up to there."""
    h, nodes, marks = s.hypotheses, s.nodes, s.marks
    best = best_hypothesis(s)
    node, mark = h.node[best], likeliest_mark(h, best)
    after = nodes.depth[node] + 1  # the number of the word of the first mark that is not old
    while mark >= 0 and marks.step[mark] > oldest:
        after = marks.depth[mark]
        mark = marks.before[mark]
    # The word of the last old mark is settled if it has none that is not old.
    depth = nodes.depth[0]
    if mark >= 0:
        depth = min(marks.depth[mark], after - 1, nodes.depth[node])
    settled = ancestor(s, node, depth)
    read(s, best)
    first = len(s.words) - s.counts[WORDS]
    for at in range(first, first + depth - nodes.depth[0]):
        s.settled_words[s.counts[SETTLED_WORDS]] = s.words[at]
        s.counts[SETTLED_WORDS] += 1
    for at in range(len(s.sounds) - s.counts[SOUNDS], len(s.sounds)):
        if s.sounds.word[at] <= depth:
            s.settled_sounds[s.counts[SETTLED_SOUNDS]] = s.sounds[at]
            s.counts[SETTLED_SOUNDS] += 1
    kept = 0
    for i in range(s.counts[HYPOTHESES]):
        other = ancestor(s, h.node[i], depth)
        if nodes.key[other] == nodes.key[settled]:
            h[kept] = h[i]
            kept += 1
    s.counts[HYPOTHESES] = kept
    _compact_marks(s, depth, nodes.key[settled])
    _compact_nodes(s, depth)


@_inner
def _need_node(s: Search, node: int, depth: int) -> None:
    nodes, place = s.nodes, s.places
    while nodes.depth[node] > depth and place[node] < 0:
        place[node] = 1
        node = nodes.before[node]
    if nodes.depth[node] == depth:
        place[node] = 0


@_inner
def _compact_nodes(s: Search, depth: int) -> None:
    """Make the node of the first ``depth`` words, which all hypotheses share, the root; drop what none needs.

    Equal texts may have several nodes at this depth; the first stands for all.
    """
    h, nodes, place = s.hypotheses, s.nodes, s.places
    for node in range(s.counts[NODES]):
        place[node] = -1
    for i in range(s.counts[HYPOTHESES]):
        _need_node(s, h.node[i], depth)
    others = s.counts[MARKS] * ALTERNATIVES if s.switches[KEEP] else 0
    for n in range(others):
        node = s.alternatives.node[n // ALTERNATIVES, n % ALTERNATIVES]
        if node >= 0:
            _need_node(s, node, depth)
    kept, root = 0, True
    for node in range(s.counts[NODES]):
        if place[node] < 0:
            continue
        if place[node] == 0 and not root:  # its place is the root's already
            if nodes.memory[0] < 0:
                nodes.memory[0] = nodes.memory[node]
            continue
        if place[node] > 0:
            kept += 1
            place[node] = kept
        to = place[node]
        nodes[to] = nodes[node]
        nodes.before[to] = -1 if to == 0 else place[nodes.before[to]]
        root = root and to != 0
    for i in range(s.counts[HYPOTHESES]):
        h.node[i] = place[h.node[i]]
    for n in range(others):
        node = s.alternatives.node[n // ALTERNATIVES, n % ALTERNATIVES]
        if node >= 0:
            s.alternatives.node[n // ALTERNATIVES, n % ALTERNATIVES] = place[node]
    s.counts[NODES] = kept + 1


@_inner
def _need_marks(s: Search, mark: int, depth: int) -> bool:
    """Keep an alignment. Whether any of it was not kept yet."""
    missed = False
    while mark >= 0 and s.marks.depth[mark] > depth and s.places[mark] < 0:
        s.places[mark] = 0
        mark = s.marks.before[mark]
        missed = True
    return missed


@_inner
def _need_alternatives(s: Search, depth: int, key: np.uint64) -> None:
    """Keep the alternatives at the marks that are needed, and theirs; forget those that differ before the depth."""
    missed = True
    while missed:
        missed = False
        for mark in range(s.counts[MARKS]):
            for k in range(ALTERNATIVES if s.places[mark] >= 0 else 0):
                node = s.alternatives.node[mark, k]
                if node < 0:
                    continue
                if s.nodes.depth[node] < depth or s.nodes.key[ancestor(s, node, depth)] != key:
                    s.alternatives.node[mark, k] = -1
                elif _need_marks(s, s.alternatives.mark[mark, k], depth):
                    missed = True


@_inner
def _compact_marks(s: Search, depth: int, key: np.uint64) -> None:
    """Drop the marks that no hypothesis needs, and those of settled words."""
    h, marks, place = s.hypotheses, s.marks, s.places
    for mark in range(s.counts[MARKS]):
        place[mark] = -1
    for i in range(s.counts[HYPOTHESES]):
        _need_marks(s, h.mark_blank[i], depth)
        _need_marks(s, h.mark_token[i], depth)
    if s.switches[KEEP]:
        _need_alternatives(s, depth, key)
    kept = 0
    for mark in range(s.counts[MARKS]):
        if place[mark] < 0:
            continue
        place[mark] = kept
        before = marks.before[mark]
        marks[kept] = marks[mark]
        marks.before[kept] = place[before] if before >= 0 else -1
        for k in range(ALTERNATIVES if s.switches[KEEP] else 0):
            s.alternatives[kept, k] = s.alternatives[mark, k]
        kept += 1
    for i in range(s.counts[HYPOTHESES]):
        h.mark_blank[i] = place[h.mark_blank[i]] if h.mark_blank[i] >= 0 else -1
        h.mark_token[i] = place[h.mark_token[i]] if h.mark_token[i] >= 0 else -1
    for mark in range(kept if s.switches[KEEP] else 0):
        for k in range(ALTERNATIVES):
            other = s.alternatives.mark[mark, k]
            if s.alternatives.node[mark, k] >= 0 and other >= 0:
                s.alternatives.mark[mark, k] = place[other]
    s.counts[MARKS] = kept
