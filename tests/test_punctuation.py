"""Punctuation and capitals: the model that is run against the one that is trained, its file, and what streams show."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from asr.cli.main import main
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr.array_table import ArrayTable
from asr.errors import ConfigError, ModelError
from asr.events import Final, Partial, Word
from asr.lm import LanguageModel
from asr.lm.build import BuildOptions, build_from_text
from asr.network.flat_products import lay_out
from asr.network.packed_weights import available
from asr.train.marked_text import CAPITAL, COMMA, NONE, QUESTION, SMALL, STOP, UNSAID, MarkedTextReader
from asr.train.punctuation import PunctuationOptions, PunctuationTrainer
from asr.train.punctuation_balance import best_shifts, f1
from asr.train.punctuation_network import PunctuationNetwork
from asr.train.punctuation_score import score_text
from asr.written import punctuation_kernel
from asr.written.form import WrittenForm
from asr.written.punctuation import NEW_UTTERANCE, NO_PRIOR, UNKNOWN_PAUSE, Punctuation, ending_number
from asr.written.punctuator import Decision, Punctuator, pause_kind
from asr.written.replacements import Replacement
from asr.written.sentence_hints import HINTS, hint_lines
from asr.written.writer import Writer, write_text

WORDS = ["the", "cat", "sat", "on", "mat", "you", "is", "it", "red", "nasa", "bob", "where", "i", "i'm"]
SENTENCES = [
    "The cat sat on the mat.",
    "Where is Bob?",
    "It is red, Bob, is it?",
    "On the mat sat Bob.",
    "You NASA is red.",
]
OPTIONS = PunctuationOptions(
    words=12, endings=16, width=8, units=32, layers=1, lookahead=2, lines=8, length=12, steps=400
)


@pytest.fixture(scope="module")
def lm(text_file: Path) -> LanguageModel:
    return build_from_text([text_file], BuildOptions(), lambda _: None)[0]


@pytest.fixture(scope="module", params=["one layer", "two layers and hints"])
def model(request: pytest.FixtureRequest, lm: LanguageModel) -> Punctuation:
    """One with random weights, so that it decides this and that."""
    torch.manual_seed(2)
    hinted = request.param != "one layer"
    network = PunctuationNetwork(12, 16, 8, 32, 2, 1 + hinted, HINTS * hinted).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    priors = np.array([NO_PRIOR, *range(-60, 70, 10)], dtype=np.int8)[: len(WORDS)]
    return Punctuation.of_parameters(WORDS, {"nasa": "NASA"}, priors, network.values(), lm=lm if hinted else None)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    lines = (" ".join(SENTENCES[i] for i in rng.choice(len(SENTENCES), 4)) + f" On it sat {k}." for k in range(400))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class Recorded(Punctuator):
    """Keeps the scores that it decided by."""

    def __init__(self, model: Punctuation) -> None:
        super().__init__(model)
        self.scores: list[np.ndarray] = []

    def _next(self) -> Decision:
        decision = super()._next()
        self.scores.append(self._step.fields.scores.copy())
        return decision


some_words = st.lists(st.sampled_from([*WORDS, "unseen", "wat"]), min_size=1, max_size=9)


@settings(max_examples=40)
@given(st.lists(some_words, min_size=1, max_size=4), st.data())
def test_what_runs_is_what_was_trained(model: Punctuation, spoken: list[list[str]], data: st.DataObject) -> None:
    """Scores of several utterances are the network's in torch but for 8-bit rounding, and decide marks and capitals."""
    punctuator, decided, words, kinds = Recorded(model), [], [], []
    for utterance in spoken:
        for at, word in enumerate(utterance):
            pause_s = data.draw(st.none() | st.floats(0, 2)) if at else None
            punctuator.accept(word, pause_s)
            kinds.append(NEW_UTTERANCE if not at else UNKNOWN_PAUSE if pause_s is None else pause_kind(pause_s))
            words.append(word)
            if data.draw(st.booleans()):
                decided += punctuator.decide(False)
        decided += punctuator.decide(True)
    size = len(words) + 2
    numbers, priors = np.full(size, 12), np.full(size, np.nan, np.float32)
    endings, pauses = np.zeros(size, np.int64), np.full(size, NEW_UTTERANCE)
    for at, (word, kind) in enumerate(zip(words, kinds, strict=True)):
        place = model.find(word)
        endings[at], pauses[at] = ending_number(word, 16), kind
        numbers[at] = 12 if place is None else min(WORDS.index(word), 12)
        if place is not None and model.stored["priors"][place] != NO_PRIOR:
            priors[at] = model.stored["priors"][place] / 16
    parts = [numbers, endings, priors, pauses]
    if model.lm is not None:
        hints = np.zeros((size, 1, HINTS), np.float32)
        known = np.array([model.lm.ids.get(word, 0) for word in [*words, "", ""]])[:, None]
        hint_lines(model.lm_table, known, np.ones_like(known, bool), hints)
        parts.append(hints[:, 0])
    inputs = (torch.from_numpy(part)[:, None] for part in parts)
    with torch.no_grad():
        scores = PunctuationNetwork.of_model(model, 2).eval()(*inputs)[:, 0].numpy()
    assert len(decided) == len(words)
    off = np.abs(np.array(punctuator.scores) - scores)  # of scores up to 14
    assert off.max() < 0.4
    assert off.mean() < 0.1
    for one, score in zip(decided, punctuator.scores, strict=True):
        assert one.mark == ("", ",", ".", "?")[score[:4].argmax()]
        assert one.capital == (score[4] > 0)


