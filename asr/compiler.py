"""How functions become compiled code: from a library that came with the package, or by Numba at their first use.

Numba takes long to compile, and much memory even when it only loads what it compiled before. So it is not imported
before something is to be compiled, and what recognition calls is compiled when the package is built
(`asr.build_library`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from asr.array_table import ArrayTable, kind_of
from asr.library import library


class Compiled:
    """A function for compiled code to call. To Numba it is what `numba.njit` makes of the function."""

    _lock = threading.RLock()

    def __init__(self, function: Callable[..., Any], options: dict[str, Any], kept: bool) -> None:
        self.py_func, self.__doc__ = function, function.__doc__
        self._options, self._kept = options, kept
        self._dispatcher: Any = None

    @property
    def dispatcher(self) -> Any:
        """Numba's function; the first to ask imports Numba."""
        if self._dispatcher is None:
            from asr.disk_cache import make_dispatcher

            with self._lock:
                if self._dispatcher is None:
                    self._dispatcher = make_dispatcher(self.py_func, self._options, self._kept)
        return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        return self.dispatcher._numba_type_

    @property
    def targetoptions(self) -> Any:
        return self._options

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)


class Deferred:
    """What another module makes for compiled code to call, made when something is compiled."""

    def __init__(self, module: str, maker: str, *arguments: Any) -> None:
        self._module, self._maker, self._arguments = module, maker, arguments

    @cached_property
    def _numba_type_(self) -> Any:
        from numba.core.registry import cpu_target

        made = getattr(import_module(self._module), self._maker)(*self._arguments)
        cpu_target.typing_context.refresh()  # the code that calls it is being compiled already
        cpu_target.target_context.refresh()
        return cpu_target.typing_context.resolve_value_type(made)


class Entry(Compiled):
    """A function that Python calls in recognition. Its arguments are tables and arrays in C order, and integers."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        super().__init__(function, options, kept=True)
        self.name = f"{function.__module__}:{function.__name__}"
        self._found: dict[tuple[str, ...], Callable[[Sequence[int]], int] | None] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Call the library's function for arguments of these kinds; where there is none, Numba's."""
        found, words = library(), list[int]()
        if found is None:
            return self.dispatcher(*arguments)
        kinds = tuple([describe(argument, words) for argument in arguments])
        if kinds not in self._found:
            self._found[kinds] = found.function(self.name, kinds)
        function = self._found[kinds]
        return self.dispatcher(*arguments) if function is None else function(words)


def describe(argument: Any, words: list[int]) -> str:
    """The kind of an argument; what compiled code is handed is added to ``words``: see `asr.array_table`."""
    if isinstance(argument, ArrayTable):
        words.append(argument.address)
        return argument.kind
    if isinstance(argument, np.ndarray):
        words += (argument.__array_interface__["data"][0], *argument.shape)  # faster than `ctypes.data`
        return kind_of(argument)
    words.append(int(argument))
    return "integer"


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function at its first use, without the GIL, float division as in NumPy."""
    return lambda function: Compiled(function, _options(options), kept=True)


def inner(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that only compiled code calls: it is kept on disk as a part of those that call it.

    Python itself must not call it: there is nothing that would take its arguments apart.
    """
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **options}
    return lambda function: Compiled(function, _options(options), kept=False)


def entry(function: Callable[..., Any]) -> Any:
    """A function that recognition calls, compiled when the package is built. Neither it nor what it calls allocates."""
    return Entry(function, _options({"_nrt": False}))


def _options(options: dict[str, Any]) -> dict[str, Any]:
    return {"nogil": True, "error_model": "numpy", **options}
