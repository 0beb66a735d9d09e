"""Integer matrix products for CPUs with AVX-512 VNNI: 8-bit rows times 8-bit weights, sums exact.

Where a CPU has AMX, torch's product is the fastest there is. Without, it packs the weights anew at every call, which
for a few rows takes much longer than the product. Here they are packed once, and a weight that was read serves
several rows.

The one instruction, vpdpbusd, adds to each of 16 sums four products of a byte without sign by a byte with one. So
activations have 128 added on the way, and sums begin at what takes that away again. They may wrap around meanwhile: the
result is exact.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from asr.compiler import jit

Array = np.ndarray[Any, Any]
_LANES = 16  # sums in a register of 512 bits
_PANEL = 4 * _LANES  # outputs that are summed at once: enough registers to hide the instruction's latency
_ROWS = 4  # that share a weight once it is read: a stream's steps in one block of audio
DEPTH = 4  # inputs that one instruction adds up


@cache
def available() -> bool:
    """Whether this CPU has the instruction, and nothing better: with AMX, torch's own product wins."""
    return _has("avx512vnni") and not has_amx()


@cache
def has_amx() -> bool:
    """Whether this CPU multiplies whole tiles of 8-bit integers, which torch's product uses."""
    return _has("amx-int8")


def _has(feature: str) -> bool:
    try:
        return bool(binding.get_host_cpu_features().get(feature, False))
    except RuntimeError:  # not known of this kind of CPU
        return False


class Product:
    """``sums = product(rows)`` for a weight ``(outputs, inputs)`` int8, of which ``inputs`` is a multiple of `DEPTH`.

    Takes rows ``(n, inputs)`` int8 and gives exact sums ``(n, outputs or more)`` int32: what is beyond is zero.
    Holds only constants.
    """

    def __init__(self, weight: Array) -> None:
        outputs, inputs = weight.shape
        padded = np.zeros((-(-outputs // _PANEL) * _PANEL, inputs), np.int8)
        padded[:outputs] = weight
        panels = padded.reshape(-1, _PANEL, inputs // DEPTH, DEPTH).transpose(0, 2, 1, 3)
        self._panels = np.ascontiguousarray(panels)  # (panels, inputs / 4, 64, 4)
        self._begin = (-128 * padded.sum(axis=1, dtype=np.int32)).reshape(-1, _PANEL)  # of the sums

    def __call__(self, rows: Array) -> Array:
        sums = np.empty((len(rows), self._begin.size), np.int32)
        _products(self._panels, self._begin, rows, sums)
        return sums


def _tile(rows: int) -> Any:
    """A compiled function: sums of one panel for so many rows that follow one another."""

    @intrinsic
    def tile(typing, panels, begin, panel, x, row, out):  # type: ignore[no-untyped-def]
        signature = types.void(panels, begin, types.intp, x, types.intp, out)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            kinds = signature.args
            at = [
                context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
                for kind, value in zip(kinds, arguments, strict=True)
            ]
            _generate_tile(builder, rows, *at)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _generate_tile(builder: Any, rows: int, panels: Any, begin: Any, panel: Any, x: Any, row: Any, out: Any) -> None:
    """LLVM's code of `_tile`: a loop over the inputs, its sums in registers."""
    word, byte, sums = ir.IntType(32), ir.IntType(8), ir.VectorType(ir.IntType(32), _LANES)
    index = panel.type
    vectors = _PANEL // _LANES

    def number(value: int) -> Any:
        return ir.Constant(index, value)

    def place(base: Any, offset: Any, kind: Any) -> Any:
        """The address so many bytes after another."""
        start = builder.bitcast(base, byte.as_pointer())
        return builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())

    def spread(value: Any) -> Any:
        single = builder.insert_element(ir.Constant(sums, ir.Undefined), value, ir.Constant(word, 0))
        mask = ir.Constant(ir.VectorType(word, _LANES), [0] * _LANES)
        return builder.shuffle_vector(single, ir.Constant(sums, ir.Undefined), mask)

    size = _LANES * 4  # bytes of a register
    depth = builder.extract_value(panels.shape, 1)
    weights_at = builder.mul(panel, builder.mul(depth, number(vectors * size)))
    rows_at = [builder.mul(builder.add(row, number(r)), builder.extract_value(x.strides, 0)) for r in range(rows)]
    begin_at = builder.mul(panel, number(vectors * size))
    first = [
        builder.load(place(begin.data, builder.add(begin_at, number(v * size)), sums), align=4) for v in range(vectors)
    ]
    before = builder.block
    loop, after = builder.append_basic_block("inputs"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(index)
    k.add_incoming(number(0), before)
    totals = [[builder.phi(sums) for _ in range(vectors)] for _ in range(rows)]
    add = builder.module.declare_intrinsic(
        "llvm.x86.avx512.vpdpbusd.512", (), ir.FunctionType(sums, [sums, sums, sums])
    )
    here = builder.add(weights_at, builder.mul(k, number(vectors * size)))
    weights = [
        builder.load(place(panels.data, builder.add(here, number(v * size)), sums), align=4) for v in range(vectors)
    ]
    flip = ir.Constant(word, -0x7F7F7F80)  # 128 added to each byte
    summed = []
    for r in range(rows):
        four = builder.load(place(x.data, builder.add(rows_at[r], builder.mul(k, number(DEPTH))), word), align=1)
        # Flipped before it is spread: flipped as a vector, it sends LLVM 22 into an endless loop.
        inputs = spread(builder.xor(four, flip))
        for v in range(vectors):
            total = totals[r][v]
            total.add_incoming(first[v], before)
            summed.append(builder.call(add, [total, inputs, weights[v]]))
            total.add_incoming(summed[-1], loop)
    following = builder.add(k, number(1))
    k.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    builder.position_at_end(after)
    for r in range(rows):
        out_row = builder.mul(builder.add(row, number(r)), builder.extract_value(out.strides, 0))
        for v in range(vectors):
            where = builder.add(out_row, builder.add(begin_at, number(v * size)))
            builder.store(summed[r * vectors + v], place(out.data, where, sums), align=4)


_tile_of_one, _tile_of_four = _tile(1), _tile(_ROWS)


@jit()
def _products(panels, begin, x, out):  # type: ignore[no-untyped-def]
    for panel in range(panels.shape[0]):
        row = 0
        while row + _ROWS <= x.shape[0]:
            _tile_of_four(panels, begin, panel, x, row, out)
            row += _ROWS
        while row < x.shape[0]:
            _tile_of_one(panels, begin, panel, x, row, out)
            row += 1
