"""Constants in large pages: the same values, wherever they lie."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

from asr.large_pages import in_large_pages


class Inner(NamedTuple):
    weight: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any]


class Outer(NamedTuple):
    first: Inner
    empty: np.ndarray[Any, Any]
    number: int
    last: np.ndarray[Any, Any]


def example() -> Outer:
    weight = np.arange(5 * 7 * 3, dtype=np.int8).reshape(5, 7, 3)
    inner = Inner(weight, np.linspace(0, 1, 5, dtype=np.float32))
    return Outer(inner, np.zeros((0, 4), np.float32), 3, np.arange(1_000_000))


def test_values_and_kinds_are_the_same() -> None:
    """Tuples in tuples come back with the same arrays, in C order, and other values as they are."""
    before, after = example(), in_large_pages(example())
    assert isinstance(after, Outer)
    assert isinstance(after.first, Inner)
    assert after.number == 3
    for a, b in ((before.first, after.first), ((before.empty, before.last), (after.empty, after.last))):
        for one, other in zip(a, b, strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
            assert other.flags.c_contiguous


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has them")
def test_arrays_lie_end_to_end_and_are_constant() -> None:
    """All arrays are in one stretch of memory that begins with a large page, each where a line of the cache begins."""
    after = in_large_pages(example())
    places = [array.__array_interface__["data"] for array in (*after.first, after.empty, after.last)]
    assert places[0][0] % (2 << 20) == 0
    assert all(address % 64 == 0 and read_only for address, read_only in places)
    assert places[-1][0] - places[0][0] == 128 + 64


def test_without_large_pages_arrays_stay(monkeypatch) -> None:
    """Where there are none, the arrays are used where they lie."""
    monkeypatch.setattr("asr.large_pages._ADVICE", None)
    fields = example()
    assert in_large_pages(fields) is fields
