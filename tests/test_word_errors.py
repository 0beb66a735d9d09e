"""Training on expected word errors: the gradient is that of the expectation, and following it makes fewer errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_corpus import DATA, write_clip_corpus

import asr
from asr.errors import ConfigError
from asr.text.score import count_word_errors
from asr.train.config import load_config
from asr.train.corpus import decode_samples
from asr.train.crf import add_readings, ctc_loss
from asr.train.trainer import train
from asr.train.word_errors import WordErrors, expectation


@pytest.fixture(scope="module")
def judge(recognizer: asr.Recognizer) -> WordErrors:
    return WordErrors(recognizer.bundle.path)


@pytest.fixture(scope="module")
def heard(recognizer: asr.Recognizer) -> tuple[torch.Tensor, str]:
    """Logits of a clip that are hard to read, and its text."""
    row = json.loads((DATA / "transcripts.jsonl").read_text().splitlines()[1])
    samples = decode_samples((DATA / f"{row['id']}.opus").read_bytes(), row["id"], 16_000)
    log_probs = torch.from_numpy(recognizer.emissions(samples).copy())
    noise = torch.randn(log_probs.shape, generator=torch.Generator().manual_seed(4))
    return 0.7 * log_probs + 1.5 * noise, row["text"]


def test_shares_of_readings_are_those_of_ctc(judge: WordErrors, heard: tuple[torch.Tensor, str]) -> None:
    """A text's probability is CTC's, and its shares are what CTC's gradient takes from the probabilities."""
    logits, text = heard
    logits = logits.clone().requires_grad_()
    p, graph = logits.detach().softmax(dim=-1).contiguous(), judge.graph(text)
    shares = torch.zeros_like(p)
    found = add_readings(p, [graph], [1.0], shares)
    loss = ctc_loss(logits[None], torch.tensor([len(p)]), [graph])
    loss.backward()
    assert float(found[0]) == pytest.approx(-float(loss.detach()), rel=1e-5)
    torch.testing.assert_close(p - shares, logits.grad, atol=1e-4, rtol=1e-4)


def test_gradient_is_that_of_the_expected_errors(judge: WordErrors, heard: tuple[torch.Tensor, str]) -> None:
    """A small step along any direction changes the expectation over the same list as the gradient says."""
    logits, text = heard
    x = logits.clone().requires_grad_()
    judge(x[None], torch.tensor([len(x)]), [text]).backward()
    readings = judge.readings(torch.log_softmax(logits, dim=-1).numpy())
    graphs = [judge.graph(reading) for reading, _ in readings]
    errors = np.array([count_word_errors(text, reading).errors for reading, _ in readings], np.float64)
    assert len(set(errors)) > 1

    def expected(at: torch.Tensor) -> float:
        there, here = (
            add_readings(of.softmax(dim=-1).contiguous(), graphs, [0.0] * len(graphs), torch.zeros_like(of))
            for of in (at, logits)
        )
        scores = np.array([score for _, score in readings]) + (there - here).numpy()
        return expectation(scores, errors)[0]

    for seed in range(3):
        way = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))
        slope = (expected(logits + 0.01 * way) - expected(logits - 0.01 * way)) / 0.02
        assert float((x.grad * way).sum()) == pytest.approx(slope, rel=0.03, abs=2e-3)


def test_following_the_gradient_makes_fewer_errors(judge: WordErrors, heard: tuple[torch.Tensor, str]) -> None:
    """Logits that are moved against the gradient are read with a third fewer errors, as the best of their list."""
    logits, text = heard
    x, steps = logits.clone()[None].requires_grad_(), torch.tensor([len(logits)])
    first = float(judge(x, steps, [text]).detach())
    assert first > 0.1
    for _ in range(20):
        x.grad = None
        last = judge(x, steps, [text])
        last.backward()
        assert x.grad is not None
        x.data -= 100 * x.grad
    assert float(last.detach()) < first * 2 / 3


def test_a_model_is_trained_on_word_errors(recognizer: asr.Recognizer, tmp_path: Path) -> None:
    """Training takes a step with word errors in the loss, and leaves a model that differs from the one before."""
    write_clip_corpus(tmp_path, recognizer)
    shape = recognizer.bundle.shape
    config = f"""
[data]
train = ["clips.jsonl"]
lexicon = "lexicon.txt"
phone_lm = "phone_lm.safetensors"
pieces = "{recognizer.bundle.path}/pieces.txt"
[model]
layers = {shape.layers}
blocks = {shape.blocks}
width = {shape.width}
lookahead_ms = {shape.lookahead_ms}
middle_ctc = false
[training]
start = "{recognizer.bundle.path}"
steps = 1
batch_s = 40.0
optimiser = "adamw"
learning_rate = 1e-3
warmup_steps = 1
word_errors = 10.0
"""
    (tmp_path / "config.toml").write_text(config)
    train(load_config(tmp_path / "config.toml"), tmp_path, tmp_path / "run", "cpu")
    trained = asr.load(tmp_path / "run" / "model").bundle.weights
    assert any(not np.array_equal(trained[name], value) for name, value in recognizer.bundle.weights.items())

    (tmp_path / "config.toml").write_text(config.replace('phone_lm = "phone_lm.safetensors"', ""))
    with pytest.raises(ConfigError, match="name a \\[data\\] phone_lm"):
        load_config(tmp_path / "config.toml")
    start = f'start = "{recognizer.bundle.path}"'
    (tmp_path / "config.toml").write_text(config.replace(start, ""))
    with pytest.raises(ConfigError, match="name it as start"):
        load_config(tmp_path / "config.toml")


def test_word_errors_need_a_model_that_can_search(recognizer: asr.Recognizer, tmp_path: Path) -> None:
    """A model folder without a language model is refused, and the message says what it needs."""
    for name in ("model.toml", "tokens.txt", "pieces.txt", "weights.safetensors", "lexicon.safetensors"):
        (tmp_path / name).symlink_to(recognizer.bundle.path / name)
    with pytest.raises(ConfigError, match=r"lm\.safetensors"):
        WordErrors(tmp_path)
