"""The beam decoder: CTC prefix search over a stream, with a language model, hot words and stable text.

The algorithm is in `asr.search.beam_search`; this class owns its memory. What is older than ``max_delay_steps``
is settled every few steps: hypotheses that differ there are given up, and the text goes from the prefix
tree to a list. So a step costs the same however long the utterance, and memory grows by its text alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import numpy as np

from asr.errors import ConfigError
from asr.lm import LanguageModel
from asr.search import beam_search as core
from asr.search.beam_search import CANDIDATE, HYPOTHESIS, MARK, NODE, TOKEN, Search, Tokens
from asr.search.decoder import DecoderOptions, Hypothesis
from asr.search.hotwords import HotWord, build_automaton
from asr.text.tokens import Tokenizer

_Array = TypeVar("_Array", bound="np.ndarray[Any, Any]")
_SETTLE_EVERY = 16  # steps; counted from the utterance's start, so that chunks do not matter


class BeamDecoder:
    """See `asr.search.decoder.Decoder`.

    Args:
        options: how to search.
        tokenizer: what the columns of the log probabilities stand for.
        lm: a word language model. The space must then be a token of its own.
        join_spaces: texts that differ only by spaces in a row, or at the beginning, are one text.
    """

    def __init__(
        self,
        options: DecoderOptions,
        tokenizer: Tokenizer,
        lm: LanguageModel | None = None,
        join_spaces: bool = True,
    ) -> None:
        self._options = options
        self._tokenizer = tokenizer
        self._lm = lm
        tokens = tokenizer.tokens
        if lm is not None and (" " not in tokens or any(" " in token and token != " " for token in tokens)):
            raise ConfigError("a word language model needs the space as a token of its own, and in no other")
        space = tokens.index(" ") if " " in tokens and (join_spaces or lm is not None) else -1
        beam, wide = options.beam, options.beam * len(tokens)
        order = lm.order if lm is not None else 1
        self._search = Search(
            counts=np.zeros(9, dtype=np.int64),
            weights=np.array(
                [
                    options.alpha,
                    options.beta if lm is not None else 0.0,
                    options.oov_penalty,
                    options.token_floor,
                    options.beam_range,
                    math.log(options.blank_ceiling) if options.blank_ceiling < 1 else math.inf,
                    0.0,
                ]
            ),
            nodes=np.recarray(2 * _SETTLE_EVERY * beam, dtype=NODE),
            history=np.zeros((2 * _SETTLE_EVERY * beam, order - 1), dtype=np.int32),
            marks=np.recarray(4 * _SETTLE_EVERY * beam, dtype=MARK),
            hypotheses=np.recarray(beam, dtype=HYPOTHESIS),
            grown=np.recarray(beam, dtype=HYPOTHESIS),
            candidates=np.recarray(wide, dtype=CANDIDATE),
            ranks=np.zeros(wide + beam),
            slots=np.zeros(1 << (2 * beam - 1).bit_length(), dtype=np.int32),
            likely=np.zeros(len(tokens), dtype=np.int32),
            twins=np.zeros(wide, dtype=np.bool_),
            places=np.zeros(4 * _SETTLE_EVERY * beam, dtype=np.int32),
            settled=np.recarray(2 * _SETTLE_EVERY * beam, dtype=TOKEN),
            text=np.recarray(2 * _SETTLE_EVERY * beam, dtype=TOKEN),
            tokens=_spell_tokens(tokenizer, space, (lm or LanguageModel.empty()).letters),
            hot=build_automaton((), tokenizer),
            lm=(lm or LanguageModel.empty()).arrays,
            spelling=(lm or LanguageModel.empty()).spelling,
            has_lm=lm is not None,
        )
        self._begin(space, 0.0, -math.inf)

    def set_hot_words(self, hot_words: Iterable[HotWord]) -> None:
        """Expect these phrases from the next utterance on, and no others.

        Takes effect at `reset`, or at once if nothing of the utterance has been recognised yet: silence after
        an endpoint is the next utterance's already.

        Raises:
            ConfigError: that names a phrase that the tokens cannot write.
        """
        s, options = self._search, self._options
        lm = self._lm

        def refund(word: str) -> tuple[float, int]:
            if lm is None or word in lm.ids:
                return 0.0, 0
            return -options.oov_penalty, lm.known_letters(word)

        hot_words = tuple(hot_words)
        edge = " " if s.tokens.space >= 0 else ""
        self._next_hot = build_automaton(hot_words, self._tokenizer, edge, refund)
        if not self.best().tokens:
            # Other hypotheses may have begun a phrase of those before: only the empty one goes on.
            steps, last_sound = int(s.counts[core.STEPS]), int(s.counts[core.LAST_SOUND])
            self.reset()
            s.counts[core.STEPS], s.counts[core.LAST_SOUND] = steps, last_sound

    def reset(self) -> None:
        s = self._search
        best = core.best_hypothesis(s)
        h, node = s.hypotheses, s.hypotheses.node[best]
        total = h.total[best]
        # The last token stays as the root's, written in no text, so that its going on is not a new one.
        self._begin(int(s.nodes.token[node]), float(h.blank[best] - total), float(h.token[best] - total))

    def _begin(self, token: int, blank: float, sounding: float) -> None:
        s = self._search
        h, nodes = s.hypotheses, s.nodes
        s.counts[:] = 1, 1, 0, 0, -1, 0, 0, 0, 0
        nodes.before[0], nodes.token[0], nodes.depth[0], nodes.key[0] = -1, token, 0, 0
        nodes.bonus[0], nodes.spelling[0], nodes.close[0] = 0.0, 0, 0.0
        s.history[0] = -1
        s.history[0, -1:] = 1  # <s>
        h.node[0], h.blank[0], h.token[0], h.best_blank[0], h.best_token[0] = 0, blank, sounding, blank, sounding
        h.mark_blank[0] = h.mark_token[0] = -1
        h.total[0] = h.score[0] = 0.0
        self._read_last = 0
        self._use_hot_words()

    _next_hot: core.HotArrays | None = None

    def _use_hot_words(self) -> None:
        if self._next_hot is not None:
            hot, self._next_hot = self._next_hot, None
            gain = hot.begun[hot.next] + hot.earned[hot.next] - hot.begun[:, None]
            longest = self._search.tokens.letters.shape[1]
            self._search.weights[core.HOT_GAIN] = max(0.0, float(gain.max()) * longest)
            self._search = self._search._replace(hot=hot)
        s = self._search
        s.nodes.hot[0] = s.hot.next[0, s.tokens.letters[s.tokens.space, 0]] if s.tokens.space >= 0 else 0

    def accept(self, log_probs: np.ndarray) -> None:
        rows = np.ascontiguousarray(log_probs, dtype=np.float64)
        for begin in range(0, len(rows), _SETTLE_EVERY):
            part = rows[begin : begin + _SETTLE_EVERY]
            self._make_room(len(part))
            core.run(self._search, part, _SETTLE_EVERY, self._options.max_delay_steps)
            self._read_last = int(self._search.counts[core.BEST])

    def _make_room(self, steps: int) -> None:
        s, counts, beam = self._search, self._search.counts, self._options.beam
        nodes = int(counts[core.NODES]) + steps * beam * core.NODES_PER_STEP
        marks = int(counts[core.MARKS]) + steps * beam * core.MARKS_PER_STEP
        settled = int(counts[core.SETTLED]) + nodes  # a text has at most so many tokens
        if nodes > len(s.nodes):
            s = s._replace(
                nodes=_longer(s.nodes, nodes), history=_longer(s.history, nodes), text=_longer(s.text, nodes)
            )
        if marks > len(s.marks):
            s = s._replace(marks=_longer(s.marks, marks))
        if max(nodes, marks) > len(s.places):
            s = s._replace(places=_longer(s.places, max(nodes, marks)))
        if settled > len(s.settled):
            s = s._replace(settled=_longer(s.settled, settled))
        self._search = s

    def _hypothesis(self, score: float) -> Hypothesis:
        """The text that was read last."""
        s = self._search
        counts = s.counts.tolist()
        # As plain arrays: looking up a field of a record array by name takes ten times as long.
        settled = np.asarray(s.settled)[: counts[core.SETTLED]]
        text = np.asarray(s.text)[len(s.text) - counts[core.LENGTH] :]
        tokens, steps, peaks = (
            tuple(settled[name].tolist() + text[name].tolist()) for name in ("token", "step", "peak")
        )
        return Hypothesis(tokens, steps, peaks, float(score))

    def best(self) -> Hypothesis:
        best = int(self._search.counts[core.BEST])
        return self._read(best, self._search.hypotheses.score[best])

    def _read(self, index: int, score: float) -> Hypothesis:
        if index != self._read_last:
            core.read(self._search, index)
            self._read_last = index
        return self._hypothesis(score)

    def ranked(self, count: int) -> list[Hypothesis]:
        """The likeliest hypotheses so far, likeliest first, at most ``count``."""
        scores = self._search.hypotheses.score[: int(self._search.counts[core.HYPOTHESES])]
        return [self._read(int(index), scores[index]) for index in np.argsort(-scores, kind="stable")[:count]]

    def finals(self, count: int = 1) -> list[Hypothesis]:
        s = self._search
        count_all = int(s.counts[core.HYPOTHESES])
        scores, keys = np.empty(count_all), np.empty(count_all, dtype=np.uint64)
        core.final_texts(s, scores, keys)
        # With and without a space at its end a text is the same: their probabilities add up.
        texts: dict[int, tuple[float, int]] = {}
        for index in np.argsort(-scores, kind="stable").tolist():
            key, score = int(keys[index]), float(scores[index])
            total, first = texts.get(key, (-math.inf, index))
            texts[key] = float(np.logaddexp(total, score)), first
        ranked = sorted(texts.values(), key=lambda pair: -pair[0])
        return [self._read(index, total) for total, index in ranked[:count]]

    def stable_tokens(self) -> int:
        return int(self._search.counts[core.SHARED])

    def trailing_blanks(self) -> int:
        counts = self._search.counts
        return int(counts[core.STEPS] - 1 - counts[core.LAST_SOUND])


def _spell_tokens(tokenizer: Tokenizer, space: int, lm_letters: str) -> Tokens:
    alphabet = tokenizer.alphabet
    spelt = [[] if index == tokenizer.blank else list(token) for index, token in enumerate(tokenizer.tokens)]
    length = np.array([len(letters) for letters in spelt], dtype=np.int32)
    letters = np.zeros((len(spelt), int(length.max())), dtype=np.int32)
    for index, token in enumerate(spelt):
        letters[index, : len(token)] = [alphabet.index(letter) for letter in token]
    lm_letter = np.array([lm_letters.find(letter) for letter in alphabet], dtype=np.int32)
    return Tokens(tokenizer.blank, space, length, letters, lm_letter)


def _longer(array: _Array, needed: int) -> _Array:
    """A copy with room for more rows; what the new ones hold does not matter."""
    longer = np.resize(array, (max(needed, 2 * len(array)), *array.shape[1:]))
    return cast(_Array, longer.view(type(array)))
