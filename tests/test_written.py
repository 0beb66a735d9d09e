"""The written form: every rule's examples, and what holds for any words."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr.errors import ConfigError, DataError
from asr.events import Final, Partial, Word
from asr.written.numerals import DIGITS, SCALES, TEENS, TENS
from asr.written.replacements import Replacement, read_replacements
from asr.written.writer import Writer, write_text

TABLE = [
    line.split("\t")
    for line in (Path(__file__).parent / "data" / "written.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
VOCABULARY = sorted({word for _, spoken, _ in TABLE for word in spoken.split()})
SENTENCES = st.one_of(
    st.lists(st.sampled_from(VOCABULARY), max_size=30),
    st.lists(st.sampled_from(TABLE), max_size=5).map(lambda rows: " ".join(row[1] for row in rows).split()),
)
_ONES = ["zero", *DIGITS, *TEENS]
_TENS = [*TENS]


def spell(number: int, joint: str = "") -> str:
    """A number in words, with this before what is below a hundred."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return " ".join([_TENS[number // 10 - 2], *([_ONES[number % 10]] if number % 10 else [])])
    if number < 1000:
        rest = [joint, spell(number % 100)] if number % 100 else []
        return " ".join(filter(None, [_ONES[number // 100], "hundred", *rest]))
    scale, name = max((value, name) for name, value in SCALES.items() if value <= number)
    rest = [spell(number % scale, joint)] if number % scale else []
    return " ".join([spell(number // scale, joint), name, *rest])


def heard(words: list[str]) -> tuple[Word, ...]:
    return tuple(Word(word, float(k), k + 0.5, 1 / (k + 1)) for k, word in enumerate(words))


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in TABLE}))
def test_the_table_of_written_forms(kind: str) -> None:
    """Each spoken form of the table is written as it says."""
    rows = [(spoken, written) for of_kind, spoken, written in TABLE if of_kind == kind]
    assert [(spoken, write_text(spoken)) for spoken, _ in rows] == rows


def test_the_table_is_large() -> None:
    """At least 300 different examples."""
    assert len({spoken for _, spoken, _ in TABLE}) >= 300


@given(st.integers(10, 10**12), st.sampled_from(["", "and"]))
def test_numbers_come_back(number: int, joint: str) -> None:
    """A number that is spelt out is written in the digits it came from."""
    text = write_text(spell(number, joint)).replace(",", "")
    for name, value in SCALES.items():
        if text.endswith(name):
            text = str(round(float(text.split()[0]) * value))
    assert text == str(number)


@given(SENTENCES)
def test_every_word_is_in_one_token(words: list[str]) -> None:
    """The tokens' words are the words heard, in order, with their times; a token is as sure as the least sure word."""
    spoken = heard(words)
    written = Writer().write(spoken)
    assert tuple(itertools.chain.from_iterable(word.heard or (word,) for word in written)) == spoken
    for word in written:
        parts = word.heard or (word,)
        assert (word.start_s, word.end_s) == (parts[0].start_s, parts[-1].end_s)
        assert word.confidence == min(part.confidence for part in parts)
        assert word.text
    assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(written))


@given(st.lists(st.text(st.characters(exclude_categories=("Z", "C")), min_size=1), max_size=8))
def test_any_words_can_be_written(words: list[str]) -> None:
    """Words of any letters are written, and none is lost."""
    final = Final(" ".join(words), heard(words), "end")
    assert Writer().final(final).spoken == " ".join(words)


@settings(max_examples=200)
@given(SENTENCES, st.data())
def test_stable_written_text_never_changes(words: list[str], data: st.DataObject) -> None:
    """However words become stable, the stable text of each partial begins those after it and the final."""
    spoken = heard(words)
    writer = Writer([Replacement("one of", "ONE of"), Replacement("Main Street", "Main St.")])
    stable, shown = 0, ""
    while stable < len(spoken):
        stable = data.draw(st.integers(stable + 1, len(spoken)))
        seen = data.draw(st.integers(stable, len(spoken)))
        text = " ".join(words[:seen])
        partial = writer.partial(Partial(text, spoken[:seen], len(" ".join(words[:stable]))), stable)
        assert partial.text.startswith(shown)
        assert partial.spoken == text
        shown = partial.text[: partial.stable_chars]
    assert writer.final(Final(" ".join(words), spoken, "end")).text.startswith(shown)


@given(SENTENCES)
def test_what_is_settled_does_not_depend_on_steps(words: list[str]) -> None:
    """Word by word or all at once, the same text is settled."""
    spoken, step, whole = heard(words), Writer(), Writer()
    last = Partial("", (), 0)
    for count in range(1, len(words) + 1):
        last = step.partial(Partial(" ".join(words[:count]), spoken[:count], 0), count)
    if words:
        assert last == whole.partial(Partial(" ".join(words), spoken, 0), len(words))


def test_plain_words_are_settled_at_once() -> None:
    """Words that begin no number wait for nothing; a number waits for what may belong to it."""
    writer = Writer()
    spoken = heard(["they", "paid", "twenty"])
    partial = writer.partial(Partial("they paid twenty", spoken, 16), 3)
    assert partial.text[: partial.stable_chars] == "they paid"
    assert partial.text == "they paid twenty"


def test_replacements_go_first_and_last() -> None:
    """Users' rules match what is said and what is written; the longest wins, and the right side is written as it is."""
    rules = [
        Replacement("open a i", "OpenAI"),
        Replacement("open", "Open"),
        Replacement("main street", "Main St."),
        Replacement("NASA", "the NASA"),
        Replacement("$25", "25 bucks"),
    ]
    assert write_text("at open a i one twenty three main street", rules) == "at OpenAI 123 Main St."
    assert write_text("opening open doors", rules) == "opening Open doors"
    assert write_text("n a s a nasa twenty five dollars", rules) == "the NASA nasa 25 bucks"
    assert write_text("twenty five main street", rules, numerals=False) == "twenty five Main St."


def test_a_file_of_replacements(tmp_path: Path) -> None:
    """Arrows, tabs and comments are read; an error names file and line."""
    path = tmp_path / "own.txt"
    path.write_text("# names\n\nopen a i => OpenAI\nmac book\tMacBook\n", encoding="utf-8")
    assert read_replacements(path) == (Replacement("open a i", "OpenAI"), Replacement("mac book", "MacBook"))
    path.write_text("open a i => OpenAI\nnothing here\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.txt:2: "):
        read_replacements(path)
    path.write_text("x =>  \n", encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.txt:1: "):
        read_replacements(path)
    with pytest.raises(DataError, match="cannot read"):
        read_replacements(tmp_path / "missing.txt")
    with pytest.raises(ConfigError, match="at most"):
        Replacement("word " * 30, "x")


def test_a_written_stream_keeps_what_was_heard(recognizer: asr.Recognizer, clips) -> None:
    """With the written form on, a stream hears the same; its stable text is kept, whatever the chunks."""
    clip = clips[0]
    rules = [asr.Replacement(word, word.upper()) for word in ("the", "and", "of", "a", "he", "was", "to")]
    finals = {}
    for chunk in (1_600, 7_777):
        stream = recognizer.stream(recognizer.sample_rate_hz, written=True, replacements=rules)
        events = [e for i in range(0, len(clip.samples), chunk) for e in stream.accept(clip.samples[i : i + chunk])]
        events += stream.finish()
        shown = ""
        for event in events:
            assert event.text.startswith(shown)
            shown = "" if isinstance(event, Final) else event.text[: event.stable_chars]
        finals[chunk] = [event for event in events if isinstance(event, Final)]
    assert finals[1_600] == finals[7_777]
    plain = recognizer.stream(recognizer.sample_rate_hz, written=False)
    expected = [e for e in [*plain.accept(clip.samples), *plain.finish()] if isinstance(e, Final)]
    assert [final.spoken for final in finals[1_600]] == [final.text for final in expected]
    assert any(word.heard for final in finals[1_600] for word in final.words)
