"""The whole 8-bit network on x86: the rows of all streams at once through the products of `packed_weights`.

The function of `quantized_kernel`, to the same bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.compiler import Deferred, entry, jit
from asr.large_pages import LINE_BYTES
from asr.network.packed_weights import BLOCK, BLOCK_DEPTH, PANEL, PackedWeights, padded
from asr.network.quantized_kernel import view
from asr.network.rows_kernel import (
    add_block,
    add_stack,
    block_rows,
    finish,
    finish_outputs,
    first_rows,
    hidden_rows,
    normed_rows,
    rectified_rows,
    stack_rows,
    turn_cells,
)
from asr.network.shape import FRAME_REDUCTION
from asr.network.state import StreamState
from asr.network.weights import Array

# Nothing here allocates, so the runtime that would count references to the arrays is left out.
_jit = jit(_nrt=False)
_ROWS = 4  # that share a weight once it is read: a stream's steps in one block of audio
_FEWEST = 5  # rows that are a block for AMX: fewer are left to VNNI
_has_blocks: Any = Deferred("asr.network.packed_block", "make_has_blocks")
_begin_blocks: Any = Deferred("asr.network.packed_block", "make_begin_blocks")
_end_blocks: Any = Deferred("asr.network.packed_block", "make_end_blocks")
_block: Any = Deferred("asr.network.packed_block", "make_block")
_tile_of_one: Any = Deferred("asr.network.packed_tile", "make_tile", 1)
_tile_of_four: Any = Deferred("asr.network.packed_tile", "make_tile", _ROWS)
_half_tile_of_one: Any = Deferred("asr.network.packed_tile", "make_tile", 1, True)
_half_tile_of_four: Any = Deferred("asr.network.packed_tile", "make_tile", _ROWS, True)
_unpack: Any = Deferred("asr.network.packed_tile", "make_unpack")


class PackedStep(NamedTuple):
    """What a step of the network reads and writes: `StreamState`'s arrays, changed in place, and working memory."""

    frames: Array  # (B, T, mels)
    mean: Array
    heard: Array  # its count
    past: Array  # the state's frames
    steps_past: Array  # the state's steps
    h: Array
    c: Array
    logits: Array  # (B, T / 3, outputs), written
    floats: Array  # float32 (n,)
    values: Array  # int8 (n,): rows
    scales: Array  # float32 (n,): of rows
    sums: Array  # int32 (n,)
    unpacked: Array  # int8 (n,): weights that are in halves of bytes, a panel of them or a layer's memory


def make_step(
    frames: Array, state: StreamState, logits: Array, conv_width: int, gates: int, stacked: int
) -> PackedStep:
    """A step of the network, with as much working memory as it needs."""
    (batch, length, mels), width = frames.shape, state.h.shape[2]
    steps, outputs = length // FRAME_REDUCTION, logits.shape[2]
    before, history = state.frames.shape[1], state.steps.shape[2]
    all_steps, taps = batch * steps, history + 1
    floats = all_steps * width + max(
        (before + length) * mels + batch * length * conv_width,
        (batch + 1) * (history + steps) * width + width,
        stacked * width + width + 2 * gates,
    )
    values = max(batch * length * FRAME_REDUCTION * max(mels, conv_width), all_steps * taps * width)
    sums = max(
        batch * length * padded(conv_width),
        all_steps * padded(width),
        all_steps // stacked * padded(stacked * outputs),
        (all_steps + batch) * padded(gates),
    )
    panel = PANEL * max(taps * width, FRAME_REDUCTION * max(mels, conv_width), stacked * width)
    return PackedStep(
        np.ascontiguousarray(frames),
        *state.arrays(),
        logits,
        _room(floats, np.float32),
        _room(max(values, (all_steps + batch) * width), np.int8),
        _room(batch * length + batch, np.float32),
        _room(sums, np.int32),
        _room(max(panel, gates * width if batch > _ROWS else 0), np.int8),
    )


def _room(count: int, kind: type[np.generic]) -> Array:
    """Working memory that begins where a line of the cache does: what AMX reads would else lie across two."""
    size = count * np.dtype(kind).itemsize
    room = np.empty(size + LINE_BYTES, np.uint8)
    start = -room.__array_interface__["data"][0] % LINE_BYTES
    return room[start : start + size].view(kind)


