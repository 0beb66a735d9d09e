"""``asr mic`` with PortAudio and a sound server as they are: a PulseAudio of our own, with a loudspeaker whose sound is
what the microphone hears. Runs where ASR_TEST_PULSE is set, as .ci/clients does: it needs pulseaudio, pulseaudio-utils,
libportaudio2 and libasound2-plugins, and plays in real time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mic_process import Terminal, finish, write_wav

from asr.text.score import count_word_errors

pytestmark = pytest.mark.skipif(not os.environ.get("ASR_TEST_PULSE"), reason="ASR_TEST_PULSE is not set")

_SPEAKER = "module-null-sink sink_name=speaker rate=48000 channels=1 format=s16le"


@dataclass
class SoundServer:
    """A PulseAudio, and how to speak to it."""

    environment: dict[str, str]
    folder: Path

    def control(self, *arguments: str) -> str:
        done = subprocess.run(["pactl", *arguments], env=self.environment, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def plug_in(self) -> None:
        self.control("load-module", *_SPEAKER.split())
        self.control("set-default-source", "speaker.monitor")

    def unplug(self) -> None:
        self.control("unload-module", "module-null-sink")

    def play(self, wav: Path) -> None:
        """Play a file to its end."""
        subprocess.run(["paplay", "--device=speaker", str(wav)], env=self.environment, check=True, timeout=120)

    def listens(self) -> bool:
        """Whether someone records."""
        return bool(self.control("list", "short", "source-outputs").strip())

    def start(self, *arguments: object, **options) -> subprocess.Popen:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0, **options}
        command = [sys.executable, "-m", "asr.cli", "mic", "--spoken", *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, **options)


@pytest.fixture
def sound(tmp_path) -> Iterator[SoundServer]:
    with pulseaudio(tmp_path) as server:
        yield server


@contextmanager
def pulseaudio(folder: Path) -> Iterator[SoundServer]:
    """A sound server with a speaker, whose monitor is the default microphone."""
    (folder / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    (folder / "pulse.pa").write_text(
        f"load-module module-native-protocol-unix socket={folder}/native auth-anonymous=1\n"
        f"load-module {_SPEAKER}\nset-default-source speaker.monitor\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PULSE", "XDG", "DBUS"))},
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_SERVER": f"unix:{folder}/native",
    }
    flags = ["-n", "-F", str(folder / "pulse.pa"), "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
    with (folder / "pulse.log").open("wb") as log:
        daemon = subprocess.Popen(["pulseaudio", *flags, "--disable-shm=yes"], env=environment, stderr=log)
    server = SoundServer(environment, folder)
    try:
        wait(lambda: (folder / "native").exists() and "speaker" in server.control("list", "short", "sources"))
        yield server
    finally:
        daemon.terminate()
        daemon.wait(20)


def wait(until, timeout_s: float = 60.0) -> None:
    due_s = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < due_s
        time.sleep(0.05)


def assert_alike(heard: str, text: str) -> None:
    """Of what was played, all but a word is heard as in the file.

    A microphone begins before the file does and goes on after it, and its sound is resampled: where two words are about
    as likely, it may be the other one.
    """
    assert count_word_errors(text, " ".join(heard.split())).errors <= 1


def test_what_is_played_is_what_is_read(sound, recognizer, clips, tmp_path) -> None:
    """Speech played to the microphone in real time has the words of its file, on the screen and in the notes."""
    wav = write_wav(tmp_path / "a.wav", clips[2].samples, 48_000)
    terminal, notes = Terminal(60, 12), tmp_path / "notes.txt"
    process = sound.start("--output", notes, "--save", tmp_path / "heard.wav", stdout=terminal.end)
    terminal.wait(lambda lines: bool(lines) and "0:00:01" in lines[-1])  # sound comes, and the model is no matter
    sound.play(wav)
    terminal.wait(lambda lines: len(lines) > 1 and notes.read_text() != "" and "default" in lines[-1])
    process.send_signal(signal.SIGINT)
    assert finish(process)[::2] == (0, "")
    assert_alike(notes.read_text(), recognizer.transcribe(wav, written=False).text)
    assert "".join(terminal.close()).replace(" ", "") == "".join(notes.read_text().split())  # the terminal breaks lines
    assert recognizer.transcribe(tmp_path / "heard.wav", written=False).text == notes.read_text().strip()


def test_unplugged_and_plugged_in_again(sound, recognizer, clips, tmp_path) -> None:
    """The utterance that a device takes along when it goes is final; with --reconnect the next one follows it."""
    first, second = (write_wav(tmp_path / f"{k}.wav", clips[k].samples, 48_000) for k in (0, 2))
    terminal, notes = Terminal(70, 12), tmp_path / "notes.txt"
    process = sound.start("--reconnect", "--output", notes, stdout=terminal.end, stderr=terminal.end)
    terminal.wait(lambda lines: bool(lines) and "0:00:01" in lines[-1])
    sound.play(first)
    sound.unplug()
    terminal.wait(lambda lines: "waiting for default" in lines[-1] and notes.read_text() != "")
    assert_alike(notes.read_text(), recognizer.transcribe(first, written=False).text)
    clock = terminal.lines[-1].split()[0]
    time.sleep(1.5)
    assert terminal.lines[-1].split()[0] == clock
    sound.plug_in()
    terminal.wait(lambda lines: "waiting" not in lines[-1] and lines[-1].split()[0] > clock)
    sound.play(second)
    terminal.wait(lambda lines: len(notes.read_text().splitlines()) > 1)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 0
    heard = notes.read_text().splitlines()
    assert_alike(heard[0], recognizer.transcribe(first, written=False).text)
    assert_alike(" ".join(heard[1:]), recognizer.transcribe(second, written=False).text)
    shown = "".join(terminal.close()).replace(" ", "")
    for text in (*heard, "asr: default has stopped; waiting for it to come back"):
        assert shown.count(text.replace(" ", "")) == 1
    assert "ALSA" not in terminal.written.decode()
    assert "Expression" not in terminal.written.decode()


def test_unplugged_for_good(sound, recognizer, clips, tmp_path) -> None:
    """Without --reconnect a device that goes away ends the command, which writes what was said and why."""
    wav = write_wav(tmp_path / "a.wav", clips[2].samples, 48_000)
    process = sound.start()
    wait(sound.listens)
    time.sleep(2.5)  # PulseAudio gives a first recorder nothing for up to two seconds
    sound.play(wav)
    sound.unplug()
    status, text, errors = finish(process)
    assert_alike(text, recognizer.transcribe(wav, written=False).text)
    assert (status, errors) == (1, "asr: default has stopped: was it unplugged?\n")


def test_no_device(sound) -> None:
    """With no microphone plugged in the command ends with one line that says so."""
    sound.unplug()
    status, text, errors = finish(sound.start())
    assert (status, text) == (1, "")
    assert errors.startswith("asr: ")
    assert errors.count("\n") == 1


def test_the_devices_of_the_sound_server(sound) -> None:
    """`asr devices` finds them, with rates, and nothing else is written."""
    command = [sys.executable, "-m", "asr.cli", "devices"]
    done = subprocess.run(command, env=sound.environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert any(line.startswith("*") and "default" in line and "48000" in line for line in done.stdout.splitlines())
