"""``asr mic`` when the device goes away and comes back, when it takes long to get ready, and with a server."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time

import numpy as np
import pytest
from asr.cli.live_stream import LaterStream
from asr.cli.sound_faults import FaultKind, absence_line, fault_kind, fault_line
from mic_process import Terminal, finish, start, write_wav
from serving import serving

from asr.errors import ModelError
from asr.text.score import count_word_errors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of Unix")


@pytest.mark.parametrize("rate_hz", [48_000, 44_100])
def test_a_device_that_comes_back(recognizer, clips, tmp_path, rate_hz) -> None:
    """With --reconnect what was said before is final and what is said after follows, at another rate too; times and
    the kept sound go on without a gap."""
    first = write_wav(tmp_path / "1.wav", clips[1].samples[: 16_000 * 4], 48_000)  # in the middle of a word
    second = write_wav(tmp_path / "2.wav", clips[2].samples, rate_hz)
    saved, notes = tmp_path / "saved.wav", tmp_path / "notes.jsonl"
    process = start("--reconnect", "--save", saved, "--output", notes, wav=[first, second], fault="unplugged")
    for _ in range(2):
        assert process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    status, _, errors = finish(process)
    before, after = [json.loads(line) for line in notes.read_text().splitlines()]
    assert before["text"] == recognizer.transcribe(first).text
    assert before["reason"] == "flush"
    # The stream goes on, so the second recording is heard with what the first one was like: a word may be another.
    assert count_word_errors(after["text"], recognizer.transcribe(second).text).errors <= 1
    assert after["words"][0]["start_s"] > 4.0
    assert (status, errors.count("waiting for it to come back")) == (0, 2)
    assert "Fake microphone is there: listening again" in errors
    heard = recognizer.transcribe(saved)
    assert abs(heard.duration_s - 4.0 - len(clips[2].samples) / 16_000) < 0.2
    assert abs(heard.words[-1].start_s - after["words"][-1]["start_s"]) < 0.2


def test_ended_while_the_device_is_away(recognizer, heard) -> None:
    """Ctrl-C ends the command also while it waits, with status 0 and all the text."""
    terminal = Terminal()
    process = start("--reconnect", wav=[heard], fault="unplugged", stdout=terminal.end)
    terminal.wait(lambda lines: bool(lines) and "waiting for Fake microphone" in lines[-1])
    process.send_signal(signal.SIGINT)
    status, _, errors = finish(process)
    assert (status, errors.count("\n")) == (0, 1)
    # What follows the sound is another silence than at a file's end, and that ends within a word: this may be another.
    shown = " ".join(line for line in terminal.close() if line)
    assert count_word_errors(recognizer.transcribe(heard).text.replace("\n", " "), shown).errors <= 1


def test_what_is_said_while_the_model_loads(recognizer, heard, tmp_path) -> None:
    """Sound that came before the model was there is recognised: all of it came and went before that."""
    process = start(wav=heard, fault="unplugged", env={"FAKE_MIC_SPEED": "1000"})
    status, text, _ = finish(process)
    assert (status, text) == (1, recognizer.transcribe(heard).text + "\n")


def test_a_stream_that_is_there_later(recognizer, clips) -> None:
    """Sound, the ends of utterances and the end of all wait in their order for a stream that is still being made."""
    pcm = (clips[0].samples * 32_767).astype("<i2").tobytes()
    go, alone = threading.Event(), recognizer.stream(16_000)
    expected = [*alone.accept(pcm[:80_000]), *alone.flush(), *alone.accept(pcm[80_000:]), *alone.finish()]

    def make():
        assert go.wait(20)
        return recognizer.stream(16_000)

    later = LaterStream(make)
    events = [
        *later.accept(pcm[:40_000]),
        *later.accept(pcm[40_000:80_000]),
        *later.flush(),
        *later.accept(pcm[80_000:]),
    ]
    assert (events, later.ready) == ([], False)
    go.set()
    assert list(later.finish()) == expected


def test_a_stream_that_cannot_be_made() -> None:
    """Why it cannot is raised by whoever uses it next."""

    def make():
        raise ModelError("no model")

    later = LaterStream(make)
    time.sleep(0.1)
    with pytest.raises(ModelError, match="no model"):
        later.accept(b"")
    with pytest.raises(ModelError, match="no model"):
        list(later.finish())


def test_sound_that_is_lost_is_counted(heard) -> None:
    """Sound that the card had to throw away is shown while it is so, and told at the end."""
    terminal = Terminal()
    process = start(wav=heard, fault="overflow", stdout=terminal.end)
    terminal.wait(lambda lines: bool(lines) and "sound lost 1x" in lines[-1])
    process.send_signal(signal.SIGINT)
    assert "sound was lost 1 times" in finish(process)[2]
    terminal.close()


def test_a_server_recognises(recognizer, heard, tmp_path) -> None:
    """With --server the text is the same, words' times too, and no model is loaded."""
    notes = tmp_path / "notes.jsonl"
    with serving(recognizer, token="a long secret") as (address, _):
        arguments = ["--server", address, "--token", "a long secret", "--output", notes, "--hot-word", "quandary"]
        status, text, errors = finish(start(*arguments, wav=heard, fault="unplugged", env={"FAKE_MIC_SPEED": "8"}))
    expected = recognizer.transcribe(heard, hot_words=["quandary"])
    assert (status, text) == (1, expected.text + "\n")
    assert errors == "asr: Fake microphone has stopped: was it unplugged?\n"
    words = [word["start_s"] for line in notes.read_text().splitlines() for word in json.loads(line)["words"]]
    assert words == [word.start_s for word in expected.words]


