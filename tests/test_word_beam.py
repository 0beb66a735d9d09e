"""The word decoder against sums over all alignments, pronunciations and words, and what it promises of a stream."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_word_beam import ReferenceWordBeam

from asr import word_search as core
from asr.decoder import DecoderOptions
from asr.errors import ConfigError
from asr.hotwords import HotWord
from asr.lexicon_tree import LexiconTree
from asr.lm import LanguageModel
from asr.lm.estimate import encode, estimate
from asr.lm.table import SPECIAL
from asr.tokens import BLANK
from asr.word_beam import _SETTLE_EVERY, WordBeamDecoder

TOKENS = [BLANK, "A", "B", "C"]
# Homophones (b, bee), words with two pronunciations (ab, ca), and words within words. The last two are not known.
LEXICON = {
    "a": ["A"],
    "b": ["B"],
    "bee": ["B"],
    "ab": ["A B", "A A B"],
    "aba": ["A B A"],
    "ca": ["C A", "C B"],
    "cab": ["C A B"],
    "abc": ["A B C"],
    "cc": ["C C"],
    "ba": ["B A"],
}
UNKNOWN = ("cc", "ba")
SPOKEN = {word: [tuple(TOKENS.index(sound) for sound in one.split()) for one in LEXICON[word]] for word in LEXICON}
WIDE = DecoderOptions(
    beam=2_000, blank_ceiling=1.0, token_floor=-math.inf, beam_range=math.inf, alpha=0.7, beta=0.5, oov_penalty=-2.0
)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """A trigram model of the lexicon's words, which knows that there are others."""
    rng = np.random.default_rng(0)
    words = list(LEXICON)
    chances = rng.dirichlet(np.ones(len(words)))
    sentences = [[words[i] for i in rng.choice(len(words), rng.integers(1, 6), p=chances)] for _ in range(300)]
    vocabulary = (*SPECIAL, *(word for word in LEXICON if word not in UNKNOWN))
    return LanguageModel.from_table(estimate(encode(sentences, vocabulary), vocabulary, 3)[0])


def tree(lm: LanguageModel | None) -> LexiconTree:
    return LexiconTree.build([(word, one.split()) for word in LEXICON for one in LEXICON[word]], TOKENS, lm)


def pronounce(word: str) -> list[list[str]]:
    """Any word, by its letters, but those that the lexicon has."""
    return [one.split() for one in LEXICON.get(word, [" ".join(word.upper())])]


def make(lm: LanguageModel | None = None, recombine: bool = True, **options) -> WordBeamDecoder:
    return WordBeamDecoder(DecoderOptions(**options), TOKENS, tree(lm), lm, pronounce, recombine)


def random_log_probs(steps: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharpness, (steps, len(TOKENS)))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def clear(text: str) -> np.ndarray:
    """Log probabilities of tokens that are clearly heard, each for a step: ``_`` is the blank."""
    rows = np.full((len(text.split()), len(TOKENS)), 1e-4)
    for step, sound in enumerate(text.split()):
        rows[step, TOKENS.index(BLANK if sound == "_" else sound)] = 1.0
    return np.log(rows / rows.sum(axis=1, keepdims=True))


def split(sounds: tuple[int, ...], spoken: dict[str, list[tuple[int, ...]]]) -> Iterator[tuple[str, ...]]:
    """All sequences of words that sounds can be, once for each way to pronounce them so."""
    if not sounds:
        yield ()
    for word, ways in spoken.items():
        for way in ways:
            if sounds[: len(way)] == way:
                for rest in split(sounds[len(way) :], spoken):
                    yield (word, *rest)


