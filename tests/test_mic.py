"""``asr mic`` with a microphone that plays files, on a terminal and into a pipe."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from asr.cli.live_text import LiveText
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.resample import StreamResampler
from asr.events import Final, Partial

FAKE = Path(__file__).parent / "fake_sounddevice"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of Unix")


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> Path:
    resampler = StreamResampler(16_000, rate_hz)
    at_rate = np.concatenate([resampler.accept(samples), resampler.finish()])
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes((np.clip(at_rate, -1, 1) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def heard(tmp_path_factory, speech) -> Path:
    """Ten seconds of two speakers, at the 48 kHz of the microphone."""
    return write_wav(tmp_path_factory.mktemp("mic") / "heard.wav", speech[: 16_000 * 10], 48_000)


def start(*arguments: object, wav: Path | None, fault: str = "", **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(FAKE), "FAKE_MIC_FAULT": fault}
    environment.pop("FAKE_MIC", None)
    if wav is not None:
        environment["FAKE_MIC"] = str(wav)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-m", "asr.cli", "mic", *map(str, arguments)], env=environment, **options)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, (out or b"").decode(), err.decode()


def test_ctrl_c_writes_what_was_said_and_nothing_is_lost(recognizer, heard, tmp_path) -> None:
    """Interrupted in the middle of speech, the command writes the last utterance, and keeps all it heard."""
    saved = tmp_path / "saved.wav"
    process = start("--save", saved, wav=heard)
    first = process.stdout.readline().decode()  # comes while the recording goes on
    process.send_signal(signal.SIGINT)
    status, rest, errors = finish(process)
    assert (status, errors) == (0, "")
    assert first + rest == recognizer.transcribe(saved).text + "\n"
    assert first.strip()


def test_a_speaker_s_own_pronunciations(heard, renamed) -> None:
    """What the microphone hears is written as the words that the user's file gives to its sounds."""
    process = start("--spoken", "--pronunciations", renamed, wav=heard)
    first = process.stdout.readline().decode()
    process.send_signal(signal.SIGINT)
    finish(process)
    assert "fodder lover mother" in first


def test_an_unplugged_microphone(recognizer, heard) -> None:
    """When the microphone goes away, all that it gave is written, then what happened, with status 1."""
    status, text, errors = finish(start(wav=heard, fault="unplugged"))
    assert text == recognizer.transcribe(heard).text + "\n"
    assert (status, errors) == (1, "asr: Fake microphone has stopped: was it unplugged?\n")


def test_events_as_json(recognizer, heard) -> None:
    """With --events each event is a line of JSON, stable text never changes, and the finals are the text."""
    _, text, _ = finish(start("--events", wav=heard, fault="unplugged"))
    events = [json.loads(line) for line in text.splitlines()]
    finals = [event["text"] for event in events if event["type"] == "final"]
    assert finals == [final.text for final in recognizer.transcribe(heard).finals]
    stable = ""
    for event in events:
        assert event["text"].startswith(stable)
        stable = "" if event["type"] == "final" else event["text"][: event["stable_chars"]]
    assert sum(event["type"] == "partial" for event in events) > 3
    assert {"text", "start_s", "end_s", "confidence"} == set(events[0]["words"][0])


def test_on_a_terminal(recognizer, heard) -> None:
    """A terminal shows partial text as it grows and is left with the finished utterances alone."""
    pty = pytest.importorskip("pty")
    main, terminal = pty.openpty()
    process = start(wav=heard, fault="unplugged", stdout=terminal)
    os.close(terminal)
    written = b""
    try:
        while block := os.read(main, 65_536):
            written += block
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(main)
    finish(process)
    lines = screen(written.decode().replace("\r\n", "\n"), 1000)
    assert [line.strip() for line in lines] == [*recognizer.transcribe(heard).text.splitlines(), ""]
    assert written.count(b"\x1b[K") > 5


@pytest.mark.parametrize(
    ("wav", "fault", "arguments", "message"),
    [
        (False, "", [], "no default microphone .*: `asr mic --list` shows"),
        (False, "", ["--list"], "no microphone is there"),
        (True, "", ["--device", "usb"], "no microphone 'usb' .*: `asr mic --list` shows"),
        (True, "busy", [], "cannot record from Fake microphone .*is another program using it"),
        (True, "portaudio", [], "needs PortAudio .*libportaudio2"),
        (True, "", ["--pronunciations", "/nowhere/mine.txt"], "cannot read /nowhere/mine.txt: No such file"),
        (True, "", ["--save", "/nowhere/a.wav"], "cannot write /nowhere/a.wav: No such file"),
    ],
)
def test_what_goes_wrong_is_one_line(heard, wav, fault, arguments, message) -> None:
    """A microphone that is not there, is taken or cannot be used is one line that says what to do."""
    status, text, errors = finish(start(*arguments, wav=heard if wav else None, fault=fault))
    assert (status, text) == (1, "")
    assert re.match(f"asr: .*{message}", errors)
    assert errors.count("\n") == 1


def test_without_the_extra(tmp_path) -> None:
    """Without sounddevice the error names the extra to install."""
    (tmp_path / "sounddevice.py").write_text("raise ModuleNotFoundError('gone', name='sounddevice')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "asr.cli", "mic"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'asr-stream[mic]'" in done.stderr


def test_the_list_of_microphones(heard) -> None:
    """--list names what can record, with its number and rate, and marks the default."""
    assert finish(start("--list", wav=heard)) == (0, "*   1  Fake microphone (Fake, 48000 Hz)\n", "")


def test_a_device_that_refuses_its_own_rate(recognizer, tmp_path, clips) -> None:
    """A device that does not open at the rate it states is asked for others."""
    wav = write_wav(tmp_path / "a.wav", clips[0].samples, 16_000)
    process = start("--device", "1", wav=wav, fault="rate")
    assert process.stdout.readline().decode() == recognizer.transcribe(wav).text + "\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0


def test_a_muted_microphone_is_noticed(tmp_path) -> None:
    """Nothing but zeros for three seconds brings one hint."""
    status, text, errors = finish(
        start(wav=write_wav(tmp_path / "a.wav", np.zeros(80_000, np.float32), 48_000), fault="unplugged")
    )
    assert (status, text) == (1, "")
    assert errors.count("gives nothing but silence") == 1


words = st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=30).map(" ".join)


@given(st.lists(st.tuples(words, st.floats(0, 1)), min_size=1, max_size=8), st.integers(1, 60), st.booleans())
def test_the_line_being_spoken_never_wraps(texts, columns, colour) -> None:
    """However narrow the terminal, partials stay on one line, show their end, and leave nothing behind."""
    live = LiveText(colour)
    written = "".join(live.show(Partial(text, (), round(part * len(text))), columns) for text, part in texts)
    (line,) = screen(written, columns)
    assert len(line) < max(2, columns)
    assert texts[-1][0].endswith(line.removeprefix("… ").removeprefix("…"))
    assert screen(written + live.close(), columns)[-1] == ""
    finished = written + live.show(Final("the end", (), "end"), columns)
    assert screen(finished, 1000) == ["the end", ""]
    assert live.close() == ""


def screen(written: str, columns: int) -> list[str]:
    """The lines that a terminal shows, of what is used here: return, newline, clear to the end, and colours."""
    lines, column = [""], 0
    for part in re.findall(r"\x1b\[\d*[Km]|.|\n", written):
        if part == "\n":
            lines.append("")
            column = 0
        elif part == "\r":
            column = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif not part.startswith("\x1b"):
            assert column < columns, "wrapped"
            lines[-1] = lines[-1][:column] + part + lines[-1][column + 1 :]
            column += 1
    return lines
