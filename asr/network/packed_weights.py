"""Weights for x86 CPUs with AMX, AVX-512 VNNI or AVX2: 8-bit rows times 8-bit weights, sums exact.

The weights are packed once, and a weight that was read serves several rows: all of them are more than most caches
hold.

VNNI's one instruction, vpdpbusd, adds to each of 16 sums four products of a byte without sign by a byte with one. So
activations have 128 added on the way, and sums begin at what takes that away again. They may wrap around meanwhile: the
result is exact. AVX2 multiplies such bytes too, but adds two of their products in 16 bits, which must hold them: there
activations go without their signs, which the weights get. AMX multiplies blocks of rows, signs and all. They all read
the same weights.

For a single stream, reading the weights is most of the work. Where a network was trained to do with sixteen different
weights in a matrix (they are bytes, and a row's scale says what one is), half a byte says which: the same sums from
half as much memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from asr.library import has_tiles, machine, processor_flags
from asr.network.quantized_weights import QuantizedWeights, constant

Array = np.ndarray[Any, Any]
PANEL = 64  # outputs that are summed at once: enough registers to hide an instruction's latency
STRIP = 16  # outputs whose weights follow one another: a line of the cache for each step, and lines in their order
DEPTH = 4  # inputs that are added up at once
BLOCK = 16  # rows, at most, that AMX takes at once
BLOCK_DEPTH = 64  # inputs of these that it adds up at once
HALF_BITS = 4  # of half a byte
LEVELS = 1 << HALF_BITS  # different weights that half a byte can tell apart
_LLVM_NAMES = {"avx512_vnni": "avx512vnni"}  # of what Linux calls otherwise


class Panels(NamedTuple):
    """Weights ``(outputs, inputs)`` int8 as the instructions read them."""

    weight: Array  # int8 (panels, PANEL / STRIP, inputs / DEPTH, STRIP, DEPTH): outputs beyond are zero
    begin: Array  # int32 (panels, PANEL): what VNNI's sums begin at
    # int8: none, or `LEVELS`: the weights that there are, sorted, and then the first ones again. Then each byte of
    # ``weight`` has two of their places here, a step's in the lower half and the next one's in the upper: half as many
    # steps.
    levels: Array


class PackedWeights(NamedTuple):
    """All that the kernel reads; constants only."""

    rest: QuantizedWeights  # scales, biases and norms: its matrices are empty
    conv1: Panels
    conv2: Panels
    blocks: Panels  # those of several layers have one dimension more
    stack: Panels  # as of layers: one or none
    inputs: Panels
    memory: Panels
    output: Panels


@cache
def available() -> bool:
    """Whether this CPU has the instructions."""
    return has("avx2")


@cache
def has(flag: str) -> bool:
    """Whether this CPU has a set of instructions of x86's, by Linux's name of it."""
    if machine() == "aarch64":  # where an emulator may show the flags of its host
        return False
    if flags := processor_flags():
        return flag in flags
    from llvmlite import binding  # Linux says so at less cost

    try:
        return bool(binding.get_host_cpu_features().get(_LLVM_NAMES.get(flag, flag), False))
    except RuntimeError:  # not known of this kind of CPU
        return False


def fits(weights: QuantizedWeights) -> bool:
    """Whether all products have as many inputs as the instructions want."""
    parts = (
        weights.conv1,
        weights.conv2,
        weights.blocks,
        weights.stack,
        weights.inputs,
        weights.memory,
        weights.output,
    )
    return all(part.weight.shape[-1] % DEPTH == 0 for part in parts)


def pack(weights: QuantizedWeights) -> PackedWeights:
    """Lay a network's weights out for the instructions."""
    parts = ("conv1", "conv2", "blocks", "stack", "inputs", "memory", "output")
    packed = {name: constant(_pack_small(getattr(weights, name).weight)) for name in parts}
    rest = {}
    for name in parts:
        part = getattr(weights, name)
        rest[name] = part._replace(weight=constant(np.zeros((0,) * part.weight.ndim, np.int8)))
    return PackedWeights(weights._replace(**rest), **packed)


def padded(outputs: int) -> int:
    """How many sums a row of so many outputs has: whole panels."""
    return -(-outputs // PANEL) * PANEL


def pack_matrix(weight: Array) -> Panels:
    """``(…, outputs, inputs)`` int8 as panels. Inputs are a multiple of `DEPTH`."""
    has_tiles()  # asks for them: what multiplies these weights may have been compiled earlier, to use them
    *layers, outputs, inputs = weight.shape
    wide = np.zeros((*layers, padded(outputs), inputs), np.int8)
    wide[..., :outputs, :] = weight
    count = padded(outputs) // PANEL
    panels = wide.reshape(*layers, count, PANEL // STRIP, STRIP, inputs // DEPTH, DEPTH).swapaxes(-3, -2)
    begin = (-128 * wide.sum(axis=-1, dtype=np.int32)).reshape(*layers, count, PANEL)
    return Panels(np.ascontiguousarray(panels), begin, np.zeros(0, np.int8))


def _pack_small(weight: Array) -> Panels:
    """As `pack_matrix`, and in halves of bytes if they can tell the weights apart."""
    panels = pack_matrix(weight)
    return halve(panels) or panels


def halve(panels: Panels) -> Panels | None:
    """The same weights in halves of bytes; None if there are more than `LEVELS`, or an odd number of steps."""
    *_, steps, strip, depth = panels.weight.shape
    lines = panels.weight.reshape(-1, steps, strip, depth).view(
        np.uint8
    )  # of strips: a part at a time, in little memory
    seen = np.zeros(256, bool)
    for line in lines:
        seen[line] = True
        if seen.sum() > LEVELS:
            return None
    if not seen.any() or steps % 2:
        return None
    found = np.sort(np.flatnonzero(seen).astype(np.uint8).view(np.int8))
    places = np.zeros(256, np.uint8)
    places[found.view(np.uint8)] = np.arange(len(found))
    halves = np.empty((len(lines), steps // 2, strip, depth), np.uint8)
    for line, half in zip(lines, halves, strict=True):
        half[:] = places[line[::2]] | (places[line[1::2]] << HALF_BITS)
    shape = (*panels.weight.shape[:-3], steps // 2, strip, depth)
    return Panels(halves.view(np.int8).reshape(shape), panels.begin, np.resize(found, LEVELS))
