"""A training step's costly parts for CPUs with AMX or AVX-512 BF16: `[training] kernels = "native"`.

The same function as `AcousticModel.run` and the same CTC, in bfloat16 with sums in float32. PyTorch has good matrix
products for such CPUs but spends much of a step around them: its LSTM repacks the weights at every step, a convolution
over time copies its input once for each tap, and CTC takes one logarithm after another. Here an LSTM's gates follow on
its products while these are in the nearest cache (with AMX they run at the same time), and a convolution reads its
input in place.

The C files in ``kernels/`` are compiled at first use with the system's C compiler, and kept in the user's cache folder:
the products in ``amx.c`` or ``avx512.c``, as the CPU has it, and what is the same for both in the others.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.network.model import AcousticModel
from asr.network.shape import BLOCK_TAPS, FRAME_REDUCTION
from asr.train.compile_c import LOOSE, compiled

_FOLDER = Path(__file__).with_name("kernels")
# The CPUs' units for products of bfloat16, best first: what the compiler is to build for, and what the CPU must have.
_UNITS = {
    "amx": ("sapphirerapids", {"amx_bf16", "avx512_bf16"}),
    "avx512": ("cooperlake", {"avx512_bf16", "avx512bw", "avx512dq", "avx512vl"}),
}
_ROOM = 31  # rows behind a buffer that tiles may read
_MULTIPLE = 32  # of which the network's width must be one

_bf16 = torch.bfloat16


def check(model: AcousticModel) -> None:
    """Raise `ConfigError` if these kernels cannot run this network here."""
    options = model.options
    if options.cell != "lstm" or options.width % _MULTIPLE:
        raise ConfigError(f'[training] kernels = "native" needs cell = "lstm" and a width that {_MULTIPLE} divides')
    if model.output.weight.device.type != "cpu":
        raise ConfigError('[training] kernels = "native" is for the CPU: with a GPU leave it at "torch"')
    _library(_unit())


def run(model: AcousticModel, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What `AcousticModel.run` gives in training for whole utterances, from the initial state.

    Args:
        frames: ``(B, T, mels)`` float32, T a multiple of `ModelOptions.frames`.

    Returns:
        Logits ``(B, T // 3, outputs)``, and what the blocks give, ``(T // 3, B, width)``, and each layer; bfloat16.
    """
    options = model.options
    batch, length, _ = frames.shape
    start = model.initial_state(batch)
    with torch.no_grad():
        normal = model.normalise(frames, start.mean, start.count)[0].to(_bf16)
    x = F.pad(normal, (0, 0, start.frames.shape[1], 0))
    taps = model.conv1.kernel_size[0]
    x = torch.cat([x[:, k : k + length] for k in range(taps)], dim=-1)
    y = torch.relu(_linear(x, model.conv1.weight.transpose(1, 2).flatten(1), model.conv1.bias))
    # The second convolution's taps are its stride: it is a linear map of so many frames laid end to end.
    y = y.reshape(batch, length // FRAME_REDUCTION, -1)
    z = _linear(y, model.conv2.weight.transpose(1, 2).flatten(1), model.conv2.bias).transpose(0, 1).contiguous()
    for norm, block, delay in zip(model.block_norms, model.blocks, options.block_delays, strict=True):
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(block, nn.Linear)
        mask = _mask(model, batch)
        z = _Block.apply(z, norm.weight, norm.bias, block.weight, block.bias, mask, delay)  # type: ignore[no-untyped-call]
    inner = [z]
    z = model.stack_steps(z)
    for norm, cell in zip(model.norms, model.cells, strict=True):
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(cell, nn.LSTM)
        z = _Layer.apply(z, norm.weight, norm.bias, *_weights(cell), _mask(model, batch))  # type: ignore[no-untyped-call]
        inner.append(z)
    last: Tensor = _Norm.apply(z, model.norm.weight, model.norm.bias)  # type: ignore[no-untyped-call]
    return model.unstack_rows(_linear(last, model.output.weight, model.output.bias)), inner


def lstm_layers(z: Tensor, norms: Iterable[nn.Module], cells: Iterable[nn.Module], last_norm: nn.LayerNorm) -> Tensor:
    """``z + cell(norm(z))`` of ``(S, B, width)`` bfloat16, layer after layer, each from zeros; normalised."""
    ones = torch.ones(z.shape[1], z.shape[2])
    for norm, cell in zip(norms, cells, strict=True):
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(cell, nn.LSTM)
        z = _Layer.apply(z, norm.weight, norm.bias, *_weights(cell), ones)  # type: ignore[no-untyped-call]
    last: Tensor = _Norm.apply(z, last_norm.weight, last_norm.bias)  # type: ignore[no-untyped-call]
    return last


def ctc(logits: Tensor, steps: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """The sum of the lines' CTC losses, as `torch.nn.functional.ctc_loss` has it with ``zero_infinity``.

    Args:
        logits: ``(B, T, tokens)``.
        steps: ``(B,)`` int64, how many of them count.
        targets: the lines' token ids, end to end, int64.
        target_lengths: ``(B,)`` int64.
    """
    loss: Tensor = _Ctc.apply(logits, steps, targets, target_lengths)  # type: ignore[no-untyped-call]
    return loss


def _weights(cell: nn.LSTM) -> list[Tensor]:
    return [getattr(cell, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight.to(_bf16), None if bias is None else bias.to(_bf16))


def _mask(model: AcousticModel, lines: int) -> Tensor:
    """Dropout's factors ``(B, width)``, the same at all steps of a sequence."""
    rate, shape = model.options.dropout, (lines, model.options.width)
    if not model.training or rate == 0:
        return torch.ones(shape)
    return (torch.rand(shape) >= rate).float() / (1 - rate)


class _Block(torch.autograd.Function):
    """``x[t - late] + mask * relu(conv(norm(x)))`` of ``(S, B, width)``, zeros before the first step."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        z, norm_weight, norm_bias, weight, bias, mask, delay = args
        steps, lines, width = z.shape
        rows, before = steps * lines, (BLOCK_TAPS - 1) * lines
        padded = torch.cat([z.new_zeros(before, width), z.reshape(rows, width)])
        normed, mean, scale = _norm(padded, norm_weight, norm_bias)
        packed = _packed("pack_forward", weight.to(_bf16), width, BLOCK_TAPS * width)
        active = torch.empty(rows, width, dtype=_bf16)
        _call("convolve", normed, rows, lines, BLOCK_TAPS, width, packed, width, bias, 1, active)
        skipped = before - delay * lines  # the residual's first row
        out = torch.empty(steps, lines, width, dtype=_bf16)
        _call("add_masked", padded[skipped:], active, mask, rows, lines, width, out)
        ctx.save_for_backward(padded, norm_weight, weight, mask, normed, mean, scale, active)
        ctx.shape, ctx.skipped = z.shape, skipped
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        padded, norm_weight, weight, mask, normed, mean, scale, active = ctx.saved_tensors
        steps, lines, width = ctx.shape
        rows, before = steps * lines, (BLOCK_TAPS - 1) * lines
        d_out = gradients[0].contiguous()
        room = _rows(rows + 2 * before, width)  # zeros before and after: every input gets all its taps
        room[:before] = 0
        room[rows + before :] = 0
        d_active = room[before:]
        _call("mask_gradient", d_out, active, mask, rows, lines, width, d_active)
        backward = weight.view(width, BLOCK_TAPS, width).flip(1).transpose(0, 1).to(_bf16).contiguous()
        packed = _packed("pack_backward", backward, width, BLOCK_TAPS * width)
        d_normed = torch.empty(rows + before, width, dtype=_bf16)
        _call("convolve", room, rows + before, lines, BLOCK_TAPS, width, packed, width, None, 0, d_normed)
        turned, d_bias = _transposed(d_active, rows, width)
        firsts = [k * lines for k in range(BLOCK_TAPS)]
        d_weight = _weight_gradient(turned, normed[: rows + before], width, firsts)
        d_padded, d_norm_weight, d_norm_bias = _norm_backward(d_normed, padded, norm_weight, mean, scale)
        d_z = d_padded[before:]
        late = before - ctx.skipped
        d_z[: rows - late] += d_out.view(rows, width)[late:]
        return d_z.view(steps, lines, width), d_norm_weight, d_norm_bias, d_weight, d_bias, None, None


class _Layer(torch.autograd.Function):
    """``x + mask * lstm(norm(x))`` of ``(S, B, width)``, from a state of zeros."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        z, norm_weight, norm_bias, weight_ih, weight_hh, bias_ih, bias_hh, mask = args
        z = z.contiguous()
        steps, lines, width = z.shape
        rows = steps * lines
        normed, mean, scale = _norm(z.view(rows, width), norm_weight, norm_bias)
        inputs = _product(normed, rows, weight_ih, bias_ih + bias_hh)
        packed = _packed("pack_forward", weight_hh.to(_bf16), 4 * width, width)
        h, c = _rows(rows + lines, width), torch.empty(rows + lines, width)
        h[:lines] = 0
        c[:lines] = 0
        gates = torch.empty(rows, 4 * width, dtype=_bf16)
        _call("lstm_forward", steps, lines, width, inputs, packed, h, c, gates)
        out = torch.empty(steps, lines, width, dtype=_bf16)
        _call("add_masked", z, h[lines:], mask, rows, lines, width, out)
        ctx.save_for_backward(z, norm_weight, weight_ih, weight_hh, mask, normed, mean, scale, h, c, gates)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        z, norm_weight, weight_ih, weight_hh, mask, normed, mean, scale, h, c, gates = ctx.saved_tensors
        steps, lines, width = z.shape
        rows = steps * lines
        d_out = gradients[0].contiguous()
        d_h = torch.empty(rows, width, dtype=_bf16)
        _call("mask_gradient", d_out, None, mask, rows, lines, width, d_h)
        packed = _packed("pack_backward", weight_hh.to(_bf16), width, 4 * width)
        d_inputs = _rows(rows, 4 * width)
        _call("lstm_backward", steps, lines, width, d_h, packed, c, gates, d_inputs)
        turned, d_bias = _transposed(d_inputs, rows, 4 * width)
        d_ih, d_hh = (_weight_gradient(turned, x, width, [0]) for x in (normed[:rows], h[:rows]))
        d_normed = _product(d_inputs, rows, weight_ih, None, back=True)
        d_z, d_norm_weight, d_norm_bias = _norm_backward(d_normed, z.view(rows, width), norm_weight, mean, scale, d_out)
        return d_z.view_as(z), d_norm_weight, d_norm_bias, d_ih, d_hh, d_bias, d_bias, None


class _Norm(torch.autograd.Function):
    """Layer normalisation of the last dimension."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        x, weight, bias = args
        flat = x.reshape(-1, x.shape[-1]).contiguous()
        y, mean, scale = _norm(flat, weight, bias)
        ctx.save_for_backward(flat, weight, mean, scale)
        return y[: len(flat)].view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        flat, weight, mean, scale = ctx.saved_tensors
        d_x, d_weight, d_bias = _norm_backward(gradients[0].reshape(flat.shape).contiguous(), flat, weight, mean, scale)
        return d_x.view(gradients[0].shape), d_weight, d_bias


class _Ctc(torch.autograd.Function):
    """See `ctc`. The gradient is made on the way there: it comes out of the same sums."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        logits, steps, targets, lengths = args
        p = torch.softmax(logits.float(), dim=-1).contiguous()
        gradient = torch.empty_like(p)
        total = _call("ctc", p, *p.shape, steps.contiguous(), targets.contiguous(), lengths.contiguous(), gradient)
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return torch.tensor(total)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).to(ctx.dtype), None, None, None


def _rows(count: int, width: int) -> Tensor:
    """Room for rows that tiles will read."""
    return torch.empty(count + _ROOM, width, dtype=_bf16)


def _norm(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows, width = x.shape
    y, mean, scale = _rows(rows, width), torch.empty(rows), torch.empty(rows)
    _call("norm_forward", x, rows, width, weight, bias, y, mean, scale)
    return y, mean, scale


def _norm_backward(
    d_y: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, also: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    rows, width = x.shape
    d_x, d_weight, d_bias = torch.empty_like(x), torch.empty(width), torch.empty(width)
    _call("norm_backward", d_y, x, rows, width, weight, mean, scale, also, d_x, d_weight, d_bias)
    return d_x, d_weight, d_bias


def _packed(how: str, weight: Tensor, outputs: int, inputs: int) -> Tensor:
    packed = torch.empty(outputs * inputs, dtype=_bf16)
    _call(how, weight.contiguous(), packed, outputs, inputs)
    return packed


def _transposed(x: Tensor, rows: int, width: int) -> tuple[Tensor, Tensor]:
    """``(width, rows)`` of the first rows of ``x``, and their sum."""
    stride = -(-rows // 32) * 32 + 32  # not a round number: neighbouring rows must not compete for the same cache lines
    out, sums = torch.empty(width, stride, dtype=_bf16), torch.empty(width)
    _call("transpose", x, rows, width, out, stride, sums)
    return out[:, :rows], sums


def _product(x: Tensor, rows: int, weight: Tensor, bias: Tensor | None, back: bool = False) -> Tensor:
    """``x W^T + bias`` of the first rows of ``x``, or ``x W`` on the way back."""
    narrow = weight.to(_bf16)
    if _unit() == "amx":  # there PyTorch's are as good
        if back:
            return x[:rows] @ narrow
        return F.linear(x[:rows], narrow, None if bias is None else bias.to(_bf16))
    outputs, inputs = narrow.shape[::-1] if back else narrow.shape
    packed = _packed("pack_backward" if back else "pack_forward", narrow, outputs, inputs)
    out = torch.empty(rows, outputs, dtype=_bf16)
    _call("convolve", x, rows, 0, 1, inputs, packed, outputs, bias, 0, out)
    return out


def _weight_gradient(turned: Tensor, x: Tensor, width: int, firsts: list[int]) -> Tensor:
    """``turned (outputs, rows)`` times as many rows of ``x`` from each of the first ones on, side by side; float32."""
    outputs, rows = turned.shape
    if _unit() == "amx":
        return torch.cat([turned @ x[first : first + rows] for first in firsts], dim=1).float()
    out = torch.empty(outputs, len(firsts) * width)
    packs = {}
    for k, first in enumerate(firsts):
        shift = first % 2  # rows are packed in pairs
        if shift not in packs:
            panel = -(-len(x) // 2) * 32 + 32
            packs[shift] = torch.empty(width // 16 * panel, dtype=_bf16)
            _call("pack_rows", x[shift:], len(x) - shift, width, packs[shift], panel)
        place, pairs = packs[shift][(first - shift) * 16 :], -(-rows // 2)
        to, to_next = out[:, k * width :], out.shape[1]
        _call("weight_gradient", turned, turned.stride(0), outputs, place, panel, pairs, width, to, to_next)
    return out


def _call(name: str, *args: Any) -> Any:
    """Call a kernel: tensors go as pointers, None as null. Tensors must be contiguous from their first element on."""
    return getattr(_library(_unit()), name)(*(a.data_ptr() if isinstance(a, Tensor) else a for a in args))


@functools.cache
def _units_here() -> list[str]:
    """Which of the CPU's units could multiply, best first."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    return [unit for unit, (_, needed) in _UNITS.items() if needed <= flags]


def _unit() -> str:
    if not _units_here():
        raise ConfigError(
            "this computer's CPU has neither AMX nor AVX-512 BF16 (amx_bf16 or avx512_bf16 in /proc/cpuinfo): "
            'leave [training] kernels at "torch"'
        )
    return _units_here()[0]


@functools.cache
def _library(unit: str) -> ctypes.CDLL:
    others = [_FOLDER / name for name in ("rows.c", "ctc.c", "vectors.h")]
    flags = ["-O3", f"-march={_UNITS[unit][0]}", *LOOSE]
    library = compiled(_FOLDER / f"{unit}.c", flags, '[training] kernels = "native"', others)
    if not library.unit_permitted():
        raise ConfigError('the system does not allow AMX: leave [training] kernels at "torch"')
    pointer, number, long, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_double
    signatures: dict[str, list[Any]] = {
        "pack_forward": [pointer, pointer, number, number],
        "pack_backward": [pointer, pointer, number, number],
        "convolve": [pointer, long, number, number, number, pointer, number, pointer, number, pointer],
        "lstm_forward": [number, number, number, *[pointer] * 5],
        "lstm_backward": [number, number, number, *[pointer] * 5],
        "pack_rows": [pointer, long, number, pointer, long],
        "norm_forward": [pointer, long, number, *[pointer] * 5],
        "norm_backward": [pointer, pointer, long, number, *[pointer] * 7],
        "add_masked": [pointer, pointer, pointer, long, number, number, pointer],
        "mask_gradient": [pointer, pointer, pointer, long, number, number, pointer],
        "transpose": [pointer, long, number, pointer, long, pointer],
        "ctc": [pointer, number, number, number, *[pointer] * 4],
    }
    if unit == "avx512":
        signatures["weight_gradient"] = [pointer, long, number, pointer, long, number, number, pointer, long]
    for kernel, arguments in signatures.items():
        getattr(library, kernel).argtypes = arguments
    library.ctc.restype = real
    return library
