"""Subtitles that can be read: where they are cut, and for how long they are shown."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.captions import Cue, captions
from asr.events import Final, Word
from asr.formats import to_srt, to_vtt
from asr.written.replacements import Replacement
from asr.written.words import word_set
from asr.written.writer import Writer

VOCABULARY = sorted(
    word_set(
        "the a of to and but because with in yes i go they paid twenty five dollars on may third nineteen eighty four "
        "doctor smith said which something remarkable telecommunications percent three o'clock p m u s a minus point"
    )
)
LONG = "donau" + "dampfschifffahrts" * 3 + "gesellschaft"
MARKED = ("well,", "done.", "really?", "Dr.", "U.S.", "no;", '"yes."', "Main St. and its surroundings, all of it.")


def final(*timed: tuple[str, float, float], reason="silence") -> Final:
    words = tuple(Word(text, start_s, end_s, 0.9) for text, start_s, end_s in timed)
    return Final(" ".join(word.text for word in words), words, reason)


def spoken(text: str, start_s: float = 0.0, word_s: float = 0.3) -> Final:
    """Words said one right after the other."""
    timed = ((word, start_s + k * word_s, start_s + (k + 1) * word_s) for k, word in enumerate(text.split()))
    return final(*timed)


def cues_of(*finals: Final) -> list[tuple[str, ...]]:
    return [cue.lines for cue in captions(finals)]


def chars(cue: Cue) -> int:
    return len(" ".join(cue.lines))


@st.composite
def transcripts(draw, vocabulary=(*VOCABULARY, LONG, *MARKED)) -> list[Final]:
    """Utterances of any words, said at any speed, with any pauses between."""
    now, finals = draw(st.floats(0.0, 4_000.0)), []
    pauses = st.one_of(st.just(0.0), st.floats(0.0, 0.3), st.floats(0.0, 5.0))
    for _ in range(draw(st.integers(0, 4))):
        timed = []
        for text in draw(st.lists(st.sampled_from(vocabulary), min_size=1, max_size=40)):
            now += draw(pauses)
            ends = now + draw(st.floats(0.03, 1.5))
            timed.append((text, now, ends))
            now = ends
        finals.append(final(*timed, reason=draw(st.sampled_from(["silence", "length", "end"]))))
    return finals


def written(finals: list[Final]) -> list[Final]:
    writer = Writer([Replacement("telecommunications", "telecommunications & <media>"), Replacement("go", LONG)])
    return [writer.final(one) for one in finals]


spoken_or_written = transcripts() | transcripts(VOCABULARY).map(written)


@given(spoken_or_written)
def test_no_word_is_lost(finals) -> None:
    """All words are there, each once and in order, in the spoken and in the written form."""
    shown = [line for cue in captions(finals) for line in cue.lines]
    assert " ".join(shown) == " ".join(word.text for one in finals for word in one.words)


@given(spoken_or_written)
def test_cues_fit_the_screen(finals) -> None:
    """A cue has one or two lines, and a line 42 characters, unless it is a single longer word."""
    texts = {word.text for one in finals for word in one.words}
    for cue in captions(finals):
        assert 1 <= len(cue.lines) <= 2
        assert all(len(line) <= 42 or line in texts for line in cue.lines)


@given(spoken_or_written)
def test_cues_are_shown_in_their_time(finals) -> None:
    """A cue begins with its first word, is there while its words are said, and goes before the next one comes."""
    words = [word for one in finals for word in one.words]
    cues, at = list(captions(finals)), 0
    for number, cue in enumerate(cues):
        count, text = 1, words[at].text
        while text != " ".join(cue.lines):
            text += f" {words[at + count].text}"
            count += 1
        assert cue.start_s == words[at].start_s
        at += count
        assert words[at - 1].end_s <= cue.end_s
        assert count == 1 or words[at - 1].end_s - cue.start_s <= 6.0
        assert number + 1 == len(cues) or cue.end_s <= cues[number + 1].start_s


@given(spoken_or_written)
def test_cues_can_be_read(finals) -> None:
    """A cue is shown for a second and for a twentieth of a second a character, unless the next comes before that."""
    cues = list(captions(finals))
    for cue, following in itertools.zip_longest(cues, cues[1:]):
        lasts_s = cue.end_s - cue.start_s
        if following is None or cue.end_s < following.start_s:
            assert lasts_s >= max(1.0, chars(cue) / 20.0) - 1e-6
        elif lasts_s < 0.7:
            # Nothing can be done: the two together would be too much for a cue.
            lines = " ".join([*cue.lines, *following.lines])
            words_end_s = max(w.end_s for one in finals for w in one.words if w.start_s < following.end_s)
            assert len(lines) > 42 or words_end_s - cue.start_s > 6.0


@given(st.lists(transcripts(), min_size=2, max_size=3))
def test_cues_of_several_channels(spoken) -> None:
    """Each channel has the cues that it has alone, all are in order of time, and named ones fit the screen, too."""
    said = [replace(final, channel=channel) for channel, finals in enumerate(spoken) for final in finals]
    texts, together = {word.text for one in said for word in one.words}, list(captions(said))
    assert [cue.start_s for cue in together] == sorted(cue.start_s for cue in together)
    for channel, finals in enumerate(spoken):
        assert [replace(cue, channel=None) for cue in together if cue.channel == channel] == list(captions(finals))
    for cue in captions(said, named=True):
        name = f"Channel {cue.channel + 1}: "
        assert cue.lines[0].startswith(name)
        assert len(cue.lines) <= 2
        assert all(len(line) <= 42 or line.removeprefix(name) in texts for line in cue.lines)


def test_a_sentence_is_not_cut_where_it_need_not_be() -> None:
    """Cues end where sentences do, though more words would fit."""
    text = "We went home early that day. Nobody had told us that the bridge over the river was closed since March."
    assert cues_of(spoken(text)) == [
        ("We went home early that day.",),
        ("Nobody had told us that the bridge", "over the river was closed since March."),
    ]


def test_an_abbreviation_ends_no_sentence() -> None:
    """*Dr.* stays with the name."""
    text = "They had been waiting for the answer of Dr. Smith about the new patient of the ward in the west wing"
    assert not [line for lines in cues_of(spoken(text)) for line in lines if line.endswith("Dr.")]


def test_clauses_come_first() -> None:
    """A comma is a better place than the middle of a phrase."""
    text = "When the rain had stopped at last, everybody who had been inside went out to look at the garden again"
    assert cues_of(spoken(text))[0][0] == "When the rain had stopped at last,"


def test_without_punctuation_words_say_where() -> None:
    """Lines break before conjunctions and prepositions, and not after an article."""
    text = "nobody had told us anything new about the bridge over the river because it was closed since the last winter"
    lines = [line for lines in cues_of(spoken(text)) for line in lines]
    assert lines == [
        "nobody had told us anything new",
        "about the bridge over the river",
        "because it was closed",
        "since the last winter",
    ]


def test_pauses_say_where() -> None:
    """A cue ends at a pause, whatever the words."""
    before, after = "one moment please i will look for the", "papers of the house"
    words = [*spoken(before, 0.0).words, *spoken(after, 5.0).words]
    assert cues_of(final(*((word.text, word.start_s, word.end_s) for word in words))) == [(before,), (after,)]


def test_a_short_answer_joins_what_follows_at_once() -> None:
    """What would flash up alone is shown with the next utterance; with time enough it has a cue of its own."""
    after = "that is what we have been looking for"
    assert cues_of(final(("yes", 0.0, 0.2)), spoken(after, 0.5)) == [("yes " + after,)]
    assert cues_of(final(("yes", 0.0, 0.2)), spoken(after, 2.5)) == [("yes",), (after,)]


def test_a_cue_lasts_into_the_pause() -> None:
    """Fast words stay until they can be read, if nothing comes."""
    text = "extraordinarily straightforward communication"
    (cue,) = captions([spoken(text, word_s=0.2)])
    assert cue.end_s == pytest.approx(len(text) / 20)


def test_markup_of_webvtt() -> None:
    """In WebVTT, signs of its markup are escaped; SubRip has no way to."""
    one = final(("R&D", 0.0, 1.0), ("<b>", 1.0, 2.0), ("-->", 2.0, 3.0))
    assert "R&amp;D &lt;b&gt; --&gt;\n" in to_vtt([one], "", 3.0)
    assert "R&D <b> -->\n" in to_srt([one], "", 3.0)
