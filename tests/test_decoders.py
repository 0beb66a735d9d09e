"""Greedy and beam decoding against sums over all alignments."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_beam import ReferenceBeam

from asr.errors import ConfigError
from asr.lm import LanguageModel
from asr.lm.estimate import encode, estimate
from asr.lm.table import SPECIAL
from asr.search import beam_search as core
from asr.search.beam import _SETTLE_EVERY, BeamDecoder
from asr.search.decoder import DecoderOptions, TokenDecoder
from asr.search.greedy import GreedyDecoder
from asr.search.hotwords import HotWord
from asr.text.tokens import BLANK, Tokenizer

WIDE = DecoderOptions(
    beam=4_000, blank_ceiling=1.0, token_floor=-math.inf, beam_range=math.inf, alpha=0.7, beta=0.5, oov_penalty=-2.0
)
LETTERS = Tokenizer([BLANK, " ", "a", "b"])
PIECES = Tokenizer([BLANK, " ", "a", "b", "ab"])  # so that a text can be written in several ways


def plain(tokens: int) -> Tokenizer:
    """Tokens without a space among them."""
    return Tokenizer([BLANK, *"abcdefghijkl"[: tokens - 1]])


def make(method: str, tokens: int, **options) -> TokenDecoder:
    return GreedyDecoder() if method == "greedy" else BeamDecoder(DecoderOptions(**options), plain(tokens))


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """A trigram model of the words a, b, ab and ba, which knows that there are others."""
    rng = np.random.default_rng(0)
    words = ["a", "b", "ab", "ba", "aab", "bb"]
    sentences = [[words[i] for i in rng.integers(0, 6, rng.integers(1, 5))] for _ in range(80)]
    vocabulary = (*SPECIAL, "a", "b", "ab", "ba")
    return LanguageModel.from_table(estimate(encode(sentences, vocabulary), vocabulary, 3)[0])


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


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 10_000))
def test_a_wide_beam_finds_the_likeliest_text(steps, tokens, seed) -> None:
    """With nothing pruned, the best text and its score are those of the sum over all alignments."""
    log_probs = random_log_probs(steps, tokens, seed)
    decoder = BeamDecoder(WIDE, plain(tokens))
    decoder.accept(log_probs)
    texts = all_texts(log_probs)
    best = decoder.best()
    assert math.isclose(math.exp(best.score), max(texts.values()), rel_tol=1e-9)
    assert math.isclose(texts[best.tokens], max(texts.values()), rel_tol=1e-9)


def test_the_beam_beats_greedy_where_alignments_add_up() -> None:
    """Two weak alignments of one text together outweigh the single best path."""
    log_probs = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    greedy, beam = GreedyDecoder(), BeamDecoder(DecoderOptions(blank_ceiling=1.0, token_floor=-math.inf), plain(2))
    greedy.accept(log_probs)
    beam.accept(log_probs)
    assert greedy.best().tokens == ()
    assert beam.best().tokens == (1,)
    assert math.isclose(math.exp(beam.best().score), 0.64)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 40), max_size=6), st.sampled_from(["greedy", "beam"]))
def test_chunks_do_not_matter(seed, cuts, method) -> None:
    """Fed in pieces of any length, a decoder ends with the same hypothesis."""
    log_probs = random_log_probs(40, 6, seed)

    def decode(parts):
        decoder = make(method, 6)
        for part in parts:
            decoder.accept(part)
        return decoder.best(), decoder.trailing_blanks()

    assert decode(np.split(log_probs, sorted(cuts))) == decode([log_probs])


@settings(max_examples=100)
@given(st.integers(0, 100_000), st.floats(0.5, 6.0), st.integers(1, 12), st.sampled_from(["greedy", "beam"]))
def test_stable_tokens_never_change(seed, sharpness, beam, method) -> None:
    """Every token once called stable is in every later hypothesis, at its place."""
    decoder = make(method, 5, beam=beam)
    stable: tuple[int, ...] = ()
    for row in random_log_probs(60, 5, seed, sharpness):
        decoder.accept(row[None])
        best = decoder.best().tokens
        assert best[: len(stable)] == stable
        assert decoder.stable_tokens() <= len(best)
        stable = best[: decoder.stable_tokens()]


@settings(max_examples=1_000)
@given(
    st.sampled_from([LETTERS, PIECES]),
    st.integers(0, 2**32 - 1),
    st.floats(0.5, 6.0),
    st.integers(1, 24),
    st.integers(1, 9),
    st.booleans(),
)
def test_stable_tokens_never_change_with_a_language_model(lm, tokenizer, seed, sharpness, beam, chunk, hot) -> None:
    """The same with a language model, hot words and a short delay, in chunks, through to every final text."""
    options = DecoderOptions(beam=beam, alpha=1.5, oov_penalty=-1.0, max_delay_steps=12)
    decoder = BeamDecoder(options, tokenizer, lm)
    if hot:
        decoder.set_hot_words([HotWord("ab ab", 5.0), HotWord("bab", 3.0)])
    stable: tuple[int, ...] = ()
    log_probs = random_log_probs(100, len(tokenizer), seed, sharpness)
    for begin in range(0, 100, chunk):
        decoder.accept(log_probs[begin : begin + chunk])
        best = decoder.best().tokens
        assert best[: len(stable)] == stable
        stable = best[: decoder.stable_tokens()]
    for final in decoder.finals(beam):
        assert final.tokens[: len(stable)] == stable


def test_hot_words_set_in_silence_are_those_of_what_is_said_next(lm) -> None:
    """While nothing has been recognised, new hot words take the place of the old at once; after a word, at `reset`."""
    silence = np.log(np.array([[0.97, 0.01, 0.01, 0.01]], dtype=np.float32)).repeat(20, axis=0)
    speech = random_log_probs(40, 4, 11, 3.0)
    options = DecoderOptions(beam=8, alpha=1.5, oov_penalty=-1.0)

    def decode(first: list[HotWord], then: list[HotWord], *, before: int) -> tuple[tuple[int, ...], int]:
        decoder = BeamDecoder(options, LETTERS, lm)
        decoder.set_hot_words(first)
        decoder.accept(silence)
        decoder.accept(speech[:before])
        decoder.set_hot_words(then)
        decoder.accept(speech[before:])
        return decoder.best().tokens, decoder.trailing_blanks()

    wanted, other = [HotWord("ba", 6.0)], [HotWord("ab", 6.0)]
    assert decode(wanted, wanted, before=0) != decode(other, other, before=0)
    assert decode(other, wanted, before=0) == decode(wanted, wanted, before=0)
    assert decode(other, wanted, before=20) == decode(other, other, before=20)


@settings(max_examples=60)
@given(st.integers(0, 100_000), st.integers(1, 80), st.floats(0.5, 6.0), st.integers(1, 20))
def test_the_compiled_search_is_the_plain_one(seed, steps, sharpness, beam) -> None:
    """Texts, scores, times, probabilities and stable lengths equal those of the same search in plain Python."""
    options = DecoderOptions(beam=beam, blank_ceiling=1.0, token_floor=-12.0, beam_range=math.inf)
    compiled, reference = BeamDecoder(options, plain(4)), ReferenceBeam(options)
    for part in np.array_split(random_log_probs(steps, 4, seed, sharpness), 3):
        compiled.accept(part)
        reference.accept(part)
        ours, theirs = compiled.best(), reference.best()
        assert (ours.tokens, ours.steps) == (theirs.tokens, theirs.steps)
        assert ours.log_probs == pytest.approx(theirs.log_probs)
        assert ours.score == pytest.approx(theirs.score)
        assert compiled.stable_tokens() == reference.stable_tokens()
        assert compiled.trailing_blanks() == reference.trailing_blanks()


@settings(max_examples=60)
@given(
    st.sampled_from([LETTERS, PIECES]),
    st.integers(1, 5),
    st.integers(0, 100_000),
    st.sampled_from([(), ("ab",), ("a b", "bb"), ("bab", "ab a")]),
)
def test_scores_with_a_language_model_are_exact(lm, tokenizer, steps, seed, phrases) -> None:
    """With nothing pruned, the five best texts and their scores are those of summing over all alignments
    and then asking the language model and counting the hot words."""
    log_probs = random_log_probs(steps, len(tokenizer), seed)
    texts: dict[str, float] = defaultdict(float)
    for tokens, probability in all_texts(log_probs).items():
        texts[" ".join(tokenizer.decode(tokens).split())] += probability
    scores = []
    for text, probability in texts.items():
        score, history = math.log(probability), ["<s>"]
        for word in text.split():
            score += WIDE.alpha * lm.score(history, word) + WIDE.beta + WIDE.oov_penalty * (word not in lm.ids)
            history.append(word)
        for phrase in phrases:
            words = phrase.split()
            refund = 2.0 * sum(word not in lm.ids for word in words)
            count = sum(text.split()[i : i + len(words)] == words for i in range(len(text.split())))
            score += count * (3.0 * len(words) + refund)
        scores.append(score)
    decoder = BeamDecoder(WIDE, tokenizer, lm)
    decoder.set_hot_words([HotWord(phrase, 3.0) for phrase in phrases])
    decoder.accept(log_probs)
    found = decoder.finals(5)
    assert [hypothesis.score for hypothesis in found] == pytest.approx(
        sorted(scores, reverse=True)[:5], rel=1e-6, abs=1e-6
    )
    assert len({tokenizer.decode(hypothesis.tokens).strip() for hypothesis in found}) == len(found)


def test_the_beam_tree_does_not_grow() -> None:
    """Through 5,000 steps of noise without an endpoint, tree and alignments stay within a bound."""
    options = DecoderOptions(beam=8)
    decoder = BeamDecoder(options, plain(5))
    sizes = []
    for seed in range(10):
        decoder.accept(random_log_probs(500, 5, seed, 3.0))
        sizes.append(len(decoder._search.nodes) + len(decoder._search.marks))
    # A path to each beam, no longer than the delay after which disagreement is given up, and the room for new ones.
    per_step = core.NODES_PER_STEP + core.MARKS_PER_STEP
    assert max(sizes) <= 2 * options.beam * (2 * options.max_delay_steps + per_step * 2 * _SETTLE_EVERY)
    assert sizes[-1] == sizes[2]


def test_frames_without_a_likely_token_change_no_text() -> None:
    """A long pause of blanks keeps every hypothesis, its order and what it leads by."""
    decoder = BeamDecoder(DecoderOptions(beam=16, max_delay_steps=10_000), plain(4))
    decoder.accept(random_log_probs(20, 4, 1))
    before = decoder.finals(16)
    decoder.accept(np.log(np.tile([1 - 3e-5, 1e-5, 1e-5, 1e-5], (300, 1))))
    after = decoder.finals(16)
    assert [h.tokens for h in before] == [h.tokens for h in after]
    assert [h.score - before[0].score for h in before] == pytest.approx(
        [h.score - after[0].score for h in after], abs=0.02
    )


def test_spaces_in_a_row_are_one() -> None:
    """A second space after a pause, or one before the first word, makes no other text."""
    rows = np.full((9, 4), 1e-4)
    for step, token in enumerate([1, 2, 1, 0, 1, 3, 1, 0, 1]):
        rows[step, token] = 1.0
    decoder = BeamDecoder(DecoderOptions(beam=8), LETTERS)
    decoder.accept(np.log(rows / rows.sum(axis=1, keepdims=True)))
    assert LETTERS.decode(decoder.best().tokens) == "a b "
    assert math.exp(decoder.finals()[0].score) == pytest.approx(1.0, abs=0.01)


def test_an_odd_word_survives_where_the_sound_is_clear(lm) -> None:
    """A word that the language model does not know is written when it was clearly said."""
    rows = np.full((6, 4), 1e-3)
    for step, token in enumerate([2, 0, 2, 0, 2, 1]):  # "aaa"
        rows[step, token] = 1.0
    decoder = BeamDecoder(DecoderOptions(beam=16, oov_penalty=-3.0), LETTERS, lm)
    decoder.accept(np.log(rows / rows.sum(axis=1, keepdims=True)))
    assert LETTERS.decode(decoder.finals()[0].tokens).strip() == "aaa"
    assert "aaa" not in lm.ids


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
    decoder = make(method, 3)
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
    decoder = make(method, 3)
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
    with pytest.raises(ConfigError, match="the space as a token of its own"):
        BeamDecoder(DecoderOptions(), Tokenizer([BLANK, " ", "th", "e", "of "]), LanguageModel.empty())
    with pytest.raises(ConfigError, match="the space as a token of its own"):
        BeamDecoder(DecoderOptions(), Tokenizer([BLANK, "a", "b"]), LanguageModel.empty())
