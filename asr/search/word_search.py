"""The compiled core of the word search: one step of CTC beam search over a lexicon's tree and a language model.

Everything lives in flat arrays that the caller owns, so that the code compiles once, releases the
interpreter's lock and allocates nothing while it runs. `asr.search.word_beam` owns the arrays and says what they mean
to a user; this file is the algorithm.

    hypotheses (at most ``beam``)     each the words so far, a node, and a place in the tree of pronunciations, where
                                      its unfinished word has come to, or the root if its last word is closed; with
                                      the probability of all alignments that end in blank, and of those that end in
                                      its last token; beside each sum its likeliest single alignment, for the times
    nodes (the words so far)          a word and the node before it; what the language model and the hot words said
    marks (the alignments)            where a token was heard and how sure it was, and the mark before it

When a token ends one or more words, the hypothesis that goes on in the tree and one for each of the words that is
closed here are candidates side by side; so the language model speaks with the word's last sound. All ways to say
the same words that come to the same place add up. Of different words that come to the same place with the same
future (place, last token, what the language model remembers, hot words) only the likelier go on; the others are
remembered at its mark, if alternatives are wanted.

Nodes and marks only point back, so a text or an alignment is read from its end, and what no hypothesis points to
any more is dropped by moving the rest together (`_settle`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from asr.compiler import inner, jit
from asr.lm.lookup import LmArrays, score_and_advance
from asr.search.lexicon_tree import TreeArrays

# Without its runtime, which would count references to every array at every call: more work than the search.
_jit = jit(_nrt=False)
_inner = inner(_nrt=False)

NEVER = -math.inf
NODES_PER_STEP, MARKS_PER_STEP = 2, 3  # new ones, times the beam, at most
ALTERNATIVES = 4  # remembered of each mark
ROOT, OFF = 0, -1  # places: a closed word; outside the lexicon's tree, within a hot word
NOTHING, OUTSIDE = 0, 1  # states of the hot words: between words with no phrase begun; in a word that is none of theirs

# Places in `Search.counts`.
HYPOTHESES, NODES, MARKS, STEPS, LAST_SOUND, SETTLED_WORDS, SETTLED_SOUNDS, BEST, SHARED, WORDS, SOUNDS, FOUND = range(
    12
)
COUNTS = 12
# Places in `Search.weights`.
ALPHA, BETA, OOV, TOKEN_FLOOR, BEAM_RANGE, BLANK_CEILING, SLACK = range(7)
# Places in `Search.switches`.
RECOMBINE, KEEP, FEW = range(3)


NODE = np.dtype(  # the words so far; node 0 is the root: all words before it are settled
    [
        ("before", np.int32),  # the node without the last word; the root's is -1
        ("word", np.int32),  # the last word
        ("depth", np.int32),  # number of words since the utterance began
        ("context", np.int32),  # what the language model remembers: its state, or -1
        ("key", np.uint64),  # hash of the words, by which equal texts are found
        ("bonus", np.float64),  # what the language model and the hot words add
    ],
    align=True,
)
MARK = np.dtype(  # of an alignment: one token in it
    [
        ("before", np.int32),  # the mark of the token before, or -1
        ("depth", np.int32),  # the number of its word, counted from 1
        ("step", np.int32),  # the step at which the token began
        ("peak", np.float64),  # its greatest log probability
    ],
    align=True,
)
HYPOTHESIS = np.dtype(
    [
        ("node", np.int32),
        ("place", np.int32),  # in the lexicon's tree: ROOT, OFF or where the unfinished word has come to
        ("hot", np.int32),  # state of the hot words
        ("token", np.int32),  # the last token, or -1
        ("mark_blank", np.int32),  # the likeliest alignment that ends in blank, as the mark of its last token
        ("mark_token", np.int32),  # the same of those that end in the last token
        ("best_blank", np.float64),  # log probability of the likeliest alignment that ends in blank
        ("best_token", np.float64),
        ("blank", np.float64),  # log of the sum over all alignments that end in blank
        ("sound", np.float64),  # the same of those that end in the last token
        ("total", np.float64),  # log of both sums together
        ("ahead", np.float64),  # what is lent to the unfinished word or phrase
        ("score", np.float64),  # the total, with the node's bonus and what is lent
        ("key", np.uint64),  # hash of words, place, hot and token
    ],
    align=True,
)
CANDIDATE = np.dtype(  # a hypothesis with one more token, which may get into the beam
    [
        ("source", np.int32),  # the hypothesis that it grows from: of the likeliest alignment
        ("place", np.int32),
        ("hot", np.int32),
        ("token", np.int32),
        ("word", np.int32),  # that is closed here, or -1
        ("context", np.int32),
        ("best", np.float64),  # log probability of the likeliest alignment
        ("total", np.float64),  # log probability by sound alone
        ("bonus", np.float64),  # of its node
        ("ahead", np.float64),
        ("score", np.float64),
        ("key", np.uint64),
    ],
    align=True,
)
SOUND = np.dtype(  # of a text that is read
    [("word", np.int32), ("step", np.int32), ("peak", np.float64)],
    align=True,
)
ASKED = np.dtype(  # what the language model answered, by context and word
    [("context", np.int32), ("word", np.int32), ("after", np.int32), ("log_prob", np.float32)],
    align=True,
)
FORESEEN = np.dtype(  # what is ahead at a place, by context
    [("context", np.int32), ("place", np.int32), ("log_prob", np.float64)],
    align=True,
)
ALTERNATIVE = np.dtype(  # another text that had come to where a mark was, with the same future, and lost
    [
        ("node", np.int32),  # its words, or -1 if there is none
        ("mark", np.int32),  # its alignment
        ("depth", np.int32),  # how many words the text that won had closed
        ("step", np.int32),  # when it lost: what followed the mark before that did not follow this
        ("loss", np.float64),
    ],
    align=True,
)
Rows = np.recarray[Any, Any]


class HotArrays(NamedTuple):
    """What follows all hot phrases at once: see `hot_phrases`. State 0 has begun none, state 1 is outside."""

    next: np.ndarray  # int32 (states, tokens): the state after one more token of a word
    lent: np.ndarray  # float64 (states,): lent to a phrase that is not complete yet
    earned: np.ndarray  # float64 (states,): kept for the phrases that are complete here
    more: np.ndarray  # bool (states,): whether any token leads to a state other than OUTSIDE
    first_close: np.ndarray  # int32 (states + 1,): where a state's words begin
    close_word: np.ndarray  # int32: a word of a phrase that may be closed here
    close_state: np.ndarray  # int32: and the state after it
    first_extra: np.ndarray  # int32 (states,): where the words begin that end here and not in the lexicon's tree
    last_extra: np.ndarray  # int32 (states,)
    extra_word: np.ndarray  # int32


class Search(NamedTuple):
    """All of a decoder's state, and what it reads."""

    counts: np.ndarray  # int64 (COUNTS,)
    weights: np.ndarray  # float64 (7,)
    switches: np.ndarray  # int64 (3,)
    nodes: Rows  # NODE (n,)
    alternatives: Rows  # ALTERNATIVE (m or 1, ALTERNATIVES): of each mark
    marks: Rows  # MARK (m,)
    hypotheses: Rows  # HYPOTHESIS (beam,), in no order
    grown: Rows  # HYPOTHESIS (2 * beam,): those that stay, then the beam after the step
    fresh: np.ndarray  # int32 (beam,): the hypothesis whose alignment became the likeliest one of another's, or -1
    candidates: Rows  # CANDIDATE (c,)
    ranks: np.ndarray  # float64 (c + beam,)
    slots: np.ndarray  # int64 (a power of two,): hash table of hypotheses and candidates, each with the step's number
    stamp: np.ndarray  # int64 (1,): counts the fillings of the table
    winners: np.ndarray  # int32 (c + beam,): of those with one future, the likeliest
    admitted: np.ndarray  # int32 (c + beam,): the place in the new beam, or -1
    likely: np.ndarray  # int32 (tokens,)
    asked: Rows  # ASKED (a power of two,): a cache
    foreseen: Rows  # FORESEEN (a power of two,): a cache
    places: np.ndarray  # int32, as long as the longer of nodes and marks: working memory
    settled_words: np.ndarray  # int32: the words before the root
    settled_sounds: Rows  # SOUND: theirs
    words: np.ndarray  # int32 (n,): the words that `read` has read, from the root on, at its end
    sounds: Rows  # SOUND (m,): theirs, at its end
    blank: int
    known: int  # words from this number on are unknown to the language model
    tree: TreeArrays
    hot: HotArrays
    lm: LmArrays
    has_lm: bool


