"""The recurrent language model: what is compiled against what is trained, its file, and what it does to the search."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from asr.cli.main import main
from hypothesis import given, settings
from hypothesis import strategies as st
from test_word_beam import LEXICON, TOKENS, WIDE, clear, pronounce, random_log_probs, tree

from asr.compiler import jit
from asr.errors import ConfigError, DataError, ModelError
from asr.lm import LanguageModel
from asr.lm.estimate import encode, estimate
from asr.lm.table import SPECIAL
from asr.network.packed_weights import available
from asr.search import word_beam
from asr.search.decoder import DecoderOptions
from asr.search.second_kernel import Memories, chance, make_memories, make_work, remember, sum_band
from asr.search.second_lm import BANDS, SecondLm, SecondOpinion
from asr.search.word_beam import _SETTLE_EVERY, WordBeamDecoder
from asr.search.working_memory import WorkingMemory
from asr.train.second_lm import RunningText, SecondLmOptions, SecondLmTrainer
from asr.train.second_lm_network import SecondNetwork

UNSEEN = "aba"  # a word of the search that the recurrent model lacks
WORDS = [word for word in LEXICON if word not in (UNSEEN, "cc")]
SIZES, WIDTHS, UNITS = (4, 3, len(WORDS) + 2 - 7), (16, 8, 8), 32


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """A bigram model of most of the lexicon's words."""
    rng = np.random.default_rng(1)
    words = [word for word in LEXICON if word != "cc"]
    sentences = [[words[i] for i in rng.choice(len(words), rng.integers(1, 6))] for _ in range(200)]
    vocabulary = (*SPECIAL, *words)
    return LanguageModel.from_table(estimate(encode(sentences, vocabulary), vocabulary, 2)[0])


@pytest.fixture(scope="module")
def network() -> SecondNetwork:
    torch.manual_seed(3)
    network = SecondNetwork(SIZES, WIDTHS, UNITS).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return network


@pytest.fixture(scope="module")
def model(network) -> SecondLm:
    return network.finished(WORDS)


def log_probs_of(network: SecondNetwork, text: list[int], unknown: int) -> np.ndarray:
    """Log probability of every number after each beginning of a text, by the network in torch."""
    before = torch.tensor([[unknown + 1], *([number] for number in text)])
    with torch.no_grad():
        hidden = network.hidden(before)[:, 0]
        every = range(unknown + 2)
        rows = [-network.surprise(hidden, torch.full((len(hidden),), number)) for number in every]
    return torch.stack(rows, dim=1).numpy()


@jit(_nrt=False)
def _remember(m, first, numbers):
    """After the texts of rows ``first`` on, that of each and one more word, in the rows behind them."""
    for k in range(len(numbers)):
        m.work.before[k], m.work.number[k], m.work.row[k] = first - len(numbers) + k, numbers[k], first + k
    remember(m, len(numbers))


@jit(_nrt=False)
def _remember_after(m, before, row, number):
    m.work.before[0], m.work.number[0], m.work.row[0] = before, number, row
    remember(m, 1)


@jit(_nrt=False)
def _chance(m, row, word):
    for band in range(BANDS):
        m.work.row[0] = row
        sum_band(m, band, 1)
    return chance(m, row, word)


def memories_of(opinion: SecondOpinion, rows: int) -> Memories:
    return make_memories(opinion, rows, make_work(opinion))


def compiled(model: SecondLm, lm: LanguageModel, text: list[int]) -> np.ndarray:
    """The same by the compiled model."""
    memories = word_beam.ArrayTable(memories_of(SecondOpinion.of(model, lm.words, lm), len(text) + 1))
    unknown = len(model.words)
    rows = []
    for row, number in enumerate([unknown + 1, *text]):
        _remember(memories, row, np.array([number]))
        rows.append([_chance(memories, row, other) for other in range(unknown + 2)])
    return np.array(rows)


