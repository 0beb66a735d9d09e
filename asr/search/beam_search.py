"""The compiled core of the beam search: one step of CTC prefix search with a language model and hot words.

Everything lives in flat arrays that the caller owns, so that the code compiles once, releases the
interpreter's lock and allocates nothing while it runs. `asr.search.beam` owns the arrays and says what they mean
to a user; this file is the algorithm.

    hypotheses (at most ``beam``)     each a text: a node of the prefix tree, with the probability of all
                                      alignments that end in blank, and of those that end in its last token;
                                      beside each sum its likeliest single alignment, for the times
    nodes (the prefix tree)           a token and the node before it; what the language model and the hot
                                      words said of the text up to here
    marks (the alignments)            where a token was heard and how sure it was, and the mark before it

Nodes and marks only point back, so a text or an alignment is read from its end, and what no hypothesis
points to any more is dropped by moving the rest together (`_settle`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from asr.compiler import jit
from asr.lm.lookup import LmArrays, score_word
from asr.lm.spelling import Spelling, spell
from asr.search.ranking import NEVER, log_add, nth_greatest

# Without its runtime, which would count references to every array at every call: more work than the search.
_jit = jit(_nrt=False)

NODES_PER_STEP, MARKS_PER_STEP = 1, 3  # new ones, times the beam, at most
OUTSIDE = -1  # spelling of a word that the language model does not know

# Places in `Search.counts`.
HYPOTHESES, NODES, MARKS, STEPS, LAST_SOUND, SETTLED, BEST, SHARED, LENGTH = range(9)
# Places in `Search.weights`.
ALPHA, BETA, OOV, TOKEN_FLOOR, BEAM_RANGE, BLANK_CEILING, HOT_GAIN = range(7)


NODE = np.dtype(  # of the prefix tree; node 0 is the root: all text before it is settled
    [
        ("before", np.int32),  # the node of the text without the last token; the root's is -1
        ("token", np.int32),  # the last token
        ("depth", np.int32),  # number of tokens since the utterance began
        ("spelling", np.int32),  # place of the unfinished word in the spelling trie, or OUTSIDE
        ("hot", np.int32),  # state of the hot-word automaton
        ("key", np.uint64),  # hash of the tokens, by which equal texts are found
        ("bonus", np.float64),  # what the language model and the hot words add
        ("close", np.float64),  # what closing the word here adds to the bonus; NaN until it is asked for
    ],
    align=True,
)
MARK = np.dtype(  # of an alignment: one token in it
    [
        ("before", np.int32),  # the mark of the token before, or -1
        ("depth", np.int32),  # number of tokens up to this one
        ("step", np.int32),  # the step at which the token began
        ("peak", np.float64),  # its greatest log probability
    ],
    align=True,
)
HYPOTHESIS = np.dtype(
    [
        ("node", np.int32),
        ("mark_blank", np.int32),  # the likeliest alignment that ends in blank, as the mark of its last token
        ("mark_token", np.int32),  # the same of those that end in the last token
        ("best_blank", np.float64),  # log probability of the likeliest alignment that ends in blank
        ("best_token", np.float64),
        ("blank", np.float64),  # log of the sum over all alignments that end in blank
        ("token", np.float64),
        ("total", np.float64),  # log of both sums together
        ("score", np.float64),  # the same, plus the node's bonus
    ],
    align=True,
)
CANDIDATE = np.dtype(  # a hypothesis with one more token, which may get into the beam
    [
        ("source", np.int32),  # the hypothesis that it grows from
        ("token", np.int32),
        ("total", np.float64),  # log probability by sound alone
        ("rank", np.float64),  # with bonus
    ],
    align=True,
)


class HotArrays(NamedTuple):
    """An automaton over letters that follows all hot phrases at once. State 0 has begun none."""

    next: np.ndarray  # int32 (states, letters)
    begun: np.ndarray  # float64 (states,): lent to a phrase that is not complete yet
    earned: np.ndarray  # float64 (states,): kept for the phrases that are complete here


class Tokens(NamedTuple):
    """What the search must know of the tokens: each is one letter or several. All their letters are the alphabet."""

    blank: int
    space: int  # the token between words, or -1: then there are no words
    length: np.ndarray  # int32 (tokens,): number of letters of each token, the blank's is 0
    letters: np.ndarray  # int32 (tokens, the greatest length): places of its letters in the alphabet
    lm_letter: np.ndarray  # int32 (letters,): number of each letter in the language model's alphabet, or -1


TOKEN = np.dtype(  # of a text that is read
    [("token", np.int32), ("step", np.int32), ("peak", np.float64)],
    align=True,
)
Rows = np.recarray[Any, Any]


class Search(NamedTuple):
    """All of a decoder's state, and what it reads."""

    counts: np.ndarray  # int64 (9,)
    weights: np.ndarray  # float64 (7,)
    nodes: Rows  # NODE (n,)
    history: np.ndarray  # int32 (n, order - 1): the words before each node's, oldest first, -1 where there is none
    marks: Rows  # MARK (m,)
    hypotheses: Rows  # HYPOTHESIS (beam,), in no order
    grown: Rows  # HYPOTHESIS (beam,): the beam after the step
    candidates: Rows  # CANDIDATE (beam * tokens,)
    ranks: np.ndarray  # float64 (beam * tokens + beam,)
    slots: np.ndarray  # int32 (a power of two,): hash table from texts to hypotheses
    likely: np.ndarray  # int32 (tokens,)
    twins: np.ndarray  # bool (beam * tokens,): hypotheses that with this token are another's text; all False between
    places: np.ndarray  # int32, as long as the longer of nodes and marks: working memory
    settled: Rows  # TOKEN: the text before the root, at its beginning
    text: Rows  # TOKEN (n,): the text that `read` has read, from the root on, at its end
    tokens: Tokens
    hot: HotArrays
    lm: LmArrays
    spelling: Spelling
    has_lm: bool


