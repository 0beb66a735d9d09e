"""The screen of ``asr mic``, in a terminal emulation."""

from __future__ import annotations

import numpy as np
import pyte
from asr.cli.live_text import LiveText
from asr.cli.status_line import StatusLine, peak_db
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from asr.events import Final, Partial

words = st.lists(st.text("abc漢é", min_size=1, max_size=12), min_size=1, max_size=30).map(" ".join)
partials = st.lists(st.tuples(words, st.floats(0, 1)), min_size=1, max_size=6)


def partial_of(text: str, part: float) -> Partial:
    return Partial(text, (), round(part * len(text)))


def shown(screen: pyte.Screen) -> list[str]:
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(partials, st.integers(4, 60), st.integers(2, 12), st.booleans())
@example([("a" * 50, 0.5)], 4, 2, True)
def test_what_is_rewritten_leaves_nothing_behind(texts, columns, rows, colour) -> None:
    """However small the window, the end of the utterance and the status are shown, then the finished text alone."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.Stream(screen)
    live, status = LiveText(colour), StatusLine("Microphone", 16_000)
    for text, part in texts:
        drawn = status.draw(columns - 1)
        stream.feed(live.frame(partial_of(text, part), drawn, columns, rows))
        lines = shown(screen)
        assert len(lines) <= 5
        assert lines[-1] == drawn.plain.rstrip()
        spoken = squeezed("".join(lines[:-1])).removeprefix("…")
        assert squeezed(text).endswith(spoken)
        assert len(spoken) >= 1 or columns <= 5
    stream.feed(live.final("k") + live.clear())
    assert shown(screen) == ["k"]


@given(partials, st.lists(st.integers(2, 60), min_size=2, max_size=6))
def test_a_window_that_changes_its_width(texts, widths) -> None:
    """After any change of the window's width what was drawn for the old one is gone."""
    screen = pyte.Screen(widths[0], 12)
    stream = pyte.Stream(screen)
    live, status = LiveText(), StatusLine("Microphone", 16_000)
    for columns in widths:
        screen.resize(12, columns)
        for text, part in texts:
            stream.feed(live.frame(partial_of(text, part), status.draw(columns - 1), columns, 12))
    stream.feed(live.clear())
    assert shown(screen) == []


def test_the_same_is_not_drawn_twice() -> None:
    """A frame that is there already costs nothing."""
    live, partial = LiveText(), Partial("he had never been", (), 7)
    assert live.frame(partial, None, 80, 24)
    assert live.frame(partial, None, 80, 24) == ""


def test_what_may_change_is_dim() -> None:
    """Stable text is plain, the rest dim; without colour there is no code at all."""
    partial = Partial("he had never", (), 6)
    assert "he had\x1b[2m never\x1b[0m" in LiveText().frame(partial, None, 80, 24)
    assert "\x1b[2m" not in LiveText(colour=False).frame(partial, None, 80, 24)


def test_a_finished_utterance_is_kept_whole() -> None:
    """However long, it goes to the terminal in one line, which can be copied as such."""
    final = Final("word " * 100, (), "silence")
    assert LiveText().final(final.text).count("\n") == 1


names = st.text("ab 漢é", min_size=1, max_size=40)


@given(names, st.integers(0, 100), st.integers(0, 99), st.booleans(), st.sampled_from(["", "loading", "x" * 99]))
def test_the_status_line_fits(name, columns, losses, loud, state) -> None:
    """In a line of any width the status has no more cells than there are, and the clock comes first."""
    status = StatusLine(name, 16_000)
    status.state, status.losses = state, losses
    status.heard(np.full(65 * 16_000, 9_000 * loud, "<i2").tobytes())
    line = status.draw(columns).plain
    assert cell_len(line) <= columns
    assert line.startswith("0:01:05"[:columns])
    if columns > 40:
        assert ("sound lost" in line) == (losses > 0)
        assert ("█" in line) == (loud and not state)
        assert ("loading" in line) == (state == "loading")


def test_the_meter_follows_the_level() -> None:
    """The meter rises at once with the sound, and falls slowly."""
    status = StatusLine("m", 16_000)

    def cells() -> int:
        return status.draw(60).plain.count("█")

    assert cells() == 0
    status.heard(np.full(800, 32_767, "<i2").tobytes())
    assert cells() == 20
    status.heard(bytes(1600))
    assert cells() == 19
    for _ in range(20):
        status.heard(bytes(1600))
    assert cells() == 0


def test_decibels() -> None:
    """The level is the peak's, in decibels of full scale."""
    assert abs(peak_db(np.array([-3277, 5], "<i2").tobytes()) + 20) < 0.01
    assert peak_db(np.array([-32_768], "<i2").tobytes()) > -0.01
    assert peak_db(b"") == -60
