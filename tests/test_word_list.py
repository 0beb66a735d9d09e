"""Vocabularies in little memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.text.word_list import WordList

words = st.lists(st.text(st.characters(exclude_characters="\n\0", codec="utf-8"), min_size=1, max_size=9), max_size=30)


@given(words, words)
def test_it_is_its_words(some, more) -> None:
    """Length, order, each word and slices are those of a tuple, and so is what is added."""
    found = WordList(some)
    assert found == tuple(some) == tuple(found)
    assert len(found) == len(some)
    assert [found[i] for i in range(-len(some), len(some))] == some * 2
    assert found[1:-1] == tuple(some[1:-1])
    assert found + tuple(more) == tuple(some + more)
    with pytest.raises(IndexError):
        found[len(some)]


@given(words, words)
def test_places_are_those_of_a_dictionary(some, others) -> None:
    """Each word's place among others, or -1, all at once and one by one."""
    others = list(dict.fromkeys(others))
    expected = [others.index(word) if word in others else -1 for word in some]
    listed = WordList(others)
    assert WordList(some).places_in(listed).tolist() == expected
    assert [listed.find(word) for word in some] == expected


def test_lines_that_are_no_words_are_refused() -> None:
    """Bytes that are no UTF-8 and a last line that is cut are errors, as a damaged file has them."""
    assert WordList.of_lines("tomato\ncafé\n".encode()) == ("tomato", "café")
    for text, reason in ((b"\xff\n", "utf-8"), (b"tomato\ncaf", "no end")):
        with pytest.raises(ValueError, match=reason):
            WordList.of_lines(text)
