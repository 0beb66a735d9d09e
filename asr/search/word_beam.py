"""The word decoder: CTC beam search over a stream of phonemes, with a lexicon, a language model and hot words.

The algorithm is in `asr.search.word_search`; this class owns its memory. What is older than ``max_delay_steps``
is settled every few steps: hypotheses that differ there are given up, and the words go from the search's nodes
to a list. So a step costs the same however long the utterance, and memory grows by its text alone.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from asr.array_table import ArrayTable
from asr.lm import LanguageModel
from asr.search import word_state as core
from asr.search.decoder import DecoderOptions, HeardWord, Reading
from asr.search.hot_phrases import HotPhrases, Pronounce, build_phrases
from asr.search.hotwords import HotWord
from asr.search.lexicon_tree import AHEAD, ENDING, LexiconTree
from asr.search.second_kernel import make_memories
from asr.search.second_lm import SecondOpinion
from asr.search.word_reading import read_other
from asr.search.word_search import run
from asr.search.word_state import HYPOTHESIS, MARK, NODE, SOUND, Search
from asr.search.word_weighing import carry
from asr.search.working_memory import WorkingMemory

_Array = TypeVar("_Array", bound="np.ndarray[Any, Any]")
_SETTLE_EVERY = 8  # steps; counted from the utterance's start, so that chunks do not matter
_FEW = 4  # words below a place, up to which the language model is asked about each instead of the likeliest
_SLACK = 2.0  # natural log: by how much a word's chance may rise by the words before it, where that is not asked yet
_MEMORIES = 96  # texts that the second language model remembers at once
_Sound = tuple[int, int, float]  # number of its word, first step, log probability at the peak
_NOT_HEARD: tuple[int, list[_Sound], HeardWord | None] = -1, [], None
# Words after a node, and the sounds after a mark, their words counted from the node on.
_Rest = tuple[tuple[int, ...], tuple[_Sound, ...]]


class WordBeamDecoder:
    """Decodes phonemes to words.

    Args:
        options: how to search.
        tokens: what the columns of the log probabilities stand for, the blank first.
        tree: the lexicon.
        lm: the word language model that the tree was built with.
        pronounce: gives the pronunciations of hot words.
        recombine: of texts with the same future, follow only the likeliest.
        second: a recurrent language model, which is asked about the likeliest texts before they are settled.
        memory: shared with decoders of the same tokens, tree and language models; by default its own.
    """

    def __init__(
        self,
        options: DecoderOptions,
        tokens: Sequence[str],
        tree: LexiconTree,
        lm: LanguageModel | None = None,
        pronounce: Pronounce | None = None,
        recombine: bool = True,
        second: SecondOpinion | None = None,
        memory: WorkingMemory | None = None,
    ) -> None:
        self._options, self._tokens, self._tree, self._lm = options, tokens, tree, lm
        self._pronounce, self._second, self._memory = pronounce, second, memory or WorkingMemory()
        room = 4 * _SETTLE_EVERY * options.beam  # most streams never need more
        working = self._memory.room(options, len(tokens), second)
        self._shared = working.shared
        keep = recombine and options.alternatives > 0
        self._next_hot: HotPhrases | None = None
        self._hot = build_phrases((), tree, tokens, lambda _: ())
        singles = _singles(options, lm)
        self._search = Search(
            counts=np.zeros(core.COUNTS, dtype=np.int64),
            weights=np.array(
                [
                    options.alpha,
                    options.beta,
                    options.oov_penalty,
                    options.token_floor,
                    options.beam_range,
                    math.log(options.blank_ceiling) if options.blank_ceiling < 1 else math.inf,
                    _SLACK,
                    options.second_share,
                    options.second_range,
                ]
            ),
            switches=np.array([recombine, keep, _FEW, options.second_most], dtype=np.int64),
            nodes=np.recarray(room, dtype=NODE),
            alternatives=np.recarray((2 * room if keep else 1, core.ALTERNATIVES), dtype=core.ALTERNATIVE),
            marks=np.recarray(2 * room, dtype=MARK),
            hypotheses=np.recarray(options.beam, dtype=HYPOTHESIS),
            singles=singles,
            begun=_begun(tree, singles, options.beta),
            settled_words=np.zeros(room, dtype=np.int32),
            settled_sounds=np.recarray(2 * room, dtype=SOUND),
            words=np.zeros(room, dtype=np.int32),
            sounds=np.recarray(2 * room, dtype=SOUND),
            blank=0,
            known=tree.known,
            tree=tree.arrays,
            hot=self._hot.arrays,
            lm=(lm or LanguageModel.empty()).arrays,
            has_lm=lm is not None,
            second=make_memories(second, _MEMORIES, working.second),
            has_second=second is not None,
            **self._shared._asdict(),
        )
        # As a plain array: looking up a field of a record array by name takes ten times as long.
        self._scores = np.asarray(self._search.hypotheses)["score"]
        self._known_table = ArrayTable(self._search)
        self._begin(-1, 0.0, -math.inf)

    def set_hot_words(self, hot_words: Iterable[HotWord]) -> None:
        """Expect these phrases from the next utterance on, and no others.

        Takes effect at `reset`, or at once if nothing of the utterance has been recognised yet: silence after
        an endpoint is the next utterance's already.

        Raises:
            ConfigError: that names a phrase with a word that cannot be pronounced.
        """
        s = self._search
        unknown = self._options.oov_penalty if self._lm is not None else 0.0
        pronounce = self._pronounce if self._pronounce is not None else self._tree_sounds
        self._next_hot = build_phrases(tuple(hot_words), self._tree, self._tokens, pronounce, -unknown)
        if not self.best().words:
            # Other hypotheses may have begun a phrase of those before: only the empty one goes on.
            steps, last_sound = int(s.counts[core.STEPS]), int(s.counts[core.LAST_SOUND])
            self.reset()
            s.counts[core.STEPS], s.counts[core.LAST_SOUND] = steps, last_sound

    def _tree_sounds(self, word: str) -> Sequence[Sequence[str]]:
        return [[self._tokens[token] for token in sounds] for sounds in self._tree.pronunciations(word)]

    def reset(self) -> None:
        """Begin a new utterance: the next step is its step 0. A token that sounds on belongs to the old one.

        The recurrent language model remembers what was said before.
        """
        h = self._search.hypotheses
        best = int(np.argmax(h.score[: self._search.counts[core.HYPOTHESES]]))
        total = h.total[best]
        if self._search.has_second:
            self._remember_text()
        # The last token stays as the root's, so that its going on is not a new one.
        self._begin(int(h.token[best]), float(h.blank[best] - total), float(h.sound[best] - total))

    def _remember_text(self) -> None:
        """Let the recurrent language model go on from the final text, if it has words."""
        node = int(self._search.hypotheses.node[self._ranked()[0][1]])
        if self._search.nodes.depth[node] > 0:
            self._take_memory()
            carry(self.table(), node)

    def _begin(self, token: int, blank: float, sound: float) -> None:
        if self._next_hot is not None:
            self._hot, self._next_hot = self._next_hot, None
            self._search = self._search._replace(hot=self._hot.arrays)
        s = self._search
        h, nodes = s.hypotheses, s.nodes
        s.counts[:] = 0
        s.counts[[core.HYPOTHESES, core.NODES]] = 1
        s.counts[core.LAST_SOUND] = -1
        nodes[0] = (-1, -1, 0, 1 if self._lm is not None and self._lm.order > 1 else -1, 0, 1, -1, 0.0)
        h[0] = (0, core.ROOT, core.NOTHING, token, -1, -1, blank, sound, blank, sound, 0.0, 0.0, 0.0, 0)
        self._settled: list[HeardWord] = []
        self._last_heard: dict[int, tuple[int, list[_Sound], HeardWord | None]] = {}  # by the words' numbers
        self._read_last = 0
        self._best: Reading | None = None

    def accept(self, log_probs: np.ndarray) -> None:
        """Take ``(T, tokens)`` natural-log probabilities, T >= 0."""
        rows = np.array(log_probs, dtype=np.float64)
        for begin in range(0, len(rows), _SETTLE_EVERY):
            part = rows[begin : begin + _SETTLE_EVERY]
            self._make_room(len(part))
            self._take_memory()
            run(self.table(), part, _SETTLE_EVERY, self._options.max_delay_steps, False)
            self._read_last = int(self._search.counts[core.BEST])
            self._best = None

    def _take_memory(self) -> None:
        """Work with this thread's memory, with room for all nodes and marks."""
        s, working = self._search, self._memory.room(self._options, len(self._tokens), self._second)
        working.widen(len(s.nodes), len(s.marks))
        if working.shared is not self._shared:
            self._shared = working.shared
            self._search = s._replace(**self._shared._asdict(), second=s.second._replace(work=working.second))

    def table(self) -> ArrayTable:
        """What compiled code sees of the search."""
        if self._known_table.fields is not self._search:
            self._known_table = ArrayTable(self._search)
        return self._known_table

    def _make_room(self, steps: int) -> None:
        s, counts, beam = self._search, self._search.counts.tolist(), self._options.beam
        nodes = counts[core.NODES] + steps * beam * core.NODES_PER_STEP
        marks = counts[core.MARKS] + steps * beam * core.MARKS_PER_STEP
        if nodes > len(s.nodes):
            s = s._replace(nodes=_longer(s.nodes, nodes), words=_longer(s.words, nodes))
        if marks > len(s.marks):
            s = s._replace(marks=_longer(s.marks, marks), sounds=_longer(s.sounds, marks))
            if s.switches[core.KEEP]:
                s = s._replace(alternatives=_longer(s.alternatives, marks))
        # One settling may bring as many words and sounds as there are marks.
        words, sounds = counts[core.SETTLED_WORDS] + marks, counts[core.SETTLED_SOUNDS] + marks
        if words > len(s.settled_words):
            s = s._replace(settled_words=_longer(s.settled_words, words))
        if sounds > len(s.settled_sounds):
            s = s._replace(settled_sounds=_longer(s.settled_sounds, sounds))
        self._search = s

    def best(self) -> Reading:
        """The likeliest words so far. A word is among them once its sounds are complete."""
        if self._best is None:
            best = int(self._search.counts[core.BEST])
            self._best = self._read(best, float(self._scores[best]))
        return self._best

    def _read(self, index: int, score: float) -> Reading:
        s = self._search
        if index != self._read_last:
            read_other(self.table(), index)
            self._read_last = index
        counts = s.counts
        words = s.words[len(s.words) - int(counts[core.WORDS]) :].tolist()
        sounds = np.asarray(s.sounds)[len(s.sounds) - int(counts[core.SOUNDS]) :]
        settled = self._settled_words()
        return Reading((*settled, *self._heard(words, sounds.tolist(), len(settled))), score)

    def _settled_words(self) -> list[HeardWord]:
        """The words before the root, which never change."""
        s, done = self._search, len(self._settled)
        count = int(s.counts[core.SETTLED_WORDS])
        if count > done:
            sounds = np.asarray(s.settled_sounds)[: int(s.counts[core.SETTLED_SOUNDS])]
            sounds = sounds[np.searchsorted(sounds["word"], done + 1) :]
            self._settled += self._heard(s.settled_words[done:count].tolist(), sounds.tolist(), done)
            for number in range(done + 1, count + 1):
                del self._last_heard[number]
        return self._settled

    def _heard(self, words: list[int], sounds: list[_Sound], before: int) -> list[HeardWord]:
        """Words, numbered from ``before`` + 1 on, of their sounds in order; the same as last time if they can be."""
        heard, at = [], 0
        for number, word in enumerate(words, before + 1):
            first = at
            while at < len(sounds) and sounds[at][0] == number:
                at += 1
            own = sounds[first:at]
            known, its_sounds, value = self._last_heard.get(number, _NOT_HEARD)
            if value is None or known != word or its_sounds != own:
                value = HeardWord(self._text(word), own[0][1], own[-1][1], tuple([peak for _, _, peak in own]))
                self._last_heard[number] = word, own, value
            heard.append(value)
        return heard

    def _text(self, word: int) -> str:
        own = len(self._tree.words)
        return self._tree.words[word] if word < own else self._hot.words[word - own]

    def finals(self, count: int = 1) -> list[Reading]:
        """The likeliest texts if the utterance ends here, likeliest first, at most ``count``.

        Those after the first may differ from `best` in words that were called stable, as far back as text is
        not settled yet.
        """
        s = self._search
        if s.has_second:
            none = np.zeros((0, len(self._tokens)))
            self._take_memory()
            s = self._search
            run(self.table(), none, _SETTLE_EVERY, self._options.max_delay_steps, True)
            self._read_last = int(s.counts[core.BEST])
            self._best = None
        ranked = self._ranked()
        if not s.switches[core.KEEP]:
            return [self._read(index, total) for total, index in ranked[:count]]
        return self._readings(ranked, count)

    def _ranked(self) -> list[tuple[float, int]]:
        """Scores of the different texts if the utterance ends here, likeliest first, and the hypothesis of each."""
        s = self._search
        h = np.asarray(s.hypotheses)[: int(s.counts[core.HYPOTHESES])]
        keys = np.asarray(s.nodes)["key"][h["node"]]
        # What was lent for words and phrases that are not complete is taken back. Where other texts are whole, those
        # with an unfinished word do not count; where none is, the unfinished words are left out.
        whole = h["place"] == core.ROOT
        scores = np.where(whole | ~whole.any(), h["score"] - h["ahead"], -math.inf)
        # Where the same words end in different sounds, their probabilities add up.
        texts: dict[int, tuple[float, int]] = {}
        for index in np.argsort(-scores, kind="stable").tolist():
            key, score = int(keys[index]), float(scores[index])
            if score == -math.inf:
                continue
            total, first = texts.get(key, (-math.inf, index))
            texts[key] = float(np.logaddexp(total, score)), first
        return sorted(texts.values(), key=lambda pair: -pair[0])

    def _readings(self, ranked: list[tuple[float, int]], count: int) -> list[Reading]:
        """The likeliest texts of hypotheses, and of what lost to them on the way, best first.

        Back from the end of a text's alignment, what is before any mark may be exchanged for another text that
        had come to the same place there.
        """
        s = self._search
        marks, others = np.asarray(s.marks), np.asarray(s.alternatives)
        waiting: list[tuple[float, int, int, int, _Rest]] = [
            (-score, order, int(s.hypotheses.node[i]), _likeliest_mark(s.hypotheses[i]), ((), ()))
            for order, (score, i) in enumerate(ranked)
        ]
        heapq.heapify(waiting)
        found: dict[tuple[int, ...], Reading] = {}
        order, settled = len(waiting), self._settled_words()
        while waiting and len(found) < count:
            cost, _, node, mark, (words, sounds) = heapq.heappop(waiting)
            path = self._path(node)
            own = len(settled) + len(path)  # closed words of the node
            chain = []
            while mark >= 0:
                chain.append((mark, *marks[mark].tolist()))
                mark = chain[-1][1]
            rest = [(number + own, step, peak) for number, step, peak in sounds]
            text = (*path, *words)
            if text not in found:
                heard = [mark[2:] for mark in reversed(chain) if words or mark[2] <= own] + rest
                found[text] = Reading((*settled, *self._heard(list(text), heard, len(settled))), -cost)
            for at, _, number, step, peak in chain:
                for other, other_mark, depth, lost, loss in others[at].tolist():
                    if other >= 0 and (not rest or rest[0][1] > lost):
                        after = (*path[depth - len(settled) :], *words)
                        later = tuple((number - depth, step, peak) for number, step, peak in rest)
                        heapq.heappush(waiting, (cost + loss, order, other, other_mark, (after, later)))
                        order += 1
                rest.insert(0, (number, step, peak))
        return list(found.values())

    def _path(self, node: int) -> list[int]:
        """The words from the root to a node."""
        nodes, words = self._search.nodes, []
        while node > 0:
            words.append(int(nodes.word[node]))
            node = int(nodes.before[node])
        return words[::-1]

    def stable_words(self) -> int:
        """How many leading words of `best` every future `best` of this utterance will have."""
        return int(self._search.counts[core.SHARED])

    def stable_chars(self) -> int:
        """How many leading characters of `best` every future `best` of this utterance will have."""
        return len(" ".join(word.text for word in self.best().words[: self.stable_words()]))

    def trailing_blanks(self) -> int:
        """Steps since the best path's last token; all steps if it has none."""
        counts = self._search.counts
        return int(counts[core.STEPS] - 1 - counts[core.LAST_SOUND])


