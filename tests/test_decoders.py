"""Greedy and beam decoding against sums over all alignments."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.beam import _SETTLE_EVERY, BeamDecoder
from asr.decoder import DecoderOptions
from asr.errors import ConfigError
from asr.greedy import GreedyDecoder

WIDE = DecoderOptions(method="beam", beam=10_000, token_floor=-math.inf)


def random_log_probs(steps: int, tokens: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharpness, (steps, tokens))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


def all_texts(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Probability of every text, by adding up every alignment."""
    texts: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        texts[collapse(path)] += math.exp(sum(row[token] for row, token in zip(log_probs, path, strict=True)))
    return texts


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 10_000))
def test_a_wide_beam_finds_the_likeliest_text(steps, tokens, seed) -> None:
    """With nothing pruned, the best text and its score are those of the sum over all alignments."""
    log_probs = random_log_probs(steps, tokens, seed)
    decoder = BeamDecoder(WIDE)
    decoder.accept(log_probs)
    texts = all_texts(log_probs)
    best = decoder.best()
    assert math.isclose(math.exp(best.score), max(texts.values()), rel_tol=1e-9)
    assert math.isclose(texts[best.tokens], max(texts.values()), rel_tol=1e-9)


def test_the_beam_beats_greedy_where_alignments_add_up() -> None:
    """Two weak alignments of one text together outweigh the single best path."""
    log_probs = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    greedy, beam = GreedyDecoder(), BeamDecoder(DecoderOptions(method="beam", token_floor=-math.inf))
    greedy.accept(log_probs)
    beam.accept(log_probs)
    assert greedy.best().tokens == ()
    assert beam.best().tokens == (1,)
    assert math.isclose(math.exp(beam.best().score), 0.64)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 40), max_size=6), st.sampled_from(["greedy", "beam"]))
def test_chunks_do_not_matter(seed, cuts, method) -> None:
    """Fed in pieces of any length, a decoder ends with the same hypothesis."""
    log_probs = random_log_probs(40, 6, seed)

    def decode(parts):
        decoder = GreedyDecoder() if method == "greedy" else BeamDecoder(DecoderOptions(method="beam"))
        for part in parts:
            decoder.accept(part)
        return decoder.best(), decoder.trailing_blanks()

    assert decode(np.split(log_probs, sorted(cuts))) == decode([log_probs])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000), st.floats(0.5, 6.0), st.integers(1, 12), st.sampled_from(["greedy", "beam"]))
def test_stable_tokens_never_change(seed, sharpness, beam, method) -> None:
    """Every token once called stable is in every later hypothesis, at its place."""
    decoder = GreedyDecoder() if method == "greedy" else BeamDecoder(DecoderOptions(method="beam", beam=beam))
    stable: tuple[int, ...] = ()
    for row in random_log_probs(60, 5, seed, sharpness):
        decoder.accept(row[None])
        best = decoder.best().tokens
        assert best[: len(stable)] == stable
        assert decoder.stable_tokens() <= len(best)
        stable = best[: decoder.stable_tokens()]


def test_the_beam_tree_does_not_grow() -> None:
    """Through 5,000 steps of noise without an endpoint, the live tree stays within a bound."""

    def live_nodes(decoder: BeamDecoder) -> int:
        stack, count = [decoder._root], 0
        while stack:
            node = stack.pop()
            count += 1
            stack += node.children.values()
        return count

    options = DecoderOptions(method="beam", beam=8)
    decoder = BeamDecoder(options)
    sizes = []
    for seed in range(10):
        decoder.accept(random_log_probs(500, 5, seed, 3.0))
        sizes.append(live_nodes(decoder))
    # A path to each beam, no longer than the delay after which disagreement is given up.
    assert max(sizes) <= options.beam * (options.max_delay_steps + 2 * _SETTLE_EVERY)


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_steps_and_probabilities_are_those_of_the_peaks(method) -> None:
    """A token's step is where it starts and its probability the highest it reaches."""
    rows = np.full((8, 3), 0.01)
    for step, token, p in [
        (0, 0, 0.98),
        (1, 1, 0.7),
        (2, 1, 0.9),
        (3, 0, 0.98),
        (4, 1, 0.8),
        (5, 2, 0.95),
        (6, 0, 0.98),
        (7, 0, 0.98),
    ]:
        rows[step, token] = p
    decoder = GreedyDecoder() if method == "greedy" else BeamDecoder(DecoderOptions(method="beam"))
    decoder.accept(np.log(rows / rows.sum(axis=1, keepdims=True)))
    best = decoder.best()
    assert best.tokens == (1, 1, 2)
    assert best.steps == (1, 4, 5)
    assert np.exp(best.log_probs[0]) == pytest.approx(0.9 / 0.92)
    assert decoder.trailing_blanks() == 2


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_a_new_utterance_begins_at_a_reset(method) -> None:
    """After a reset nothing of the text before is left, and a token that sounds on is not written twice."""
    held = np.log(np.array([[0.02, 0.97, 0.01]] * 3 + [[0.97, 0.01, 0.02]] + [[0.02, 0.97, 0.01]]))
    decoder = GreedyDecoder() if method == "greedy" else BeamDecoder(DecoderOptions(method="beam"))
    decoder.accept(held[:2])
    assert decoder.best().tokens == (1,)
    decoder.reset()
    decoder.accept(held[2:4])
    assert decoder.best().tokens == ()
    assert decoder.trailing_blanks() == 1
    decoder.accept(held[4:])
    assert decoder.best().tokens == (1,)
    assert decoder.best().steps == (2,)


def test_options_that_cannot_work_are_refused() -> None:
    """The error names what is wrong."""
    with pytest.raises(ConfigError, match="greedy or beam"):
        DecoderOptions(method="viterbi")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        DecoderOptions(beam=0)
