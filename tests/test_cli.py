"""The ``asr`` command, run as people run it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from asr.cli.main import main
from asr.server.options import ServerOptions
from audio_files import write_audio
from websockets.sync.client import connect

import asr
from asr.errors import ConfigError
from asr.events import Final, Word
from asr.formats import FORMATS


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def run(*arguments: object, stdin: bytes | None = None, cwd=None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "asr.cli", *map(str, arguments)],
        input=stdin or b"",
        capture_output=True,
        cwd=cwd,
        timeout=120,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_text_goes_to_standard_output(recognizer, clips) -> None:
    """Transcribing a file prints its text and nothing else."""
    done = run("transcribe", clips[0].path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == recognizer.transcribe(clips[0].path).text + "\n"


def test_standard_input(recognizer, clips) -> None:
    """``-`` reads a file from a pipe."""
    done = run("transcribe", "-", stdin=clips[1].path.read_bytes())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == recognizer.transcribe(clips[1].path).text + "\n"


def test_an_m4a_from_a_pipe(recognizer, clips, tmp_path) -> None:
    """An M4A whose table of contents comes last has the same text from standard input as from disk."""
    path = write_audio(tmp_path / "a.m4a", clips[1].samples)
    done = run("transcribe", "-", stdin=path.read_bytes())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == recognizer.transcribe(path).text + "\n"


@pytest.mark.parametrize("stated_bytes", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_whose_writer_did_not_know_its_length(recognizer, clips, tmp_path, stated_bytes) -> None:
    """Piped WAVs state no length, or an absurd one: they are read to their end without complaint."""
    path = write_audio(tmp_path / "a.wav", clips[0].samples)
    expected = recognizer.transcribe(path).text + "\n"
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = stated_bytes.to_bytes(4, "little")
    data[4:8] = stated_bytes.to_bytes(4, "little")
    done = run("transcribe", "-", stdin=bytes(data))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", expected)
    path.write_bytes(data)
    done = run("transcribe", path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", expected)


def test_a_bad_file_does_not_stop_the_others(clips, tmp_path) -> None:
    """Each bad file has one line on standard error with its name, the others' text comes, the status is 1."""
    (tmp_path / "empty.wav").touch()
    (tmp_path / "notes.wav").write_text("not audio at all, only words\n" * 100)
    write_audio(tmp_path / "zero.wav", np.zeros(1_600, dtype=np.float32))
    data = bytearray((tmp_path / "zero.wav").read_bytes())
    at = data.index(b"fmt ") + 12
    data[at : at + 4] = bytes(4)
    (tmp_path / "zero.wav").write_bytes(data)
    bad = [tmp_path / name for name in ("empty.wav", "notes.wav", "zero.wav", "missing.wav")]
    done = run("transcribe", *bad[:2], clips[0].path, *bad[2:])
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) >= 1
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    for line, path in zip(lines, bad, strict=True):
        assert line.startswith("asr: ")
        assert path.name in line


def test_a_cut_off_file_gives_its_beginning(recognizer, speech, tmp_path) -> None:
    """What was heard before an MP3 breaks off is printed, and the error says how much that was."""
    path = write_audio(tmp_path / "cut.mp3", speech)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = run("transcribe", path)
    assert done.returncode == 1
    assert len(done.stdout.split()) > 10
    assert re.fullmatch(r"asr: \S*cut\.mp3: (cut off|damaged).*used.*\n", done.stderr)


def test_nan_samples_in_a_file(tmp_path) -> None:
    """A float WAV full of NaN is one error line."""
    import wave

    path = tmp_path / "nan.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(4)
        file.setframerate(16_000)
        file.writeframes(np.full(16_000, np.nan, dtype="<f4").tobytes())
    data = bytearray(path.read_bytes())
    data[20:22] = (3).to_bytes(2, "little")  # IEEE float
    path.write_bytes(data)
    done = run("transcribe", path)
    assert done.returncode == 1
    assert re.fullmatch(r"asr: \S*nan\.wav: .*NaN.*\n", done.stderr)