def test_compiled_model_says_what_the_trained_one_says(network, model, lm) -> None:
    """After every beginning of a text, words' probabilities are the network's but for 8-bit rounding, and sum to 1."""
    text = np.random.default_rng(0).integers(0, len(WORDS) + 1, 12).tolist()
    found, wanted = compiled(model, lm, text), log_probs_of(network, text, len(WORDS))
    assert np.abs(np.exp(found).sum(axis=1) - 1).max() < 1e-5
    assert np.abs(np.exp(found) - np.exp(wanted)).max() < 0.02
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.999


def test_weights_may_lie_either_way(model, lm) -> None:
    """Packed as x86 multiplies them, or as they come: the same probabilities to the last bit."""
    found = []
    for packed in (False, True) if available() else (False, None):
        other = SecondLm(model.words, model.stored)
        other.__dict__["arrays"] = other.laid_out(packed)
        found.append(compiled(other, lm, [1, 8, 3]))
    assert np.array_equal(*found)


def test_texts_together_are_as_each_alone(model, lm) -> None:
    """Texts that are worked out in one call are remembered as those that come one after the other."""
    opinion, numbers = SecondOpinion.of(model, lm.words, lm), np.array([1, 8, 3])
    together, alone = (word_beam.ArrayTable(memories_of(opinion, 6)) for _ in range(2))
    for memories in (together, alone):
        for row in range(3):
            _remember(memories, row, np.array([row]))
    _remember(together, 3, numbers)
    for k in range(3):
        _remember_after(alone, k, 3 + k, int(numbers[k]))
    for name in ("cell", "hidden", "hidden_scale", "out", "out_scale", "shares"):
        assert np.array_equal(getattr(together.fields, name)[:6], getattr(alone.fields, name)[:6])


def test_file_holds_the_same_model(model, lm, tmp_path) -> None:
    """What is saved and loaded has the same words and gives the same probabilities to the last bit."""
    model.save(tmp_path / "second.safetensors")
    again = SecondLm.load(tmp_path / "second.safetensors")
    assert again.words == model.words
    assert np.array_equal(compiled(again, lm, [1, 8, 3]), compiled(model, lm, [1, 8, 3]))


def test_damaged_file_is_named(model, tmp_path) -> None:
    """A file that is cut short, or of which an array has another shape, is an error that says which file it is."""
    path = tmp_path / "second.safetensors"
    model.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"second\.safetensors"):
        SecondLm.load(path)
    for name in ("cell.input", "words.1.peaks", "norm"):
        SecondLm(model.words, {**model.stored, name: model.stored[name][:-1].copy()}).save(path)
        with pytest.raises(ModelError, match=r"second\.safetensors"):
            SecondLm.load(path)


def decoder_of(lm, model, options: DecoderOptions, recombine: bool = True) -> WordBeamDecoder:
    words = tree(lm)
    second = None if model is None else SecondOpinion.of(model, words.words, lm)
    return WordBeamDecoder(options, TOKENS, words, lm, pronounce, recombine, second)


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(0, 100_000), st.floats(0.1, 1.0), st.lists(st.integers(1, 20), max_size=2))
def test_scores_have_its_share(lm, model, steps, seed, share, utterances) -> None:
    """With nothing pruned, each text's score is the one without the second model, plus the share of the difference that
    the second model makes at each word; a word that only the n-grams know is weighed as the unknown word's part. Of
    utterances the second model has read those before, whatever came of them."""
    options = replace(WIDE, second_share=share, second_most=WIDE.beam, second_range=1e9, oov_penalty=0.0)
    log_probs = random_log_probs(steps, seed)
    with patch.object(word_beam, "_MEMORIES", 1_000):  # as many as there are texts, so that each is weighed
        plain, both = (decoder_of(lm, one, options, recombine=False) for one in (None, model))
    numbers, unknown = {word: i for i, word in enumerate(WORDS)}, len(WORDS)
    read: list[int] = []  # words of the utterances before, and the starts of those after them
    for number, length in enumerate(utterances):
        for decoder in (plain, both):
            decoder.accept(random_log_probs(length, seed + number + 1, 20.0))
            decoder.accept(np.log(np.where(np.arange(len(TOKENS)) == 0, 1.0, 1e-12))[None])  # no sound goes on
        said = both.finals()[0].text.split()
        for decoder in (plain, both):
            decoder.reset()
        if said:
            read += [*(numbers.get(word, unknown) for word in said), unknown + 1]
    for decoder in (plain, both):
        decoder.accept(log_probs)
    before = {reading.text: reading.score for reading in plain.finals(1_000)}
    opinion = SecondOpinion.of(model, lm.words, lm)
    for reading in both.finals(6):
        words = [word.text for word in reading.words]
        said = compiled(model, lm, [*read, *(numbers.get(word, unknown) for word in words)])[len(read) :]
        gain, history = 0.0, ["<s>"]
        for at, word in enumerate(words):
            if word in lm.ids:
                second = said[at][numbers.get(word, unknown)]
                if word not in numbers:
                    second += lm.score([], word) - opinion.rest
                gain += share * options.alpha * (second - lm.score(history, word))
            history.append(word)
        assert math.isclose(reading.score, before[reading.text] + gain, abs_tol=2e-3)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 40), max_size=8))