def _singles(options: DecoderOptions, lm: LanguageModel | None) -> np.ndarray:
    """What the language model says of single words, weighed; of one that it does not know, with what that costs."""
    singles = np.zeros(core.UNKNOWN + 1)
    if lm is not None:
        codes = lm.arrays.prob_codes[0].astype(np.float64)
        singles[: len(codes)] = options.alpha * codes
        singles[core.UNKNOWN] = options.alpha * codes[lm.arrays.prob[0]] + options.oov_penalty
    return singles


def _begun(tree: LexiconTree, singles: np.ndarray, beta: float) -> np.ndarray:
    """The most that the language model says, by itself, of the words that begin with each token."""
    by_token = tree.arrays.by_token
    at = np.asarray(tree.arrays.places)[by_token]
    unknown = singles[core.UNKNOWN]
    ahead = np.where(at["unknown"] & AHEAD, unknown, singles[at["ahead"]])
    ending = np.where(at["unknown"] & ENDING, unknown, singles[at["ending"]])
    goes_on = at["first_row"].astype(np.int64) + at["ends"] < at["last_row"]
    whole = np.where(at["ends"] > 0, beta + np.maximum(ending, unknown), -math.inf)
    most = np.maximum(np.where(goes_on, ahead, -math.inf), whole)
    return np.where(by_token == core.OFF, -math.inf, most)


def _likeliest_mark(hypothesis: Any) -> int:
    ends_in_token = hypothesis.best_token > hypothesis.best_blank
    return int(hypothesis.mark_token if ends_in_token else hypothesis.mark_blank)


def _longer(array: _Array, needed: int) -> _Array:
    """A copy with room for more rows; what the new ones hold does not matter."""
    longer = np.empty((max(needed, 2 * len(array)), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return cast(_Array, longer.view(type(array)))
