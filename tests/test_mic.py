"""``asr mic`` with a microphone that plays files, on a terminal and into a pipe."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from mic_process import Terminal, finish, start, write_wav

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of Unix")


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


@pytest.mark.parametrize("linked", [False, True])
def test_an_earlier_recording_is_never_written_over(heard, tmp_path, linked) -> None:
    """--save with a name that is taken is refused before anything is heard, and no file is touched or made."""
    earlier, named, notes = tmp_path / "talk.wav", tmp_path / "link.wav", tmp_path / "talk.txt"
    earlier.write_bytes(b"what was said yesterday")
    named = named if linked else earlier
    if linked:
        named.symlink_to(earlier)
    status, text, errors = finish(start("--save", named, "--output", notes, wav=heard, fault="unplugged"))
    assert (status, text) == (1, "")
    assert errors == f"asr: {named} is there already: name another file for --save, or move that one away\n"
    assert earlier.read_bytes() == b"what was said yesterday"
    assert not notes.exists()


def test_sound_and_text_in_one_file_are_refused(heard, tmp_path) -> None:
    """--save and --output with the same file, however it is written, are refused, and it is not made."""
    one, other = tmp_path / "talk.srt", tmp_path / "." / ".." / tmp_path.name / "talk.srt"
    status, text, errors = finish(start("--save", other, "--output", one, wav=heard, fault="unplugged"))
    assert (status, text) == (1, "")
    assert re.fullmatch(r"asr: --save and --output are both .*talk\.srt: name two files, .*\n", errors)
    assert not one.exists()


def test_a_command_that_is_refused_leaves_no_empty_recording(heard, tmp_path) -> None:
    """After a slip in another option the same name can be given again; /dev/null may be there."""
    saved = tmp_path / "talk.wav"
    assert finish(start("--save", saved, "--output", "/nowhere/a.txt", wav=heard))[0] == 1
    assert not saved.exists()
    assert finish(start("--save", "/dev/null", wav=heard, fault="unplugged"))[1]


def test_a_speaker_s_own_pronunciations(heard, renamed) -> None:
    """What the microphone hears is written as the words that the user's file gives to its sounds."""
    process = start("--spoken", "--pronunciations", renamed, wav=heard)
    first = process.stdout.readline().decode()
    process.send_signal(signal.SIGINT)
    finish(process)
    assert "lover mother" in first


@pytest.mark.parametrize(("fault", "how"), [("unplugged", "stopped"), ("stalls", "given no sound for 5 seconds")])
def test_an_unplugged_microphone(recognizer, heard, fault, how) -> None:
    """When the microphone goes away or falls silent, all that it gave is written, then what happened, with status 1."""
    status, text, errors = finish(start(wav=heard, fault=fault))
    assert text == recognizer.transcribe(heard).text + "\n"
    assert (status, errors) == (1, f"asr: Fake microphone has {how}: was it unplugged?\n")


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
    """A terminal shows what is being said with the time and the level, and is left with the utterances alone."""
    terminal = Terminal()
    process = start(wav=heard, stdout=terminal.end, env={"FAKE_MIC_SPEED": "5"})
    expected = recognizer.transcribe(heard).text.splitlines()
    shown = terminal.wait(lambda lines: len(lines) > 1 and lines[0] == expected[0] and "Fake microphone" in lines[-1])
    assert re.fullmatch(r"0:00:\d\d  █*░*  Fake microphone", shown[-1])
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 0
    lines = terminal.close()
    assert lines[0] == expected[0]
    assert not any("Fake microphone" in line for line in lines)
    assert terminal.written.endswith(b"\x1b[?25h")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colour_where_it_is_wanted(heard, no_color) -> None:
    """The screen has colours, but with NO_COLOR set nothing but what moves the cursor, clears and hides."""
    terminal = Terminal()
    finish(start(wav=heard, fault="unplugged", stdout=terminal.end, env={"NO_COLOR": no_color}))
    terminal.close()
    codes = set(re.findall(rb"\x1b\[[0-9?;]*([A-Za-z])", terminal.written))
    assert codes - {b"A"} == {b"K", b"C", b"J", b"l", b"h"} | (set() if no_color else {b"m"})


