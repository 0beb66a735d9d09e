"""The products of `asr.network.packed_weights` in compiled code, by AMX: blocks of rows, in the processor's tiles.

Only what compiles imports this. Weights lie as VNNI reads them, and so AMX does, too: a tile of weights is what 16
steps of a strip have. It multiplies with both signs, so there is nothing to take away afterwards.
"""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from asr.library import has_tiles
from asr.network.packed_tile import arrays
from asr.network.packed_weights import BLOCK, BLOCK_DEPTH, DEPTH, PANEL, STRIP

_WORD, _BYTE = ir.IntType(32), ir.IntType(8)
_STRIPS = PANEL // STRIP
_ROWS_TILE = _STRIPS  # the number of the tile that holds rows; before it are sums, a strip each, after it weights
_TILES, _LINE = 8, 64  # all tiles; bytes of a line of one


def _intrinsic_of(result: Any, generate: Any) -> Any:
    """A function for compiled code that takes a number; ``generate`` writes it."""

    @intrinsic
    def function(typing, number):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return generate(context, builder, arguments[0])

        return result(number), code

    return function


def make_has_blocks() -> Any:
    """A function for compiled code: whether it may use `make_block`. Its argument is of no use."""
    told = ir.Constant(ir.IntType(1), int(_for_tiles()))
    return _intrinsic_of(types.boolean, lambda context, builder, argument: told)


def make_begin_blocks() -> Any:
    """A function for compiled code: sets AMX's tiles to blocks of so many rows, before the first of them."""

    def generate(context: Any, builder: Any, rows: Any) -> Any:
        if _for_tiles():
            settings = bytearray(64)
            settings[0] = 1  # the only way that there is to lay them out
            for tile in range(_TILES):
                settings[16 + 2 * tile] = _LINE
                settings[48 + tile] = BLOCK
            kind = ir.ArrayType(_BYTE, len(settings))
            place = cgutils.alloca_once(builder, kind)  # type: ignore[no-untyped-call]
            builder.store(ir.Constant(kind, settings), place)
            start = builder.bitcast(place, _BYTE.as_pointer())
            few = builder.trunc(rows, _BYTE)
            for tile in range(_ROWS_TILE + 1):
                builder.store(few, builder.gep(start, [ir.Constant(_WORD, 48 + tile)]))
            _call(builder, "ldtilecfg", start)
        return context.get_dummy_value()

    return _intrinsic_of(types.void, generate)


def make_end_blocks() -> Any:
    """A function for compiled code: frees AMX's tiles, which else were saved at every change of threads."""

    def generate(context: Any, builder: Any, argument: Any) -> Any:
        if _for_tiles():
            _call(builder, "tilerelease")
        return context.get_dummy_value()

    return _intrinsic_of(types.void, generate)


def make_block() -> Any:
    """A function for compiled code: sums of one panel for a block of rows, as many as `make_begin_blocks` was told.

    Its arguments are the weights and which of their panels it is, which panel of the output that is, the rows and the
    first one, the output.
    """

    @intrinsic
    def block(typing, panels, place, panel, x, row, out):  # type: ignore[no-untyped-def]
        signature = types.void(panels, types.intp, types.intp, x, types.intp, out)

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            if _for_tiles():
                _sum_block(builder, *arrays(context, builder, signature, arguments))
            return context.get_dummy_value()

        return signature, generate

    return block


def _for_tiles() -> bool:
    """Whether the processor that is compiled for has AMX."""
    told = os.environ.get("NUMBA_CPU_FEATURES")
    return has_tiles() if told is None else "+amx-int8" in told


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    return builder.call(builder.module.declare_intrinsic(f"llvm.x86.{name}", (), kind), arguments)


def _sum_block(builder: Any, panels: Any, place: Any, panel: Any, x: Any, row: Any, out: Any) -> None:
    """LLVM's code of `make_block`: a loop over the inputs, its sums in tiles."""
    index = panel.type

    def number(value: int) -> Any:
        return ir.Constant(index, value)

    def tile(value: int) -> Any:
        return ir.Constant(_BYTE, value)

    def address(base: Any, offset: Any) -> Any:
        return builder.gep(builder.bitcast(base, _BYTE.as_pointer()), [offset])

    depth = builder.extract_value(panels.shape, 2)  # steps of `DEPTH` inputs
    strip_bytes = builder.mul(depth, number(STRIP * DEPTH))
    weights = address(panels.data, builder.mul(place, builder.mul(strip_bytes, number(_STRIPS))))
    row_bytes, out_bytes = builder.extract_value(x.strides, 0), builder.extract_value(out.strides, 0)
    rows = address(x.data, builder.mul(row, row_bytes))
    for strip in range(_STRIPS):
        _call(builder, "tilezero", tile(strip))
    before = builder.block
    loop, after = builder.append_basic_block("inputs"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(index)  # tiles of inputs that are done
    k.add_incoming(number(0), before)
    _call(builder, "tileloadd64", tile(_ROWS_TILE), address(rows, builder.mul(k, number(BLOCK_DEPTH))), row_bytes)
    here = address(weights, builder.mul(k, number(BLOCK_DEPTH * STRIP)))
    for strip in range(_STRIPS):
        held = tile(_ROWS_TILE + 1 + strip % (_TILES - _ROWS_TILE - 1))
        _call(builder, "tileloadd64", held, address(here, builder.mul(strip_bytes, number(strip))), number(_LINE))
        _call(builder, "tdpbssd", tile(strip), tile(_ROWS_TILE), held)
    following = builder.add(k, number(1))
    k.add_incoming(following, loop)
    done = builder.mul(following, number(BLOCK_DEPTH // DEPTH))
    builder.cbranch(builder.icmp_signed("<", done, depth), loop, after)
    builder.position_at_end(after)
    first = builder.add(builder.mul(row, out_bytes), builder.mul(panel, number(4 * PANEL)))
    for strip in range(_STRIPS):
        where = address(out.data, builder.add(first, number(strip * STRIP * 4)))
        _call(builder, "tilestored64", tile(strip), where, out_bytes)
