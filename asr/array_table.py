"""Many arrays as one argument of compiled code: by the address of a table of them, as C hands over a struct.

Numba takes a named tuple of arrays apart into seven values for each, at every call. With some fifty arrays that is
most of the time to compile, and much of that to run. An `ArrayTable` of the tuple is one value; what compiled code
sees has the same fields, arrays in C order, numbers and further tuples, and reads each from memory when it needs it.

A table is a row of 64-bit words: of an array the address and the shape, of a number its value, of a further tuple the
address of its own table. `asr.array_types` tells Numba so.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class ArrayTable:
    """A named tuple of arrays, numbers and further such tuples, for compiled code to read.

    Compiled code may change what the arrays hold, never the tuple; of other arrays make another table.
    """

    def __init__(self, fields: Any) -> None:
        self.fields = fields  # keeps the arrays alive
        words: list[int] = []
        kinds: list[str] = []
        self.inner: dict[str, ArrayTable] = {}
        for name, value in zip(fields._fields, fields, strict=True):
            if isinstance(value, tuple):
                inner = self.inner[name] = ArrayTable(value)
                kinds.append(inner.kind)
                words.append(inner.address)
            elif isinstance(value, np.ndarray):
                if not value.flags.c_contiguous:
                    raise ValueError(f"the array {name!r} is not in C order")
                kinds.append(kind_of(value))
                words += (value.__array_interface__["data"][0], *value.shape)  # faster than `ctypes.data`
            else:
                kinds.append("integer")
                words.append(int(value))
        self._words = np.array(words, dtype=np.int64)
        self.address: int = self._words.ctypes.data
        self.kind: str = _table_kind(type(fields).__name__, fields._fields, tuple(kinds))

    @property
    def _numba_type_(self) -> Any:
        from asr.array_types import type_of_table

        return type_of_table(self)


# Every call of compiled code asks for kinds: each is worked out once.
_array_kinds: dict[tuple[np.dtype[Any], int, bool, bool], str] = {}
_table_kinds: dict[tuple[str, tuple[str, ...], tuple[str, ...]], str] = {}


def kind_of(array: Array) -> str:
    """All that compiled code takes for granted of an array; the same string for the same in every process."""
    flags = array.flags
    key = array.dtype, array.ndim, flags.writeable, flags.c_contiguous and flags.aligned
    kind = _array_kinds.get(key)
    if kind is None:
        dtype = array.dtype
        item = dtype.str if dtype.fields is None else repr((dtype.itemsize, [*(dtype.fields or {}).items()]))
        layout = f"{array.ndim} {'rw' if flags.writeable else 'r'} {'C' if key[3] else 'other'}"
        kind = _array_kinds[key] = f"array {item} {layout}{' record' if dtype.type is np.record else ''}"
    return kind


def _table_kind(name: str, fields: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    key = name, fields, kinds
    kind = _table_kinds.get(key)
    if kind is None:
        kind = _table_kinds[key] = f"table {hashlib.sha256(repr(key).encode()).hexdigest()}"
    return kind