@given(st.lists(st.sampled_from([*WORDS, "unseen"]), min_size=1, max_size=9), st.data())
def test_hints_are_what_the_language_model_says(lm: LanguageModel, words: list[str], data: st.DataObject) -> None:
    """A hint compares how likely a word is with a sentence's end before it, or one word earlier, and without."""
    follows = [False, *(data.draw(st.booleans()) for _ in words[1:])]
    hints = np.zeros((len(words), 1, HINTS), np.float32)
    numbers = np.array([[max(0, lm.words.find(word))] for word in words])
    hint_lines(ArrayTable(lm.arrays), numbers, np.array(follows)[:, None], hints)
    known: list[str] = []
    for word, follow, found in zip(words, follows, hints[:, 0], strict=True):
        known = known if follow else []
        if not known:
            assert not found.any()
        else:
            goes_on, last = lm.score(known[-2:], word), known[-1]
            end = lm.score(known[-2:], "</s>")
            first, second = lm.score(["<s>"], word), lm.score(["<s>", last], word)
            assert found * 4 == pytest.approx([end + 4, first - goes_on, second - goes_on], abs=1e-4)
        known = [*known, word]


def heard(words: list[str]) -> tuple[Word, ...]:
    rng = np.random.default_rng(len(words))
    starts = np.cumsum(rng.choice([0.3, 0.4, 0.9, 1.5], len(words))).tolist()
    return tuple(Word(word, start, start + 0.25, 0.9) for word, start in zip(words, starts, strict=True))


spoken_words = st.lists(st.sampled_from([*WORDS, "twenty", "five", "dollars", "open", "a"]), max_size=20)


@settings(max_examples=200)
@given(st.lists(spoken_words, min_size=1, max_size=3), st.data())
def test_stable_text_never_changes(model: Punctuation, said: list[list[str]], data: st.DataObject) -> None:
    """However words become stable, in each utterance stable text begins all that comes after it; no word is lost, and
    the same words give the same final."""
    rules = [Replacement("open a i", "open-AI")]
    writer, once = Writer(rules, True, model), Writer(rules, True, model)
    for words in said:
        spoken = heard(words)
        stable, shown = 0, ""
        while stable < len(spoken):
            stable = data.draw(st.integers(stable + 1, len(spoken)))
            partial = writer.partial(Partial(" ".join(words), spoken, 0), stable)
            assert partial.text.startswith(shown)
            assert partial.spoken == " ".join(words)
            shown = partial.text[: partial.stable_chars]
        final = writer.final(Final(" ".join(words), spoken, "end"))
        assert final.text.startswith(shown)
        assert final.spoken == " ".join(words)
        assert final == once.final(Final(" ".join(words), spoken, "end"))
        writer.reset()
        once.reset()