def test_chunks_do_not_matter(lm, model, seed, cuts) -> None:
    """The text is the same however the steps are cut into chunks, and so is its score."""
    log_probs = random_log_probs(120, seed)
    options = DecoderOptions(beam=16, max_delay_steps=20, second_most=6)
    whole, parts = decoder_of(lm, model, options), decoder_of(lm, model, options)
    whole.accept(log_probs)
    for part in np.split(log_probs, np.minimum(np.cumsum(cuts), 120).tolist() if cuts else []):
        parts.accept(part)
    assert whole.finals()[0] == parts.finals()[0]


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=40, max_size=80))
def test_decoders_that_share_memory_do_not_disturb_each_other(lm, model, seed, turns) -> None:
    """Decoders that take turns with the working memory, in this thread and another, hear what each would alone."""
    options = DecoderOptions(beam=16, max_delay_steps=20, second_most=6)
    words, opinion, memory = tree(lm), SecondOpinion.of(model, tree(lm).words, lm), WorkingMemory()
    make = partial(WordBeamDecoder, options, TOKENS, words, lm, pronounce, True, opinion)
    together, alone = [make(memory) for _ in range(3)], [make() for _ in range(3)]
    heard = [random_log_probs(5 * len(turns), seed + k) for k in range(3)]
    places = [0, 0, 0]
    with ThreadPoolExecutor(1) as elsewhere:
        for which, moves in turns:
            part = heard[which][places[which] : places[which] + 5]
            places[which] += 5
            alone[which].accept(part)
            if moves:
                elsewhere.submit(together[which].accept, part).result()
            else:
                together[which].accept(part)
            assert together[which].best() == alone[which].best()
    for one, other in zip(together, alone, strict=True):
        assert one.finals(2) == other.finals(2)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_stable_text_stays(lm, model, seed) -> None:
    """What was called stable is in every later text, the final one too."""
    log_probs = random_log_probs(200, seed)
    decoder = decoder_of(lm, model, DecoderOptions(beam=16, max_delay_steps=20, second_most=6))
    stable: tuple[str, ...] = ()
    for begin in range(0, 200, 7):
        decoder.accept(log_probs[begin : begin + 7])
        words = tuple(word.text for word in decoder.best().words)
        assert words[: len(stable)] == stable
        stable = words[: decoder.stable_words()]
    assert tuple(word.text for word in decoder.finals()[0].words)[: len(stable)] == stable


