"""CTC prefix beam search that keeps its beams across chunks.

Each hypothesis is a node of a prefix tree with two probabilities: that of all alignments that end in
blank, and of those that end in the node's own token. Merging the alignments of one text is what makes
this a search over texts and not over paths.

Written in plain Python, to be right and readable; the tree is cut behind the part that all beams share,
so memory follows the live beams and not the stream.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from asr.decoder import DecoderOptions, Hypothesis

_NEVER = -math.inf


class _Node:
    """A prefix: its last token, and the likeliest place where that token was heard."""

    __slots__ = ("children", "depth", "log_prob", "parent", "step", "token")

    def __init__(self, token: int, parent: _Node | None, step: int, log_prob: float) -> None:
        self.token = token
        self.parent = parent
        self.step = step
        self.log_prob = log_prob
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.children: dict[int, _Node] = {}


class BeamDecoder:
    """See `asr.decoder.Decoder`."""

    def __init__(self, options: DecoderOptions, blank: int = 0) -> None:
        self._options = options
        self._blank = blank
        self.reset()

    def reset(self) -> None:
        self._steps_seen = 0
        root = _Node(self._blank, None, -1, 0.0)
        self._root = root
        # node -> (log probability of ending in blank, of ending in the node's token), likeliest first
        self._beams: list[tuple[_Node, float, float]] = [(root, 0.0, _NEVER)]
        self._committed: list[tuple[int, int, float]] = []  # (token, step, log_prob) above the root
        self._last_token_step = -1

    def accept(self, log_probs: np.ndarray) -> None:
        for row in np.asarray(log_probs, dtype=np.float64):
            self._step(row)
        self._commit()

    def _step(self, row: np.ndarray) -> None:
        candidates = np.flatnonzero(row >= self._options.token_floor)
        tokens = [(int(token), float(row[token])) for token in candidates if token != self._blank]
        blank = float(row[self._blank])
        ends_blank: dict[_Node, float] = defaultdict(lambda: _NEVER)
        ends_token: dict[_Node, float] = defaultdict(lambda: _NEVER)
        for node, in_blank, in_token in self._beams:
            total = _log_add(in_blank, in_token)
            ends_blank[node] = _log_add(ends_blank[node], total + blank)
            if node.depth:
                # The last token goes on; only its blank-ended alignments may start it anew.
                log_prob = float(row[node.token])
                ends_token[node] = _log_add(ends_token[node], in_token + log_prob)
                if log_prob > node.log_prob and in_token + log_prob > in_blank + blank:
                    node.log_prob = log_prob
            for token, log_prob in tokens:
                before = in_blank if node.depth and token == node.token else total
                if before == _NEVER:
                    continue
                child = node.children.get(token)
                if child is None:
                    child = node.children[token] = _Node(token, node, self._steps_seen, log_prob)
                ends_token[child] = _log_add(ends_token[child], before + log_prob)
        scored = [(node, ends_blank[node], ends_token[node]) for node in {**ends_blank, **ends_token}]
        scored.sort(key=lambda beam: -_log_add(beam[1], beam[2]))  # stable: ties stay in the order of growth
        self._beams = scored[: self._options.beam]
        live = {node for node, _, _ in self._beams}
        for node, _, _ in scored[self._options.beam :]:
            _prune(node, live)
        best, in_blank, in_token = self._beams[0]
        if in_token > in_blank or best.step == self._steps_seen:
            self._last_token_step = self._steps_seen
        self._steps_seen += 1

    def _commit(self) -> None:
        """Move the prefix that all beams share out of the tree."""
        shared = self._beams[0][0]
        for node, _, _ in self._beams[1:]:
            while shared is not node:
                if shared.depth >= node.depth:
                    assert shared.parent is not None
                    shared = shared.parent
                else:
                    assert node.parent is not None
                    node = node.parent
        path: list[_Node] = []
        node = shared
        while node is not self._root:
            path.append(node)
            assert node.parent is not None
            node = node.parent
        # The shared node itself stays as the root: its token is still needed to see a repeat.
        self._committed += [(n.token, n.step, n.log_prob) for n in reversed(path)]
        self._root = shared
        shared.parent = None

    def best(self) -> Hypothesis:
        node, in_blank, in_token = self._beams[0]
        tail: list[tuple[int, int, float]] = []
        while node is not self._root:
            tail.append((node.token, node.step, node.log_prob))
            assert node.parent is not None
            node = node.parent
        rows = self._committed + tail[::-1]
        return Hypothesis(
            tokens=tuple(token for token, _, _ in rows),
            steps=tuple(step for _, step, _ in rows),
            log_probs=tuple(log_prob for _, _, log_prob in rows),
            score=_log_add(in_blank, in_token),
        )

    def stable_tokens(self) -> int:
        return len(self._committed)

    def trailing_blanks(self) -> int:
        return self._steps_seen - 1 - self._last_token_step


def _prune(node: _Node, live: set[_Node]) -> None:
    """Take a node that no beam stands on or under out of the tree, and its ancestors that this leaves bare."""
    while node not in live and not node.children and node.parent is not None:
        del node.parent.children[node.token]
        node = node.parent


def _log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))