def test_a_server_that_refuses(recognizer, heard) -> None:
    """A server that wants another token is one line, with its reason."""
    with serving(recognizer, token="a long secret") as (address, _):
        status, text, errors = finish(start("--server", address, "--token", "a wrong secret", wav=heard))
    assert (status, text) == (1, "")
    assert errors.count("\n") == 1
    assert "http_401" in errors


def test_a_server_that_goes_away(recognizer, clips, tmp_path) -> None:
    """What a server that is stopped still sends is written and final; then one line says that it is gone."""
    wav = write_wav(tmp_path / "a.wav", np.concatenate([clip.samples for clip in clips]), 48_000)
    notes = tmp_path / "notes.txt"
    with serving(recognizer) as (address, _):
        process = start("--server", address, "--output", notes, wav=wav, env={"FAKE_MIC_SPEED": "2"})
        first = process.stdout.readline().decode()
    status, rest, errors = finish(process)
    assert notes.read_text() == first + rest
    assert status == 1
    assert errors == "asr: the server closed the connection (closed)\n"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32", "freebsd14"])
def test_each_fault_has_a_remedy_on_each_platform(platform) -> None:
    """No two faults share a message, all are a line, and each says what to do there."""
    lines = [fault_line(kind, "Yeti", "own words", platform) for kind in FaultKind]
    assert len(set(lines)) == len(lines)
    assert all("\n" not in line and ": " in line and "own words" in line for line in lines)
    privacy = {"darwin": "System Settings", "win32": "Settings >"}.get(platform, "usermod")
    assert privacy in fault_line(FaultKind.NOT_ALLOWED, platform=platform)


class PortAudioError(Exception):
    pass


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("Error opening RawInputStream: Device unavailable", -9985), FaultKind.BUSY),
        (("Unanticipated host error", -9999, (8, -16, "Device or resource busy")), FaultKind.BUSY),
        (("Unanticipated host error", -9999, (13, -2004287478, "AUDCLNT_E_DEVICE_IN_USE")), FaultKind.BUSY),
        (("Unanticipated host error", -9999, (8, -13, "Permission denied")), FaultKind.NOT_ALLOWED),
        (("Unanticipated host error", -9999, (13, -2147024891, "")), FaultKind.NOT_ALLOWED),
        (("Error querying device -1", -9996), FaultKind.NO_DEVICE),
        (("Unanticipated host error", -9999, (8, -5, "Input/output error")), FaultKind.OTHER),
    ],
)
def test_what_portaudio_means(arguments, kind) -> None:
    """PortAudio's numbers, and those of the system below it, say what is wrong."""
    assert fault_kind(PortAudioError(*arguments)) is kind


def test_a_card_that_may_not_be_opened(tmp_path, monkeypatch) -> None:
    """On Linux a sound card that the user may not open looks like none, and the message says which it is."""
    assert absence_line("linux", tmp_path).startswith("no microphone is there")
    (tmp_path / "pcmC0D0c").touch()
    assert absence_line("linux", tmp_path).startswith("no microphone is there")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may open all
    assert "pcmC0D0c: sudo usermod" in absence_line("linux", tmp_path)
    assert absence_line("darwin", tmp_path).startswith("no microphone is there: connect one; System Settings")


def test_the_clock_and_the_times_of_words_stay_together(speech, tmp_path) -> None:
    """After minutes of the same again and again, a word is where it was in its first round, as the clock counts."""
    round_s = -(-len(speech) // 16_000)
    wav = write_wav(tmp_path / "a.wav", np.pad(speech, (0, round_s * 16_000 - len(speech))), 48_000)
    terminal, notes, rounds = Terminal(), tmp_path / "a.jsonl", 6
    environment = {"FAKE_MIC_SPEED": "50", "FAKE_MIC_TIMES": str(rounds)}
    process = start("--reconnect", "--output", notes, wav=wav, fault="unplugged", env=environment, stdout=terminal.end)
    lines = terminal.wait(lambda lines: bool(lines) and "waiting for" in lines[-1])
    minutes, seconds = divmod(rounds * round_s, 60)
    assert lines[-1].startswith(f"0:{minutes:02}:{seconds:02} ")
    process.send_signal(signal.SIGINT)
    finish(process)
    terminal.close()
    words = [word for line in notes.read_text().splitlines() for word in json.loads(line)["words"]]
    places = {}
    for before, word, after in zip(words, words[1:], words[2:], strict=False):
        place_s = word["start_s"] % round_s
        places.setdefault((before["text"], word["text"], after["text"]), []).append(place_s)
    again = [found for found in places.values() if len(found) >= rounds - 1]
    assert len(again) > 30
    assert max(max(found) - min(found) for found in again) < 0.15