@_jit
def products(panels: Array, begin: Array, x: Array, out: Array) -> None:
    """Exact sums ``(n, outputs)`` of rows ``(n, inputs)`` int8; outputs in whole panels."""
    size = _begin(x)
    for panel in range(panels.shape[0]):
        _of_panel(panels, panel, begin, panel, x, size, out)
    if size:
        _end_blocks(size)


@_jit
def products_of_halves(panels: Array, levels: Array, begin: Array, x: Array, room: Array, out: Array) -> None:
    """The same of weights in halves of bytes, with room for a panel of them."""
    rows = x.shape[0]
    if rows <= _ROWS:
        for panel in range(panels.shape[0]):
            if rows == _ROWS:
                _half_tile_of_four(panels, panel, levels, begin, panel, x, 0, out)
            else:
                for row in range(rows):
                    _half_tile_of_one(panels, panel, levels, begin, panel, x, row, out)
        return
    whole = view(room, 0, (1, panels.shape[1], 2 * panels.shape[2], panels.shape[3], panels.shape[4]))
    size = _begin(x)
    for panel in range(panels.shape[0]):
        _unpack(panels, panel, levels, whole, 0)
        _of_panel(whole, 0, begin, panel, x, size, out)
    if size:
        _end_blocks(size)


@_jit
def _begin(x: Array) -> int:
    """How many rows AMX takes at once, once its tiles are set to that; 0 without it."""
    rows = x.shape[0]
    if not _has_blocks(rows) or rows < _FEWEST or x.shape[1] % BLOCK_DEPTH:
        return 0
    blocks = (rows + BLOCK - 1) // BLOCK
    size = (rows + blocks - 1) // blocks
    _begin_blocks(size)
    return size


@_jit
def _of_panel(panels: Array, place: int, begin: Array, panel: int, x: Array, size: int, out: Array) -> None:
    """The sums of one panel, which may lie at another place among the weights than among the outputs."""
    rows, row = x.shape[0], 0
    if size:
        # Blocks of one size: the last one begins where it ends with the rows, and works some of them out once more.
        while row < rows:
            _block(panels, place, panel, x, min(row, rows - size), out)
            row += size
        return
    while row + _ROWS <= rows:
        _tile_of_four(panels, place, begin, begin, panel, x, row, out)
        row += _ROWS
    while row < rows:
        _tile_of_one(panels, place, begin, begin, panel, x, row, out)
        row += 1


@_jit
def _multiply(panels: Array, begin: Array, levels: Array, x: Array, room: Array, out: Array) -> None:
    if levels.shape[0]:
        products_of_halves(panels, levels, begin, x, room, out)
    else:
        products(panels, begin, x, out)


