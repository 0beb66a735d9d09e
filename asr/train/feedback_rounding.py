"""A trained network's matrices in four bits, without training: weights make good what rounding others has done.

Rounded each for itself, weights err independently, and the sums of their products with the inputs as much. But inputs
go together, and speech tells how. So the columns of a matrix are rounded one after another, and what rounding one has
done to the sums is taken back, as far as can be, by those that follow (E. Frantar, S. Ashkboos, T. Hoefler and
D. Alistarh, "GPTQ: accurate post-training quantization for generative pre-trained transformers", ICLR 2023).

Matrices come in the order in which a network reaches them, and each is to give, of what the rounded layers before it
give, what it gave of what those gave before: it makes good a part of their errors, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from asr.network.integers import PEAK
from asr.network.model import AcousticModel
from asr.network.weights import Array
from asr.train.four_bits import LARGEST, LEVELS

_SIZES = (1.0, 1.1, 1.2, 1.3, 1.45, 1.6, 1.8, 2.0)  # of a row's levels, by its deviation: each row takes the best
_DAMPING = 0.01  # added to each input's power, by their mean: inputs that hardly vary would be made much of
_TOGETHER = 128  # columns after which the others are told of errors
_LEAST = 1e-16  # mean square of a row of zeros
_TABLE = LEVELS.double().numpy()
_EDGES = (_TABLE[1:] + _TABLE[:-1]) / 2  # between the levels


def round_network(
    model: AcousticModel,
    speech: Sequence[tuple[Tensor, Tensor]],
    keep: Collection[str] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Array]:
    """Round the matrices of the blocks and the recurrent layers: in the model itself, too.

    Args:
        model: the network, in evaluation mode, on the CPU.
        speech: batches of log-mel frames ``(B, T, mels)``, T a multiple of `ModelOptions.frames`, with how many frames
            each line has, ``(B,)``: half an hour and more, of all kinds that are to be recognised.
        keep: those matrices whose names hold one of these are left as they are.
        tell: called with a line on each matrix.

    Returns:
        As `asr.train.four_bits.coarse_arrays`: the parameters, matrices of four bits in integers with their peaks.
    """
    found, before = model.arrays(), copy.deepcopy(model)
    with torch.no_grad():
        wanted, given = ([_inputs(network, frames) for frames, _ in speech] for network in (before, model))
        for name in _matrices(model):
            if any(part in name for part in keep):
                for walk in (*wanted, *given):
                    next(walk)
                continue
            weight = model.get_parameter(name)
            own = crossed = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
            for (frames, lengths), old_walk, new_walk in zip(speech, wanted, given, strict=True):
                old, new = (_within(next(walk), lengths / frames.shape[1]) for walk in (old_walk, new_walk))
                own, crossed = own + new.T @ new, crossed + old.T @ new
            levels, unit, error = round_rows(weight.double().numpy(), own.numpy(), crossed.numpy())
            weight.copy_(torch.from_numpy(levels * unit[:, None]))
            found[name], found[f"{name}.peaks"] = levels.astype(np.int8), (unit * PEAK).astype(np.float32)
            tell(f"{name}: {100 * error:.2f} % of what it gives is wrong")
    return found


def _matrices(model: AcousticModel) -> list[str]:
    """The names of those that are rounded, in the order in which `_inputs` comes to them."""
    o = model.options
    return [f"blocks.{i}.weight" for i in range(o.blocks)] + [
        f"cells.{i}.weight_{part}_l0" for i in range(o.layers) for part in ("ih", "hh")
    ]


def _inputs(model: AcousticModel, frames: Tensor) -> Iterator[Tensor]:
    """What each matrix is multiplied with, ``(steps, B, columns)``, one after another.

    A matrix is used as it is when the next one is asked for.
    """
    state = model.initial_state(len(frames))
    normal, _, _ = model.normalise(frames, state.mean, state.count)
    z = model.first_steps(torch.cat([state.frames, normal], dim=1))
    for i in range(model.options.blocks):
        z = torch.cat([state.steps[:, i].transpose(0, 1), z])
        taps = model.taps(i, z)
        yield taps
        z = model.add_block(i, z, taps)
    z = model.stack_steps(z)
    for i, cell in enumerate(model.cells):
        inputs = model.cell_inputs(i, z)
        yield inputs
        out = cell(inputs)[0]
        yield torch.cat([torch.zeros_like(out[:1]), out[:-1]])  # the hidden state before each step
        z = z + cell(inputs)[0]


def _within(inputs: Tensor, shares: Tensor) -> Tensor:
    """The rows, float64, that are of lines of speech and not of what fills a batch, of which each line has a share."""
    steps = len(inputs)
    return inputs[torch.arange(steps)[:, None] < (shares * steps).round()].double()


def round_rows(weights: Array, moments: Array, crossed: Array | None = None) -> tuple[Array, Array, float]:
    """Round a matrix to the levels of four bits.

    Args:
        weights: ``(rows, columns)`` float64.
        moments: ``(columns, columns)`` float64: of its inputs x, as they will be, the sum of x^T x.
        crossed: the same of the inputs for which it was made with those: it is to give what it would give of them.

    Returns:
        Levels ``(rows, columns)``, what one stands for in each row ``(rows,)``, and the error: what is wrong of its
        results, as a share of their power.
    """
    columns = len(moments)
    damped = moments + _DAMPING * np.diag(moments).mean() * np.eye(columns)
    if crossed is not None:
        weights = weights + np.linalg.solve(damped, ((crossed - moments).T @ weights.T)).T
    factors = _feedback(damped)
    size = np.sqrt(np.maximum((weights**2).mean(axis=1), _LEAST))
    best = np.full(len(weights), np.inf)
    levels, unit = np.zeros_like(weights), np.zeros(len(weights))
    for times in _SIZES:
        tried_unit = size * times * (LARGEST / PEAK)
        tried = _rounded(weights, tried_unit, *factors)
        missing = weights - tried * tried_unit[:, None]
        errors = ((missing @ damped) * missing).sum(axis=1)
        better = errors < best
        best[better], levels[better], unit[better] = errors[better], tried[better], tried_unit[better]
    missing = weights - levels * unit[:, None]
    wrong, power = (float(((rows @ moments) * rows).sum()) for rows in (missing, weights))
    return levels, unit, wrong / power if power > 0 else 0.0


def _feedback(moments: Array) -> tuple[Array, Array]:
    """In which order to round the columns, those of the strongest inputs first, and how errors go on to later ones.

    The second is the Cholesky factor of the inverse, above the diagonal, in that order.
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    lower = torch.linalg.cholesky(torch.from_numpy(moments[order][:, order]))
    return order, torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True).numpy()


def _rounded(weights: Array, unit: Array, order: Array, factor: Array) -> Array:
    """The levels of ``(rows, columns)``, columns rounded one after another."""
    rest, levels = weights[:, order], np.zeros_like(weights)
    for begin in range(0, len(order), _TOGETHER):
        end = min(begin + _TOGETHER, len(order))
        part, errors = rest[:, begin:end].copy(), np.zeros((len(weights), end - begin))
        own = factor[begin:end, begin:end]
        for k in range(end - begin):
            nearest = _TABLE[np.searchsorted(_EDGES, part[:, k] / unit)]
            levels[:, order[begin + k]] = nearest
            errors[:, k] = (part[:, k] - nearest * unit) / own[k, k]
            part[:, k + 1 :] -= errors[:, k, None] * own[k, k + 1 :]
        rest[:, end:] -= errors @ factor[begin:end, end:]
    return levels
