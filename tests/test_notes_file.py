"""The file of ``asr mic --output``: what is finished is on the disk, whatever happens then."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from pathlib import Path

import pytest
from asr.cli.notes_file import SUFFIXES, NotesFile
from hypothesis import given, settings
from hypothesis import strategies as st
from mic_process import finish, start

from asr.errors import ConfigError
from asr.events import Final, Word

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


def final_of(texts: list[str], start_s: float = 0.0, reason: str = "silence") -> Final:
    words = tuple(Word(text, start_s + 0.3 * k, start_s + 0.3 * k + 0.2, 0.9) for k, text in enumerate(texts))
    return Final(" ".join(texts), words, reason)


def seconds(text: str) -> list[float]:
    """All times of a file with subtitles, in their order."""
    found = re.findall(r"(\d\d):(\d\d):(\d\d)[.,](\d{3})", text)
    return [int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000 for h, m, s, ms in found]


@pytest.mark.parametrize("suffix", [".jsonl", ".srt"])
def test_each_utterance_is_on_the_disk_when_it_is_shown(heard, tmp_path, suffix) -> None:
    """Killed without mercy, the command leaves a file with every utterance that was to be seen."""
    path = tmp_path / f"notes{suffix}"
    process = start("--output", path, wav=heard)
    said = process.stdout.readline().decode().strip()
    process.send_signal(signal.SIGKILL)
    finish(process)
    text = path.read_text()
    if suffix == ".jsonl":
        assert json.loads(text.splitlines()[0])["text"] == said
    else:
        spoken = " ".join(line for line in text.splitlines() if not re.search(r"-->|^\d+$", line))
        assert " ".join(spoken.split()).startswith(said)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_second_run_adds_to_the_first(recognizer, heard, tmp_path, suffix) -> None:
    """What a file holds already is kept, and subtitles go on with the next number and later times."""
    path = tmp_path / f"notes{suffix}"
    finals = recognizer.transcribe(heard).finals
    texts = []
    for _ in range(2):
        notes = NotesFile(path)
        for final in finals:
            notes.write([final])
        notes.close()
        texts.append(path.read_text())
    first, both = texts
    assert both.startswith(first)
    assert first
    if suffix == ".txt":
        assert both.splitlines() == 2 * [final.text for final in finals]
    elif suffix == ".jsonl":
        assert [json.loads(line)["text"] for line in both.splitlines()] == 2 * [final.text for final in finals]
    else:
        assert seconds(both) == sorted(seconds(both))
        assert both.count("WEBVTT") == (suffix == ".vtt")
        numbers = [int(number) for number in re.findall(r"^\d+$", both, re.MULTILINE)]
        assert numbers == list(range(1, both.count("-->") + 1)) * (suffix == ".srt")
        assert all("-->" in block for block in both.removeprefix("WEBVTT\n\n").split("\n\n"))


utterances = st.lists(
    st.tuples(
        st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=20),
        st.sampled_from([("silence", 0.9), ("length", 0.0), ("flush", 0.0)]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30)  # each waits for the disk many times
@given(utterances, st.integers(0, 3))
def test_subtitles_never_overlap(tmp_path_factory, spoken, restarts) -> None:
    """However utterances end and follow each other, and however often the file is opened anew, times only grow."""
    path = tmp_path_factory.mktemp("notes") / "a.srt"
    notes, start_s = NotesFile(path), 0.0
    for k, (texts, (reason, pause_s)) in enumerate(spoken):
        if k and k <= restarts:
            notes.close()
            notes, start_s = NotesFile(path), 0.0
        final = final_of(texts, start_s, reason)
        notes.write([final])
        start_s = final.end_s + pause_s
    notes.close()
    text = path.read_text()
    assert seconds(text) == sorted(seconds(text))
    heard = re.sub(r"^\d+\n.* --> .*\n", "", text, flags=re.MULTILINE).split()
    assert heard == [word for texts, _ in spoken for word in texts]


def test_an_interrupted_line_stays_one(tmp_path) -> None:
    """A file whose last line was cut off is gone on with on a line of its own."""
    path = tmp_path / "a.txt"
    path.write_text("whole\ncut o")
    notes = NotesFile(path)
    notes.write([final_of(["then", "more"])])
    notes.close()
    assert path.read_text() == "whole\ncut o\nthen more\n"


def test_a_full_disk(tmp_path) -> None:
    """What a full disk has no room for waits, and is written in its order once there is room."""
    path = tmp_path / "a.txt"
    notes = NotesFile(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        for text in ("first words", "second"):
            with pytest.raises(OSError, match="too large"):
                notes.write([final_of(text.split())])
        assert path.read_text() == "first word"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    notes.write([final_of(["third"])])
    notes.close()
    assert path.read_text() == "first words\nsecond\nthird\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_stays_full_is_told_once(recognizer, heard, tmp_path) -> None:
    """The text goes on on standard output; one line and the status say that the file lacks it."""
    (tmp_path / "a.txt").symlink_to("/dev/full")
    status, text, errors = finish(start("--output", tmp_path / "a.txt", wav=heard, fault="unplugged"))
    assert text == recognizer.transcribe(heard).text + "\n"
    told = [line for line in errors.splitlines() if "cannot write" in line]
    assert len(told) == 1
    assert "No space left" in told[0]
    assert status == 1


@pytest.mark.parametrize("name", ["a.doc", "a", "no/folder/a.txt", ".", "a.txt/"])
def test_a_path_that_cannot_be_written(tmp_path, name) -> None:
    """It is an error that names the path, before anything is heard, and nothing is made."""
    with pytest.raises(ConfigError, match=re.escape(str(Path(tmp_path / name)))):
        NotesFile(tmp_path / name) if name != "a.txt/" else NotesFile(_folder(tmp_path / "a.txt"))
    assert not any(path.is_file() for path in tmp_path.iterdir())


def _folder(path: Path) -> Path:
    os.mkdir(path)
    return path
