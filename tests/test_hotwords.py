"""Hot words: what they add to a text's score, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ConfigError
from asr.search.hotwords import HotWord, build_automaton
from asr.text.tokens import Tokenizer

TOKENS = Tokenizer.english_characters()
LETTERS = TOKENS.alphabet
words = st.text("ab", min_size=1, max_size=3)
texts = st.lists(words, min_size=1, max_size=8).map(" ".join)


def reward(text: str, hot_words: list[HotWord]) -> float:
    """What the automaton gives a finished text, one letter after the other."""
    hot = build_automaton(hot_words, TOKENS)
    state, total = int(hot.next[0, LETTERS.index(" ")]), 0.0
    for letter in text + " ":
        then = int(hot.next[state, LETTERS.index(letter)])
        total += hot.earned[then] + hot.begun[then] - hot.begun[state]
        state = then
    return total - hot.begun[state]


@given(texts, st.dictionaries(st.lists(words, min_size=1, max_size=3).map(" ".join), st.floats(-5, 5), max_size=5))
def test_a_text_earns_the_phrases_that_it_holds(text, phrases) -> None:
    """The sum is the boost of every occurrence of every phrase as whole words, overlapping ones too."""
    spoken = text.split()
    expected = 0.0
    for phrase, boost in phrases.items():
        parts = phrase.split()
        expected += sum(spoken[i : i + len(parts)] == parts for i in range(len(spoken))) * boost * len(parts)
    assert reward(text, [HotWord(*item) for item in phrases.items()]) == pytest.approx(expected, abs=1e-6)


def test_part_of_a_word_earns_nothing() -> None:
    """Neither a beginning nor an inside of a word counts."""
    assert reward("cats concat cat", [HotWord("cat", 2.0)]) == pytest.approx(2.0)


def test_a_loan_is_lent_letter_by_letter_and_taken_back() -> None:
    """Half of a phrase is lent half of the boost, and a phrase that breaks off has gained nothing."""
    hot = build_automaton([HotWord("abcd", 4.0)], TOKENS)
    state = int(hot.next[0, LETTERS.index(" ")])
    lent = []
    for letter in "abcd":
        state = int(hot.next[state, LETTERS.index(letter)])
        lent.append(float(hot.begun[state]))
    assert lent == [1.0, 2.0, 3.0, 4.0]
    assert reward("abce", [HotWord("abcd", 4.0)]) == 0.0


def test_a_phrase_that_cannot_be_written_is_named() -> None:
    """The error says which phrase, and which character."""
    with pytest.raises(ConfigError, match=r"'route 66'.*'6'"):
        build_automaton([HotWord("fine"), HotWord("route 66")], TOKENS)
    with pytest.raises(ConfigError, match="empty"):
        HotWord("  ")
    with pytest.raises(ConfigError, match="boost"):
        HotWord("word", 1e9)
