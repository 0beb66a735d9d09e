"""Vectors of `LANES` float32 for compiled code, which LLVM makes whole registers of: AVX-512's, two of AVX2's, NEON's.

Loops over a few lanes it leaves as they are, as it cannot know that what they write is not what they read. Only what
compiles imports this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from asr.network.vectors import LANES

# Numba has no types for a type checker.
_extending: Any = numba.extending
_FLOAT, _WORD, _BYTE = ir.FloatType(), ir.IntType(32), ir.IntType(8)
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)


class _LanesType(types.Type):
    """A vector, as a value of compiled code."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


@_extending.register_model(_LanesType)
class _LanesModel(_extending.models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


_lanes: Any = _LanesType()


def make_load() -> Any:
    """``load(array, at)``: lanes of a float32 array from a place on."""

    @intrinsic
    def load(typing, array, at):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.load(_address(context, builder, signature, arguments), align=4)

        return _lanes(array, types.intp), generate

    return load


def make_store() -> Any:
    """``store(array, at, lanes)`` writes them there."""

    @intrinsic
    def store(typing, array, at, value):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            builder.store(arguments[2], _address(context, builder, signature, arguments), align=4)
            return context.get_dummy_value()

        return types.void(array, types.intp, _lanes), generate

    return store


def make_spread() -> Any:
    """``spread(number)``: the same float32 in all lanes."""

    @intrinsic
    def spread(typing, number):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), arguments[0], ir.Constant(_WORD, 0))
            return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_WORDS, [0] * LANES))

        return _lanes(types.float32), generate

    return spread


def make_add() -> Any:
    """``add(a, b)``, lane by lane."""
    return _of_two(lambda builder, a, b: builder.fadd(a, b))


def make_subtract() -> Any:
    """``subtract(a, b)``, lane by lane."""
    return _of_two(lambda builder, a, b: builder.fsub(a, b))


def make_multiply() -> Any:
    """``multiply(a, b)``, lane by lane."""
    return _of_two(lambda builder, a, b: builder.fmul(a, b))


def make_larger() -> Any:
    """``larger(a, b)``: of each lane the larger one, ``b`` where they cannot be compared."""
    return _of_two(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


def make_total() -> Any:
    """``total(a)``: the sum of all lanes, of halves that are added up again and again."""

    @intrinsic
    def total(typing, value):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            (rest,), count = arguments, LANES
            while count > 1:
                count //= 2
                nothing = ir.Constant(rest.type, ir.Undefined)
                halves = [
                    builder.shuffle_vector(
                        rest, nothing, ir.Constant(ir.VectorType(_WORD, count), [*range(start, start + count)])
                    )
                    for start in (0, count)
                ]
                rest = builder.fadd(*halves)
            return builder.extract_element(rest, ir.Constant(_WORD, 0))

        return types.float32(_lanes), generate

    return total


def make_log() -> Any:
    """``log(a)``: natural logarithms of normal numbers above zero."""

    @intrinsic
    def log(typing, value):  # type: ignore[no-untyped-def]
        return _lanes(_lanes), lambda context, builder, signature, arguments: _log(builder, arguments[0])

    return log


# Cephes' logf: a polynomial of what a number is above one, divided by the nearest power of two.
_TERMS = (
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
_LOG_OF_TWO = (0.693359375, -2.12194440e-4)  # in two parts, the first exact with few bits
_ROOT_OF_HALF = 0x3F3504F3  # its bits: below it the power of two is the next one


def _log(builder: Any, value: Any) -> Any:
    def all_of(number: float) -> Any:
        return ir.Constant(_FLOATS, [number] * LANES)

    def words(number: int) -> Any:
        return ir.Constant(_WORDS, [number] * LANES)

    bits = builder.bitcast(value, _WORDS)
    exponent = builder.ashr(builder.sub(bits, words(_ROOT_OF_HALF)), words(23))
    near = builder.bitcast(builder.sub(bits, builder.shl(exponent, words(23))), _FLOATS)
    rest = builder.fsub(near, all_of(1.0))
    square = builder.fmul(rest, rest)
    sum_of = all_of(_TERMS[0])
    for term in _TERMS[1:]:
        sum_of = builder.fadd(builder.fmul(sum_of, rest), all_of(term))
    whole = builder.sitofp(exponent, _FLOATS)
    small = builder.fmul(builder.fmul(sum_of, rest), square)
    small = builder.fadd(small, builder.fmul(whole, all_of(_LOG_OF_TWO[1])))
    small = builder.fsub(small, builder.fmul(all_of(0.5), square))
    return builder.fadd(builder.fadd(rest, small), builder.fmul(whole, all_of(_LOG_OF_TWO[0])))


def _of_two(operation: Callable[[Any, Any, Any], Any]) -> Any:
    @intrinsic
    def of_two(typing, a, b):  # type: ignore[no-untyped-def]
        return _lanes(_lanes, _lanes), lambda context, builder, signature, arguments: operation(builder, *arguments)

    return of_two


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), _FLOATS.as_pointer())
