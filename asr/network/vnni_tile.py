"""The one instruction of AVX-512 VNNI in compiled code: see `asr.network.vnni`. Only what compiles imports this."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from asr.network.vnni import DEPTH, LANES, PANEL


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
            _generate_tile(builder, rows, *at)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _generate_tile(builder: Any, rows: int, panels: Any, begin: Any, panel: Any, x: Any, row: Any, out: Any) -> None:
    """LLVM's code of `make_tile`: a loop over the inputs, its sums in registers."""
    word, byte, sums = ir.IntType(32), ir.IntType(8), ir.VectorType(ir.IntType(32), LANES)
    index = panel.type
    vectors = PANEL // LANES

    def number(value: int) -> Any:
        return ir.Constant(index, value)

    def place(base: Any, offset: Any, kind: Any) -> Any:
        """The address so many bytes after another."""
        start = builder.bitcast(base, byte.as_pointer())
        return builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())

    def spread(value: Any) -> Any:
        single = builder.insert_element(ir.Constant(sums, ir.Undefined), value, ir.Constant(word, 0))
        mask = ir.Constant(ir.VectorType(word, LANES), [0] * LANES)
        return builder.shuffle_vector(single, ir.Constant(sums, ir.Undefined), mask)

    size = LANES * 4  # bytes of a register
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