def all_texts(log_probs: np.ndarray, spoken: dict[str, list[tuple[int, ...]]]) -> dict[tuple[str, ...], float]:
    """Probability of every text, by adding up every alignment of every pronunciation."""
    heard: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        sounds = tuple(token for token, _ in itertools.groupby(path) if token != 0)
        heard[sounds] += math.exp(sum(row[token] for row, token in zip(log_probs, path, strict=True)))
    texts: dict[tuple[str, ...], float] = defaultdict(float)
    for sounds, probability in heard.items():
        for words in split(sounds, spoken):
            texts[words] += probability
    return texts


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(0, 100_000),
    st.booleans(),
    st.sampled_from([(), ("ab",), ("a b", "bee"), ("caa", "ba cab"), ("a bcb", "bcb", "b a b")]),
)
def test_scores_are_exact(lm, steps, seed, with_lm, phrases) -> None:
    """With nothing pruned, the ten best texts and their scores are those of summing over all alignments and
    pronunciations, asking the language model and counting the hot words."""
    log_probs = random_log_probs(steps, seed)
    model = lm if with_lm else None
    hot = {word for phrase in phrases for word in phrase.split()}
    spoken = {**SPOKEN, **{w: [tuple(TOKENS.index(c.upper()) for c in w)] for w in hot if w not in SPOKEN}}
    scores = []
    for text, probability in all_texts(log_probs, spoken).items():
        score, history = math.log(probability), ["<s>"]
        for word in text:
            score += WIDE.beta
            if model is not None:
                score += WIDE.alpha * model.score(history, word) + WIDE.oov_penalty * (word not in model.ids)
            history.append(word)
        for phrase in phrases:
            words = tuple(phrase.split())
            refund = 0.0 if model is None else 2.0 * sum(word not in model.ids for word in words)
            count = sum(text[i : i + len(words)] == words for i in range(len(text)))
            score += count * (3.0 * len(words) + refund)
        scores.append(score)
    decoder = WordBeamDecoder(WIDE, TOKENS, tree(model), model, pronounce, recombine=False)
    decoder.set_hot_words([HotWord(phrase, 3.0) for phrase in phrases])
    decoder.accept(log_probs)
    found = decoder.finals(10)
    assert [reading.score for reading in found] == pytest.approx(sorted(scores, reverse=True)[:10])
    assert len({reading.text for reading in found}) == len(found)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 100_000),
    st.integers(1, 30),
    st.floats(0.5, 6.0),
    st.integers(1, 30),
    st.booleans(),
    st.booleans(),
    st.sampled_from([3.0, 8.0, math.inf]),
)
def test_the_compiled_search_is_the_plain_one(lm, seed, steps, sharpness, beam, with_lm, recombine, width) -> None:
    """Texts, scores, times and probabilities equal those of the same search in plain Python."""
    model = lm if with_lm else None
    options = DecoderOptions(
        beam=beam, blank_ceiling=1.0, token_floor=-9.0, beam_range=width, alpha=0.9, beta=0.4, oov_penalty=-1.0
    )
    compiled = WordBeamDecoder(options, TOKENS, tree(model), model, pronounce, recombine)
    reference = ReferenceWordBeam(options, SPOKEN, model, recombine)
    log_probs = random_log_probs(steps, seed, sharpness)
    for part in np.array_split(log_probs, 3):
        compiled.accept(part)
        reference.accept(part)
    assume(not reference.tied)
    ours, theirs = compiled.finals(3), reference.finals()[:3]
    if not theirs:
        assert len(ours) >= 1  # what is left without the unfinished word
        return
    assert [reading.score for reading in ours] == pytest.approx([score for _, score in theirs])
    gaps = [a - b for (_, a), (_, b) in itertools.pairwise(theirs)]
    assume(all(gap > 1e-9 for gap in gaps))
    assert [tuple(reading.text.split()) for reading in ours] == [words for words, _ in theirs]
    marks = reference.marks(theirs[0][0])
    heard = [sound for word in ours[0].words for sound in word.log_probs]
    assert heard == pytest.approx([peak for _, _, peak in marks])
    for number, word in enumerate(ours[0].words, 1):
        steps_of_word = [step for other, step, _ in marks if other == number]
        assert (word.first_step, word.last_step) == (steps_of_word[0], steps_of_word[-1])
