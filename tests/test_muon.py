"""Muon where the processor has no products of bfloat16."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.train import muon
from asr.train.muon import FloatMuon, make_muon


@settings(max_examples=20)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
def test_steps_are_those_of_torch(rows: int, columns: int, seed: int) -> None:
    """But for bfloat16's rounding, three steps from the same start and gradients end at the same weights."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(rows, columns, generator=generator)
    options = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimisers = FloatMuon([ours], **options), torch.optim.Muon([theirs], **options)
    for _ in range(3):
        gradient = torch.randn(rows, columns, generator=generator)
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    step = 0.02 * 0.2 * max(rows, columns) ** 0.5 * min(rows, columns) ** 0.5  # an update's norm, about
    assert float((ours - theirs).detach().norm()) < 0.1 * step
    optimisers[0].load_state_dict(optimisers[1].state_dict())  # a checkpoint of either fits both
    optimisers[1].load_state_dict(optimisers[0].state_dict())


def test_updates_are_orthogonal() -> None:
    """An update's singular values are all about one, whatever the gradient's were."""
    gradient = torch.randn(48, 20, generator=torch.Generator().manual_seed(1)) @ torch.diag(torch.logspace(-1, 1, 20))
    weight = torch.nn.Parameter(torch.zeros(48, 20))
    weight.grad = gradient
    FloatMuon([weight], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    values = torch.linalg.svdvals(weight.detach()) / (0.2 * 48**0.5)
    assert values.min() > 0.5
    assert values.max() < 1.5


@pytest.mark.parametrize("fast", [True, False])
def test_which_of_them_is_taken(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own where the processor has bfloat16."""
    monkeypatch.setattr(muon, "has_bfloat16", lambda device: fast)
    made = make_muon([torch.nn.Parameter(torch.zeros(2, 2))], lr=0.1)
    assert isinstance(made, FloatMuon) is not fast
