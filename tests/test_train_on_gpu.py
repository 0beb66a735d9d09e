"""The program that trains on a GPU, on the CPU and two clips: what it prepares, begins with and leaves."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file
from test_crf import random_lm

import asr
from asr.lexicon.phonemes import decode_phonemes
from asr.network.model import AcousticModel
from asr.network.weights import shapes

sys.path.insert(0, str(Path(__file__).parent.parent / "pretrained" / "recipe"))
import train_on_gpu

DATA = Path(__file__).parent / "data"
CONFIG = """
[data]
lexicon = "lexicon.txt"
phone_lm = "phone_lm.safetensors"
pieces = "shipped/pieces.txt"
[model]
tokens = 40
pieces = 1029
layers = 7
blocks = 4
lookahead_ms = 180
[augment]
mp3_kbit_s = [32]
[training]
start = "shipped"
batch_s = 20.0
min_lines = 1
learning_rate = 1e-5
join_s = 30.0
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, recognizer: asr.Recognizer) -> Path:
    """Two clips, the pronunciations of their words, and a phoneme trigram."""
    folder = tmp_path_factory.mktemp("gpu")
    rows = (DATA / "transcripts.jsonl").read_text().splitlines()[:2]
    (folder / "clips.jsonl").write_text("\n".join(rows))
    with tarfile.open(folder / "clips.tar", "w") as tar:
        for row in rows:
            tar.add(DATA / f"{json.loads(row)['id']}.opus", f"{json.loads(row)['id']}.opus")
    lexicon = recognizer.bundle.lexicon
    assert lexicon is not None
    words = sorted({word for row in rows for word in json.loads(row)["text"].split()})
    lines = [f"{word}  {decode_phonemes(said)}" for word in words for said in lexicon[word]]
    (folder / "lexicon.txt").write_text("\n".join(lines))
    random_lm(39).save(folder / "phone_lm.safetensors")
    (folder / "shipped").symlink_to(recognizer.bundle.path)
    (folder / "config.toml").write_text(CONFIG)
    return folder


def test_two_clips_are_prepared_and_trained_on(data: Path, recognizer: asr.Recognizer, tmp_path: Path) -> None:
    """A run of a second leaves the averaged weights of one step, close to those that it began with, and its log."""
    config, prepared, run = str(data / "config.toml"), str(tmp_path / "prepared"), tmp_path / "run"
    train_on_gpu.main(["prepare", config, str(data / "clips.jsonl"), "--output", prepared, "--processes", "1"])
    options = ["--seconds", "1", "--hours", "0.1", "--random-rooms", "2", "--twice", "clips"]
    train_on_gpu.main(["train", config, "--prepared", prepared, "--output", str(run), *options])
    weights = {}
    for path in run.glob("average.*.safetensors"):
        weights |= load_file(path)
    bundle = recognizer.bundle
    expected = AcousticModel.of_weights(bundle.shape, bundle.weights).arrays()
    assert set(shapes(bundle.shape)) <= set(weights)
    for name, value in expected.items():
        assert abs(weights[name].astype("f4") - value).max() < 1e-3 + 1e-3 * abs(value).max(), name
    assert json.loads((run / "done").read_text())["steps"] >= 1


def test_new_layers_change_nothing_at_first(data: Path, recognizer: asr.Recognizer) -> None:
    """A network with a layer more than the one that it begins with gives the same."""
    bundle = recognizer.bundle
    config = train_on_gpu.load_config(data / "config.toml")
    deeper = AcousticModel(config.model)
    train_on_gpu.begin_with(deeper, data / "shipped")
    same = AcousticModel.of_weights(bundle.shape, bundle.weights)
    frames = torch.randn(1, 60, 80, generator=torch.Generator().manual_seed(1)) - 5
    with torch.inference_mode():
        found, _ = deeper.eval()(frames, deeper.initial_state())
        expected, _ = same(frames, same.initial_state())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