@_inner
def log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    if b == NEVER or a - b > 40:  # no digit of a would change
        return a
    return a + math.log1p(math.exp(b - a))


@_inner
def mix(key: np.uint64, value: int) -> np.uint64:
    """Hash of a key and one more number (the mixing step of SplitMix64)."""
    mixed = (key ^ np.uint64(value + 2)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@_inner
def _where(place: int, hot: int, token: int) -> Any:
    """Place, hot words' state and token as one number."""
    return ((np.int64(place) + 1) << 32) ^ (np.int64(hot) << 9) ^ (np.int64(token) + 1)


# The table. A slot holds the filling's number times 2^24, plus the index of a hypothesis or, from `beam` on, a
# candidate; so that it need not be emptied.


@_inner
def _clear(s: Search) -> None:
    s.stamp[0] += 1


@_inner
def _slot(s: Search, key: np.uint64) -> Any:
    """The slot of a key that is in the table, or the empty one that it would take."""
    mask = np.uint64(len(s.slots) - 1)
    at = key & mask
    beam = len(s.hypotheses)
    while (s.slots[at] >> 24) == s.stamp[0]:
        entry = s.slots[at] & 0xFFFFFF
        found = s.hypotheses.key[entry] if entry < beam else s.candidates.key[entry - beam]
        if found == key:
            return at
        at = (at + np.uint64(1)) & mask
    return at


@_inner
def _entry(s: Search, slot: int) -> Any:
    """What a slot holds, or -1."""
    return np.int64(s.slots[slot] & 0xFFFFFF) if (s.slots[slot] >> 24) == s.stamp[0] else np.int64(-1)


@_inner
def _fill(s: Search, slot: int, entry: int) -> None:
    s.slots[slot] = (s.stamp[0] << 24) | entry


# The language model.


@_inner
def _ask(s: Search, node: int, word: int) -> Any:
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
def _word_bonus(s: Search, node: int, word: int) -> float:
    """What a word adds to the bonus, hot words apart."""
    if not s.has_lm:
        return s.weights[BETA]
    bonus = s.weights[BETA] + s.weights[ALPHA] * s.asked.log_prob[_ask(s, node, word)]
    return bonus if word < s.known else bonus + s.weights[OOV]


@_inner
def _unknown(s: Search) -> float:
    return s.weights[ALPHA] * s.lm.prob_codes[0, s.lm.prob[0]] + s.weights[OOV] if s.has_lm else 0.0


@_inner
def _single(s: Search, word: int) -> float:
    """What the language model says of a word by itself, with what an unknown one costs."""
    if not s.has_lm:
        return 0.0
    return s.weights[ALPHA] * s.lm.prob_codes[0, s.lm.prob[word]] if word < s.known else _unknown(s)


@_inner
def _single_ahead(s: Search, place: int) -> float:
    """What the language model says by itself of the likeliest word that one unfinished at a place may become."""
    if not s.has_lm:
        return 0.0
    if place == OFF:
        return _unknown(s)
    at = s.tree.places[place]
    if np.int64(at.first_row) + at.ends >= np.int64(at.last_row) or at.unknown:
        return _unknown(s)
    return s.weights[ALPHA] * s.lm.prob_codes[0, at.ahead]


@_inner
def _ahead(s: Search, node: int, place: int, single: float) -> float:
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
        most = max(most, _word_bonus(s, node, np.int64(s.tree.words[row])))
    most -= s.weights[BETA]
    s.foreseen.context[slot], s.foreseen.place[slot], s.foreseen.log_prob[slot] = context, place, most
    return most


# Growing.


@_inner
def _stay(s: Search, i: int, row: np.ndarray) -> None:
    """A hypothesis that does not grow: a blank, or its last token sounding on."""
    old, new = s.hypotheses, s.grown
    new[i] = old[i]
    blank = row[s.blank]
    new.blank[i] = old.total[i] + blank
    if old.best_token[i] > old.best_blank[i]:
        new.best_blank[i], new.mark_blank[i] = old.best_token[i], old.mark_token[i]
    new.best_blank[i] += blank
    token = old.token[i]
    s.fresh[i] = -1
    if token < 0 or old.sound[i] == NEVER:
        return
    new.sound[i] += row[token]
    new.best_token[i] += row[token]
    mark = old.mark_token[i]
    if mark >= 0 and row[token] > s.marks.peak[mark]:
        step = s.marks.step[mark]
        raised = _new_mark(s, s.marks.before[mark], s.marks.depth[mark], row[token])
        s.marks.step[raised] = step
        new.mark_token[i] = raised
        if s.switches[KEEP]:
            for k in range(ALTERNATIVES):
                s.alternatives[raised, k] = s.alternatives[mark, k]


@_inner
def _new_mark(s: Search, before: int, depth: int, peak: float) -> int:
    mark = s.counts[MARKS]
    s.counts[MARKS] += 1
    s.marks.before[mark] = before
    s.marks.depth[mark] = depth
    s.marks.step[mark] = s.counts[STEPS]
    s.marks.peak[mark] = peak
    if s.switches[KEEP]:
        for k in range(ALTERNATIVES):
            s.alternatives.node[mark, k] = -1
    return mark


@_inner
def _source(s: Search, i: int, token: int) -> tuple[float, int]:
    """The likeliest alignment of a hypothesis that a new token can follow, and its mark."""
    h = s.hypotheses
    if h.best_token[i] > h.best_blank[i] and token != h.token[i]:
        return h.best_token[i], h.mark_token[i]
    return h.best_blank[i], h.mark_blank[i]


@_inner
def _close_hot(s: Search, hot: int, word: int) -> int:
    """The hot words' state after a word is closed."""
    for at in range(s.hot.first_close[hot], s.hot.first_close[hot + 1]):
        if s.hot.close_word[at] == word:
            return s.hot.close_state[at]
    return NOTHING


@_inner
def _offer(
    s: Search, i: int, token: int, log_prob: float, total: float, place: Any, hot: Any, word: int, bar: float
) -> None:
    """Offer a hypothesis with one more token at a place, and with a word closed there if one is given.

    Only if it could get into the beam by what the language model says of single words, and somewhat more, is the model
    asked what it says after the words before.
    """
    candidates, beam = s.candidates, len(s.hypotheses)
    node = np.int64(s.hypotheses.node[i])
    bonus = s.nodes.bonus[node]
    if word < 0:
        single = _single_ahead(s, place)
    else:
        hot = np.int64(_close_hot(s, hot, word)) if len(s.hot.lent) > 2 else np.int64(NOTHING)
        bonus += s.weights[BETA] + s.hot.earned[hot]
        single = _single(s, word)
    ahead = s.hot.lent[hot]
    if total + bonus + ahead + single + s.weights[SLACK] <= bar:
        return
    text = s.nodes.key[node]
    if word >= 0:
        text, place = mix(text, word), np.int64(ROOT)
    key = mix(text, _where(place, hot, token))
    slot = _slot(s, key)
    entry = _entry(s, slot)
    best = _source(s, i, token)[0] + log_prob
    if 0 <= entry < beam:  # these words are at this place already
        new = s.grown
        new.sound[entry] = log_add(new.sound[entry], total)
        if best > new.best_token[entry]:
            new.best_token[entry], s.fresh[entry] = best, i
        return
    if entry >= 0:
        c = entry - beam
        if total + candidates.bonus[c] + candidates.ahead[c] > bar:
            candidates.total[c] = log_add(candidates.total[c], total)
            if best > candidates.best[c]:
                candidates.best[c], candidates.source[c] = best, i
        return
    context = np.int64(s.nodes.context[node])
    if word < 0:
        ahead += _ahead(s, node, place, single)
    elif s.has_lm:
        at = _ask(s, node, word)
        bonus += s.weights[ALPHA] * s.asked.log_prob[at]
        context = np.int64(s.asked.after[at])
        if word >= s.known:
            bonus += s.weights[OOV]
    if total + bonus + ahead <= bar:
        return
    if s.counts[FOUND] == len(candidates):
        _thin(s)
        slot = _slot(s, key)
    c = s.counts[FOUND]
    s.counts[FOUND] += 1
    candidates.source[c], candidates.token[c], candidates.place[c] = i, token, place
    candidates.hot[c], candidates.word[c], candidates.context[c] = hot, word, context
    candidates.best[c], candidates.total[c] = best, total
    candidates.bonus[c], candidates.ahead[c], candidates.key[c] = bonus, ahead, key
    _fill(s, slot, beam + c)


@_inner
def _thin(s: Search) -> None:
    """Make room among the candidates: half of it is left to the best."""
    candidates, beam = s.candidates, len(s.hypotheses)
    for c in range(s.counts[FOUND]):
        s.ranks[c] = candidates.total[c] + candidates.bonus[c] + candidates.ahead[c]
    floor = _nth_greatest(s.ranks, s.counts[FOUND], len(candidates) // 2)
    _clear(s)
    for i in range(s.counts[HYPOTHESES]):
        _fill(s, _slot(s, s.hypotheses.key[i]), i)
    kept = 0
    for c in range(s.counts[FOUND]):
        if candidates.total[c] + candidates.bonus[c] + candidates.ahead[c] > floor:
            candidates[kept] = candidates[c]
            _fill(s, _slot(s, candidates.key[kept]), beam + kept)
            kept += 1
    s.counts[FOUND] = kept


@_inner
def _grow(s: Search, i: int, row: np.ndarray, likely: int, bar: float) -> None:
    """Offer a hypothesis with every likely token that its place allows: unfinished, and as every word that ends there.

    What is ahead of a place is no more than what was ahead of the one before, or hardly: so most tokens are passed by
    before the tree is looked at.
    """
    places, hot = s.tree.places, s.hypotheses.hot[i]
    from_place, last_token = s.hypotheses.place[i], s.hypotheses.token[i]
    has_hot = len(s.hot.lent) > 2
    child = last = np.int64(0)
    if from_place > 0:
        child, last = np.int64(places.first_child[from_place]), np.int64(places.first_child[from_place + 1])
    hope = s.nodes.bonus[s.hypotheses.node[i]] + s.hypotheses.ahead[i] + s.weights[SLACK]
    for k in range(likely):
        token = np.int64(s.likely[k])
        total = (s.hypotheses.blank[i] if token == last_token else s.hypotheses.total[i]) + row[token]
        if total == NEVER or (not has_hot and total + hope <= bar):
            continue
        place = np.int64(OFF)
        if from_place == ROOT:
            place = np.int64(s.tree.by_token[token])
        else:  # children and likely tokens are both in order
            while child < last and places.token[child] < token:
                child += 1
            if child < last and places.token[child] == token:
                place = child
        after = np.int64(OUTSIDE)
        if has_hot:
            after = np.int64(s.hot.next[hot, token])
        if place == OFF and after == OUTSIDE:
            continue
        first_row = ends = np.int64(0)
        more = s.hot.more[after]
        if place != OFF:
            first_row, ends = np.int64(places.first_row[place]), np.int64(places.ends[place])
            more |= first_row + ends < places.last_row[place]
        extras = s.hot.first_extra[after] - ends
        for n in range(-1 if more else 0, ends + s.hot.last_extra[after] - s.hot.first_extra[after]):
            word = np.int64(-1)
            if n >= ends:
                word = np.int64(s.hot.extra_word[extras + n])
            elif n >= 0:
                word = np.int64(s.tree.words[first_row + n])
            _offer(s, i, token, row[token], total, place, after, word, bar)


@_inner
def _step(s: Search, row: np.ndarray) -> None:
    old, new = s.hypotheses, s.grown
    count, beam = s.counts[HYPOTHESES], len(s.hypotheses)
    likely = np.int64(0)
    # Over a long pause the little that each step leaves to other tokens would add up to one.
    if row[s.blank] <= s.weights[BLANK_CEILING]:
        for token in range(len(row)):
            if token != s.blank and row[token] >= s.weights[TOKEN_FLOOR]:
                s.likely[likely] = token
                likely += 1
    top, least = NEVER, math.inf
    for i in range(count):
        _stay(s, i, row)
        score = log_add(new.blank[i], new.sound[i]) + s.nodes.bonus[new.node[i]] + new.ahead[i]
        top, least = max(top, score), min(least, score)
    s.counts[FOUND] = 0
    if likely:
        _clear(s)
        for i in range(count):
            _fill(s, _slot(s, old.key[i]), i)
        bar = max(least if count == beam else NEVER, top - s.weights[BEAM_RANGE])
        for i in range(count):
            _grow(s, i, row, likely, bar)
    for i in range(count):
        if s.fresh[i] >= 0:
            mark = _source(s, s.fresh[i], new.token[i])[1]
            # A closed word's last token is still its own.
            depth = s.nodes.depth[new.node[i]] + (new.place[i] != ROOT)
            new.mark_token[i] = _new_mark(s, mark, depth, row[new.token[i]])
        new.total[i] = log_add(new.blank[i], new.sound[i])
        new.score[i] = new.total[i] + s.nodes.bonus[new.node[i]] + new.ahead[i]
        top = max(top, new.score[i])
    for c in range(s.counts[FOUND]):
        s.candidates.score[c] = s.candidates.total[c] + s.candidates.bonus[c] + s.candidates.ahead[c]
        top = max(top, s.candidates.score[c])
    if s.counts[FOUND] and s.switches[RECOMBINE]:
        _recombine(s, count, top - s.weights[BEAM_RANGE])
    _select(s, count, s.counts[FOUND], top - s.weights[BEAM_RANGE], row)
    s.counts[STEPS] += 1


@_inner
def _future(s: Search, entry: int) -> Any:
    """Hash of all that decides what may still come of a hypothesis or candidate."""
    beam = len(s.hypotheses)
    if entry < beam:
        g = s.grown[entry]
        return mix(mix(np.uint64(0), s.nodes.context[g.node]), _where(g.place, g.hot, g.token))
    c = s.candidates[entry - beam]
    return mix(mix(np.uint64(0), c.context), _where(c.place, c.hot, c.token))


@_inner
def _score(s: Search, entry: int) -> float:
    beam = len(s.hypotheses)
    return s.grown.score[entry] if entry < beam else s.candidates.score[entry - beam]


@_inner
def _recombine(s: Search, count: int, floor: float) -> None:
    """Of those that have the same future, let only the likeliest go on: the scores of the others become NEVER."""
    _clear(s)
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
        first = _entry(s, at)
        if first < 0:
            _fill(s, at, entry)
        elif _score(s, entry) > _score(s, first):
            s.winners[first] = entry
            _fill(s, at, entry)
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
def _select(s: Search, count: int, found: int, floor: float, row: np.ndarray) -> None:
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
        floor = max(floor, _nth_greatest(s.ranks, alive, beam))
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
    mark = _source(s, candidate.source, candidate.token)[1]
    return node, _new_mark(s, mark, depth, row[candidate.token])


@_inner
def _new_node(s: Search, before: int, word: int, bonus: float, context: int) -> int:
    nodes = s.nodes
    node = s.counts[NODES]
    s.counts[NODES] += 1
    nodes.before[node], nodes.word[node], nodes.depth[node] = before, word, nodes.depth[before] + 1
    nodes.key[node] = mix(nodes.key[before], word)
    nodes.bonus[node], nodes.context[node] = bonus, context
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


@_inner
def _nth_greatest(values: np.ndarray, count: int, n: int) -> float:
    """The n-th greatest of the first ``count`` values, n >= 1, which are left in another order (quickselect)."""
    low, high, wanted = 0, count - 1, n - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            return values[wanted]
    return values[wanted]


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


# Forgetting.


@_inner
def _settle(s: Search, oldest: int) -> None:
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
        if place[node] == 0 and not root:
            continue  # its place is the root's already
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
    s.counts[BEST] = shown_hypothesis(s)
    s.counts[SHARED] = shared_depth(s)
    read(s, s.counts[BEST])


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


@_jit
def read_other(s: Search, i: int) -> None:
    """`read`, to be called by others."""
    read(s, i)