@entry
def advance(w: PackedWeights, s: PackedStep) -> None:
    """The whole network for a batch, its state updated in place. As many outputs are worked out as there are logits."""
    batch, length, mels = s.frames.shape
    steps, layers, width = length // 3, s.h.shape[1], s.h.shape[2]
    outputs, history = s.logits.shape[2], s.steps_past.shape[2]
    rest = w.rest
    channels, gates = len(rest.conv1.bias), rest.inputs.bias.shape[1]
    count = batch * length  # rows of the first convolution
    z = view(s.floats, 0, (batch, steps, width))
    floats = s.floats[batch * steps * width :]
    scale = s.scales[:count]

    frames = (s.past.shape[1] + length) * mels
    x = view(floats, 0, (s.past.shape[1] + length, mels))
    y = view(floats, frames, (count, channels))
    values = view(s.values, 0, (count, 3 * mels))
    sums = view(s.sums, 0, (count, w.conv1.begin.size))
    first_rows(s.frames, s.mean, s.heard, s.past, rest.scale, x, values, scale)
    _multiply(w.conv1.weight, w.conv1.begin, w.conv1.levels, values, s.unpacked, sums)
    finish(sums, rest.conv1.scale, rest.conv1.bias, scale, y)

    count = batch * steps
    scale = s.scales[:count]
    values = view(s.values, 0, (count, 3 * channels))
    sums = view(s.sums, 0, (count, w.conv2.begin.size))
    rectified_rows(view(y, 0, (count, 3 * channels)), values, scale)
    _multiply(w.conv2.weight, w.conv2.begin, w.conv2.levels, values, s.unpacked, sums)
    finish(sums, rest.conv2.scale, rest.conv2.bias, scale, view(z, 0, (count, width)))

    inputs = batch * (history + steps) * width
    before = view(floats, 0, (batch, history + steps, width))
    normed = view(floats, inputs, (history + steps, width))
    out = floats[inputs + (history + steps) * width :]
    values = view(s.values, 0, (count, (history + 1) * width))
    for k in range(s.steps_past.shape[1]):
        b = rest.blocks
        block_rows(k, b.norm_weight[k], b.norm_bias[k], s.steps_past, z, before, normed, values, scale)
        _multiply(w.blocks.weight[k], w.blocks.begin[k], w.blocks.levels, values, s.unpacked, sums)
        add_block(before, sums, b.scale[k], b.bias[k], scale, rest.delays[k], out[:width], z)

    x = z
    if w.rest.stacked > 1:
        count //= rest.stacked
        size = rest.stacked * width
        scale = s.scales[:count]
        stacked = view(s.floats, 0, (count, size))
        x = view(s.floats, 0, (batch, steps // rest.stacked, width))
        values = view(s.values, 0, (count, size))
        sums = view(s.sums, 0, (count, w.stack.begin.shape[1] * w.stack.begin.shape[2]))
        stack_rows(stacked, rest.stack.norm_weight[0], rest.stack.norm_bias[0], floats[:size], values, scale)
        _multiply(w.stack.weight[0], w.stack.begin[0], w.stack.levels, values, s.unpacked, sums)
        add_stack(
            stacked, sums, rest.stack.scale[0], rest.stack.bias[0], scale, floats[:width], view(x, 0, (count, width))
        )

    values = view(s.values, 0, (count, width))
    turn_values = view(s.values, count * width, (batch, width))
    turn_scale = s.scales[count : count + batch]
    whole = w.inputs.begin.shape[1] * w.inputs.begin.shape[2]
    gx = view(s.sums, 0, (count, whole))
    gh = view(s.sums, count * whole, (batch, whole))
    row = floats[:width]
    both = view(floats, width, (2, gates))
    once = w.memory.levels.shape[0] > 0 and batch > _ROWS  # for all turns
    for layer in range(layers):
        i, m = rest.inputs, rest.memory
        normed_rows(x, i.norm_weight[layer], i.norm_bias[layer], row, values, scale)
        _multiply(w.inputs.weight[layer], w.inputs.begin[layer], w.inputs.levels, values, s.unpacked, gx)
        memory, begin = w.memory.weight[layer], w.memory.begin[layer]
        shape = (memory.shape[0] if once else 0, memory.shape[1], 2 * memory.shape[2], memory.shape[3], memory.shape[4])
        unpacked = view(s.unpacked, 0, shape)
        if once:
            for panel in range(memory.shape[0]):
                _unpack(memory, panel, w.memory.levels, unpacked, panel)
        for t in range(x.shape[1]):
            hidden_rows(s.h, layer, turn_values, turn_scale)
            if once:
                products(unpacked, begin, turn_values, gh)
            else:
                _multiply(memory, begin, w.memory.levels, turn_values, s.unpacked, gh)
            turn_cells(
                rest.cell_code, layer,
                gx, i.scale[layer], i.bias[layer], scale,
                gh, m.scale[layer], m.bias[layer], turn_scale,
                s.h, s.c, both, x, t,
            )  # fmt: skip

    normed_rows(x, rest.norm.weight, rest.norm.bias, row, values, scale)
    panels = (rest.stacked * outputs + w.output.begin.shape[1] - 1) // w.output.begin.shape[1]
    sums = view(s.sums, 0, (count, panels * w.output.begin.shape[1]))
    _multiply(w.output.weight[:panels], w.output.begin[:panels], w.output.levels, values, s.unpacked, sums)
    rows = view(s.logits, 0, (count, rest.stacked, outputs))
    finish_outputs(sums, rest.output.scale, rest.output.bias, scale, rest.tokens, rows)
