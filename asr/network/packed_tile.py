"""The products of `asr.network.packed_weights` in compiled code: by VNNI, or AVX2. Only what compiles imports this.

Weights in halves of bytes are looked up in the table of their levels, a register's at once, on their way.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from asr.network.packed_weights import DEPTH, HALF_BITS, LEVELS, PANEL, STRIP, has

_WORD, _BYTE = ir.IntType(32), ir.IntType(8)
_REGISTERS = 8  # for sums, of AVX2's 16
_LINE = STRIP * DEPTH  # bytes of a strip's weights for a step, or for two of them in halves


def make_tile(rows: int, halves: bool = False) -> Any:
    """A function for compiled code: sums of one panel for so many rows that follow one another.

    Its arguments are the weights and which of their panels it is; the table of levels, which only weights in halves of
    bytes have; what the sums begin at and which panel of the output that is; the rows and the first one; the output.
    """

    @intrinsic
    def tile(typing, panels, place, levels, begin, panel, x, row, out):  # type: ignore[no-untyped-def]
        signature = types.void(panels, types.intp, levels, begin, types.intp, x, types.intp, out)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            at = arrays(context, builder, signature, arguments)
            if _for_vnni():
                _sum(builder, _Vnni(builder), 0, rows, halves, *at)
            else:
                # What registers hold at once: a part of the panel after another.
                vectors = _REGISTERS // rows
                for first in range(0, PANEL // _Avx2.lanes, vectors):
                    _sum(builder, _Avx2(builder, vectors), first, rows, halves, *at)
            return context.get_dummy_value()

        return signature, generate

    return tile


def make_unpack() -> Any:
    """A function for compiled code: writes one panel of weights in halves of bytes as such a panel in bytes.

    Its arguments are the weights, which of their panels it is and the table of levels, then the room for panels in
    bytes and which of those it becomes.
    """

    @intrinsic
    def unpack(typing, panels, place, levels, room, there):  # type: ignore[no-untyped-def]
        signature = types.void(panels, types.intp, levels, room, types.intp)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            at = arrays(context, builder, signature, arguments)
            _unpack(builder, _Vnni(builder) if _for_vnni() else _Avx2(builder, 1), *at)
            return context.get_dummy_value()

        return signature, generate

    return unpack


def arrays(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """The arguments of a function that is made here, arrays with their parts."""
    return [
        context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


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
        self.bytes = ir.VectorType(_BYTE, 4 * self.lanes)
        shuffle = ir.FunctionType(self.bytes, [self.bytes] * 2)
        self.look_up = builder.module.declare_intrinsic("llvm.x86.avx512.pshuf.b.512", (), shuffle)

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
        self.bytes = ir.VectorType(_BYTE, 4 * self.lanes)
        pairs = ir.VectorType(ir.IntType(16), 2 * self.lanes)
        self._ones = ir.Constant(pairs, [1] * 2 * self.lanes)

        def declare(name: str, result: Any, *kinds: Any) -> Any:
            return builder.module.declare_intrinsic(f"llvm.x86.avx2.{name}", (), ir.FunctionType(result, kinds))

        self._sign = declare("psign.b", self.bytes, self.bytes, self.bytes)
        self._multiply = declare("pmadd.ub.sw", pairs, self.bytes, self.bytes)
        self._join = declare("pmadd.wd", self.sums, pairs, pairs)
        self.look_up = declare("pshuf.b", self.bytes, self.bytes, self.bytes)

    def inputs(self, four: Any) -> Any:
        """Four inputs as each lane has them, with and without their signs."""
        signed = self._builder.bitcast(_spread(self._builder, four, self.lanes), self.bytes)
        return signed, self._builder.call(self._sign, [signed, signed])

    def add(self, total: Any, inputs: Any, weights: Any) -> Any:
        signed, magnitudes = inputs
        weights = self._builder.call(self._sign, [self._builder.bitcast(weights, self.bytes), signed])
        pairs = self._builder.call(self._multiply, [magnitudes, weights])
        return self._builder.add(total, self._builder.call(self._join, [pairs, self._ones]))


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    kind = ir.VectorType(_WORD, lanes)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * lanes))


class _Halves:
    """Weights in halves of bytes: a register of them, looked up, is two registers of weights in bytes."""

    def __init__(self, builder: Any, way: Any, levels: Any) -> None:
        self._builder, self._way = builder, way
        kind = ir.VectorType(_BYTE, LEVELS)
        table = builder.load(builder.bitcast(levels.data, kind.as_pointer()), align=1)
        spread = [n % LEVELS for n in range(way.bytes.count)]  # each 16 bytes of a register look up in their own 16
        order = ir.Constant(ir.VectorType(_WORD, len(spread)), spread)
        self._table = builder.shuffle_vector(table, ir.Constant(kind, ir.Undefined), order)

    def weights(self, both: Any) -> list[Any]:
        """Of the weights of two steps those of the first, which are the lower halves, and those of the second."""
        builder, way = self._builder, self._way
        halves = builder.bitcast(both, way.bytes)
        lowest = ir.Constant(way.bytes, [LEVELS - 1] * way.bytes.count)
        upper = builder.lshr(halves, ir.Constant(way.bytes, [HALF_BITS] * way.bytes.count))
        found = (builder.call(way.look_up, [self._table, half]) for half in (builder.and_(halves, lowest), upper))
        return [builder.bitcast(weights, way.sums) for weights in found]


def _number(index: Any, value: int) -> Any:
    return ir.Constant(index, value)


def _place(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    """The address so many bytes after another."""
    start = builder.bitcast(base, _BYTE.as_pointer())
    return builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())


def _unpack(builder: Any, way: Any, panels: Any, place: Any, levels: Any, room: Any, there: Any) -> None:
    """LLVM's code of `make_unpack`: a loop over the lines of all strips."""
    number = partial(_number, place.type)
    halves = _Halves(builder, way, levels)
    count = builder.mul(builder.extract_value(panels.shape, 2), number(PANEL // STRIP))
    first = builder.mul(place, builder.mul(count, number(_LINE)))
    first_there = builder.mul(there, builder.mul(count, number(2 * _LINE)))
    with cgutils.for_range(builder, count, intp=place.type) as loop:
        here = builder.add(first, builder.mul(loop.index, number(_LINE)))
        lines_there = builder.add(first_there, builder.mul(loop.index, number(2 * _LINE)))
        for part in range(0, _LINE, way.bytes.count):
            both = builder.load(_place(builder, panels.data, builder.add(here, number(part)), way.sums), align=4)
            for step, weights in enumerate(halves.weights(both)):
                to = builder.add(lines_there, number(step * _LINE + part))
                builder.store(weights, _place(builder, room.data, to, way.sums), align=4)


def _sum(
    builder: Any,
    way: Any,
    first: int,
    rows: int,
    halves: bool,
    panels: Any,
    place: Any,
    levels: Any,
    begin: Any,
    panel: Any,
    x: Any,
    row: Any,
    out: Any,
) -> None:
    """LLVM's code of `make_tile` for some vectors of the panel from ``first``: a loop over the inputs, its sums in
    registers."""
    number, address = partial(_number, panel.type), partial(_place, builder)
    vectors = range(first, first + way.vectors)
    size = way.lanes * 4  # bytes of a register
    depth = builder.extract_value(panels.shape, 2)
    weights_at = builder.mul(place, builder.mul(depth, number(PANEL * DEPTH)))
    rows_at = [builder.mul(builder.add(row, number(r)), builder.extract_value(x.strides, 0)) for r in range(rows)]
    begin_at = builder.mul(panel, number(4 * PANEL))
    start = [
        builder.load(address(begin.data, builder.add(begin_at, number(v * size)), way.sums), align=4)
        if way.has_begin
        else ir.Constant(way.sums, [0] * way.lanes)
        for v in vectors
    ]
    unpack = _Halves(builder, way, levels).weights if halves else lambda weights: [weights]
    steps = 2 if halves else 1  # that a line of weights has
    # One row's sums wait for each other: those of the second steps begin at zero, and join them in the end.
    chains = steps if rows == 1 else 1
    before = builder.block
    loop, after = builder.append_basic_block("inputs"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(panel.type)
    k.add_incoming(number(0), before)
    totals = [[[builder.phi(way.sums) for _ in vectors] for _ in range(rows)] for _ in range(chains)]
    here = builder.add(weights_at, builder.mul(k, number(_LINE)))
    strip = builder.mul(depth, number(_LINE))
    weights = []
    for v in vectors:
        within = builder.add(builder.mul(strip, number(v * size // _LINE)), number(v * size % _LINE))
        weights.append(unpack(builder.load(address(panels.data, builder.add(here, within), way.sums), align=4)))
    summed = [[list(of_row) for of_row in chain] for chain in totals]
    for step in range(steps):
        for r in range(rows):
            at = builder.add(builder.mul(k, number(steps * DEPTH)), number(step * DEPTH))
            four = builder.load(address(x.data, builder.add(rows_at[r], at), _WORD), align=1)
            inputs = way.inputs(four)
            here_summed = summed[step % chains][r]
            for v in range(len(vectors)):
                here_summed[v] = way.add(here_summed[v], inputs, weights[v][step])
    zero = ir.Constant(way.sums, [0] * way.lanes)
    for chain in range(chains):
        for r in range(rows):
            for v, total in enumerate(totals[chain][r]):
                total.add_incoming(zero if chain else start[v], before)
                total.add_incoming(summed[chain][r][v], loop)
    following = builder.add(k, number(1))
    k.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    builder.position_at_end(after)
    for r in range(rows):
        out_row = builder.mul(builder.add(row, number(r)), builder.extract_value(out.strides, 0))
        for v, vector in enumerate(vectors):
            where = builder.add(out_row, builder.add(begin_at, number(vector * size)))
            total = summed[0][r][v] if chains == 1 else builder.add(summed[0][r][v], summed[1][r][v])
            builder.store(total, address(out.data, where, way.sums), align=4)
