"""The word search in plain Python: slow, readable, and what the compiled one must equal.

It knows no hot words, and settles nothing: what it says holds for utterances shorter than the delay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from asr.lm import LanguageModel
from asr.lm.lookup import state_of
from asr.search.decoder import DecoderOptions

_NEVER = -math.inf
_FEW = 4  # words below a place, up to which the language model is asked about each instead of the likeliest
_SLACK = 2.0  # by how much a word's chance may rise by the words before it, where that is not asked yet
_LEAD = 2.0  # hypotheses so near to the likeliest one grow before the others
_CLOSE = 1e-9  # scores nearer than this are a tie, which nothing decides

Words = tuple[str, ...]
Sounds = tuple[int, ...]
_Mark = tuple[int, int, float]  # number of the word, first step, log probability at the peak
_Alignment = tuple[_Mark, ...]
_Place = tuple[Words, Sounds, int]  # words that are closed, sounds of the unfinished one, last token


@dataclass(slots=True)
class _Ending:
    """All alignments that end the same way."""

    total: float = _NEVER  # log of the sum of their probabilities
    best: float = _NEVER  # log probability of the likeliest one
    alignment: _Alignment = ()  # which is this

    def add(self, total: float, best: float, alignment: _Alignment) -> None:
        self.total = float(np.logaddexp(self.total, total))
        if best > self.best:
            self.best, self.alignment = best, alignment


@dataclass(slots=True)
class _Hypothesis:
    blank: _Ending = field(default_factory=_Ending)
    sound: _Ending = field(default_factory=_Ending)

    @property
    def total(self) -> float:
        return float(np.logaddexp(self.blank.total, self.sound.total))

    @property
    def likeliest(self) -> _Ending:
        return self.sound if self.sound.best > self.blank.best else self.blank


class ReferenceWordBeam:
    """See `asr.search.word_beam.WordBeamDecoder`. The lexicon gives each word's pronunciations, as tokens."""

    def __init__(
        self,
        options: DecoderOptions,
        lexicon: dict[str, list[Sounds]],
        lm: LanguageModel | None = None,
        recombine: bool = True,
    ) -> None:
        self._options, self._lexicon, self._lm, self._recombine = options, lexicon, lm, recombine
        self._steps = 0
        self.tied = False  # whether something was decided by chance
        self._beam: dict[_Place, _Hypothesis] = {((), (), -1): _Hypothesis(blank=_Ending(0.0, 0.0))}

    def accept(self, log_probs: np.ndarray) -> None:
        for row in np.asarray(log_probs, dtype=np.float64):
            self._step(row)

    def _step(self, row: np.ndarray) -> None:
        options, old = self._options, self._beam
        grown: dict[_Place, _Hypothesis] = {}
        for place, hypothesis in old.items():
            new = grown[place] = _Hypothesis()
            last = hypothesis.likeliest
            new.blank.add(hypothesis.total + row[0], last.best + row[0], last.alignment)
            token, ending = place[2], hypothesis.sound
            if ending.total > _NEVER:
                *marks, (number, step, peak) = ending.alignment
                alignment = (*marks, (number, step, max(peak, float(row[token]))))
                new.sound.add(ending.total + row[token], ending.best + row[token], alignment)
        scores = {place: self._score(place, hypothesis) for place, hypothesis in grown.items()}
        bar = max(scores.values()) - options.beam_range
        if len(scores) == options.beam:
            bar = max(bar, min(scores.values()))
        # The likeliest hypotheses grow first, and the bar rises by what comes of them.
        last_scores = {place: self._score(place, hypothesis) for place, hypothesis in old.items()}
        lead = max(last_scores.values()) - _LEAD
        order = sorted(old, key=lambda place: last_scores[place] < lead)
        led = True
        for words, sounds, last_token in order:
            hypothesis = old[words, sounds, last_token]
            if led and last_scores[words, sounds, last_token] < lead:
                led = False
                new = [self._score(place, grown[place]) for place in grown.keys() - old.keys()]
                bar = max(bar, max(new, default=_NEVER) - options.beam_range)
            for token in np.flatnonzero(row >= options.token_floor).tolist():
                source = hypothesis.blank if token == last_token else hypothesis.likeliest
                total = (hypothesis.blank.total if token == last_token else hypothesis.total) + row[token]
                if token == 0 or total == _NEVER:
                    continue
                # What could not get into the beam by what is ahead, or by what single words cost, counts nothing.
                if total + self._bonus((words, sounds, last_token)) + _SLACK <= bar:
                    continue
                alignment = (*source.alignment, (len(words) + 1, self._steps, float(row[token])))
                for target in self._targets(words, (*sounds, token)):
                    if total + self._words_bonus(words) + self._single(words, target) + _SLACK <= bar:
                        continue
                    # What could not get into the beam by itself only adds to what is in it.
                    if target in old or total + self._bonus(target) > bar:
                        ending = grown.setdefault(target, _Hypothesis()).sound
                        ending.add(total, source.best + row[token], alignment)
        self._beam = self._choose(grown)
        self._steps += 1

    def _targets(self, words: Words, sounds: Sounds) -> Iterator[_Place]:
        if self._below(sounds):
            yield words, sounds, sounds[-1]
        for word, spoken in self._lexicon.items():
            if sounds in spoken:
                yield (*words, word), (), sounds[-1]

    def _below(self, sounds: Sounds) -> list[str]:
        """The words that the sounds begin but do not end, once for each pronunciation."""
        return [
            word
            for word, spoken in self._lexicon.items()
            for other in spoken
            if len(other) > len(sounds) and other[: len(sounds)] == sounds
        ]

    def _choose(self, grown: dict[_Place, _Hypothesis]) -> dict[_Place, _Hypothesis]:
        ranked = sorted(grown, key=lambda place: -self._score(place, grown[place]))
        floor = self._score(ranked[0], grown[ranked[0]]) - self._options.beam_range
        futures: dict[object, float] = {}
        kept: list[_Place] = []
        for place in ranked:
            score = self._score(place, grown[place])
            future = (self._context(place[0]), place[1:]) if self._recombine else place
            if future in futures:
                self.tied |= futures[future] - score < _CLOSE
                continue
            futures[future] = score
            if score >= floor:
                kept.append(place)
        if len(kept) > self._options.beam:
            last, first_out = kept[self._options.beam - 1 : self._options.beam + 1]
            self.tied |= self._score(last, grown[last]) - self._score(first_out, grown[first_out]) < _CLOSE
        return {place: grown[place] for place in kept[: self._options.beam]}

    def _context(self, words: Words) -> int:
        """What the language model remembers of words."""
        if self._lm is None or self._lm.order == 1:
            return -1
        ids = [1, *(self._lm.ids.get(word, 0) for word in words)]
        return int(state_of(self._lm.arrays, np.array(ids, dtype=np.int32)))

    def _score(self, place: _Place, hypothesis: _Hypothesis) -> float:
        return hypothesis.total + self._bonus(place)

    def _bonus(self, place: _Place) -> float:
        words, sounds, _ = place
        below = self._below(sounds)
        if self._lm is not None and sounds and len(below) <= _FEW:
            ahead = max(self._word_bonus(words, word) for word in below) - self._options.beta
        else:
            ahead = self._single_ahead(sounds)
        return self._words_bonus(words) + ahead

    def _words_bonus(self, words: Words) -> float:
        return sum(self._word_bonus(words[:i], word) for i, word in enumerate(words))

    def _single(self, words: Words, target: _Place) -> float:
        """What a target adds to the words before, by what the language model says of single words."""
        if len(target[0]) == len(words):
            return self._single_ahead(target[1])
        word = target[0][-1]
        if self._lm is None:
            return self._options.beta
        return self._options.beta + (self._alone(word) if word in self._lm.ids else self._unknown())

    def _single_ahead(self, sounds: Sounds) -> float:
        if self._lm is None or not sounds:
            return 0.0
        known = [word for word in self._below(sounds) if word in self._lm.ids]
        return max(self._alone(word) for word in known) if known else self._unknown()

    def _alone(self, word: str) -> float:
        assert self._lm is not None
        return self._options.alpha * self._lm.score([], word)

    def _unknown(self) -> float:
        return self._alone("<unk>") + self._options.oov_penalty

    def _word_bonus(self, before: Words, word: str) -> float:
        if self._lm is None:
            return self._options.beta
        unknown = self._options.oov_penalty if word not in self._lm.ids else 0.0
        return self._options.beta + self._options.alpha * self._lm.score(["<s>", *before], word) + unknown

    def finals(self) -> list[tuple[Words, float]]:
        """All texts whose last word is whole, with their scores, best first."""
        texts: dict[Words, float] = {}
        for place, hypothesis in self._beam.items():
            if not place[1]:
                texts[place[0]] = float(np.logaddexp(texts.get(place[0], _NEVER), self._score(place, hypothesis)))
        return sorted(texts.items(), key=lambda item: -item[1])

    def marks(self, words: Words) -> _Alignment:
        """The likeliest alignment of a text whose last word is whole."""
        endings = [(h.likeliest, self._score(place, h)) for place, h in self._beam.items() if place[:2] == (words, ())]
        return max(endings, key=lambda pair: pair[1])[0].alignment