@_jit
def _key(key: np.uint64, token: int) -> np.uint64:
    """Hash of a text with one more token (the mixing step of SplitMix64)."""
    mixed = (key ^ np.uint64(token + 1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@_jit
def _find(s: Search, key: np.uint64) -> int:
    """The hypothesis of a text, or -1."""
    mask = np.uint64(len(s.slots) - 1)
    at = key & mask
    while s.slots[at] >= 0:
        hypothesis = s.slots[at]
        if s.nodes.key[s.hypotheses.node[hypothesis]] == key:
            return hypothesis
        at = (at + np.uint64(1)) & mask
    return -1


@_jit
def _index(s: Search) -> None:
    """Fill the table that `_find` reads."""
    s.slots[:] = -1
    mask = np.uint64(len(s.slots) - 1)
    for i in range(s.counts[HYPOTHESES]):
        at = s.nodes.key[s.hypotheses.node[i]] & mask
        while s.slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        s.slots[at] = i


@_jit
def _ahead(s: Search, spelling: int) -> float:
    """What the language model says of an unfinished word: the likeliest word that it may become."""
    if spelling == 0:
        return 0.0
    if spelling == OUTSIDE:
        return s.weights[ALPHA] * s.lm.prob_codes[0, s.lm.prob[0]] + s.weights[OOV]
    return s.weights[ALPHA] * s.lm.prob_codes[0, s.spelling.ahead[spelling]]


@_jit
def _word_of(s: Search, spelling: int) -> Any:
    return np.int64(0) if spelling == OUTSIDE else np.int64(s.spelling.spelt[spelling])


@_jit
def close_word(s: Search, node: int) -> float:
    """What it adds to the bonus that the word ends here. Remembered, since it is asked for at every step."""
    known = s.nodes.close[node]
    if not math.isnan(known):
        return known
    if s.nodes.depth[node] == 0:
        return 0.0  # nothing was begun
    added = s.weights[BETA]
    if s.has_lm:
        word = _word_of(s, s.nodes.spelling[node])
        added += s.weights[ALPHA] * score_word(s.lm, s.history[node], word) - _ahead(s, s.nodes.spelling[node])
        if word == 0:
            added += s.weights[OOV]
    s.nodes.close[node] = added
    return added


@_jit
def _spelling_after(s: Search, node: int, token: int) -> int:
    spelling = s.nodes.spelling[node]
    for i in range(s.tokens.length[token]):
        letter = s.tokens.lm_letter[s.tokens.letters[token, i]]
        if spelling == OUTSIDE or letter < 0:
            return OUTSIDE
        spelling = spell(s.spelling, spelling, letter)
    return spelling


@_jit
def _bonus_after(s: Search, node: int, token: int) -> float:
    """The bonus of a node's text with one more token."""
    bonus = s.nodes.bonus[node]
    if token == s.tokens.space:
        bonus += close_word(s, node)
    elif s.has_lm:
        bonus += _ahead(s, _spelling_after(s, node, token)) - _ahead(s, s.nodes.spelling[node])
    if len(s.hot.begun) > 1:
        then, earned = _hot_after(s, node, token)
        bonus += earned + s.hot.begun[then] - s.hot.begun[s.nodes.hot[node]]
    return bonus


@_jit
def _hot_after(s: Search, node: int, token: int) -> tuple[int, float]:
    """The hot-word automaton's state after one more token, and what the phrases earned that its letters complete."""
    state, earned = s.nodes.hot[node], 0.0
    for i in range(s.tokens.length[token]):
        state = s.hot.next[state, s.tokens.letters[token, i]]
        earned += s.hot.earned[state]
    return state, earned


@_jit
def _new_node(s: Search, before: int, token: int, bonus: float) -> int:
    nodes = s.nodes
    node = s.counts[NODES]
    s.counts[NODES] += 1
    nodes.before[node] = before
    nodes.token[node] = token
    nodes.depth[node] = nodes.depth[before] + 1
    nodes.key[node] = _key(nodes.key[before], token)
    nodes.bonus[node] = bonus
    nodes.close[node] = math.nan
    nodes.hot[node] = _hot_after(s, before, token)[0]
    words = s.history.shape[1]
    if token == s.tokens.space and nodes.depth[before] > 0:
        for i in range(words - 1):
            s.history[node, i] = s.history[before, i + 1]
        if words:
            s.history[node, words - 1] = _word_of(s, nodes.spelling[before])
    else:
        for i in range(words):
            s.history[node, i] = s.history[before, i]
    if token == s.tokens.space:
        nodes.spelling[node] = 0
    else:
        nodes.spelling[node] = _spelling_after(s, before, token) if s.has_lm else 0
    return node


@_jit
def _new_mark(s: Search, before: int, depth: int, peak: float) -> int:
    mark = s.counts[MARKS]
    s.counts[MARKS] += 1
    s.marks.before[mark] = before
    s.marks.depth[mark] = depth
    s.marks.step[mark] = s.counts[STEPS]
    s.marks.peak[mark] = peak
    return mark


@_jit
def _stay(s: Search, i: int, row: np.ndarray) -> None:
    """A hypothesis whose text does not grow: a blank, or its last token sounding on."""
    old, new = s.hypotheses, s.grown
    node = old.node[i]
    token = s.nodes.token[node]
    new.node[i] = node
    new.blank[i] = old.total[i] + row[s.tokens.blank]
    if old.best_token[i] > old.best_blank[i]:
        new.best_blank[i], new.mark_blank[i] = old.best_token[i], old.mark_token[i]
    else:
        new.best_blank[i], new.mark_blank[i] = old.best_blank[i], old.mark_blank[i]
    new.best_blank[i] += row[s.tokens.blank]
    total, best, mark = old.token[i], old.best_token[i], old.mark_token[i]
    if token == s.tokens.space:
        # Two spaces in a row are one: the second is no new token, with a blank between or without.
        total = old.total[i]
        if old.best_blank[i] > best:
            best, mark = old.best_blank[i], old.mark_blank[i]
    if total == NEVER or token < 0:
        new.token[i], new.best_token[i], new.mark_token[i] = NEVER, NEVER, -1
        return
    new.token[i], new.best_token[i] = total + row[token], best + row[token]
    if mark >= 0 and row[token] > s.marks.peak[mark]:
        step = s.marks.step[mark]
        mark = _new_mark(s, s.marks.before[mark], s.marks.depth[mark], row[token])
        s.marks.step[mark] = step
    new.mark_token[i] = mark


@_jit
def _likeliest_source(s: Search, i: int, token: int) -> tuple[float, int]:
    """The likeliest alignment that a new token can follow, and its mark."""
    h = s.hypotheses
    if h.best_token[i] > h.best_blank[i] and token != s.nodes.token[h.node[i]]:
        return h.best_token[i], h.mark_token[i]
    return h.best_blank[i], h.mark_blank[i]


@_jit
def _merge_twins(s: Search, row: np.ndarray) -> None:
    """Where a hypothesis, grown by a token, is the text of another one in the beam, add it to that one."""
    old, new, nodes = s.hypotheses, s.grown, s.nodes
    _index(s)
    for j in range(s.counts[HYPOTHESES]):
        node = old.node[j]
        before, token = nodes.before[node], nodes.token[node]
        if before < 0 or row[token] < s.weights[TOKEN_FLOOR]:
            continue
        i = _find(s, nodes.key[before])
        if i < 0:
            continue
        s.twins[i * len(row) + token] = True
        total = old.blank[i] if token == nodes.token[old.node[i]] else old.total[i]
        if total == NEVER:
            continue
        new.token[j] = log_add(new.token[j], total + row[token])
        best, mark = _likeliest_source(s, i, token)
        if best + row[token] > new.best_token[j]:
            new.best_token[j] = best + row[token]
            new.mark_token[j] = _new_mark(s, mark, nodes.depth[node], row[token])


@_jit
def _forget_twins(s: Search, likely: int) -> None:
    tokens = len(s.likely)
    for i in range(s.counts[HYPOTHESES]):
        for k in range(likely):
            s.twins[i * tokens + s.likely[k]] = False


@_jit
def _step(s: Search, row: np.ndarray) -> None:
    old, new, candidates = s.hypotheses, s.grown, s.candidates
    count, beam = s.counts[HYPOTHESES], len(s.hypotheses)
    likely = 0
    # Over a long pause the little that each step leaves to other tokens would add up to one.
    if row[s.tokens.blank] <= s.weights[BLANK_CEILING]:
        for token in range(len(row)):
            if token != s.tokens.blank and row[token] >= s.weights[TOKEN_FLOOR]:
                s.likely[likely] = token
                likely += 1
    for i in range(count):
        _stay(s, i, row)
    if likely:
        _merge_twins(s, row)
    top, least = NEVER, math.inf
    for i in range(count):
        new.total[i] = log_add(new.blank[i], new.token[i])
        new.score[i] = new.total[i] + s.nodes.bonus[new.node[i]]
        top, least = max(top, new.score[i]), min(least, new.score[i])
    # The language model is asked only about what can still get into the beam: a token's look-ahead never
    # lifts a candidate, and hot words by no more than is known.
    bar = max(least if count == beam else NEVER, top - s.weights[BEAM_RANGE])
    found = 0
    for i in range(count):
        node = old.node[i]
        last, lift = s.nodes.token[node], s.nodes.bonus[node] + s.weights[HOT_GAIN]
        for k in range(likely):
            token = s.likely[k]
            # A token after itself is a new one only with a blank between.
            total = (old.blank[i] if token == last else old.total[i]) + row[token]
            if token == s.tokens.space:
                if token == last:
                    continue
            elif total + lift <= bar:
                continue
            if s.twins[i * len(row) + token]:
                continue
            rank = total + _bonus_after(s, node, token)
            if rank <= bar:
                continue
            candidates.source[found], candidates.token[found] = i, token
            candidates.total[found], candidates.rank[found] = total, rank
            top = max(top, rank)
            found += 1
    if likely:
        _forget_twins(s, likely)
    _select(s, count, found, top - s.weights[BEAM_RANGE], row)
    s.counts[STEPS] += 1


@_jit
def _select(s: Search, count: int, found: int, floor: float, row: np.ndarray) -> None:
    """Fill the beam with the best of the hypotheses that stayed and of the candidates."""
    old, new, candidates, beam = s.hypotheses, s.grown, s.candidates, len(s.hypotheses)
    if count + found > beam:
        for i in range(count):
            s.ranks[i] = new.score[i]
        for c in range(found):
            s.ranks[count + c] = candidates.rank[c]
        floor = max(floor, nth_greatest(s.ranks, count + found, beam))
    ties = beam  # places for those that lie on the floor: what those above it leave
    for i in range(count):
        ties -= new.score[i] > floor
    for c in range(found):
        ties -= candidates.rank[c] > floor
    # The stayers that go leave their places to the candidates that come.
    kept = 0
    for i in range(count):
        if new.score[i] < floor or (new.score[i] == floor and ties <= 0):
            continue
        ties -= new.score[i] == floor
        new[kept] = new[i]
        kept += 1
    for c in range(found):
        if candidates.rank[c] < floor or (candidates.rank[c] == floor and ties <= 0):
            continue
        ties -= candidates.rank[c] == floor
        i, token = candidates.source[c], candidates.token[c]
        before = old.node[i]
        best, mark = _likeliest_source(s, i, token)
        node = _new_node(s, before, token, _bonus_after(s, before, token))
        new.node[kept] = node
        new.blank[kept], new.best_blank[kept], new.mark_blank[kept] = NEVER, NEVER, -1
        new.token[kept], new.best_token[kept] = candidates.total[c], best + row[token]
        new.mark_token[kept] = _new_mark(s, mark, s.nodes.depth[node], row[token])
        new.total[kept], new.score[kept] = candidates.total[c], candidates.rank[c]
        kept += 1
    for i in range(kept):
        old[i] = new[i]
    s.counts[HYPOTHESES] = kept
    best = best_hypothesis(s)
    sounds = old.best_token[best] > old.best_blank[best] and s.nodes.token[old.node[best]] != s.tokens.space
    if sounds:
        s.counts[LAST_SOUND] = s.counts[STEPS]


@_jit
def best_hypothesis(s: Search) -> int:
    best = 0
    for i in range(1, s.counts[HYPOTHESES]):
        if s.hypotheses.score[i] > s.hypotheses.score[best]:
            best = i
    return best


@_jit
def likeliest_mark(s: Search, i: int) -> int:
    h = s.hypotheses
    return h.mark_token[i] if h.best_token[i] > h.best_blank[i] else h.mark_blank[i]


@_jit
def ancestor(s: Search, node: int, depth: int) -> int:
    """The node of the first ``depth`` tokens of a text; the root if they are settled already."""
    while node > 0 and s.nodes.depth[node] > depth:
        node = s.nodes.before[node]
    return node


@_jit
def shared_depth(s: Search) -> int:
    """How many leading tokens all hypotheses have in common."""
    shared = s.hypotheses.node[0]
    for i in range(1, s.counts[HYPOTHESES]):
        node = ancestor(s, s.hypotheses.node[i], s.nodes.depth[shared])
        shared = ancestor(s, shared, s.nodes.depth[node])
        while s.nodes.key[shared] != s.nodes.key[node]:
            shared, node = s.nodes.before[shared], s.nodes.before[node]
    return s.nodes.depth[shared]


@_jit
def _settle(s: Search, oldest: int) -> None:
    """Give up the hypotheses that differ from the best one before the step ``oldest``; settle the text up to there."""
    best = best_hypothesis(s)
    mark = likeliest_mark(s, best)
    while mark >= 0 and s.marks.step[mark] > oldest:
        mark = s.marks.before[mark]
    depth = s.marks.depth[mark] if mark >= 0 else s.nodes.depth[0]
    settled = ancestor(s, s.hypotheses.node[best], depth)
    read(s, best)
    for at in range(len(s.text) - s.counts[LENGTH], len(s.text) - (s.nodes.depth[s.hypotheses.node[best]] - depth)):
        s.settled[s.counts[SETTLED]] = s.text[at]
        s.counts[SETTLED] += 1
    kept = 0
    for i in range(s.counts[HYPOTHESES]):
        node = ancestor(s, s.hypotheses.node[i], depth)
        if s.nodes.key[node] == s.nodes.key[settled]:
            s.hypotheses[kept] = s.hypotheses[i]
            kept += 1
    s.counts[HYPOTHESES] = kept
    _compact_nodes(s, depth)
    _compact_marks(s, depth)


@_jit
def _compact_nodes(s: Search, depth: int) -> None:
    """Make the node of the first ``depth`` tokens, which all hypotheses share, the root; drop what none needs.

    Equal texts may have several nodes at this depth; the first stands for all.
    """
    h, nodes, place = s.hypotheses, s.nodes, s.places
    for node in range(s.counts[NODES]):
        place[node] = -1
    for i in range(s.counts[HYPOTHESES]):
        node = h.node[i]
        while nodes.depth[node] > depth and place[node] < 0:
            place[node] = 1
            node = nodes.before[node]
        if nodes.depth[node] == depth:
            place[node] = 0
    kept, root = 0, True
    for node in range(s.counts[NODES]):
        if place[node] < 0:
            continue
        if place[node] == 0 and not root:
            continue  # its place is the root's already
        if place[node] > 0:
            kept += 1
            place[node] = kept
        _move_node(s, node, place[node])
        nodes.before[place[node]] = -1 if place[node] == 0 else place[nodes.before[node]]
        root = root and place[node] != 0
    for i in range(s.counts[HYPOTHESES]):
        h.node[i] = place[h.node[i]]
    s.counts[NODES] = kept + 1


@_jit
def _move_node(s: Search, source: int, target: int) -> None:
    s.nodes[target] = s.nodes[source]
    for i in range(s.history.shape[1]):
        s.history[target, i] = s.history[source, i]


@_jit
def _compact_marks(s: Search, depth: int) -> None:
    """Drop the marks that no hypothesis needs, and those of settled tokens."""
    h, marks, place = s.hypotheses, s.marks, s.places
    for mark in range(s.counts[MARKS]):
        place[mark] = -1
    for i in range(s.counts[HYPOTHESES]):
        for mark in (h.mark_blank[i], h.mark_token[i]):
            while mark >= 0 and marks.depth[mark] > depth and place[mark] < 0:
                place[mark] = 0
                mark = marks.before[mark]
    kept = 0
    for mark in range(s.counts[MARKS]):
        if place[mark] < 0:
            continue
        place[mark] = kept
        before = marks.before[mark]
        marks[kept] = marks[mark]
        marks.before[kept] = place[before] if before >= 0 else -1
        kept += 1
    for i in range(s.counts[HYPOTHESES]):
        h.mark_blank[i] = place[h.mark_blank[i]] if h.mark_blank[i] >= 0 else -1
        h.mark_token[i] = place[h.mark_token[i]] if h.mark_token[i] >= 0 else -1
    s.counts[MARKS] = kept


@_jit
def run(s: Search, rows: np.ndarray, settle_every: int, max_delay: int) -> None:
    """Take steps, settle what is old whenever ``settle_every`` steps are full, and read the best text.

    Args:
        s: the state, changed in place, with room for what the steps may add.
        rows: ``(T, tokens)`` natural-log probabilities.
        settle_every: steps from one settling to the next.
        max_delay: hypotheses that differ from the best one longer ago than this many steps are given up.
    """
    for t in range(len(rows)):
        _step(s, rows[t])
        if s.counts[STEPS] % settle_every == 0:
            _settle(s, s.counts[STEPS] - max_delay)
    s.counts[BEST] = best_hypothesis(s)
    s.counts[SHARED] = shared_depth(s)
    read(s, s.counts[BEST])


@_jit
def read(s: Search, i: int) -> None:
    """Write a hypothesis's text from the root on to the end of ``text``, and its length to the counts."""
    node, mark, at = s.hypotheses.node[i], likeliest_mark(s, i), len(s.text)
    length = s.nodes.depth[node] - s.nodes.depth[0]
    for _ in range(length):
        at -= 1
        s.text.token[at], s.text.step[at], s.text.peak[at] = s.nodes.token[node], s.marks.step[mark], s.marks.peak[mark]
        node, mark = s.nodes.before[node], s.marks.before[mark]
    s.counts[LENGTH] = length


@_jit
def final_score(s: Search, i: int) -> float:
    """A hypothesis's score if its text ends here: its last word is whole, and hot words lend nothing any more."""
    node = s.hypotheses.node[i]
    score = s.hypotheses.score[i]
    if s.nodes.token[node] != s.tokens.space:
        score += close_word(s, node)
        if len(s.hot.begun) > 1 and s.tokens.space >= 0:
            score += _hot_after(s, node, s.tokens.space)[1]
    return score - s.hot.begun[s.nodes.hot[node]]


@_jit
def final_texts(s: Search, scores: np.ndarray, keys: np.ndarray) -> None:
    """The `final_score` of every hypothesis, and a key of its text, the same with and without a space at its end."""
    for i in range(len(scores)):
        scores[i] = final_score(s, i)
        node = s.hypotheses.node[i]
        if node > 0 and s.nodes.token[node] == s.tokens.space:
            node = s.nodes.before[node]
        # Of its letters, from the last to the first: the same however the text is cut into tokens.
        keys[i] = 0
        while node > 0:
            token = s.nodes.token[node]
            for place in range(s.tokens.length[token] - 1, -1, -1):
                keys[i] = _key(keys[i], s.tokens.letters[token, place])
            node = s.nodes.before[node]
