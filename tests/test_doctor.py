"""``asr doctor``: what it says when all is well, and when something is not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from mic_process import FAKE

MODEL = Path(str(resources.files("asr.pretrained")))


def doctor(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asr.cli", "doctor", *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(FAKE), "FAKE_MIC_FAULT": "", **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict]:
    return {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}


@pytest.fixture
def copied(tmp_path) -> Path:
    """A model folder of one's own."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in MODEL.iterdir():
        if path.suffix in (".safetensors", ".toml", ".txt"):
            shutil.copy(path, folder)
    return folder


def test_all_is_well(heard) -> None:
    """Everything is told, the model's files with their sums, and the sample's words are heard."""
    done = doctor("--json", FAKE_MIC=str(heard))
    assert (done.returncode, done.stderr, json.loads(done.stdout)["ok"]) == (0, "", True)
    found = findings(done)
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert {"been", "father", "lover"} <= set(re.findall("[a-z]+", found["self-test"]["data"]["text"].lower()))
    assert 0 < found["self-test"]["data"]["real_time_factor"] < 1
    assert 2 <= found["self-test"]["data"]["audio_s"] < 2.5
    (sums,) = [file["sha256"] for file in found["model"]["data"]["files"] if file["name"] == "weights.safetensors"]
    assert sums == hashlib.sha256((MODEL / "weights.safetensors").read_bytes()).hexdigest()
    assert found["microphones"]["data"]["devices"][0]["name"] == "Fake microphone"
    assert found["cache"]["data"]["writable"]


def test_recognition_needs_no_microphone() -> None:
    """Without PortAudio the status is 0 still, with a warning that says how to get it."""
    done = doctor(FAKE_MIC_FAULT="portaudio")
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("warning portaudio")]
    assert "apt install libportaudio2" in line
    assert "\x1b" not in done.stdout


def test_a_damaged_model(copied) -> None:
    """A model that is cut off is broken: status 1, and what to do; the sums are told all the same."""
    weights = copied / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    done = doctor("--json", "--model", copied, FAKE_MIC="")
    found = findings(done)
    assert (done.returncode, found["self-test"]["state"]) == (1, "broken")
    assert "weights.safetensors" in found["self-test"]["text"]
    assert any(file["name"] == "weights.safetensors" for file in found["model"]["data"]["files"])


def test_no_model_at_all(tmp_path) -> None:
    """A folder that is not there is said to be none."""
    done = doctor("--model", tmp_path / "none")
    assert done.returncode == 1
    assert f"broken  model        no model at {tmp_path / 'none'}" in done.stdout
