"""Language models: estimation, pruning, the ARPA format, and the stored file."""

from __future__ import annotations

import gzip
import math
from collections import Counter

import numpy as np
import pytest
from asr.cli.main import main
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError, ModelError
from asr.lm import LanguageModel
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.build import BuildOptions, build_from_text, score_text
from asr.lm.counting import Counts
from asr.lm.estimate import choose_vocabulary, encode, estimate
from asr.lm.prune import prune
from asr.lm.table import SPECIAL, NgramTable
from asr.lm.text import sentence_words

sentences = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8), min_size=1, max_size=40)

ARPA = """
\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.9\t</s>
-0.5\tHello\t-0.3
-0.7\tworld\t-0.2

\\2-grams:
-0.2\t<s> hello\t-0.1
-0.3\thello world\t0.0
-0.4\tworld </s>

\\3-grams:
-0.05\t<s> hello world

\\end\\
"""


def model_of(lines: list[list[str]], order: int) -> tuple[NgramTable, list[Counts], tuple[str, ...]]:
    words = choose_vocabulary(Counter(word for line in lines for word in line), 5)
    table, counts = estimate(encode(lines, words), words, order)
    return table, counts, words


def distribution(table: NgramTable, history: list[int]) -> np.ndarray:
    """P(word | history) of every word but the sentence start."""
    words = np.delete(np.arange(len(table.words)), 1)
    grams = np.concatenate([np.tile(history, (len(words), 1)).astype(np.int64), words[:, None]], axis=1)
    return np.exp(table.score(grams))


