"""Numba's view of an `asr.array_table.ArrayTable`: a type with the table's fields, each read when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba.core.cgutils
import numba.core.typing.templates
import numba.extending
import numba.np.arrayobj
import numpy as np
from llvmlite import ir
from numba import types

from asr.array_table import ArrayTable, kind_of

# Numba has no types for a type checker.
_extending: Any = numba.extending
_arrays: Any = numba.np.arrayobj
_generate: Any = numba.core.cgutils
_type_of: Any = numba.typeof
_Opaque: Any = numba.extending.models.OpaqueModel
_Attribute: Any = numba.core.typing.templates.AttributeTemplate


class _TableType(types.Type):
    """The names and types of a table's fields."""

    def __init__(self, name: str, fields: tuple[tuple[str, Any], ...]) -> None:
        self.fields = fields
        super().__init__(name=f"ArrayTable({name})")

    @property
    def key(self) -> tuple[tuple[str, Any], ...]:
        return self.fields

    @property
    def mangling_args(self) -> tuple[str, tuple[()]]:
        return self.name, ()  # its fields' types would make the names of functions very long

    def find(self, wanted: str) -> tuple[int, Any]:
        """Where a field begins, in words, and its type."""
        at = 0
        for name, kind in self.fields:
            if name == wanted:
                return at, kind
            at += 1 + (kind.ndim if isinstance(kind, types.Array) else 0)
        raise AttributeError(f"{self.name} has no field {wanted!r}")


# Making a type takes Numba many times as long as a table, and so does comparing types: they are made once.
_array_types: dict[str, Any] = {}
_table_types: dict[str, _TableType] = {}


def type_of_array(array: np.ndarray[Any, Any]) -> Any:
    """Numba's type of an array."""
    kind = kind_of(array)
    if kind not in _array_types:
        _array_types[kind] = _type_of(array)
    return _array_types[kind]


def type_of_table(table: ArrayTable) -> _TableType:
    """Numba's type of a table."""
    if table.kind not in _table_types:
        fields = table.fields
        described: list[tuple[str, Any]] = []
        for name, value in zip(fields._fields, fields, strict=True):
            if name in table.inner:
                described.append((name, type_of_table(table.inner[name])))
            else:
                described.append((name, type_of_array(value) if isinstance(value, np.ndarray) else types.int64))
        _table_types[table.kind] = _TableType(type(fields).__name__, tuple(described))
    return _table_types[table.kind]


def type_of_arguments(arguments: Sequence[Any]) -> _TableType:
    """Numba's type of a table of a function's arguments: what `asr.library` hands over."""

    def kind(value: Any) -> Any:
        if isinstance(value, ArrayTable):
            return type_of_table(value)
        return type_of_array(value) if isinstance(value, np.ndarray) else types.int64

    return _TableType("arguments", tuple((f"a{i}", kind(value)) for i, value in enumerate(arguments)))


@_extending.register_model(_TableType)
class _TableModel(_Opaque):  # type: ignore[misc]
    pass


@_extending.infer_getattr
class _TableAttribute(_Attribute):  # type: ignore[misc]
    key = _TableType

    def generic_resolve(self, table: _TableType, name: str) -> Any:
        return dict(table.fields).get(name)


@_extending.unbox(_TableType)
def _unbox(_: _TableType, table: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(table, "address")
    value = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return _extending.NativeValue(value)


@_extending.lower_getattr_generic(_TableType)
def _read(context: Any, builder: Any, table: _TableType, address: Any, name: str) -> Any:
    at, kind = table.find(name)
    words = builder.bitcast(address, ir.IntType(64).as_pointer())

    def word(index: int) -> Any:
        value = builder.load(builder.gep(words, [ir.Constant(ir.IntType(32), index)]))
        # The table never changes, so what was read once need not be read again after an array is written to.
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    if isinstance(kind, _TableType):
        return builder.inttoptr(word(at), ir.IntType(8).as_pointer())
    if not isinstance(kind, types.Array):
        return word(at)
    shape = [word(at + 1 + axis) for axis in range(kind.ndim)]
    data = builder.inttoptr(word(at), context.get_data_type(kind.dtype).as_pointer())
    return _array(context, builder, kind, data, shape)


def _array(context: Any, builder: Any, kind: Any, data: Any, shape: list[Any]) -> Any:
    """An array in C order of memory that somebody else owns."""
    array = _arrays.make_array(kind)(context, builder)
    item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [item]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    _arrays.populate_array(
        array,
        data=data,
        shape=_generate.pack_array(builder, shape),
        strides=_generate.pack_array(builder, strides),
        itemsize=item,
        meminfo=None,
    )
    return array._getvalue()


def make_view() -> Any:
    """A function for compiled code: the items of an array in C order from one on, as an array of a shape, a tuple.

    NumPy's ``reshape`` would call Numba's own library.
    """

    @_extending.intrinsic
    def view(typing: Any, array: Any, first: Any, shape: Any) -> Any:
        result = types.Array(array.dtype, len(shape), "C", readonly=not array.mutable)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source = context.make_array(signature.args[0])(context, builder, arguments[0])
            lengths = [
                context.cast(builder, length, kind, types.intp)
                for length, kind in zip(_generate.unpack_tuple(builder, arguments[2]), shape, strict=True)
            ]
            start = builder.gep(source.data, [context.cast(builder, arguments[1], signature.args[1], types.intp)])
            return _array(context, builder, result, start, lengths)

        return result(array, first, shape), generate

    return view
