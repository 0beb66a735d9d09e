"""Arguments that are of the wrong kind, told by name: an error from further inside would help nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from asr.errors import AudioError, ConfigError

T = TypeVar("T")


def list_of(kinds: type | tuple[type, ...], values: Iterable[T], name: str, example: str) -> tuple[T, ...]:
    """All of an argument's values. Raises ConfigError, with an example, if it is no list or holds something else."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} must be a list, not {values!r:.60}: write {name}=[{example}]")
    chosen = tuple(values)
    for value in chosen:
        if not isinstance(value, kinds):
            raise ConfigError(f"{name} cannot hold {value!r:.60}: write {name}=[{example}]")
    return chosen


def lasting(values: Iterable[T]) -> Iterable[T]:
    """The same values, which can be gone through more than once."""
    return tuple(values) if isinstance(values, Iterator) else values


def check_rate_kind(sample_rate: object) -> None:
    """Raise AudioError for a sample rate in quotes."""
    if isinstance(sample_rate, str):
        raise AudioError(f"sample rate {sample_rate!r} is a string: give a number")


def check_chunk(pcm: object) -> None:
    """Raise AudioError for what is neither a NumPy array nor bytes."""
    if isinstance(pcm, np.ndarray):
        return
    try:
        memoryview(pcm)  # type: ignore[arg-type]
    except TypeError as error:
        kind = type(pcm).__name__
        raise AudioError(f"a chunk of audio is bytes or a NumPy array, not {kind}: convert it") from error


def check_source(source: object) -> None:
    """Raise AudioError for what is neither a path nor an open file."""
    if not isinstance(source, str | Path) and not hasattr(source, "read"):
        raise AudioError(
            f"what is transcribed is a path, an open file or a NumPy array, not {type(source).__name__}: convert it"
        )