def _told(text: str, other: str) -> SecondNetwork:
    """A network for which one word is certain after another, whatever it hears besides."""
    torch.manual_seed(0)
    network = SecondNetwork(SIZES, WIDTHS, UNITS)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        before = torch.tensor([[len(WORDS) + 1], [WORDS.index(text)]])
        wanted = torch.tensor([WORDS.index(text), WORDS.index(other)])
        loss = network.surprise(network.hidden(before).reshape(-1, UNITS), wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def test_it_chooses_between_homophones(lm) -> None:
    """Of words that sound alike the one is written that the second model expects, whichever the n-grams prefer."""
    sounds = clear("C _ B _ _ B _ _")
    for wanted in ("b", "bee"):
        model = _told("ca", wanted).finished(WORDS)
        options = DecoderOptions(beam=64, second_share=0.9)
        assert decoder_of(lm, model, options).finals()[0].text == ""
        decoder = decoder_of(lm, model, options)
        decoder.accept(sounds)
        assert decoder.finals()[0].text == f"ca {wanted}"


def test_without_room_it_is_silent(lm, model, monkeypatch) -> None:
    """Where no room is left to remember texts, recognition goes on without the second model."""
    monkeypatch.setattr(word_beam, "_MEMORIES", 1)
    log_probs = random_log_probs(10 * _SETTLE_EVERY, 4)
    decoder = decoder_of(lm, model, DecoderOptions(beam=16, max_delay_steps=20))
    decoder.accept(log_probs)
    assert decoder.finals()[0].words


def test_alternatives_begin_with_the_final_text(lm, model) -> None:
    """With alternatives wanted, the first of them is the text without them."""
    log_probs = random_log_probs(60, 11)
    options = DecoderOptions(beam=32, max_delay_steps=30)
    one, many = decoder_of(lm, model, options), decoder_of(lm, model, replace(options, alternatives=4))
    for decoder in (one, many):
        decoder.accept(log_probs)
    found = many.finals(5)
    assert found[0].text == one.finals()[0].text
    assert len({reading.text for reading in found}) == len(found) > 1


def small(**changes) -> SecondLmOptions:
    options = {"words": len(WORDS), "widths": (8, 8, 8), "units": 32, "lines": 8, "length": 6}
    return SecondLmOptions(**{**options, "steps": 60, "learning_rate": 0.01, "warmup_steps": 5, **changes})


@pytest.fixture
def text(tmp_path) -> Path:
    """Sentences that always go on in the same way."""
    path = tmp_path / "text.txt"
    path.write_text("Ca b bee. Ab aba ca!\n" * 200, encoding="utf-8")
    return path


def test_training_learns_what_follows(text, tmp_path, lm) -> None:
    """After some steps on a text of one sentence, its words are expected one after the other."""
    model = SecondLmTrainer(tmp_path / "second.safetensors", [text], WORDS, small()).run(lambda _: None)
    assert SecondLm.load(tmp_path / "second.safetensors").words == tuple(WORDS)
    numbers = [WORDS.index("ca"), WORDS.index("b"), WORDS.index("bee")]
    said = compiled(model, lm, numbers)
    assert said[1][numbers[1]] > math.log(0.5)
    assert said[2][numbers[2]] > math.log(0.5)


def test_training_goes_on_where_it_was(text, tmp_path, monkeypatch) -> None:
    """A run that is interrupted and goes on from its checkpoint ends with the model of one that is not."""
    whole = SecondLmTrainer(tmp_path / "whole.safetensors", [text], WORDS, small()).run(lambda _: None)
    path = tmp_path / "parts.safetensors"
    first = SecondLmTrainer(path, [text], WORDS, small())
    for _ in range(25):
        first.steps.learn(first.loss(first.steps.step), first.share(first.steps.step))
    first.steps.save()
    parts = SecondLmTrainer(path, [text], WORDS, small())
    assert parts.steps.step == 25
    found = parts.run(lambda _: None)
    assert np.array_equal(found.arrays.weights, whole.arrays.weights)
    assert not (tmp_path / "parts.safetensors.checkpoint.pt").exists()


def test_training_goes_on_from_a_model(text, tmp_path, model) -> None:
    """A run that begins with a model says at first what that says, to the last bit, and has its words and its shape."""
    trainer = SecondLmTrainer(tmp_path / "x.safetensors", [text], (), small(steps=1), model)
    found = trainer.model.finished(trainer.words)
    assert found.words == model.words
    assert found.stored.keys() == model.stored.keys()
    assert all(np.array_equal(found.stored[name], value) for name, value in model.stored.items())
    assert trainer.run(lambda _: None).words == model.words


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1))
def test_lines_run_on_across_utterances(lines_of, seed, pauses, breaks, changes) -> None:
    """A line is running text with a mark wherever an utterance begins, and nothing else: a sentence may run across
    marks, and where it breaks off, there is one."""
    trainer = lines_of(seed=seed, length=40, pauses=pauses, breaks=breaks, changes=changes)
    follows = {WORDS.index(a): WORDS.index(b) for a, b in zip(SENTENCES, SENTENCES[1:] + SENTENCES[:1], strict=True)}
    start = len(WORDS) + 1
    for line in trainer._batch(0).numpy().T:
        assert len(line) == 41
        assert line[0] == start
        for before, number in itertools.pairwise(line):
            assert number in (start, follows.get(before)) or before == start
        words = line[line != start]
        breaks_off = sum(follows[a] != b for a, b in itertools.pairwise(words))
        assert breaks_off <= 1 or changes > 0  # where the text ends, it begins anew