def test_pronunciations_of_ones_own(recognizer, clips, renamed, tmp_path) -> None:
    """Heard sounds are written as the word that the user's file gives them; a word said otherwise there is not heard.
    What the language model does not know needs to be a hot word as well."""
    heard = recognizer.transcribe(clips[0].path, written=False).text
    done = run("transcribe", "--spoken", "--pronunciations", renamed, clips[0].path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == heard.replace("husband", "mother") != heard
    mine = asr.load(pronunciations=write_text(tmp_path / "new.txt", "zorp HH AH Z B AH N D\nhusband ZH ZH ZH\n"))
    assert "zorp" not in mine.transcribe(clips[0].path, written=False).text
    assert mine.transcribe(clips[0].path, hot_words=["zorp"], written=False).text == heard.replace("husband", "zorp")


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """A server in this process sends the log to what is standard error during a test, and closed after it."""
    loggers = [logging.getLogger(name) for name in (None, "websockets")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("command", [["transcribe", "a.wav"], ["serve", "--port", "0"], ["serve", "--workers", "2"]])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fine F AY N\nwrong R AO NK\n", "line 2: 'NK' is no phoneme: write with AA AE "),
        ("\nalone\n", "line 2: 'alone' has no pronunciation: write its phonemes after it"),
        ("new york N UW Y AO R K\n", "line 1: 'york' is no phoneme"),
        (None, "cannot read .*mine.txt: No such file"),
    ],
)
def test_pronunciations_that_cannot_be_read(command, text, message, tmp_path, capsys) -> None:
    """A bad line, or a missing file, is one line that names it and says what to write, before anything is done."""
    path = tmp_path / "mine.txt"
    if text is not None:
        path.write_text(text)
    assert main([*command, "--pronunciations", str(path)]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1


def test_a_damaged_model(recognizer, clips, tmp_path) -> None:
    """A model folder without weights is one error line, no traceback."""
    done = run("transcribe", "--model", tmp_path, clips[0].path)
    assert done.returncode == 1
    assert re.fullmatch(r"asr: .*has no model\.toml.*\n", done.stderr)


def test_files_are_written_to_a_folder(clips, tmp_path) -> None:
    """``--output`` writes one file for each, named after it."""
    done = run("transcribe", "--format", "json", "--output", tmp_path / "out", clips[0].path, clips[1].path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for clip in clips[:2]:
        result = json.loads((tmp_path / "out" / f"{clip.path.stem}.json").read_text())
        assert result["text"]
        assert result["segments"][0]["words"][0]["start_s"] >= 0


def test_two_files_of_one_name(clips, tmp_path) -> None:
    """Two results that would overwrite each other are refused before any work."""
    done = run("transcribe", "--output", tmp_path, clips[0].path, clips[0].path)
    assert done.returncode == 1
    assert "would both be written" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["srt", "vtt", "json", "tsv"])
def test_several_files_of_a_kind_need_a_file_each(kind, capsys) -> None:
    """Two files as subtitles or JSON to standard output are refused before any work, with what to do."""
    assert main(["transcribe", "--format", kind, "a.wav", "b.wav"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--output" in error


def test_wrong_usage() -> None:
    """An unknown format is a usage error with status 2."""
    done = run("transcribe", "--format", "docx", "x.wav")
    assert done.returncode == 2
    assert "docx" in done.stderr


def finals() -> list[Final]:
    words = [Word(f"word{i}", 0.5 * i, 0.5 * i + 0.4, 0.9) for i in range(30)]
    late = [Word("late", 3_661.5, 3_662.0, 0.5)]
    return [
        Final(" ".join(w.text for w in words), tuple(words), "silence"),
        Final("late", tuple(late), "end"),
    ]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_formats(name) -> None:
    """Each format has its form, down to hours in a time."""
    text = FORMATS[name](finals(), "a.wav", 3_700.0)
    assert text.endswith("\n")
    if name == "txt":
        assert text.splitlines()[1] == "late"
    elif name == "json":
        assert json.loads(text)["segments"][1]["words"][0] == {
            "text": "late",
            "start_s": 3_661.5,
            "end_s": 3_662.0,
            "confidence": 0.5,
        }
    elif name == "srt":
        assert "01:01:01,500 --> 01:01:02,500\nlate\n" in text
        assert text.startswith("1\n00:00:00,000 --> ")
    elif name == "vtt":
        assert text.startswith("WEBVTT\n\n00:00:00.000 --> ")
        assert "01:01:01.500 --> 01:01:02.500\nlate\n" in text
    else:
        assert text.splitlines()[0] == "start\tend\ttext"
        assert text.splitlines()[2] == "3661500\t3662000\tlate"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_formats_of_nothing(name) -> None:
    """A recording without words is a valid file in each format."""
    text = FORMATS[name]([], "a.wav", 3.0)
    if name == "json":
        assert json.loads(text)["segments"] == []
    elif name == "vtt":
        assert text.startswith("WEBVTT\n")
    elif name == "tsv":
        assert text == "start\tend\ttext\n"
    else:
        assert text == ""


def test_serving_the_world_needs_a_token() -> None:
    """`asr serve` on a public address without a token says what to do."""
    done = run("serve", "--host", "0.0.0.0")
    assert done.returncode == 1
    assert "--token" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("limit", ["max_connections", "max_per_address"])
@pytest.mark.parametrize("number", [0, -1])
def test_a_server_for_nobody_is_refused(limit, number) -> None:
    """Limits that would refuse every client are an error that names them."""
    with pytest.raises(ConfigError, match="at least 1"):
        ServerOptions(**{limit: number})


def test_the_server_says_what_to_install(monkeypatch, capsys) -> None:
    """Without its extra, `asr serve` is one line that names the extra."""
    monkeypatch.setitem(sys.modules, "websockets", None)
    assert main(["serve"]) == 1
    assert "asr-stream[server]" in capsys.readouterr().err


def test_serve_stops_when_told(clips, renamed) -> None:
    """A real process: it says where it listens, answers, hears by the user's pronunciations, and ends with status 0 on
    SIGTERM."""
    command = [sys.executable, "-m", "asr.cli", "serve", "--port", "0", "--pronunciations", str(renamed)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "listening" in line)
        address = line.split()[-1].replace("ws:", "http:")
        with urllib.request.urlopen(f"{address}/healthz", timeout=10) as response:
            assert response.read() == b"ok\n"
        with connect(line.split()[-1], proxy=None) as socket:
            socket.send(json.dumps({"config": {"sample_rate": 16_000}}))
            socket.send((clips[0].samples * 32767).astype("<i2").tobytes())
            socket.send('{"eof": 1}')
            text = [json.loads(message) for message in socket][-1]["text"]
        process.terminate()
        assert process.wait(20) == 0
    assert "lover mother" in text


@pytest.mark.parametrize(
    "command",
    [
        ["lm", "build", "{}", "text.txt"],
        ["lm", "build", "ok.safetensors", "text.txt", "--write-arpa", "{}"],
        ["lm", "train", "{}", "text.txt", "--vocabulary", "text.txt"],
        ["punctuation", "train", "{}", "text.txt"],
        ["lexicon", "train-g2p", "{}"],
    ],
)
@pytest.mark.parametrize("output", ["none/out.safetensors", "folder"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    command, output, tmp_path, capsys, monkeypatch
) -> None:
    """A name in no folder, or a folder's, is one line, said before any text is looked for; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main([part.format(output) for part in command]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"cannot write {output}: " in error
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_python_at_the_root_of_a_checkout_has_all_of_the_package() -> None:
    """There `asr` hides the installed package: server, command line and shipped model are found beside it."""
    program = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if not finder.__module__.startswith("__editable__")]
import asr, asr.cli.main
from asr.server.options import ServerOptions
print(asr.load().bundle.path.name)
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "pretrained\n", done.stderr
