"""The program that trains on a GPU, on the CPU and two clips: what it prepares, begins with and leaves."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_corpus import write_clip_corpus
from conftest import Clip
from safetensors.numpy import load_file

import asr
from asr.errors import ConfigError
from asr.network.features import Fbank
from asr.network.model import AcousticModel
from asr.network.weights import shapes

sys.path.insert(0, str(Path(__file__).parent.parent / "pretrained" / "recipe"))
import train_on_gpu

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
width = WIDTH
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
    write_clip_corpus(folder, recognizer)
    (folder / "shipped").symlink_to(recognizer.bundle.path)
    (folder / "config.toml").write_text(CONFIG.replace("WIDTH", str(recognizer.bundle.shape.width)))
    return folder


@pytest.mark.parametrize(
    "guidance",
    [[], ["--consistency", "0.2", "--at-once", "2", "--teacher", "0.5"], ["--four-bits", "--at-once", "2"]],
    ids=["alone", "guided", "four bits"],
)
def test_two_clips_are_prepared_and_trained_on(
    data: Path, recognizer: asr.Recognizer, tmp_path: Path, guidance: list[str]
) -> None:
    """A run of a second leaves the averaged weights of one step, close to those that it began with, and its log."""
    config, prepared, run = str(data / "config.toml"), str(tmp_path / "prepared"), tmp_path / "run"
    train_on_gpu.main(["prepare", config, str(data / "clips.jsonl"), "--output", prepared, "--processes", "1"])
    options = ["--seconds", "1", "--hours", "0.1", "--random-rooms", "2", "--twice", "clips", *guidance]
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


def test_what_cannot_be_read_ends_the_run(data: Path, tmp_path: Path) -> None:
    """A damaged file among the prepared ones ends the run with its error: it does not wait for batches for ever."""
    (tmp_path / "clips.0.pkl").write_bytes(b"damaged")
    options = ["--prepared", str(tmp_path), "--output", str(tmp_path / "run"), "--seconds", "1", "--hours", "0.1"]
    with pytest.raises(pickle.UnpicklingError):
        train_on_gpu.main(["train", str(data / "config.toml"), *options, "--random-rooms", "2"])


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


def test_new_units_change_hardly_anything_at_first(data: Path, recognizer: asr.Recognizer, clips: list[Clip]) -> None:
    """A wider network than the one that it begins with says the same of clips, and its new units can learn."""
    bundle = recognizer.bundle
    config = train_on_gpu.load_config(data / "config.toml")
    torch.manual_seed(7)
    wider = AcousticModel(dataclasses.replace(config.model, layers=bundle.shape.layers, width=bundle.shape.width + 64))
    train_on_gpu.begin_with(wider, data / "shipped")
    same = AcousticModel.of_weights(bundle.shape, bundle.weights)
    tokens = bundle.shape.tokens
    features = bundle.features
    windows = np.lib.stride_tricks.sliding_window_view(clips[0].samples, features.window_samples)
    frames = torch.from_numpy(Fbank(features)(windows[:: features.hop_samples])[None])
    frames = frames[:, : frames.shape[1] // 3 * 3]
    found, _ = wider.eval()(frames, wider.initial_state())
    with torch.inference_mode():
        expected, _ = same(frames, same.initial_state())
    rows, others = (logits[0, :, :tokens].log_softmax(dim=-1) for logits in (found, expected))
    divergence = (others.exp() * (others - rows)).sum(dim=-1).mean()
    assert divergence < 0.05
    found.sum().backward()
    for cell in wider.cells:
        candidate = cell.weight_ih_l0.grad.chunk(4)[2]
        assert (candidate[-64:].abs().amax(dim=1) > 0).all()


def test_steps_taken_as_one_begin_with_the_outputs_that_there_were(data: Path, recognizer: asr.Recognizer) -> None:
    """Where recurrent layers begin to take two steps as one, each step has the outputs of the model before."""
    bundle = recognizer.bundle
    config = train_on_gpu.load_config(data / "config.toml")
    model = AcousticModel(dataclasses.replace(config.model, stacked=2))
    train_on_gpu.begin_with(model, data / "shipped")
    single = AcousticModel.of_weights(bundle.shape, bundle.weights)
    hidden = torch.randn(3, 1, bundle.shape.width)
    rows, once = model.unstack_rows(model.output(hidden)), single.output(hidden).transpose(0, 1)
    torch.testing.assert_close(rows, once.repeat_interleave(2, dim=1))


def test_a_teacher_draws_the_network_to_what_it_says(data: Path) -> None:
    """Nothing draws a network away from a teacher that says the same; from another the gradient leads nearer."""
    teacher = train_on_gpu.teacher_of(data / "shipped")
    frames = torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(3)) - 5
    with torch.no_grad():
        said = teacher.run(frames, teacher.initial_state(2))[0].log_softmax(dim=-1)
    steps = torch.tensor([20, 12])
    assert train_on_gpu.distance(said, said, steps) == 0
    scores = torch.zeros_like(said, requires_grad=True)
    far = train_on_gpu.distance(scores.log_softmax(dim=-1), said, steps)
    (gradient,) = torch.autograd.grad(far, scores)
    nearer = train_on_gpu.distance((scores - 0.1 * gradient).log_softmax(dim=-1), said, steps)
    assert 0 < nearer < far
    assert not gradient[1, 12:].any()  # after a line's end nothing counts


def test_a_network_does_not_get_narrower(data: Path) -> None:
    """A configuration with fewer units than the model that it begins with is told so."""
    config = train_on_gpu.load_config(data / "config.toml")
    with pytest.raises(ConfigError, match="width"):
        train_on_gpu.begin_with(AcousticModel(dataclasses.replace(config.model, width=64)), data / "shipped")


def test_gradients_are_of_all_batches_of_a_step() -> None:
    """The gradients of two batches add up to that of both together, a token's share each."""
    weight = torch.nn.Parameter(torch.ones(2))
    train_on_gpu.add_gradients([weight], [torch.tensor([2.0, 4.0])], 4)
    train_on_gpu.add_gradients([weight], [torch.tensor([6.0, 0.0])], 4)
    assert weight.grad.tolist() == [2.0, 1.0]


def test_two_views_are_compared_step_by_step() -> None:
    """What two views of a line differ in is a sum over the line's own steps, and nothing where they say the same."""
    one, other = (torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    steps = torch.tensor([5, 2, 0] * 2)
    rows = torch.cat([one, other]).log_softmax(dim=-1)
    p, q = rows.exp().chunk(2)
    each = ((p - q) * (p.log() - q.log())).sum(dim=-1)
    torch.testing.assert_close(train_on_gpu.divergence(rows, steps), each[0].sum() + each[1, :2].sum())
    assert train_on_gpu.divergence(torch.cat([one, one]).log_softmax(dim=-1), steps) == 0


def test_two_views_are_drawn_to_each_other() -> None:
    """The gradient of the divergence moves each view's probabilities towards the other's."""
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(3), requires_grad=True)
    train_on_gpu.divergence(logits.log_softmax(dim=-1), torch.tensor([4, 4])).backward()
    p = logits.detach().softmax(dim=-1)
    torch.testing.assert_close(logits.grad, torch.cat([p[:1] - p[1:], p[1:] - p[:1]]))