@settings(max_examples=60)
@given(sentences, st.integers(1, 4), st.data())
def test_probabilities_sum_to_one(lines, order, data) -> None:
    """After any history, seen or not, of an estimated model and of a pruned one."""
    table, counts, words = model_of(lines, order)
    fewer, _ = prune(table, counts, lambda grams, _: sum(grams), max(len(words), sum(table.counts) * 2 // 3))
    history = data.draw(st.lists(st.sampled_from([0, *range(3, len(words))]), max_size=order - 1))
    history = data.draw(st.sampled_from([history, [1, *history][: order - 1]]))
    for model in (table, fewer):
        assert distribution(model, history).sum() == pytest.approx(1.0, abs=1e-6)


def test_kneser_ney_by_hand() -> None:
    """A bigram model of a tiny text has the probabilities that the formulas give on paper."""
    lines = [["a", "b"], ["a", "b"], ["a", "c"], ["d", "c"]]
    words = (*SPECIAL, "a", "b", "c", "d")
    table, _ = estimate(encode(lines, words), words, 2)
    # Three pairs of words occur once, three twice and one three times: y is 3 / (3 + 2 * 3). So much a pair that is
    # seen once, twice or three times leaves to its second word alone.
    once, twice, thrice = 1 - 2 / 3 * 3 / 3, 2 - 3 / 3 * 1 / 3, 3 - 0
    left = {"a": thrice, "b": twice, "c": 2 * once, "d": once, "</s>": 2 * twice}
    total = sum(left.values())
    # One word occurs once, two twice and one three times: y is 1 / (1 + 2 * 2). Between whole numbers, straight lines.
    first, second, third = 1 - 2 / 5 * 2 / 1, 2 - 3 / 5 * 1 / 2, 3
    taken = {
        "a": third,
        "b": first + (twice - 1) * (second - first),
        "c": 2 * once * first,
        "d": once * first,
        "</s>": third,
    }
    p_b = (left["b"] - taken["b"]) / total + sum(taken.values()) / total * (1 / 6)
    p_b_after_a = (2 - twice) / 3 + (once + twice) / 3 * p_b
    assert math.exp(table.score(np.array([[4]]))[0]) == pytest.approx(p_b)
    assert math.exp(table.score(np.array([[3, 4]]))[0]) == pytest.approx(p_b_after_a)


@settings(max_examples=40)
@given(lines=sentences, order=st.integers(1, 4))
def test_the_stored_model_is_the_estimated_one(tmp_path_factory, lines, order) -> None:
    """Saved, mapped and asked word by word, it answers as the table does, up to its 8 bits."""
    table, _, words = model_of(lines, order)
    path = tmp_path_factory.mktemp("lm") / "lm.safetensors"
    LanguageModel.from_table(table).save(path)
    lm = LanguageModel.load(path)
    assert lm.words == words
    assert lm.counts == table.counts
    for line in lines[:5]:
        ids = [1] + [lm.ids.get(word, 0) for word in line]
        for at in range(1, len(ids)):
            history = ids[max(0, at - order + 1) : at] if order > 1 else []
            expected = table.score(np.array([[*history, ids[at]]]))[0]
            assert lm.score([lm.words[i] for i in ids[:at]], lm.words[ids[at]]) == pytest.approx(expected, abs=0.2)


def test_pruning_keeps_what_matters(tmp_path) -> None:
    """Pruned to fit, a model is as large as allowed and foresees its text worse, but better than unigrams do."""
    rng = np.random.default_rng(3)
    text = tmp_path / "text.txt"
    chain = rng.dirichlet(np.full(30, 0.05), size=(30, 30))
    names = ["w" + "abcdefghijklmnopqrstuvwxyzabcd"[i] * (1 + i // 26) for i in range(30)]
    lines = []
    for _ in range(1_500):
        state = [0, 1]
        for _ in range(10):
            state.append(int(rng.choice(30, p=chain[state[-2], state[-1]])))
        lines.append(" ".join(names[i] for i in state))
    text.write_text("\n".join(lines))
    rates = {}
    for name, order, megabytes in [("whole", 3, 1.0), ("pruned", 3, 0.014), ("unigrams", 1, 1.0)]:
        lm, _ = build_from_text([text], BuildOptions(order=order, megabytes=megabytes), lambda _: None)
        lm.save(tmp_path / "lm")
        assert (tmp_path / "lm").stat().st_size <= megabytes * 1e6
        rates[name] = score_text(lm, [line.split() for line in lines]).perplexity
    assert rates["whole"] < rates["pruned"] < rates["unigrams"]


def test_arpa_files_are_read_and_written(tmp_path) -> None:
    """A file of another toolkit keeps its probabilities, words in lower case, and so does a file of ours."""
    path = tmp_path / "model.arpa.gz"
    path.write_bytes(gzip.compress(ARPA.encode()))
    table = read_arpa(path)
    write_arpa(table, tmp_path / "again.arpa")
    for lm in (LanguageModel.from_table(t) for t in (table, read_arpa(tmp_path / "again.arpa"))):
        assert lm.counts == (5, 3, 1)
        ten = math.log(10)
        assert lm.score(["<s>", "hello"], "world") == pytest.approx(-0.05 * ten, abs=0.01)
        assert lm.score(["hello"], "world") == pytest.approx(-0.3 * ten, abs=0.01)
        assert lm.score(["<s>", "hello"], "hello") == pytest.approx((-0.1 - 0.3 - 0.5) * ten, abs=0.03)
        assert lm.score(["hello", "world"], "</s>") == pytest.approx(-0.4 * ten, abs=0.01)
        assert lm.score(["world"], "never") == pytest.approx((-0.2 - 1.0) * ten, abs=0.03)


def test_contexts_that_a_file_lacks_are_filled_in(tmp_path) -> None:
    """Some toolkits prune an n-gram's context and keep the n-gram: both can then be asked for."""
    text = ARPA.replace("-0.2\t<s> hello\t-0.1\n", "").replace("ngram 2=3", "ngram 2=2")
    (tmp_path / "a.arpa").write_text(text)
    lm = LanguageModel.from_table(read_arpa(tmp_path / "a.arpa"))
    ten = math.log(10)
    assert lm.score(["<s>"], "hello") == pytest.approx((-0.5 - 0.5) * ten, abs=0.03)
    assert lm.score(["<s>", "hello"], "world") == pytest.approx(-0.05 * ten, abs=0.01)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", "no .*data.* section"),
        ("ngram 2=3", "ngram 2=4", "3 2-grams where the header says 4"),
        ("-0.3\thello world", "-0.3\thello there", "line 16: 'there' is not among the 1-grams"),
        ("-0.7\tworld", "much\tworld", "line 12: a weight that is no number"),
        ("-0.05\t<s> hello world", "-0.05\thello", "expected a probability, 3 words"),
    ],
)
def test_a_damaged_arpa_file_is_an_error_with_its_place(tmp_path, old, new, message) -> None:
    """The error names the file, the line and what is wrong with it."""
    assert old in ARPA
    (tmp_path / "bad.arpa").write_text(ARPA.replace(old, new))
    with pytest.raises(DataError, match=message) as error:
        read_arpa(tmp_path / "bad.arpa")
    assert "bad.arpa" in str(error.value)


def test_a_damaged_file_is_refused(tmp_path) -> None:
    """Cut short, of another kind, or with offsets that point outside: an error that says what to do."""
    path = tmp_path / "lm.safetensors"
    lm = LanguageModel.from_table(model_of([["a", "b"], ["b", "c", "a"]], 2)[0])
    lm.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[:100], whole[:-40]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="asr lm build"):
            LanguageModel.load(path)
    first = lm.arrays.after_word.copy()
    first[2] = 10_000
    LanguageModel(lm.arrays._replace(after_word=first), lm.words).save(path)
    with pytest.raises(ModelError, match="damaged"):
        LanguageModel.load(path)
    with pytest.raises(ModelError, match="cannot read"):
        LanguageModel.load(tmp_path / "none")


def test_numbers_in_text_are_unknown_words() -> None:
    """How digits are spoken cannot be known, so no n-gram may run across them."""
    assert sentence_words("In 1984, he said: \u201cDon\u2019t!\u201d") == ["in", "<unk>", "he", "said", "don't"]


def test_the_command_builds_scores_and_converts(tmp_path, capsys) -> None:
    """`asr lm build` and `asr lm score` on files, and errors in one line."""
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat. The dog sat on the cat!\n" * 20)
    out, arpa = tmp_path / "lm.safetensors", tmp_path / "lm.arpa"
    assert main(["lm", "build", str(out), str(text), "--order", "2", "--write-arpa", str(arpa)]) == 0
    assert main(["lm", "build", str(tmp_path / "two"), "--arpa", str(arpa)]) == 0
    assert LanguageModel.load(tmp_path / "two").counts == LanguageModel.load(out).counts
    assert main(["lm", "export", str(out), str(tmp_path / "again.arpa")]) == 0
    ours, again = LanguageModel.load(out), LanguageModel.from_table(read_arpa(tmp_path / "again.arpa"))
    assert again.counts == ours.counts
    for history, word in [(["<s>"], "the"), (["the"], "cat"), (["cat"], "cat"), (["mat"], "</s>")]:
        assert again.score(history, word) == pytest.approx(ours.score(history, word), abs=0.1)
    assert main(["lm", "score", str(out), str(text)]) == 0
    assert "perplexity 1." in capsys.readouterr().out
    assert main(["lm", "build", str(out)]) == 1
    assert main(["lm", "build", str(out), str(tmp_path / "none.txt")]) == 1
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    assert main(["lm", "build", str(out), str(empty)]) == 1
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert "give more text" in errors
