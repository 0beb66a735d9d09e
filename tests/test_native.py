"""The trainer's kernels for CPUs with AMX or AVX-512 BF16: the same function as PyTorch's, to bfloat16's precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from asr.errors import ConfigError
from asr.network.model import AcousticModel
from asr.network.shape import ModelOptions
from asr.train import native
from asr.train.config import TrainingOptions


@pytest.fixture(params=["amx", "avx512"])
def unit(request, monkeypatch) -> str:
    """Each unit of the CPU that the kernels know, where it has both."""
    if request.param not in native._units_here():
        pytest.skip(f"this computer's CPU has no {request.param}")
    monkeypatch.setattr(native, "_units_here", lambda: [request.param])
    return str(request.param)


def network(width: int = 64, **options: object) -> AcousticModel:
    torch.manual_seed(3)
    model = AcousticModel(ModelOptions(layers=2, blocks=3, width=width, conv_width=32, dropout=0.0, **options))  # type: ignore[arg-type]
    model.set_normalisation(torch.full((80,), -6.0), torch.full((80,), 4.0))
    try:
        native.check(model)
    except ConfigError as error:
        pytest.skip(str(error))
    return model.train()


def gradients(model: AcousticModel, run: Callable[[], tuple[Tensor, list[Tensor]]]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    logits, inner = run()
    ((logits.float() - 1).square().sum() + sum(part.float().square().sum() for part in inner)).backward()  # type: ignore[no-untyped-call]
    return logits.detach().float(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1e-9))


@pytest.mark.parametrize(
    ("lines", "length", "lookahead_ms", "width", "stacked"),
    [(1, 3, 0, 64, 1), (5, 60, 120, 64, 1), (16, 99, 180, 96, 1), (37, 300, 60, 128, 1), (7, 66, 90, 64, 2)],
)
def test_the_kernels_give_the_networks_outputs_and_gradients(unit, lines, length, lookahead_ms, width, stacked) -> None:
    """For any number of lines and steps, logits and every weight's gradient are as float32's, nearer than autocast's or
    within a few per cent."""
    model = network(width, lookahead_ms=lookahead_ms, stacked=stacked)
    frames = torch.randn(lines, length, 80) * 4 - 6

    def with_torch() -> tuple[Tensor, list[Tensor]]:
        logits, inner, _ = model.run(frames, model.initial_state(lines))
        return logits, inner

    exact, exact_gradients = gradients(model, with_torch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, usual_gradients = gradients(model, with_torch)
    ours, our_gradients = gradients(model, lambda: native.run(model, frames))
    assert distance(ours, exact) < 0.02
    assert our_gradients.keys() == exact_gradients.keys()
    for name, gradient in our_gradients.items():
        usual = distance(usual_gradients[name], exact_gradients[name])
        assert distance(gradient, exact_gradients[name]) < max(0.03, 1.5 * usual), name


@pytest.mark.parametrize("tokens", [3, 29, 80])
def test_ctc_is_torchs(unit, tokens) -> None:
    """Loss and gradient are those of `ctc_loss`, with empty texts, doubled letters and texts that do not fit."""
    network()
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([0, 1, 4, 9, 30, 12])
    steps = torch.tensor([7, 1, 40, 18, 20, 40])  # 30 letters do not fit into 20 steps
    targets = torch.randint(1, tokens, (int(lengths.sum()),), generator=generator)
    logits = torch.randn(len(lengths), 40, tokens, generator=generator) * 3
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = native.ctc(ours, steps, targets, lengths)
    log_probs = F.log_softmax(theirs, dim=-1).transpose(0, 1)
    expected = F.ctc_loss(log_probs, targets, steps, lengths, reduction="sum", zero_infinity=True)
    (2 * loss).backward()  # type: ignore[no-untyped-call]
    (2 * expected).backward()  # type: ignore[no-untyped-call]
    assert ours.grad is not None
    assert theirs.grad is not None
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_a_network_that_the_kernels_do_not_know_is_refused() -> None:
    """Other cells than the LSTM, widths that do not divide into tiles, and other devices are errors that say so."""
    for options in (ModelOptions(cell="gru"), ModelOptions(width=40)):
        with pytest.raises(ConfigError, match='needs cell = "lstm" and a width'):
            native.check(AcousticModel(options))
    with pytest.raises(ConfigError, match="is for the CPU"):
        native.check(AcousticModel(ModelOptions()).to("meta"))


def test_a_cpu_without_the_units_is_refused(monkeypatch) -> None:
    """Where the CPU has no unit that the kernels know, the error says what to choose instead."""
    monkeypatch.setattr(native, "_units_here", list)
    with pytest.raises(ConfigError, match=r'neither AMX nor AVX-512 BF16 .* leave .* at "torch"'):
        native.check(AcousticModel(ModelOptions()))


def test_the_kernels_older_name_still_works() -> None:
    """A configuration from when there were kernels for AMX alone chooses the same ones."""
    assert TrainingOptions(kernels="amx") == TrainingOptions(kernels="native")  # type: ignore[arg-type]


def test_the_kernels_leave_the_processs_numbers_alone() -> None:
    """With the kernels loaded, the smallest numbers of float32 and float64 are still not zero."""
    network()  # loads them, or skips
    assert np.float64(5e-324) * np.float64(1.0) > 0
    assert np.float32(1e-45) * np.float32(1.0) > 0