def test_a_window_made_narrower_while_someone_speaks(recognizer, speech, tmp_path) -> None:
    """A window that changes its size again and again is left with each utterance once, and nothing else."""
    wav = write_wav(tmp_path / "a.wav", speech, 48_000)
    terminal = Terminal(100, 12)
    process = start(wav=wav, stdout=terminal.end, env={"FAKE_MIC_SPEED": "5"})
    for columns in (60, 33, 18, 7, 90, 40, 100):
        terminal.resize(columns, 12)
        drawn = terminal.written.count(b"\x1b[J")
        terminal.wait(lambda lines, drawn=drawn: terminal.written.count(b"\x1b[J") > drawn + 4)
    texts = recognizer.transcribe(wav).text.splitlines()
    terminal.wait(lambda lines: terminal.written.count(texts[-1].encode() + b"\r\n") == 1)
    process.send_signal(signal.SIGINT)
    finish(process)
    shown = "".join(terminal.close()).replace(" ", "")
    for text in texts:
        assert terminal.written.count(text.encode() + b"\r\n") == 1
        assert shown.count(text.replace(" ", "")) <= 1  # the emulation cuts lines off where real ones break them anew
    assert "Fakemicrophone" not in shown


@pytest.mark.parametrize(
    ("wav", "fault", "arguments", "message"),
    [
        (False, "", [], "no microphone is there: connect one"),
        (False, "", ["--list"], "no microphone is there"),
        (True, "", ["--device", "usb"], "no microphone 'usb' .*: `asr devices` shows"),
        (True, "busy", [], "another program is using Fake microphone .*: `fuser"),
        (True, "denied", [], "may not use Fake microphone .*: sudo usermod -aG audio"),
        (True, "portaudio", [], "needs PortAudio .*libportaudio2"),
        (True, "", ["--pronunciations", "/nowhere/mine.txt"], "cannot read /nowhere/mine.txt: No such file"),
        (True, "", ["--output", "/nowhere/a.txt"], "cannot write /nowhere/a.txt: No such file"),
        (True, "", ["--output", "/tmp"], "must end in .txt, .srt, .vtt, .jsonl"),
        (True, "", ["--server", "ws://127.0.0.1:9"], "cannot connect to ws://127.0.0.1:9: Connection refused"),
        (True, "", ["--server", "127.0.0.1:9"], "no address of a server: write ws://"),
        (True, "", ["--server", "ws://127.0.0.1:9", "--beam", "4"], "--beam is the server's to choose"),
        (True, "", ["--token", "secret word"], "--token is for a server"),
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


@pytest.mark.parametrize(("command", "arguments"), [("mic", ["--list"]), ("devices", [])])
def test_the_list_of_microphones(heard, command, arguments) -> None:
    """It names what can record, with number, channels and rate, and marks the default."""
    line = "*   1  Fake microphone (Fake, 1 channel, 48000 Hz)\n"
    assert finish(start(*arguments, wav=heard, command=command)) == (0, line, "")


def test_the_list_of_microphones_as_json(heard) -> None:
    """With --json the list has all that is known, and without a microphone it is an empty one."""
    _, text, _ = finish(start("--json", wav=heard, command="devices"))
    (device,) = json.loads(text)
    assert device == {
        "number": 1,
        "name": "Fake microphone",
        "host": "Fake",
        "channels": 1,
        "default_rate_hz": 48_000,
        "rates_hz": [48_000],
        "default": True,
    }
    assert finish(start("--json", wav=None, command="devices")) == (0, "[]\n", "")


def test_a_device_that_refuses_its_own_rate(recognizer, tmp_path, clips) -> None:
    """A device that does not open at the rate it states is asked for others."""
    wav = write_wav(tmp_path / "a.wav", clips[0].samples, 16_000)
    process = start("--device", "1", "--spoken", wav=wav, fault="rate")
    assert process.stdout.readline().decode() == recognizer.transcribe(wav, written=False).text + "\n"
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0


def test_a_muted_microphone_is_noticed(tmp_path) -> None:
    """Nothing but zeros for three seconds brings one hint."""
    status, text, errors = finish(
        start(wav=write_wav(tmp_path / "a.wav", np.zeros(80_000, np.float32), 48_000), fault="unplugged")
    )
    assert (status, text) == (1, "")
    assert errors.count("gives nothing but silence") == 1
