"""The products of `asr.network.packed_weights` in compiled code: by VNNI, or AVX2. Only what compiles imports this."""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from asr.network.packed_weights import DEPTH, PANEL, STRIP, has

_WORD, _BYTE = ir.IntType(32), ir.IntType(8)
_REGISTERS = 8  # for sums, of AVX2's 16


def make_tile(rows: int) -> Any:
    """A function for compiled code: sums of one panel for so many rows that follow one another."""

    @intrinsic
    def tile(typing, panels, begin, panel, x, row, out):  # type: ignore[no-untyped-def]
        signature = types.void(panels, begin, types.intp, x, types.intp, out)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            kinds = signature.args
            at = [
                context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
                for kind, value in zip(kinds, arguments, strict=True)
            ]
            if _for_vnni():
                _sum(builder, _Vnni(builder), 0, rows, *at)
            else:
                # What registers hold at once: a part of the panel after another.
                vectors = _REGISTERS // rows
                for first in range(0, PANEL // _Avx2.lanes, vectors):
                    _sum(builder, _Avx2(builder, vectors), first, rows, *at)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _for_vnni() -> bool:
    """Whether the processor that is compiled for has VNNI: `asr.build_library` tells Numba, or it is this one."""
    told = os.environ.get("NUMBA_CPU_FEATURES")
    return has("avx512_vnni") if told is None else "+avx512vnni" in told


class _Vnni:
    """Sums of 16 lanes by the one instruction."""

    lanes, vectors, has_begin = 16, PANEL // 16, True

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self.sums = ir.VectorType(_WORD, self.lanes)
        kind = ir.FunctionType(self.sums, [self.sums] * 3)
        self._add = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", (), kind)

    def inputs(self, four: Any) -> Any:
        """Four inputs, as each lane has them."""
        flip = ir.Constant(_WORD, -0x7F7F7F80)  # 128 added to each byte
        # Flipped before it is spread: flipped as a vector, it sends LLVM 22 into an endless loop.
        return _spread(self._builder, self._builder.xor(four, flip), self.lanes)

    def add(self, total: Any, inputs: Any, weights: Any) -> Any:
        return self._builder.call(self._add, [total, inputs, weights])


class _Avx2:
    """Sums of 8 lanes: magnitudes of the inputs times weights that have got their signs, in pairs, then pairs of pairs.

    A pair is at most 2 * 128 * 127 = 32,512, which 16 bits hold.
    """

    lanes, has_begin = 8, False

    def __init__(self, builder: Any, vectors: int) -> None:
        self._builder, self.vectors = builder, vectors
        self.sums = ir.VectorType(_WORD, self.lanes)
        self._bytes = ir.VectorType(_BYTE, 4 * self.lanes)
        pairs = ir.VectorType(ir.IntType(16), 2 * self.lanes)
        self._ones = ir.Constant(pairs, [1] * 2 * self.lanes)

        def declare(name: str, result: Any, *kinds: Any) -> Any:
            return builder.module.declare_intrinsic(f"llvm.x86.avx2.{name}", (), ir.FunctionType(result, kinds))

        self._sign = declare("psign.b", self._bytes, self._bytes, self._bytes)
        self._multiply = declare("pmadd.ub.sw", pairs, self._bytes, self._bytes)
        self._join = declare("pmadd.wd", self.sums, pairs, pairs)

    def inputs(self, four: Any) -> Any:
        """Four inputs as each lane has them, with and without their signs."""
        signed = self._builder.bitcast(_spread(self._builder, four, self.lanes), self._bytes)
        return signed, self._builder.call(self._sign, [signed, signed])

    def add(self, total: Any, inputs: Any, weights: Any) -> Any:
        signed, magnitudes = inputs
        weights = self._builder.call(self._sign, [self._builder.bitcast(weights, self._bytes), signed])
        pairs = self._builder.call(self._multiply, [magnitudes, weights])
        return self._builder.add(total, self._builder.call(self._join, [pairs, self._ones]))


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    kind = ir.VectorType(_WORD, lanes)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * lanes))


def _sum(
    builder: Any, way: Any, first: int, rows: int, panels: Any, begin: Any, panel: Any, x: Any, row: Any, out: Any
) -> None:
    """LLVM's code of `make_tile` for some vectors of the panel from ``first``: a loop over the inputs, its sums in
    registers."""
    index, vectors = panel.type, range(first, first + way.vectors)

    def number(value: int) -> Any:
        return ir.Constant(index, value)

    def place(base: Any, offset: Any, kind: Any) -> Any:
        """The address so many bytes after another."""
        start = builder.bitcast(base, _BYTE.as_pointer())
        return builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())

    size = way.lanes * 4  # bytes of a register
    depth = builder.extract_value(panels.shape, 2)
    line = STRIP * DEPTH  # bytes of a strip's weights for a step
    weights_at = builder.mul(panel, builder.mul(depth, number(PANEL * DEPTH)))
    rows_at = [builder.mul(builder.add(row, number(r)), builder.extract_value(x.strides, 0)) for r in range(rows)]
    begin_at = builder.mul(panel, number(4 * PANEL))
    start = [
        builder.load(place(begin.data, builder.add(begin_at, number(v * size)), way.sums), align=4)
        if way.has_begin
        else ir.Constant(way.sums, [0] * way.lanes)
        for v in vectors
    ]
    before = builder.block
    loop, after = builder.append_basic_block("inputs"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(index)
    k.add_incoming(number(0), before)
    totals = [[builder.phi(way.sums) for _ in vectors] for _ in range(rows)]
    here = builder.add(weights_at, builder.mul(k, number(line)))
    strip = builder.mul(depth, number(line))
    weights = []
    for v in vectors:
        within = builder.add(builder.mul(strip, number(v * size // line)), number(v * size % line))
        weights.append(builder.load(place(panels.data, builder.add(here, within), way.sums), align=4))
    summed = []
    for r in range(rows):
        four = builder.load(place(x.data, builder.add(rows_at[r], builder.mul(k, number(DEPTH))), _WORD), align=1)
        inputs = way.inputs(four)
        for v, total in enumerate(totals[r]):
            total.add_incoming(start[v], before)
            summed.append(way.add(total, inputs, weights[v]))
            total.add_incoming(summed[-1], loop)
    following = builder.add(k, number(1))
    k.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    builder.position_at_end(after)
    for r in range(rows):
        out_row = builder.mul(builder.add(row, number(r)), builder.extract_value(out.strides, 0))
        for v, vector in enumerate(vectors):
            where = builder.add(out_row, builder.add(begin_at, number(vector * size)))
            builder.store(summed[r * way.vectors + v], place(out.data, where, way.sums), align=4)
