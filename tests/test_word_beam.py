"""The word decoder against sums over all alignments, pronunciations and words, and what it promises of a stream."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_word_beam import ReferenceWordBeam

from asr.errors import ConfigError, DataError
from asr.lm import LanguageModel
from asr.lm.estimate import encode, estimate
from asr.lm.table import SPECIAL
from asr.search import word_state as core
from asr.search.decoder import DecoderOptions
from asr.search.hot_phrases import spoken_words
from asr.search.hotwords import HotWord
from asr.search.lexicon_tree import LexiconTree
from asr.search.word_beam import _SETTLE_EVERY, WordBeamDecoder
from asr.text.tokens import BLANK

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


@settings(max_examples=60)
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
    assert [reading.score for reading in found] == pytest.approx(sorted(scores, reverse=True)[:10], rel=1e-6, abs=1e-6)
    assert len({reading.text for reading in found}) == len(found)


@settings(max_examples=100)
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


def decode(log_probs: np.ndarray, lm: LanguageModel | None = None, hot: tuple[HotWord, ...] = (), **options) -> str:
    decoder = make(lm, **options)
    decoder.set_hot_words(hot)
    decoder.accept(log_probs)
    return decoder.finals()[0].text


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 60), max_size=6), st.booleans())
def test_chunks_do_not_matter(lm, seed, cuts, hot) -> None:
    """Fed in pieces of any length, a decoder ends with the same readings."""
    log_probs = random_log_probs(60, seed)

    def read(parts):
        decoder = make(lm, beam=20, max_delay_steps=12, alternatives=3)
        decoder.set_hot_words([HotWord("ab ca"), HotWord("bcb")] if hot else [])
        for part in parts:
            decoder.accept(part)
        return decoder.best(), decoder.finals(4), decoder.stable_words(), decoder.trailing_blanks()

    assert read(np.split(log_probs, sorted(cuts))) == read([log_probs])


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 6.0), st.integers(1, 24), st.integers(1, 9), st.booleans())
def test_stable_words_never_change(lm, seed, sharpness, beam, chunk, hot) -> None:
    """Every word once called stable is in every later best text and in the final one, at its place and time."""
    decoder = make(lm, beam=beam, alpha=1.5, oov_penalty=-1.0, max_delay_steps=12)
    if hot:
        decoder.set_hot_words([HotWord("ab ab", 5.0), HotWord("bcb", 3.0)])
    stable: list[str] = []
    log_probs = random_log_probs(100, seed, sharpness)
    for begin in range(0, 100, chunk):
        decoder.accept(log_probs[begin : begin + chunk])
        best = decoder.best()
        assert [word.text for word in best.words[: len(stable)]] == stable
        assert all(word.first_step <= word.last_step for word in best.words)
        stable = [word.text for word in best.words[: decoder.stable_words()]]
        assert len(stable) == decoder.stable_words()
    assert [word.text for word in decoder.finals()[0].words[: len(stable)]] == stable


def test_what_lost_to_a_text_with_the_same_future_is_an_alternative(lm) -> None:
    """Alternatives are distinct, in order, and nearly all of the five texts that are best by sums over everything."""
    best = among = 0
    for seed, model in itertools.product(range(40), (lm, None)):
        log_probs = random_log_probs(1 + seed % 5, seed)
        exact = WordBeamDecoder(WIDE, TOKENS, tree(model), model, pronounce, recombine=False)
        one = WordBeamDecoder(WIDE, TOKENS, tree(model), model, pronounce)
        many = WordBeamDecoder(replace(WIDE, alternatives=10), TOKENS, tree(model), model, pronounce)
        for decoder in (exact, one, many):
            decoder.accept(log_probs)
        found = many.finals(11)
        assert found[0] == one.finals()[0]
        assert len({reading.text for reading in found}) == len(found)
        assert all(a.score >= b.score for a, b in itertools.pairwise(found))
        for reading in found:
            assert all(a.last_step < b.first_step for a, b in itertools.pairwise(reading.words))
        wanted = {reading.text for reading in exact.finals(5)}
        best, among = best + len(wanted), among + len(wanted & {reading.text for reading in found})
    assert among > 0.95 * best
    assert best > 300


def test_memory_does_not_grow() -> None:
    """Through 5,000 steps of noise without an endpoint, nodes and alignments stay within a bound."""
    decoder = make(beam=8, alternatives=2)
    sizes = []
    for seed in range(10):
        decoder.accept(random_log_probs(500, seed, 3.0))
        sizes.append(len(decoder._search.nodes) + len(decoder._search.marks))
    per_step = core.NODES_PER_STEP + core.MARKS_PER_STEP
    assert max(sizes) <= 2 * 8 * (2 * 60 + per_step * 2 * _SETTLE_EVERY)
    assert sizes[-1] == sizes[2]


def test_a_homophone_is_chosen_by_the_language_model(lm) -> None:
    """Of words that sound the same, the one that the language model finds likelier here is written."""
    for history in ([], ["ab"], ["abc"]):
        sounds = " _ ".join(" _ ".join(LEXICON[word][0].split()) for word in [*history, "b"])
        scores = {word: lm.score(["<s>", *history], word) for word in ("b", "bee")}
        wanted = max(scores, key=lambda word: scores[word])
        assert decode(clear(sounds), lm, beam=50, alpha=1.0).split()[-1] == wanted


def test_a_word_is_shown_once_its_sounds_are_complete() -> None:
    """A word is not shown while it is unfinished; once its sounds are a word, that is, and a longer one after it."""
    decoder = make(beam=20, beta=-1.0)
    shown = []
    for row in clear("A _ B _ C _"):
        decoder.accept(row[None])
        shown.append(decoder.best().text)
    assert shown == ["a", "a", "ab", "ab", "abc", "abc"]
    decoder.reset()
    decoder.accept(clear("C"))
    assert decoder.best().text == ""


def test_an_unfinished_word_is_left_out_at_the_end() -> None:
    """Only its sounds are lost, and only where nothing else is whole."""
    assert decode(clear("A _ B _ C _ C _ C"), beam=20) == "abc cc"
    assert decode(clear("A _ C"), beam=1, beta=3.0) == "a"


def test_times_and_probabilities_are_those_of_the_peaks() -> None:
    """A word begins with its first sound; each sound counts with the highest probability that it reaches."""
    rows = np.full((9, 4), 0.01)
    for step, token, p in [(1, 3, 0.7), (2, 3, 0.9), (4, 1, 0.8), (5, 2, 0.95)]:
        rows[step, token] = p
    rows[[0, 3, 6, 7, 8], 0] = 0.97
    decoder = make(beam=10, beta=-1.0)
    decoder.accept(np.log(rows / rows.sum(axis=1, keepdims=True)))
    (word,) = decoder.finals()[0].words
    assert (word.text, word.first_step, word.last_step) == ("cab", 1, 5)
    assert np.exp(word.log_probs) == pytest.approx([0.9 / 0.93, 0.8 / 0.83, 0.95 / 0.98])
    assert decoder.trailing_blanks() == 3


def test_a_new_utterance_begins_at_a_reset() -> None:
    """After a reset nothing of the text before is left, and a sound that goes on is not heard twice."""
    held = np.log(np.array([[0.02, 0.96, 0.01, 0.01]] * 3 + [[0.97, 0.01, 0.01, 0.01]] + [[0.02, 0.96, 0.01, 0.01]]))
    decoder = make(beam=10)
    decoder.accept(held[:2])
    assert decoder.best().text == "a"
    decoder.reset()
    decoder.accept(held[2:4])
    assert decoder.best().text == ""
    assert decoder.trailing_blanks() == 1
    decoder.accept(held[4:])
    assert decoder.best().text == "a"
    assert decoder.best().words[0].first_step == 2


def test_a_hot_word_that_the_lexicon_lacks_is_recognised(lm) -> None:
    """With its pronunciation known, alone or in a phrase; and a phrase that breaks off changes nothing."""
    spoken = clear("A _ B _ B _ C _ A")
    options = {"beam": 50, "oov_penalty": -12.0}
    assert "bbc" not in decode(spoken, lm, **options)
    assert decode(spoken, lm, (HotWord("bbc"),), **options) == "a bbc a"
    assert decode(spoken, lm, (HotWord("a bbc a"),), **options) == "a bbc a"
    plain = decode(clear("A _ B _ B _ C _ C"), lm, **options)
    assert decode(clear("A _ B _ B _ C _ C"), lm, (HotWord("a bbc a"),), **options) == plain


def test_hot_words_set_in_silence_are_those_of_what_is_said_next(lm) -> None:
    """While nothing has been recognised, new hot words take the place of the old at once; after a word, at `reset`."""
    spoken = clear("_ _ A _ B _ B _ C _ A")

    def read(first: str, then: str, before: int) -> str:
        decoder = make(lm, beam=50, oov_penalty=-12.0)
        decoder.set_hot_words([HotWord(first)])
        decoder.accept(spoken[:before])
        decoder.set_hot_words([HotWord(then)])
        decoder.accept(spoken[before:])
        return decoder.finals()[0].text

    assert read("cc", "bbc", 1) == "a bbc a"
    assert read("bbc", "cc", 1) != "a bbc a"
    assert read("bbc", "cc", 4) == "a bbc a"


def test_what_cannot_be_pronounced_is_refused(lm) -> None:
    """The error names the phrase or the word."""
    decoder = WordBeamDecoder(DecoderOptions(), TOKENS, tree(lm), lm)
    with pytest.raises(ConfigError, match="'bbc'"):
        decoder.set_hot_words([HotWord("bbc")])
    with pytest.raises(DataError, match=r"'ad'.*'D'"):
        LexiconTree.build([("ad", ["A", "D"])], TOKENS)
    with pytest.raises(DataError, match=r"'ad'.*empty"):
        LexiconTree.build([("ad", [])], TOKENS)


def test_the_tree_holds_every_pronunciation(lm) -> None:
    """Each pronunciation leads to a place where its word ends, and reads back from there."""
    grown = tree(lm)
    for word, spoken in SPOKEN.items():
        for sounds in spoken:
            assert grown.number(word) in grown.ending(grown.find(sounds))
        assert sorted(grown.pronunciations(word)) == sorted(spoken)
    assert grown.find((3, 3, 3)) == -1


def test_hot_words_may_be_written_as_one_writes_them(recognizer) -> None:
    """Capitals, accents, hyphens and full stops do not matter; what letters do not say is an error that names it."""
    assert spoken_words("X-ray") == ["x", "ray"]
    assert spoken_words("Beyonc\u00e9, Mr. O\u2019Neill") == ["beyonce", "mr", "o'neill"]
    recognizer.stream(16_000, hot_words=["X-ray", "Beyonc\u00e9"])
    for phrase in ("GPT-4", "R&D", "C#"):
        with pytest.raises(ConfigError, match=phrase):
            recognizer.stream(16_000, hot_words=[phrase])
