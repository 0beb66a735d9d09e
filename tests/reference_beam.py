"""The beam search without a language model, in plain Python: slow, readable, and what the compiled one must equal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from asr.search.decoder import DecoderOptions, Hypothesis

_NEVER = -math.inf
_SETTLE_EVERY = 16  # steps; counted from the utterance's start, so that chunks do not matter

# The best alignment of a prefix, as a linked list from its last token back: (token's first step, log
# probability at its peak, the alignment before it). Prefixes share their tails.
_Alignment = tuple[int, float, "_Alignment | None"]


class _Node:
    """A prefix of some hypotheses, by its last token."""

    __slots__ = ("children", "depth", "parent", "token")

    def __init__(self, token: int, parent: _Node | None) -> None:
        self.token = token
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.children: dict[int, _Node] = {}


@dataclass(slots=True)
class _Ending:
    """All alignments of a prefix that end the same way."""

    total: float = _NEVER  # log of the sum of their probabilities
    best: float = _NEVER  # log probability of the likeliest one
    alignment: _Alignment | None = None  # which is this

    def add(self, total: float, best: float, alignment: _Alignment | None) -> None:
        self.total = _log_add(self.total, total)
        if best > self.best:
            self.best, self.alignment = best, alignment


@dataclass(slots=True)
class _Beam:
    """A hypothesis."""

    node: _Node
    blank: _Ending = field(default_factory=_Ending)
    token: _Ending = field(default_factory=_Ending)

    @property
    def score(self) -> float:
        return _log_add(self.blank.total, self.token.total)

    @property
    def likeliest(self) -> _Ending:
        return self.token if self.token.best > self.blank.best else self.blank


class ReferenceBeam:
    """See `asr.search.decoder.Decoder`."""

    def __init__(self, options: DecoderOptions, blank: int = 0) -> None:
        self._options = options
        self._blank = blank
        self._root = _Node(blank, None)
        self._beams = [_Beam(self._root, blank=_Ending(0.0, 0.0))]  # likeliest first
        self.reset()

    def reset(self) -> None:
        self._steps_seen = 0
        self._last_token_step = -1
        self._committed: list[int] = []  # tokens up to and with the root's
        best, score = self._beams[0], self._beams[0].score
        # The last token stays as the root's, written in no text, so that its going on is not a new one.
        self._root = _Node(best.node.token, None)
        blank, token = (_Ending(e.total - score, e.total - score) for e in (best.blank, best.token))
        self._beams = [_Beam(self._root, blank, token)]

    def accept(self, log_probs: np.ndarray) -> None:
        for row in np.asarray(log_probs, dtype=np.float64):
            self._step(row)
        self._commit()

    def _step(self, row: np.ndarray) -> None:
        likely = [int(token) for token in np.flatnonzero(row >= self._options.token_floor) if token != self._blank]
        grown: dict[_Node, _Beam] = {}

        def beam_of(node: _Node) -> _Beam:
            beam = grown.get(node)
            if beam is None:
                beam = grown[node] = _Beam(node)
            return beam

        for old in self._beams:
            node, ending = old.node, old.likeliest
            same = beam_of(node)
            blank = float(row[self._blank])
            same.blank.add(old.score + blank, ending.best + blank, ending.alignment)
            if old.token.total != _NEVER:
                log_prob = float(row[node.token])
                alignment = old.token.alignment
                if alignment is not None:
                    step, peak, before = alignment
                    alignment = (step, max(peak, log_prob), before)
                same.token.add(old.token.total + log_prob, old.token.best + log_prob, alignment)
            for token in likely:
                log_prob = float(row[token])
                # A token after itself is a new one only with a blank between.
                total, source = (old.blank.total, old.blank) if token == node.token else (old.score, ending)
                if total == _NEVER:
                    continue
                child = node.children.get(token)
                if child is None:
                    child = node.children[token] = _Node(token, node)
                alignment = (self._steps_seen, log_prob, source.alignment)
                beam_of(child).token.add(total + log_prob, source.best + log_prob, alignment)

        ranked = sorted(grown.values(), key=lambda beam: -beam.score)  # stable: ties stay in the order of growth
        self._beams = ranked[: self._options.beam]
        live = {beam.node for beam in self._beams}
        for beam in ranked[self._options.beam :]:
            _prune(beam.node, live)
        if self._beams[0].likeliest is self._beams[0].token:
            self._last_token_step = self._steps_seen
        self._steps_seen += 1
        if self._steps_seen % _SETTLE_EVERY == 0:
            self._settle()

    def _settle(self) -> None:
        """Give up the beams that differ from the best one too long ago: what is left of them is the past."""
        best = self._beams[0]
        alignment, recent = best.likeliest.alignment, 0
        while alignment is not None and alignment[0] > self._steps_seen - self._options.max_delay_steps:
            alignment, recent = alignment[2], recent + 1
        settled = best.node
        for _ in range(recent):
            if settled is self._root:
                return
            assert settled.parent is not None
            settled = settled.parent
        kept = [beam for beam in self._beams if self._is_under(beam.node, settled)]
        live = {beam.node for beam in kept}
        dropped = [beam for beam in self._beams if beam.node not in live]
        self._beams = kept
        for beam in dropped:
            _prune(beam.node, live)

    def _is_under(self, node: _Node, ancestor: _Node) -> bool:
        while node.depth > ancestor.depth:
            assert node.parent is not None
            node = node.parent
        return node is ancestor

    def _commit(self) -> None:
        """Move the prefix that all beams share out of the tree."""
        shared = self._beams[0].node
        for beam in self._beams[1:]:
            node = beam.node
            while shared is not node:
                if shared.depth >= node.depth:
                    assert shared.parent is not None
                    shared = shared.parent
                else:
                    assert node.parent is not None
                    node = node.parent
        # The shared node stays as the root: its token is still needed to see a repeat.
        self._committed += self._tokens(shared)
        self._root = shared
        shared.parent = None

    def _tokens(self, node: _Node) -> list[int]:
        """Tokens below the root down to a node."""
        tokens: list[int] = []
        while node is not self._root:
            tokens.append(node.token)
            assert node.parent is not None
            node = node.parent
        return tokens[::-1]

    def best(self) -> Hypothesis:
        beam = self._beams[0]
        tokens = self._committed + self._tokens(beam.node)
        steps: list[int] = []
        log_probs: list[float] = []
        alignment = beam.likeliest.alignment
        while alignment is not None:
            step, log_prob, alignment = alignment
            steps.append(step)
            log_probs.append(log_prob)
        return Hypothesis(tuple(tokens), tuple(steps[::-1]), tuple(log_probs[::-1]), beam.score)

    def stable_tokens(self) -> int:
        return len(self._committed)

    def trailing_blanks(self) -> int:
        return self._steps_seen - 1 - self._last_token_step


def _prune(node: _Node, live: set[_Node]) -> None:
    """Take a node that no beam stands on or under out of the tree, and its ancestors that this leaves bare."""
    while node not in live and not node.children and node.parent is not None:
        if node.parent.children.pop(node.token, None) is None:
            return  # went already, with a branch above it
        node = node.parent


def _log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))
