"""The compiled core of the word search: one step of CTC beam search over a lexicon's tree and a language model.

Everything lives in flat arrays that the caller owns, so that the code compiles once, releases the
interpreter's lock and allocates nothing while it runs. `asr.search.word_beam` owns the arrays and says what they mean
to a user, `asr.search.word_state` what they hold; this file takes the steps.

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
any more is dropped by moving the rest together (`asr.search.word_settling`).
"""

from __future__ import annotations

import math

import numpy as np

from asr.compiler import entry, inner
from asr.search.ranking import NEVER, log_add
from asr.search.word_choice import recombine, select
from asr.search.word_growth import grow, new_mark, source_of, stay
from asr.search.word_reading import best_hypothesis, read, shared_depth, shown_hypothesis
from asr.search.word_settling import settle
from asr.search.word_state import (
    BEAM_RANGE,
    BEST,
    BLANK_CEILING,
    FOUND,
    HYPOTHESES,
    RECOMBINE,
    ROOT,
    SHARED,
    STEPS,
    TOKEN_FLOOR,
    Search,
)
from asr.search.word_table import clear_table, fill_slot, find_slot
from asr.search.word_weighing import weigh

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)
_LEAD = 2.0  # natural log: hypotheses so near to the likeliest one grow before the others


@_inner
def _step(s: Search, row: np.ndarray) -> None:
    old, new = s.hypotheses, s.grown
    count, beam = s.counts[HYPOTHESES], len(s.hypotheses)
    likely, most = np.int64(0), NEVER
    # Over a long pause the little that each step leaves to other tokens would add up to one.
    if row[s.blank] <= s.weights[BLANK_CEILING]:
        for token in range(len(row)):
            if token != s.blank and row[token] >= s.weights[TOKEN_FLOOR]:
                s.likely[likely] = token
                likely += 1
                most = max(most, row[token])
    top, least = NEVER, math.inf
    for i in range(count):
        stay(s, i, row)
        score = log_add(new.blank[i], new.sound[i]) + s.nodes.bonus[new.node[i]] + new.ahead[i]
        top, least = max(top, score), min(least, score)
    s.counts[FOUND] = 0
    if likely:
        clear_table(s)
        for i in range(count):
            fill_slot(s, find_slot(s, old.key[i]), i)
        bar = max(least if count == beam else NEVER, top - s.weights[BEAM_RANGE])
        # The likeliest hypotheses grow first: what comes of them leaves little hope to most of what the others offer.
        best = old.score[best_hypothesis(s)]
        for rest in range(2):
            for i in range(count):
                if (old.score[i] < best - _LEAD) == (rest != 0):
                    grow(s, i, row, likely, most, bar)
            for c in range(s.counts[FOUND] if rest == 0 else 0):
                score = s.candidates.total[c] + s.candidates.bonus[c] + s.candidates.ahead[c]
                bar = max(bar, score - s.weights[BEAM_RANGE])
    for i in range(count):
        if s.fresh[i] >= 0:
            mark = source_of(s, s.fresh[i], new.token[i])[1]
            # A closed word's last token is still its own.
            depth = s.nodes.depth[new.node[i]] + (new.place[i] != ROOT)
            new.mark_token[i] = new_mark(s, mark, depth, row[new.token[i]])
        new.total[i] = log_add(new.blank[i], new.sound[i])
        new.score[i] = new.total[i] + s.nodes.bonus[new.node[i]] + new.ahead[i]
        top = max(top, new.score[i])
    for c in range(s.counts[FOUND]):
        s.candidates.score[c] = s.candidates.total[c] + s.candidates.bonus[c] + s.candidates.ahead[c]
        top = max(top, s.candidates.score[c])
    if s.counts[FOUND] and s.switches[RECOMBINE]:
        recombine(s, count, top - s.weights[BEAM_RANGE])
    select(s, count, s.counts[FOUND], top - s.weights[BEAM_RANGE], row)
    s.counts[STEPS] += 1


@entry
def run(s: Search, rows: np.ndarray, settle_every: int, max_delay: int, ends: bool) -> None:
    """Take steps, settle what is old whenever ``settle_every`` steps are full, and read the best text.

    Args:
        s: the state, changed in place, with room for what the steps may add.
        rows: ``(T, tokens)`` natural-log probabilities.
        settle_every: steps from one settling to the next.
        max_delay: hypotheses that differ from the best one longer ago than this many steps are given up.
        ends: whether the utterance ends after them, so that its last words are weighed too.
    """
    for t in range(len(rows) + 1):
        if t < len(rows):
            _step(s, rows[t])
        settles = t < len(rows) and s.counts[STEPS] % settle_every == 0
        if s.has_second and (settles or (ends and t == len(rows))):
            weigh(s)
        if settles:
            settle(s, s.counts[STEPS] - max_delay)
    s.counts[BEST] = shown_hypothesis(s)
    s.counts[SHARED] = shared_depth(s)
    read(s, s.counts[BEST])
