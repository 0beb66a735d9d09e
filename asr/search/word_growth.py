"""Growing hypotheses of the word search: by a blank, by a token that sounds on, and by every likely new token."""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.compiler import inner
from asr.search.ranking import NEVER, log_add, nth_greatest
from asr.search.word_chances import (
    ask,
    single_ahead,
    single_ending,
    single_row,
    single_unknown,
    single_word,
    words_ahead,
)
from asr.search.word_state import (
    ALPHA,
    ALTERNATIVES,
    BETA,
    FOUND,
    HYPOTHESES,
    KEEP,
    MARKS,
    NOTHING,
    OFF,
    OOV,
    OUTSIDE,
    ROOT,
    SLACK,
    STEPS,
    Search,
)
from asr.search.word_table import clear_table, entry_at, fill_slot, find_slot, mix, where_key

# Without the runtime, which would count references to every array at every call: more work than the search.
_inner = inner(_nrt=False)


@_inner
def stay(s: Search, i: int, row: np.ndarray) -> None:
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
        raised = new_mark(s, s.marks.before[mark], s.marks.depth[mark], row[token])
        s.marks.step[raised] = step
        new.mark_token[i] = raised
        if s.switches[KEEP]:
            for k in range(ALTERNATIVES):
                s.alternatives[raised, k] = s.alternatives[mark, k]


@_inner
def new_mark(s: Search, before: int, depth: int, peak: float) -> int:
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
def source_of(s: Search, i: int, token: int) -> tuple[float, int]:
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
    s: Search,
    i: int,
    token: int,
    log_prob: float,
    total: float,
    place: Any,
    hot: Any,
    word: int,
    single: float,
    bar: float,
) -> None:
    """Offer a hypothesis with one more token at a place, and with a word closed there if one is given.

    ``single`` is what the language model says of single words: of the one that is closed, or those ahead. Only if the
    hypothesis could get into the beam by that, and somewhat more, is the model asked what it says after the words
    before.
    """
    candidates, beam = s.candidates, len(s.hypotheses)
    node = np.int64(s.hypotheses.node[i])
    bonus = s.nodes.bonus[node]
    if word >= 0:
        hot = np.int64(_close_hot(s, hot, word)) if len(s.hot.lent) > 2 else np.int64(NOTHING)
        bonus += s.weights[BETA] + s.hot.earned[hot]
    ahead = s.hot.lent[hot]
    if total + bonus + ahead + single + s.weights[SLACK] <= bar:
        return
    text = s.nodes.key[node]
    if word >= 0:
        text, place = mix(text, word), np.int64(ROOT)
    key = mix(text, where_key(place, hot, token))
    slot = find_slot(s, key)
    entry = entry_at(s, slot)
    best = source_of(s, i, token)[0] + log_prob
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
        ahead += words_ahead(s, node, place, single)
    elif s.has_lm:
        at = ask(s, node, word)
        bonus += s.weights[ALPHA] * s.asked.log_prob[at]
        context = np.int64(s.asked.after[at])
        if word >= s.known:
            bonus += s.weights[OOV]
    if total + bonus + ahead <= bar:
        return
    if s.counts[FOUND] == len(candidates):
        _thin(s)
        slot = find_slot(s, key)
    c = s.counts[FOUND]
    s.counts[FOUND] += 1
    candidates.source[c], candidates.token[c], candidates.place[c] = i, token, place
    candidates.hot[c], candidates.word[c], candidates.context[c] = hot, word, context
    candidates.best[c], candidates.total[c] = best, total
    candidates.bonus[c], candidates.ahead[c], candidates.key[c] = bonus, ahead, key
    fill_slot(s, slot, beam + c)


@_inner
def _thin(s: Search) -> None:
    """Make room among the candidates: half of it is left to the best."""
    candidates, beam = s.candidates, len(s.hypotheses)
    for c in range(s.counts[FOUND]):
        s.ranks[c] = candidates.total[c] + candidates.bonus[c] + candidates.ahead[c]
    floor = nth_greatest(s.ranks, s.counts[FOUND], len(candidates) // 2)
    clear_table(s)
    for i in range(s.counts[HYPOTHESES]):
        fill_slot(s, find_slot(s, s.hypotheses.key[i]), i)
    kept = 0
    for c in range(s.counts[FOUND]):
        if candidates.total[c] + candidates.bonus[c] + candidates.ahead[c] > floor:
            candidates[kept] = candidates[c]
            fill_slot(s, find_slot(s, candidates.key[kept]), beam + kept)
            kept += 1
    s.counts[FOUND] = kept


@_inner
def grow(s: Search, i: int, row: np.ndarray, likely: int, most: float, bar: float) -> None:
    """Offer a hypothesis with every likely token that its place allows: unfinished, and as every word that ends there.

    What is ahead of a place is no more than what was ahead of the one before, or hardly: so most tokens are passed by
    before the tree is looked at. ``most`` is the log probability of the likeliest token.
    """
    places, hot = s.tree.places, s.hypotheses.hot[i]
    from_place, last_token = s.hypotheses.place[i], s.hypotheses.token[i]
    has_hot = len(s.hot.lent) > 2
    child = last = np.int64(-1)
    hope = s.nodes.bonus[s.hypotheses.node[i]] + s.hypotheses.ahead[i] + s.weights[SLACK]
    beyond = s.nodes.bonus[s.hypotheses.node[i]] + s.weights[BETA] + s.weights[SLACK]
    if not has_hot and s.hypotheses.total[i] + most + hope <= bar:
        return
    unknown = single_unknown(s)
    for k in range(likely):
        token = np.int64(s.likely[k])
        total = (s.hypotheses.blank[i] if token == last_token else s.hypotheses.total[i]) + row[token]
        if total == NEVER or (not has_hot and total + hope <= bar):
            continue
        place = np.int64(OFF)
        if from_place == ROOT:
            place = np.int64(s.tree.by_token[token])
            if not has_hot and total + hope + s.begun[token] <= bar:
                continue
        elif from_place > 0:  # children and likely tokens are both in order
            if child < 0:
                child, last = np.int64(places.first_child[from_place]), np.int64(places.first_child[from_place + 1])
            while child < last and s.tree.token[child] < token:
                child += 1
            if child < last and s.tree.token[child] == token:
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
            if not has_hot and ends and total + beyond + max(single_ending(s, place), unknown) <= bar:
                ends = np.int64(0)
        extras = s.hot.first_extra[after] - ends
        for n in range(-1 if more else 0, ends + s.hot.last_extra[after] - s.hot.first_extra[after]):
            word = np.int64(-1)
            if n >= ends:
                word = np.int64(s.hot.extra_word[extras + n])
                single = single_word(s, word)
            elif n >= 0:
                word = np.int64(s.tree.words[first_row + n])
                single = single_row(s, first_row + n)
                # Of words that sound alike the likeliest come first, and those the model does not know last.
                if not has_hot and total + beyond + max(single, unknown) <= bar:
                    break
            else:
                single = single_ahead(s, place)
            _offer(s, i, token, row[token], total, place, after, word, single, bar)
