"""Tokens, normalisation and error counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError, ModelError
from asr.search.decoder import Hypothesis
from asr.search.greedy import GreedyDecoder
from asr.search.words import Calibration, TokenReader, WordBuilder
from asr.text.normalize import normalize
from asr.text.score import count_errors, count_word_errors
from asr.text.tokens import BLANK, Tokenizer


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("HE HAD NEVER BEEN FATHER", "he had never been father"),
        ("\u201cDon\u2019t,\u201d she said \u2014 \u2018tis late!", "don't she said 'tis late"),
        ("ex-convict", "ex convict"),
        ("Café à la carte", "cafe a la carte"),
        ("the students' books", "the students' books"),
        ("well ' then", "well then"),
        ("  \n\t ", ""),
    ],
)
def test_normalisation(raw, words) -> None:
    """Case, accents, punctuation and typographic apostrophes do not count."""
    assert normalize(raw) == words


@given(st.text())
def test_normalised_text_can_be_written(text) -> None:
    """Whatever the text, its normal form is stable and made of the model's characters."""
    tokenizer = Tokenizer.english_characters()
    normal = normalize(text)
    assert normalize(normal) == normal
    assert tokenizer.decode(tokenizer.encode(normal)) == normal


def test_longest_token_wins() -> None:
    """Word pieces are matched greedily, so a tokeniser of pieces reads the same file format."""
    tokenizer = Tokenizer([BLANK, " ", "a", "b", "ab", "abb"])
    assert tokenizer.encode("abb ab") == [5, 1, 4]


def test_tokens_survive_the_file(tmp_path) -> None:
    """Saved and loaded, a tokeniser is the same, the space included."""
    tokenizer = Tokenizer.english_characters()
    tokenizer.save(tmp_path / "tokens.txt")
    assert Tokenizer.load(tmp_path / "tokens.txt").tokens == tokenizer.tokens


def test_a_character_that_cannot_be_written() -> None:
    """The error names the character."""
    with pytest.raises(DataError, match="'7'"):
        Tokenizer.english_characters().encode("route 7")


def test_a_list_without_a_blank_is_refused() -> None:
    """The first token must be the blank."""
    with pytest.raises(ModelError, match="first token"):
        Tokenizer(["a", "b"])


def distance(a: str, b: str) -> int:
    """Levenshtein distance by its definition."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return distance(a[1:], b[1:])
    return 1 + min(distance(a[1:], b[1:]), distance(a[1:], b), distance(a, b[1:]))


@given(st.text("ab", max_size=5), st.text("ab", max_size=5))
def test_error_counts_are_the_edit_distance(reference, hypothesis) -> None:
    """Edits add up to the smallest number, and to the difference in length."""
    count = count_errors(reference, hypothesis)
    assert count.errors == distance(reference, hypothesis)
    assert count.insertions - count.deletions == len(hypothesis) - len(reference)


def test_word_errors() -> None:
    """One word wrong, one missing and one too many of four are three errors of 75 %."""
    count = count_word_errors("one two three four", "one too four five")
    assert count.rate == 0.75
    assert count_word_errors("", "").rate == 0.0


def test_a_piece_of_a_word_is_heard_with_its_last_letter() -> None:
    """Letters before it count as heard a step apart, but not before the token before it."""
    tokenizer = Tokenizer([BLANK, " ", "a", "b", "abb"])
    hypothesis = Hypothesis((4, 3, 1, 4, 2), (10, 14, 15, 17, 18), (-0.1,) * 5, 0.0)
    reading = TokenReader(GreedyDecoder(), tokenizer).read(hypothesis)
    words = WordBuilder(Calibration(), 0.03).words(reading, 1.0, 100.0)
    assert [(word.text, word.start_s, word.end_s) for word in words] == [("abbb", 1.24, 1.45), ("abba", 1.48, 1.57)]
