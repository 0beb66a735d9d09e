"""Many files over Ray: `asr transcribe --ray`, on a cluster that is this machine."""

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

pytest.importorskip("ray", reason="needs the extra ray")

PATIENCE_S = 240


def test_the_same_as_without_ray(clips, tmp_path) -> None:
    """Every byte of the results, the line about a broken file, and the status."""
    talks = tmp_path / "talks"
    (talks / "may").mkdir(parents=True)
    for clip, name in zip(clips, ["a.opus", "may/b.opus", "c.opus", "may/d.opus", "e.opus"], strict=True):
        shutil.copy(clip.path, talks / name)
    (talks / "broken.wav").write_text("no sound\n" * 100)
    arguments = ["--recursive", "--jobs", 2, "--format", "json", talks]
    plain = run(*arguments, "--output", tmp_path / "plain", patience_s=PATIENCE_S)
    spread = run(*arguments, "--output", tmp_path / "spread", "--ray", "local", patience_s=PATIENCE_S)
    assert contents(tmp_path / "spread") == contents(tmp_path / "plain")
    assert len(contents(tmp_path / "plain")) == 5
    assert (spread.returncode, spread.stdout) == (plain.returncode, plain.stdout) == (1, "")
    assert spread.stderr.splitlines()[0] == plain.stderr.splitlines()[0]
    assert re.fullmatch(r"asr: 5 files written; .* times real time; 1 failed", spread.stderr.splitlines()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_actors_that_are_killed(recognizer, speech, tmp_path) -> None:
    """Others take their place, and nothing is missing."""
    talks, output = tmp_path / "talks", tmp_path / "out"
    talks.mkdir()
    first = write_audio(talks / "0.wav", np.tile(speech, 3))
    for number in range(1, 8):
        os.link(first, talks / f"{number}.wav")
    text = (recognizer.transcribe(first).text + "\n").encode()
    arguments = command("--recursive", "--jobs", 2, "--ray", "local", "--output", output, talks)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end_s = time.monotonic() + PATIENCE_S
        while not list(output.glob("*.txt")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end_s
            time.sleep(0.01)
        actors = [pid for pid in descendants(process.pid) if title_of(pid).startswith("ray::Worker")]
        assert actors
        for actor in actors:
            os.kill(actor, signal.SIGKILL)
        said, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said) == (0, ""), errors
    assert re.fullmatch(r"asr: 8 files written; .*\n", errors)
    assert contents(output) == {f"{number}.txt": text for number in range(8)}


def descendants(pid: int) -> list[int]:
    children = [
        int(child) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_a_damaged_model_is_one_line(clips, tmp_path) -> None:
    """A model that does not load ends the run at once."""
    (tmp_path / "model").mkdir()
    sources = [clips[0].path, clips[1].path]
    done = run(
        "--ray",
        "local",
        "--jobs",
        1,
        "--model",
        tmp_path / "model",
        "--output",
        tmp_path / "out",
        *sources,
        patience_s=PATIENCE_S,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"asr: .*has no model\.toml.*\n", done.stderr)


def test_no_cluster(tmp_path, capsys, monkeypatch) -> None:
    """An address that cannot be used, Ray that is not installed, and no folder for results are a line each."""
    sources = ["a.wav", "b.wav"]
    assert main(["transcribe", "--ray", "no address", "--output", str(tmp_path), *sources]) == 1
    assert re.fullmatch(r"asr: --ray no address: no cluster can be used there \(.*\)\n", capsys.readouterr().err)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["transcribe", "--ray", "local", "--output", str(tmp_path), *sources]) == 1
    assert "asr-stream[ray]" in capsys.readouterr().err
    assert main(["transcribe", "--ray", "local", *sources]) == 1
    assert "--output" in capsys.readouterr().err