def test_weights_may_lie_either_way(model: Punctuation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed as x86 multiplies them, or as they come: the same scores to the last bit."""
    found = []
    for packed in (False, True) if available() else (False, None):
        monkeypatch.setattr(punctuation_kernel, "lay_out", partial(lay_out, packed=packed))
        punctuator = Recorded(replace(model))
        for word in WORDS:
            punctuator.accept(word, 0.2)
        punctuator.decide(True)
        found.append(punctuator.scores)
    assert np.array_equal(*found)


def test_a_word_waits_for_as_many_as_the_model_reads(model: Punctuation) -> None:
    """Two words after it, here, settle a word that is written as it is heard; and the utterance's end settles all."""
    writer, words = Writer(punctuation=model), ["the", "cat", "sat", "on", "the", "mat"]
    for count in range(1, 7):
        partial = writer.partial(Partial(" ".join(words), heard(words), 0), count)
        assert len(partial.text[: partial.stable_chars].split()) == max(0, count - 2)


def test_an_utterance_that_goes_on_is_the_same_sentence(model: Punctuation) -> None:
    """After an utterance that ends without a full stop the next one begins as it would in the middle."""
    writer = Writer(punctuation=model)
    before, capital = "", set()
    for words in (["the", "cat"], ["sat", "it"], ["on", "the", "mat"], ["red"], ["is", "it", "mat"]) * 4:
        text = writer.final(Final(" ".join(words), heard(words), "silence")).text
        if before:
            ended = before[-1] in ".?"
            capital.add(ended)
            assert not ended or text[0].isupper()
        before = text
        writer.reset()
    assert capital  # whatever the weights: the rule above was tried


@settings(max_examples=60)
@given(spoken_words.filter(bool))
def test_nothing_ends_with_a_comma(model: Punctuation, words: list[str]) -> None:
    """At a stream's end a full stop takes the place of a last comma; at a pause nothing does."""
    spoken = heard(words)
    ended, paused = (
        Writer(punctuation=model).final(Final(" ".join(words), spoken, reason)) for reason in ("end", "silence")
    )
    assert ended.text == re.sub(",$", ".", paused.text)
    assert ended.text == " ".join(word.text for word in ended.words)


def test_replaced_words_keep_their_letters(model: Punctuation) -> None:
    """What a user replaces begins a sentence as it is; the model may set a mark after it."""
    text = write_text("iphone sat", [Replacement("iphone", "iPhone")], punctuation=model)
    assert re.fullmatch(r"iPhone[,.?]? [Ss]at[,.?]?", text)


def test_text_is_read_with_its_marks() -> None:
    """Marks, capitals and what says nothing of them; sentences with digits are left out, headings too."""
    reader = MarkedTextReader()

    def read(line: str) -> list[tuple[str, int, int]]:
        text = reader.lines([line], 99)
        rows = zip(text.words.tolist(), text.marks.tolist(), text.capitals.tolist(), strict=True)
        return [(reader.forms.words[number], mark, capital) for number, mark, capital in rows]

    assert read('"Well-known, Bob," said I; and left!') == [
        ("well", NONE, UNSAID),
        ("known", COMMA, SMALL),
        ("bob", COMMA, CAPITAL),
        ("said", NONE, SMALL),
        ("i", COMMA, UNSAID),
        ("and", NONE, SMALL),
        ("left", STOP, SMALL),
    ]
    assert read("Mr. Café -- is it?") == [("mister", NONE, UNSAID), ("cafe", COMMA, CAPITAL), *read("a. is it?")[1:]]
    assert read("is it?") == [("is", NONE, UNSAID), ("it", QUESTION, SMALL)]
    assert read("It cost 25. Yes.") == [("yes", STOP, UNSAID)]
    assert read("CHAPTER THE FIRST OF IT") == []


def test_training_learns_and_goes_on(text_file: Path, tmp_path: Path) -> None:
    """A few steps on five sentences set their marks and capitals nearly always; interrupted, the same model results."""

    def trainer(name: str) -> PunctuationTrainer:
        reader = MarkedTextReader()
        text = reader.read(text_file, 10_000)
        return PunctuationTrainer(tmp_path / name, [(text, 1.0)], reader.forms, OPTIONS)

    whole = trainer("a").run(lambda line: None)
    reader = MarkedTextReader()
    score = score_text(whole, reader.read(text_file, 2_000), reader.forms)
    assert score.hits["Aa"].f1 > 0.9
    assert score.hits["Aa*"].f1 >= score.hits["Aa"].f1
    assert score.hits["."].f1 > 0.9
    assert score.hits["?"].f1 > 0.9
    first = trainer("b")
    for _ in range(60):
        first.steps.learn(first.loss(first.steps.step), first.share(first.steps.step))
    first.steps.save()
    again = trainer("b").run(lambda line: None)
    assert all((again.stored[name] == whole.stored[name]).all() for name in whole.stored)
    assert Punctuation.load(tmp_path / "b").forms == {"nasa": "NASA"}
    (tmp_path / "c.checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="delete it"):
        trainer("c")


def test_training_goes_on_from_a_model(model: Punctuation, lm: LanguageModel, text_file: Path, tmp_path: Path) -> None:
    """A model that is trained on keeps its words and what it says, also when it reads further ahead from then on, has
    more layers or begins to read hints."""
    numbers, endings = torch.randint(0, 14, (9, 3)), torch.randint(0, 16, (9, 3))
    priors, pauses, hints = torch.randn(9, 3), torch.randint(1, 5, (9, 3)), torch.randn(9, 3, HINTS)
    inputs = [numbers, endings, priors, pauses, *([hints] if model.reads_hints else [])]
    with torch.no_grad():
        near = PunctuationNetwork.of_model(model, 2)(*(part[:8] for part in inputs))
        far = PunctuationNetwork.of_model(model, 3)(*inputs)
        deep = PunctuationNetwork.of_model(model, 3, 3, HINTS)(numbers, endings, priors, pauses, hints)
    assert torch.allclose(near, far, atol=1e-5)
    assert torch.allclose(near, deep, atol=1e-5)
    with pytest.raises(ConfigError, match="reads 2 words ahead"):
        PunctuationNetwork.of_model(model, 1)
    if model.layers > 1:
        with pytest.raises(ConfigError, match="has 2 layers and reads 3 hints"):
            PunctuationNetwork.of_model(model, 2, 1)
    reader = MarkedTextReader()
    texts = [(reader.read(text_file, 10_000), 1.0)]
    options = replace(OPTIONS, steps=1, lookahead=3, layers=2)
    trainer = PunctuationTrainer(tmp_path / "p", texts, reader.forms, options, model, lm)
    more = trainer.run(lambda line: None)
    assert (more.words, more.forms, more.lookahead, more.layers) == (model.words, model.forms, 3, 2)
    assert Punctuation.load(tmp_path / "p", lm).reads_hints
    with pytest.raises(ModelError, match=r"needs it: put its lm\.safetensors"):
        Punctuation.load(tmp_path / "p")
    assert (more.stored["ranks"] == model.stored["ranks"]).all()
    table = trainer.table
    for word, number, prior in zip(reader.forms.words, table.numbers, table.priors, strict=True):
        at = model.find(word)
        assert number == (12 if at is None else min(12, model.stored["ranks"][at]))
        known = at is not None and model.stored["priors"][at] != NO_PRIOR
        assert prior == model.stored["priors"][at] / 16 if known else np.isnan(prior)


def test_shifts_are_for_words_without_pauses(model: Punctuation) -> None:
    """What is added to the scores counts where the pause after a word is not known, and nowhere else."""
    comma = np.array([0, 99, 0, 0, 0], np.float32)
    shifted = replace(model, stored={**model.stored, "shifts": comma})
    for pause_s in (None, 0.2):
        marks = []
        for each in (model, shifted):
            punctuator = Punctuator(each)
            for word in ("the", "cat", "sat", "on"):
                punctuator.accept(word, pause_s)
            marks.append([decision.mark for decision in punctuator.decide(True)])
        assert marks[1] == ([",", ",", ",", marks[0][3]] if pause_s is None else marks[0])


def test_scores_are_balanced() -> None:
    """Marks that a network sets too seldom are set as often as is best, and what is right already stays."""
    rng = np.random.default_rng(4)
    marks = rng.choice(4, 20_000, p=[0.8, 0.1, 0.08, 0.02])
    capitals = rng.choice([SMALL, CAPITAL, UNSAID], 20_000, p=[0.8, 0.1, 0.1])
    scores = rng.normal(size=(20_000, 5)).astype(np.float32) * 0.7
    scores[np.arange(20_000), marks] += 2
    scores[:, 4] += np.where(capitals == CAPITAL, 1.5, -1.5)
    shy = scores - np.array([0, 1.5, 1.2, 0, 1.0], np.float32)
    before, after = (
        [f1(each.argmax(axis=1) == mark, marks == mark) for mark in (1, 2, 3)]
        for each in (shy[:, :4], (shy + best_shifts(shy, marks, capitals))[:, :4])
    )
    assert all(b > a + 0.05 for a, b in zip(before[:2], after[:2], strict=True))
    assert sum(after) > sum(f1(scores[:, :4].argmax(axis=1) == mark, marks == mark) for mark in (1, 2, 3)) - 0.01
    assert 0.5 < best_shifts(shy, marks, capitals)[4] < 1.5


def test_the_command_trains_and_measures(
    text_file: Path, lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`asr punctuation train` writes a file that `asr punctuation score` measures; shares must be numbers."""
    out = tmp_path / "p.safetensors"
    assert main(["punctuation", "train", str(out), f"{text_file}=1", "--steps", "2"]) == 0
    lm.save(tmp_path / "lm.safetensors")
    hints = ["--lm", str(tmp_path / "lm.safetensors")]
    more = ["--start", str(out), "--lookahead", "7", "--steps", "1", *hints]
    assert main(["punctuation", "train", str(tmp_path / "more"), str(text_file), *more]) == 0
    assert Punctuation.load(tmp_path / "more", lm).lookahead == 7
    again = ["--start", str(tmp_path / "more"), "--steps", "1"]  # with the language model that lies beside it
    assert main(["punctuation", "train", str(tmp_path / "again"), str(text_file), *again]) == 0
    assert Punctuation.load(tmp_path / "again", lm).reads_hints
    assert main(["punctuation", "score", str(tmp_path / "more"), str(text_file), "--most-words", "500"]) == 0
    assert main(["punctuation", "score", str(out), str(text_file), "--most-words", "500"]) == 0
    assert "precision" in capsys.readouterr().out
    assert main(["punctuation", "train", str(out), str(text_file), "--layers", "0"]) == 1
    assert "layers, lookahead" in capsys.readouterr().err
    assert main(["punctuation", "train", str(out), f"{text_file}=much"]) == 1
    assert "'much' is no number" in capsys.readouterr().err
    empty = tmp_path / "empty.txt"
    empty.write_text("Too short.\n")
    assert main(["punctuation", "train", str(out), str(empty)]) == 1
    assert "no text has more than 68 words" in capsys.readouterr().err


def test_damaged_files_are_told(model: Punctuation, tmp_path: Path) -> None:
    """A file that is cut, or whose parts do not fit, says what to do."""
    path = tmp_path / "p.safetensors"
    model.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="Copy the model folder again"):
        Punctuation.load(path, model.lm)
    stored = dict(model.stored)
    stored["cell.memory"] = stored["cell.memory"][:, :-1]
    replace(model, stored=stored).save(path)
    with pytest.raises(ModelError, match=r"cell\.memory has another shape"):
        Punctuation.load(path, model.lm)
    stored["last_norm"] = stored["last_norm"][:, :0]
    replace(model, stored=stored).save(path)
    with pytest.raises(ModelError, match="Copy the model folder again"):
        Punctuation.load(path, model.lm)


def finals_of(recognizer: asr.Recognizer, speech: np.ndarray, chunk: int, written: bool | WrittenForm) -> list[Final]:
    """Finals of speech cut into chunks; stable text begins all that comes after it."""
    stream = recognizer.stream(written=written)
    events = [event for at in range(0, len(speech), chunk) for event in stream.accept(speech[at : at + chunk])]
    events += stream.finish()
    shown = ""
    for event in events:
        assert event.text.startswith(shown)
        shown = "" if isinstance(event, Final) else event.text[: event.stable_chars]
    return [event for event in events if isinstance(event, Final)]


def test_streams_write_sentences(recognizer: asr.Recognizer, speech: np.ndarray) -> None:
    """Real speech comes out in sentences, the same however it is cut; parts of the form can be had by themselves."""
    whole = finals_of(recognizer, speech, len(speech), True)
    text = " ".join(final.text for final in whole)
    assert text[0].isupper()
    assert text.count(".") >= 3
    assert len(re.findall(r"\. [A-Z]", text)) >= 2
    assert finals_of(recognizer, speech, 1_234, True) == whole
    plain = finals_of(recognizer, speech, len(speech), WrittenForm(numerals=False, punctuation=False))
    assert [final.text for final in plain] == [final.spoken for final in whole]
