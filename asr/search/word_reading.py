"""Reading the word search: its best hypothesis, the words and sounds of any, what all have in common."""

from __future__ import annotations

from asr.compiler import entry, inner
from asr.search.word_state import HYPOTHESES, ROOT, SOUNDS, WORDS, Rows, Search

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)


@_inner
def best_hypothesis(s: Search) -> int:
    best = 0
    for i in range(1, s.counts[HYPOTHESES]):
        if s.hypotheses.score[i] > s.hypotheses.score[best]:
            best = i
    return best


@_inner
def shown_hypothesis(s: Search) -> int:
    """The best hypothesis; or if the sounds of its unfinished word are a word already, the best that closed it."""
    best, h = best_hypothesis(s), s.hypotheses
    if h.place[best] == ROOT:
        return best
    shown, key = best, s.nodes.key[h.node[best]]
    for i in range(s.counts[HYPOTHESES]):
        if h.place[i] != ROOT or h.token[i] != h.token[best] or h.node[i] == 0:
            continue
        before = s.nodes.before[h.node[i]]
        if s.nodes.key[before] == key and (shown == best or h.score[i] > h.score[shown]):
            shown = i
    return shown


@_inner
def likeliest_mark(h: Rows, i: int) -> int:
    return h.mark_token[i] if h.best_token[i] > h.best_blank[i] else h.mark_blank[i]


@_inner
def ancestor(s: Search, node: int, depth: int) -> int:
    """The node of the first ``depth`` words of a text; the root if they are settled already."""
    while node > 0 and s.nodes.depth[node] > depth:
        node = s.nodes.before[node]
    return node


@_inner
def shared_depth(s: Search) -> int:
    """How many leading words all hypotheses have in common."""
    shared = s.hypotheses.node[0]
    for i in range(1, s.counts[HYPOTHESES]):
        node = ancestor(s, s.hypotheses.node[i], s.nodes.depth[shared])
        shared = ancestor(s, shared, s.nodes.depth[node])
        while s.nodes.key[shared] != s.nodes.key[node]:
            shared, node = s.nodes.before[shared], s.nodes.before[node]
    return s.nodes.depth[shared]


@_inner
def read(s: Search, i: int) -> None:
    """Write a hypothesis's words from the root on to the end of ``words``, their sounds to that of ``sounds``."""
    node, mark, at = s.hypotheses.node[i], likeliest_mark(s.hypotheses, i), len(s.words)
    depth = s.nodes.depth[node]
    while node > 0:
        at -= 1
        s.words[at] = s.nodes.word[node]
        node = s.nodes.before[node]
    s.counts[WORDS] = len(s.words) - at
    at = len(s.sounds)
    while mark >= 0:
        if s.marks.depth[mark] <= depth:  # not of a word that is unfinished
            at -= 1
            s.sounds.word[at], s.sounds.step[at] = s.marks.depth[mark], s.marks.step[mark]
            s.sounds.peak[at] = s.marks.peak[mark]
        mark = s.marks.before[mark]
    s.counts[SOUNDS] = len(s.sounds) - at


@entry
def read_other(s: Search, i: int) -> None:
    """`read`, to be called by others."""
    read(s, i)
