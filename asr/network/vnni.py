"""Weights for CPUs with AVX-512 VNNI: 8-bit rows times 8-bit weights, sums exact.

The weights are packed once, and a weight that was read serves several rows.

The one instruction, vpdpbusd, adds to each of 16 sums four products of a byte without sign by a byte with one. So
activations have 128 added on the way, and sums begin at what takes that away again. They may wrap around meanwhile: the
result is exact.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from asr.library import machine, processor_flags
from asr.network.quantized_weights import QuantizedWeights, constant

Array = np.ndarray[Any, Any]
LANES = 16  # sums in a register of 512 bits
PANEL = 4 * LANES  # outputs that are summed at once: enough registers to hide the instruction's latency
DEPTH = 4  # inputs that one instruction adds up


class Panels(NamedTuple):
    """Weights ``(outputs, inputs)`` int8 as the instruction reads them."""

    weight: Array  # int8 (panels, inputs / DEPTH, PANEL, DEPTH): outputs beyond are zero
    begin: Array  # int32 (panels, PANEL): what the sums begin at


class PackedWeights(NamedTuple):
    """All that the kernel reads; constants only."""

    rest: QuantizedWeights  # scales, biases and norms: its matrices are empty
    conv1: Panels
    conv2: Panels
    blocks: Panels  # those of several layers have one dimension more
    inputs: Panels
    memory: Panels
    output: Panels


@cache
def available() -> bool:
    """Whether this CPU has the instruction."""
    if machine() == "aarch64":  # where an emulator may show the flags of its host
        return False
    if flags := processor_flags():
        return "avx512_vnni" in flags
    from llvmlite import binding  # Linux says so at less cost

    try:
        return bool(binding.get_host_cpu_features().get("avx512vnni", False))
    except RuntimeError:  # not known of this kind of CPU
        return False


def fits(weights: QuantizedWeights) -> bool:
    """Whether all products have as many inputs as the instruction wants."""
    parts = (weights.conv1, weights.conv2, weights.blocks, weights.inputs, weights.memory, weights.output)
    return all(part.weight.shape[-1] % DEPTH == 0 for part in parts)


def pack(weights: QuantizedWeights) -> PackedWeights:
    """Lay a network's weights out for the instruction."""
    parts = ("conv1", "conv2", "blocks", "inputs", "memory", "output")
    packed = {name: constant(pack_matrix(getattr(weights, name).weight)) for name in parts}
    rest = {}
    for name in parts:
        part = getattr(weights, name)
        rest[name] = part._replace(weight=constant(np.zeros((0,) * part.weight.ndim, np.int8)))
    return PackedWeights(weights._replace(**rest), **packed)


def pack_matrix(weight: Array) -> Panels:
    """``(…, outputs, inputs)`` int8 as panels. Inputs are a multiple of `DEPTH`."""
    *layers, outputs, inputs = weight.shape
    padded = np.zeros((*layers, -(-outputs // PANEL) * PANEL, inputs), np.int8)
    padded[..., :outputs, :] = weight
    panels = padded.reshape(*layers, -1, PANEL, inputs // DEPTH, DEPTH).swapaxes(-3, -2)
    begin = (-128 * padded.sum(axis=-1, dtype=np.int32)).reshape(*layers, -1, PANEL)
    return Panels(np.ascontiguousarray(panels), begin)
