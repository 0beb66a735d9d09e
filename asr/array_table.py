"""Many arrays as one argument of compiled code: by the address of a table of them, as C hands over a struct.

Numba takes a named tuple of arrays apart into seven values for each, at every call. With some fifty arrays that is
most of the time to compile, and much of that to run. An `ArrayTable` of the tuple is one value; what compiled code
sees has the same fields, arrays in C order, numbers and further tuples, and reads each from memory when it needs it.
"""

from __future__ import annotations

from typing import Any

import numba.core.cgutils
import numba.core.typing.templates
import numba.extending
import numba.np.arrayobj
import numpy as np
from llvmlite import ir
from numba import types

# Numba has no types for a type checker.
_extending: Any = numba.extending
_arrays: Any = numba.np.arrayobj
_generate: Any = numba.core.cgutils
_type_of: Any = numba.typeof
_Opaque: Any = numba.extending.models.OpaqueModel
_Attribute: Any = numba.core.typing.templates.AttributeTemplate


class ArrayTable:
    """A named tuple of arrays, numbers and further such tuples, for compiled code to read.

    Compiled code may change what the arrays hold, never the tuple; of other arrays make another table.
    """

    def __init__(self, fields: Any) -> None:
        self.fields = fields  # keeps the arrays alive
        words: list[int] = []
        self._inner: list[ArrayTable] = []
        self._numba_type_: Any
        described: list[tuple[str, Any]] = []
        for name, value in zip(fields._fields, fields, strict=True):
            if isinstance(value, tuple):
                inner = ArrayTable(value)
                self._inner.append(inner)
                described.append((name, inner._numba_type_))
                words.append(inner.address)
            elif isinstance(value, np.ndarray):
                if not value.flags.c_contiguous:
                    raise ValueError(f"the array {name!r} is not in C order")
                described.append((name, _array_type(value)))
                words += [value.ctypes.data, *value.shape]
            else:
                described.append((name, types.int64))
                words.append(int(value))
        self._words = np.array(words, dtype=np.int64)
        self.address: int = self._words.ctypes.data
        self._numba_type_ = _table_type(type(fields).__name__, tuple(described))


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
_array_types: dict[tuple[np.dtype[Any], int, bool], Any] = {}
_table_types: dict[tuple[str, tuple[tuple[str, int], ...]], _TableType] = {}


def _array_type(array: np.ndarray[Any, Any]) -> Any:
    key = array.dtype, array.ndim, array.flags.writeable
    if key not in _array_types:
        _array_types[key] = _type_of(array)
    return _array_types[key]


def _table_type(name: str, fields: tuple[tuple[str, Any], ...]) -> _TableType:
    key = name, tuple((field, id(kind)) for field, kind in fields)  # those of fields are kept, so they stay themselves
    if key not in _table_types:
        _table_types[key] = _TableType(name, fields)
    return _table_types[key]


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
    array = _arrays.make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    item = context.get_constant(types.intp, size)
    shape = [word(at + 1 + axis) for axis in range(kind.ndim)]
    strides = [item]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    data = builder.inttoptr(word(at), context.get_data_type(kind.dtype).as_pointer())
    _arrays.populate_array(
        array,
        data=data,
        shape=_generate.pack_array(builder, shape),
        strides=_generate.pack_array(builder, strides),
        itemsize=item,
        meminfo=None,
    )
    return array._getvalue()
