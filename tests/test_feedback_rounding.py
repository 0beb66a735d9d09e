"""Four bits without training: what rounding one weight does, others make good."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asr.network.model import AcousticModel
from asr.network.quantized import QuantizedModel
from asr.network.shape import ModelOptions
from asr.network.weights import widened
from asr.train.feedback_rounding import round_network, round_rows
from asr.train.four_bits import coarse_arrays, rounded_rows


def inputs(count: int, columns: int, directions: int) -> np.ndarray:
    """Rows of numbers that go together: most of what they are lies in a few directions."""
    rng = np.random.default_rng(7)
    mixed = rng.standard_normal((count, directions)) @ rng.standard_normal((directions, columns))
    return np.asarray(mixed + 0.1 * rng.standard_normal((count, columns)))


def network(cell: str, stacked: int) -> AcousticModel:
    torch.manual_seed(5)
    options = ModelOptions(
        cell=cell,  # type: ignore[arg-type]
        layers=2,
        blocks=2,
        width=32,
        conv_width=24,
        lookahead_ms=60,
        stacked=stacked,
        middle_ctc=False,
    )
    model = AcousticModel(options).eval()
    model.set_normalisation(torch.full((80,), -6.0), torch.full((80,), 4.0))
    with torch.no_grad():
        if model.stack is not None:  # whose weights begin as zeros
            torch.nn.init.normal_(model.stack.weight, std=0.1)
    return model


def speech(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of two lines, the second of them shorter, and what fills it up."""
    made = torch.randn(2, 960, 80, generator=torch.Generator().manual_seed(seed)).cumsum(dim=2) - 6
    made[1, 480:] = 1e3
    return made, torch.tensor([960, 480])


def test_errors_are_made_good_where_inputs_go_together() -> None:
    """A matrix whose inputs lie in a few directions gives a tenth of the error that rounding to the nearest gives."""
    x = inputs(2000, 48, 8)
    weights = np.random.default_rng(1).standard_normal((20, 48))
    levels, unit, error = round_rows(weights, x.T @ x)
    nearest, nearest_unit = rounded_rows(torch.from_numpy(weights.astype(np.float32)))
    both = levels * unit[:, None], (nearest * nearest_unit).numpy()
    wrong, nearest_wrong = (np.square(x @ (weights - rounded).T).sum() for rounded in both)
    assert wrong < 0.1 * nearest_wrong
    assert error == pytest.approx(wrong / np.square(x @ weights.T).sum(), rel=0.001)
    assert set(np.unique(levels)) <= set(nearest.unique().tolist())


def test_errors_of_the_inputs_are_made_good_too() -> None:
    """Of inputs that layers before have changed a matrix that knows how gives more nearly what it gave of the old."""
    old = inputs(2000, 48, 8)
    new = old @ (np.eye(48) + 0.05 * np.random.default_rng(2).standard_normal((48, 48)))
    weights = np.random.default_rng(1).standard_normal((20, 48))
    wanted = old @ weights.T

    def wrong(crossed: np.ndarray | None) -> float:
        levels, unit, _ = round_rows(weights, new.T @ new, crossed)
        return float(np.square(new @ (levels * unit[:, None]).T - wanted).sum())

    assert wrong(old.T @ new) < 0.3 * wrong(None)


def test_a_row_of_zeros_stays_zero() -> None:
    """Inputs that are always zero, and rows that are, bring no division by zero, and such a row gives nothing."""
    x = inputs(100, 16, 4)
    x[:, 3] = 0
    weights = np.random.default_rng(1).standard_normal((4, 16))
    weights[2] = 0
    levels, unit, _ = round_rows(weights, x.T @ x)
    assert np.isfinite(levels).all()
    assert np.isfinite(unit).all()
    assert np.abs(levels[2] * unit[2]).max() < 1e-6


@pytest.mark.parametrize(("cell", "stacked"), [("lstm", 1), ("gru", 1), ("lstm", 2)])
def test_a_network_of_four_bits_says_nearly_the_same(cell: str, stacked: int) -> None:
    """On speech that it was not rounded by, a network is nearer to what it was than with weights rounded to the
    nearest; its layers have sixteen weights, times a scale for each row, and recognition gets what was tried."""
    model = network(cell, stacked)
    before, weights = AcousticModel.of_weights(model.options, model.arrays()), model.arrays()
    told: list[str] = []
    found = round_network(model, [speech(1), speech(2)], tell=told.append)
    heard, _ = speech(3)
    heard = heard[:1]
    with torch.no_grad():
        wanted, rounded, nearest = (
            net(heard, net.initial_state(1))[0]
            for net in (before, model, AcousticModel.of_weights(model.options, widened(coarse_arrays(weights))))
        )
    assert float((rounded - wanted).square().sum()) < 0.5 * float((nearest - wanted).square().sum())
    assert len(told) == 6
    for name in ("blocks.1.weight", "cells.0.weight_ih_l0", "cells.1.weight_hh_l0"):
        assert found[name].dtype == np.int8
        assert len(np.unique(found[name])) <= 16
        assert np.allclose(widened(found)[name], model.get_parameter(name).detach().numpy(), atol=1e-6)
    quantized = QuantizedModel(model.options, found)
    eighths, _ = quantized(heard.numpy(), quantized.initial_state(1))
    assert np.abs(eighths - rounded.numpy()).max() < 0.2 * rounded.numpy().std()


def test_matrices_that_are_kept_stay_as_they_were() -> None:
    """Of the recurrent layers only what is not kept is rounded, and it makes good what was rounded before."""
    model = network("lstm", 1)
    before = model.arrays()
    found = round_network(model, [speech(1), speech(2)], ["weight_hh"])
    for name in ("cells.0.weight_hh_l0", "cells.1.weight_hh_l0"):
        assert np.array_equal(found[name], before[name])
        assert f"{name}.peaks" not in found
    assert found["cells.1.weight_ih_l0"].dtype == np.int8


def test_what_fills_a_batch_is_not_heard() -> None:
    """A line is rounded by as it would be alone: what lies behind its end does not count."""
    frames, lengths = speech(1)
    other = frames.clone()
    other[1, 480:] = -1e3
    results = [round_network(network("lstm", 1), [(made, lengths)]) for made in (frames, other)]
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])
