"""Who goes on in the word search: of equal futures the likeliest, of all the best that the beam holds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asr.compiler import inner
from asr.search.ranking import NEVER, nth_greatest
from asr.search.word_growth import new_mark, source_of
from asr.search.word_reading import best_hypothesis, likeliest_mark
from asr.search.word_state import ALTERNATIVES, FOUND, HYPOTHESES, KEEP, LAST_SOUND, NODES, RECOMBINE, STEPS, Search
from asr.search.word_table import clear_table, entry_at, fill_slot, mix, where_key

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)


@_inner
def _future(s: Search, entry: int) -> Any:
    """Hash of all that decides what may still come of a hypothesis or candidate."""
    beam = len(s.hypotheses)
    if entry < beam:
        g = s.grown[entry]
        return mix(mix(np.uint64(0), s.nodes.context[g.node]), where_key(g.place, g.hot, g.token))
    c = s.candidates[entry - beam]
    return mix(mix(np.uint64(0), c.context), where_key(c.place, c.hot, c.token))


@_inner
def _score(s: Search, entry: int) -> float:
    beam = len(s.hypotheses)
    return s.grown.score[entry] if entry < beam else s.candidates.score[entry - beam]


@_inner
def recombine(s: Search, count: int, floor: float) -> None:
    """Of those that have the same future, let only the likeliest go on: the scores of the others become NEVER."""
    clear_table(s)
    beam, mask = len(s.hypotheses), np.uint64(len(s.slots) - 1)
    for n in range(count + s.counts[FOUND]):
        entry = n if n < count else beam + n - count
        s.winners[entry] = entry
        if _score(s, entry) < floor:
            continue
        key = _future(s, entry)
        at = key & mask
        while (s.slots[at] >> 24) == s.stamp[0]:
            if _future(s, s.slots[at] & 0xFFFFFF) == key:
                break
            at = (at + np.uint64(1)) & mask
        first = entry_at(s, at)
        if first < 0:
            fill_slot(s, at, entry)
        elif _score(s, entry) > _score(s, first):
            s.winners[first] = entry
            fill_slot(s, at, entry)
        else:
            s.winners[entry] = first
    for n in range(count + s.counts[FOUND]):
        entry = n if n < count else beam + n - count
        if s.winners[entry] == entry:
            continue
        winner = s.winners[entry]
        while s.winners[winner] != winner:
            winner = s.winners[winner]
        s.winners[entry] = winner


@_inner
def select(s: Search, count: int, found: int, floor: float, row: np.ndarray) -> None:
    """Fill the beam with the best of the hypotheses that stayed and of the candidates."""
    old, new, beam = s.hypotheses, s.grown, len(s.hypotheses)
    merged = found > 0 and s.switches[RECOMBINE] != 0
    alive = np.int64(0)
    for n in range(count + found):
        entry = n if n < count else beam + n - count
        s.admitted[entry] = -1
        if not merged:
            s.winners[entry] = entry
        if s.winners[entry] == entry:
            s.ranks[alive] = _score(s, entry)
            alive += 1
    if alive > beam:
        floor = max(floor, nth_greatest(s.ranks, alive, beam))
    ties = beam  # places for those that lie on the floor: what those above it leave
    for n in range(alive):
        ties -= s.ranks[n] > floor
    kept = 0
    for n in range(count + found):
        entry = n if n < count else beam + n - count
        score = _score(s, entry)
        if s.winners[entry] != entry or score < floor or (score == floor and ties <= 0):
            continue
        ties -= score == floor
        s.admitted[entry] = kept
        if n < count:
            new[beam + kept] = new[n]
        else:
            _admit(s, n - count, beam + kept, row)
        kept += 1
    if merged and s.switches[KEEP]:
        _remember(s, count, found, row)
    for i in range(kept):
        old[i] = new[beam + i]
    s.counts[HYPOTHESES] = kept
    best = best_hypothesis(s)
    if old.best_token[best] > old.best_blank[best]:
        s.counts[LAST_SOUND] = s.counts[STEPS]


@_inner
def _admit(s: Search, c: int, to: int, row: np.ndarray) -> None:
    """Make a candidate a hypothesis."""
    new, candidate = s.grown, s.candidates[c]
    node, mark = _write(s, c, row)
    new.node[to], new.place[to], new.hot[to] = node, candidate.place, candidate.hot
    new.token[to], new.key[to] = candidate.token, candidate.key
    new.blank[to], new.best_blank[to], new.mark_blank[to] = NEVER, NEVER, -1
    new.sound[to], new.best_token[to], new.mark_token[to] = candidate.total, candidate.best, mark
    new.total[to], new.ahead[to], new.score[to] = candidate.total, candidate.ahead, candidate.score


@_inner
def _write(s: Search, c: int, row: np.ndarray) -> tuple[int, int]:
    """The node and the mark of a candidate, made now."""
    candidate = s.candidates[c]
    node = s.hypotheses.node[candidate.source]
    depth = s.nodes.depth[node] + 1
    if candidate.word >= 0:
        node = _new_node(s, node, candidate.word, candidate.bonus, candidate.context)
    mark = source_of(s, candidate.source, candidate.token)[1]
    return node, new_mark(s, mark, depth, row[candidate.token])


@_inner
def _new_node(s: Search, before: int, word: int, bonus: float, context: int) -> int:
    nodes = s.nodes
    node = s.counts[NODES]
    s.counts[NODES] += 1
    nodes.before[node], nodes.word[node], nodes.depth[node] = before, word, nodes.depth[before] + 1
    nodes.key[node] = mix(nodes.key[before], word)
    nodes.bonus[node], nodes.context[node] = bonus, context
    nodes.weighed[node], nodes.memory[node] = 0, -1
    return node


@_inner
def _remember(s: Search, count: int, found: int, row: np.ndarray) -> None:
    """Keep those that lost to one with the same future at its mark."""
    beam, room, candidates = len(s.hypotheses), len(s.hypotheses), s.candidates
    for n in range(count + found):
        entry = n if n < count else beam + n - count
        winner = s.winners[entry]
        if winner == entry or s.admitted[winner] < 0 or room == 0:
            continue
        won = beam + s.admitted[winner]
        to, loss = likeliest_mark(s.grown, won), _score(s, winner) - _score(s, entry)
        if to < 0:
            continue
        if n < count:
            node, mark = s.grown.node[n], likeliest_mark(s.grown, n)
            key = s.nodes.key[node]
        else:
            node, mark = s.hypotheses.node[candidates.source[n - count]], -1
            key = s.nodes.key[node]
            if candidates.word[n - count] >= 0:
                key = mix(key, candidates.word[n - count])
        k = _alternative_slot(s, to, key, loss)
        if k < 0:
            continue
        if n >= count:
            node, mark = _write(s, n - count, row)
            room -= 1
        s.alternatives.node[to, k], s.alternatives.mark[to, k], s.alternatives.loss[to, k] = node, mark, loss
        s.alternatives.depth[to, k] = s.nodes.depth[s.grown.node[won]]
        s.alternatives.step[to, k] = s.counts[STEPS]


@_inner
def _alternative_slot(s: Search, to: int, key: np.uint64, loss: float) -> int:
    """Where to remember at a mark a text that lost, or -1 if it is there already or others lost less."""
    worst, most = 0, NEVER
    for k in range(ALTERNATIVES):
        node = s.alternatives.node[to, k]
        if node < 0:
            worst, most = k, math.inf
        elif s.nodes.key[node] == key:
            return k if loss < s.alternatives.loss[to, k] else -1
        elif s.alternatives.loss[to, k] > most:
            worst, most = k, s.alternatives.loss[to, k]
    return worst if loss < most else -1
