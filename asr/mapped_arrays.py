"""The arrays of a file in safetensors format, used where they lie: https://github.com/huggingface/safetensors.

They are read-only, need no memory of their own, and processes share them.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

_DTYPES = {
    "I8": np.int8,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
}


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], metadata: dict[str, str] | None = None) -> None:
    """Write such a file whole or not at all; processes that have an older one of its name keep that.

    Whoever may read new files may read it: a model is made by one user and served by another, and what safetensors'
    own `save_file` makes is its owner's alone.
    """
    part = path.with_name(path.name + ".part")
    part.write_bytes(save(dict(arrays), metadata))
    part.replace(path)


class MappedArrays:
    """A file's arrays by name. Raises OSError if it cannot be read, ValueError if it is damaged or something else."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = memoryview(self._mapping)
        begin = 8 + int.from_bytes(data[:8], "little")
        try:
            header: dict[str, Any] = json.loads(bytes(data[8:begin]))
            self.metadata: dict[str, str] = header.pop("__metadata__", {})
            self.arrays = {name: _view(data, begin, entry) for name, entry in header.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no header of safetensors: {error}") from error

    def release(self) -> None:
        """Give back what reading has brought in, as after a check of the whole file; what is used comes in again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)


def _view(data: memoryview, begin: int, entry: dict[str, Any]) -> np.ndarray[Any, Any]:
    low, high = entry["data_offsets"]
    array = np.frombuffer(data[begin + low : begin + high], dtype=_DTYPES[entry["dtype"]])
    return array.reshape(entry["shape"])
