"""Many files at once: `asr transcribe --recursive --output`, in real processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from asr.cli.main import main
from audio_files import write_audio
from batch_process import command, contents, run

PATIENCE_S = 60


@pytest.fixture
def talks(clips, tmp_path) -> Path:
    """A folder with files in it and below, one of them broken, and one that has no sound."""
    folder = tmp_path / "talks"
    (folder / "may" / "2nd").mkdir(parents=True)
    for clip, name in zip(clips, ["a.opus", "may/b.OPUS", "may/2nd/a.opus"], strict=False):
        shutil.copy(clip.path, folder / name)
    (folder / "may" / "broken.wav").write_text("no sound\n" * 100)
    (folder / "may" / "notes.txt").write_text("nor here\n")
    (folder / "may" / "._b.opus").write_text("a hidden file of some systems\n")
    return folder


@pytest.fixture(scope="module")
def long_talks(speech, tmp_path_factory) -> Path:
    """Ten files of a minute and a half, the same sound in each: a run of some seconds."""
    folder = tmp_path_factory.mktemp("long")
    first = write_audio(folder / "0.wav", np.tile(speech, 4))
    for number in range(1, 10):
        os.link(first, folder / f"{number}.wav")
    return folder


@pytest.fixture(scope="module")
def long_text(recognizer, long_talks) -> bytes:
    return (recognizer.transcribe(long_talks / "0.wav").text + "\n").encode()


def wait_for_a_result(process: subprocess.Popen[str], folder: Path) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not list(folder.glob("*.txt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_a_tree_of_files(recognizer, clips, talks, tmp_path) -> None:
    """Results lie as the files do, a broken file is one line and status 1, and all is the same with more processes."""
    outputs = [tmp_path / "one", tmp_path / "two"]
    first, second = (run("--recursive", "--jobs", jobs + 1, "--output", outputs[jobs], talks) for jobs in range(2))
    expected = [(recognizer.transcribe(clip.path).text + "\n").encode() for clip in clips[:3]]
    assert contents(outputs[0]) == dict(zip(["a.txt", "may/b.txt", "may/2nd/a.txt"], expected, strict=True))
    assert contents(outputs[1]) == contents(outputs[0])
    for done in (first, second):
        assert (done.returncode, done.stdout) == (1, "")
        failure, summary = done.stderr.splitlines()
        assert re.fullmatch(r"asr: \S*broken\.wav: .*", failure)
        assert re.fullmatch(r"asr: 3 files written; .* times real time; 1 failed", summary)
    assert first.stderr.splitlines()[0] == second.stderr.splitlines()[0]


def test_what_is_done_is_not_done_again(talks, tmp_path, capsys) -> None:
    """A second run skips results newer than their files, and makes the others; ``--overwrite`` makes all."""
    (talks / "may" / "broken.wav").unlink()
    output = tmp_path / "out"
    arguments = ["transcribe", "--recursive", "--jobs", "1", "--output", str(output), str(talks)]
    for name in ("a", "may/b", "may/2nd/a"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / f"{name}.txt").write_text("mine\n")
    assert main(arguments) == 0
    assert re.search(r"0 files written; .*; 3 skipped, .*--overwrite", capsys.readouterr().err)
    assert set(contents(output).values()) == {b"mine\n"}
    os.utime(talks / "a.opus", (time.time() + 60, time.time() + 60))
    assert main(arguments) == 0
    assert "1 file written" in capsys.readouterr().err
    assert [name for name, text in contents(output).items() if text != b"mine\n"] == ["a.txt"]
    assert main([*arguments, "--overwrite"]) == 0
    assert "skipped" not in capsys.readouterr().err
    assert b"mine\n" not in contents(output).values()


def test_files_that_are_named_are_always_done(clips, tmp_path, capsys) -> None:
    """Without ``--recursive`` a result that is there is made anew, and no summary is written."""
    result = tmp_path / f"{clips[0].path.stem}.txt"
    result.write_text("mine\n")
    assert main(["transcribe", "--output", str(tmp_path), str(clips[0].path)]) == 0
    assert result.read_text() != "mine\n"
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes there")
def test_named_pipes(recognizer, clips, tmp_path) -> None:
    """Files that come through pipes of this process's own, as those of `<(…)`, are done in it, not by workers."""
    ends = [os.pipe() for _ in range(2)]
    writers = []
    for (_, end), clip in zip(ends, clips, strict=False):
        writers.append(subprocess.Popen(["cat", str(clip.path)], stdout=end))
        os.close(end)
    names = [f"/dev/fd/{end}" for end, _ in ends]
    arguments = command("--jobs", 2, "--output", tmp_path, *names)
    done = subprocess.run(arguments, capture_output=True, text=True, pass_fds=[end for end, _ in ends], timeout=180)
    for end, _ in ends:
        os.close(end)
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert (done.returncode, done.stderr) == (0, "")
    expected = [(recognizer.transcribe(clip.path).text + "\n").encode() for clip in clips[:2]]
    assert contents(tmp_path) == {f"{end}.txt": text for (end, _), text in zip(ends, expected, strict=True)}