def test_a_line_is_whole_whatever_a_text_ends_with(tmp_path) -> None:
    """A sentence without words at a text's end makes no line shorter."""
    (tmp_path / "text.txt").write_text("Ca b bee.\n...\n", encoding="utf-8")
    trainer = SecondLmTrainer(tmp_path / "x.safetensors", [tmp_path / "text.txt"], WORDS, small(length=2))
    trainer.texts[0] = RunningText(trainer.texts[0].words, np.array([0, 3]))
    assert all(trainer._batch(step).shape == (3, 8) for step in range(20))


def test_the_command_begins_with_a_vocabulary_or_a_model(text, tmp_path, model, capsys) -> None:
    """`asr lm train` goes on from a model; without one it needs a vocabulary, and with both it says so."""
    model.save(tmp_path / "start.safetensors")
    start, out = ["--start", str(tmp_path / "start.safetensors")], str(tmp_path / "out.safetensors")
    assert main(["lm", "train", out, str(text), *start, "--steps", "1"]) == 0
    assert SecondLm.load(tmp_path / "out.safetensors").words == model.words
    for both_or_none in ([*start, "--vocabulary", str(text)], []):
        assert main(["lm", "train", out, str(text), *both_or_none]) == 1
        assert "give either --vocabulary FILE or --start MODEL" in capsys.readouterr().err


SENTENCES = ["ca", "b", "bee", "ab"]


@pytest.fixture(scope="module")
def lines_of(tmp_path_factory):
    """Makes trainers on a text of two sentences again and again."""
    folder = tmp_path_factory.mktemp("lines")
    (folder / "text.txt").write_text("Ca b bee. Ab.\n" * 200, encoding="utf-8")
    return lambda **changes: SecondLmTrainer(folder / "x.safetensors", [folder / "text.txt"], WORDS, small(**changes))


def test_what_cannot_be_trained_on_is_said(text, tmp_path) -> None:
    """An empty vocabulary, a text without words and a checkpoint of another shape are errors that say what to do."""
    with pytest.raises(DataError, match="no words"):
        SecondLmTrainer(tmp_path / "x.safetensors", [text], [], small())
    empty = tmp_path / "empty.txt"
    empty.write_text("...\n")
    with pytest.raises(DataError, match="no words"):
        SecondLmTrainer(tmp_path / "x.safetensors", [empty], WORDS, small())
    trainer = SecondLmTrainer(tmp_path / "x.safetensors", [text], WORDS, small())
    trainer.steps.save()
    with pytest.raises(ConfigError, match="delete it"):
        SecondLmTrainer(tmp_path / "x.safetensors", [text], WORDS, small(units=64))