@pytest.mark.parametrize("kind", ["mp3", "wav"])
def test_a_damaged_file_is_tried_again(speech, tmp_path, capsys, kind) -> None:
    """The beginning of a file that breaks off is kept, but not for done."""
    talks, output = tmp_path / "talks", tmp_path / "out"
    talks.mkdir()
    path = write_audio(talks / f"cut.{kind}", speech)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    arguments = ["transcribe", "--recursive", "--output", str(output), str(talks)]
    assert main(arguments) == 1
    beginning = (output / "cut.txt").read_text()
    assert len(beginning.split()) > 10
    assert "1 file written" in capsys.readouterr().err
    path.write_bytes(whole)
    assert main(arguments) == 0
    assert len((output / "cut.txt").read_text()) > len(beginning)


def test_text_that_cannot_be_written(clips, talks, tmp_path, capsys) -> None:
    """It goes to standard output, the others are written, and the status is 1."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "may").write_text("a file where a folder should be\n")
    assert main(["transcribe", "--recursive", "--jobs", "1", "--output", str(output), str(talks)]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2
    assert shown.err.count("cannot write") == 2
    assert sorted(contents(output)) == ["a.txt", "may"]


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are another thing there")
def test_an_interrupted_run(long_talks, long_text, tmp_path) -> None:
    """Ctrl-C leaves whole results alone, and the same command makes those that are missing."""
    arguments = ["--recursive", "--jobs", 2, "--output", tmp_path, long_talks]
    with subprocess.Popen(
        command(*arguments),
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, interrupts may be ignored, and what is ignored is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        wait_for_a_result(process, tmp_path)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert re.fullmatch(r"asr: \d+ files? written; .*; interrupted: the same command goes on from here\n", errors)
    made = contents(tmp_path)
    assert 0 < len(made) < 10
    assert set(made.values()) == {long_text}
    done = run(*arguments)
    assert done.returncode == 0
    assert f"{len(made)} skipped" in done.stderr
    assert contents(tmp_path) == {f"{number}.txt": long_text for number in range(10)}


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_workers_that_are_killed(long_talks, long_text, tmp_path) -> None:
    """Others take their place, and nothing is missing."""
    arguments = ["--recursive", "--jobs", 2, "--output", tmp_path, long_talks]
    with subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True) as process:
        wait_for_a_result(process, tmp_path)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
        assert workers
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert re.fullmatch(r"asr: 10 files written; .*\n", errors)
    assert contents(tmp_path) == {f"{number}.txt": long_text for number in range(10)}


def test_a_damaged_model_is_one_line(talks, tmp_path) -> None:
    """A model that does not load ends the run at once, with workers too."""
    (tmp_path / "model").mkdir()
    done = run("--recursive", "--jobs", 2, "--model", tmp_path / "model", "--output", tmp_path / "out", talks)
    assert done.returncode == 1
    assert re.fullmatch(r"asr: .*has no model\.toml.*\n", done.stderr)


def test_results_of_one_name_are_refused(talks, tmp_path, capsys) -> None:
    """Two files whose results would be one are an error before any work, which names both."""
    output = tmp_path / "out"
    sources = [str(talks), str(talks / "may" / "2nd")]
    assert main(["transcribe", "--recursive", "--output", str(output), *sources]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.count("a.opus") == 2
    assert "would both be written" in error
    assert not output.exists()


@pytest.mark.parametrize("option", [["--recursive"], ["--overwrite"], ["--jobs", "2"]])
def test_options_that_need_a_folder(option, capsys) -> None:
    """Without ``--output`` they are an error that says to give it."""
    assert main(["transcribe", *option, "a.wav"]) == 1
    error = capsys.readouterr().err
    assert option[0] in error
    assert "--output" in error


def test_no_jobs(capsys) -> None:
    """At least one process has to work."""
    assert main(["transcribe", "--jobs", "0", "--output", "out", "a.wav"]) == 1
    assert "at least 1" in capsys.readouterr().err
