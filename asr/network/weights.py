"""A network's parameters as arrays, by name: how a model folder keeps them, and what every way to run it begins with.

Matrices are either float32 or already in 8-bit integers, which then have their rows' peaks beside them under
``NAME.peaks``: see `asr.network.integers`. Files hold the integers deflated, small ones being likelier than large ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import ModelError
from asr.mapped_arrays import MappedArrays, save_arrays
from asr.network.integers import quantize_rows, widen_rows
from asr.network.shape import BLOCK_TAPS, CONV_TAPS, GATES, ModelOptions

Array = np.ndarray[Any, Any]
Weights = Mapping[str, Array]

_PEAKS = ".peaks"
_DEFLATED = ".deflated"
_AGAIN = "Copy the model folder again, with all its files"


def shapes(options: ModelOptions) -> dict[str, tuple[int, ...]]:
    """The name and shape of each parameter that recognition needs."""
    o, gates = options, GATES[options.cell] * options.width
    found: dict[str, tuple[int, ...]] = {
        "mean": (o.mels,),
        "scale": (o.mels,),
        "conv1.weight": (o.conv_width, o.mels, CONV_TAPS),
        "conv1.bias": (o.conv_width,),
        "conv2.weight": (o.width, o.conv_width, CONV_TAPS),
        "conv2.bias": (o.width,),
        "norm.weight": (o.width,),
        "norm.bias": (o.width,),
        "output.weight": (o.stacked * o.outputs, o.width),
        "output.bias": (o.stacked * o.outputs,),
    }
    if o.stacked > 1:
        found |= {"stack.weight": (o.width, o.stacked * o.width), "stack.bias": (o.width,)}
        found |= {f"stack_norm.{part}": (o.stacked * o.width,) for part in ("weight", "bias")}
    for i in range(o.blocks):
        found |= {f"block_norms.{i}.{part}": (o.width,) for part in ("weight", "bias")}
        found |= {f"blocks.{i}.weight": (o.width, BLOCK_TAPS * o.width), f"blocks.{i}.bias": (o.width,)}
    for i in range(o.layers):
        found |= {f"norms.{i}.{part}": (o.width,) for part in ("weight", "bias")}
        for part in ("ih", "hh"):
            found |= {f"cells.{i}.weight_{part}_l0": (gates, o.width), f"cells.{i}.bias_{part}_l0": (gates,)}
    return found


class Inflating(Mapping[str, Array]):
    """Parameters of which some are inflated whenever they are asked for: who uses them keeps them in a form of its own.

    Args:
        path: where they are from.
        plain: those that are there as they are.
        deflated: of each other one the deflated integers and the shape.
    """

    def __init__(self, path: Path, plain: Weights, deflated: Mapping[str, tuple[Array, tuple[int, ...]]]) -> None:
        self._path, self._plain, self._deflated = path, dict(plain), dict(deflated)

    def __getitem__(self, name: str) -> Array:
        """Raises ModelError if the file is damaged."""
        if name not in self._deflated:
            return self._plain[name]
        data, shape = self._deflated[name]
        try:
            return np.frombuffer(zlib.decompress(data.data), np.int8).reshape(shape)
        except (zlib.error, ValueError) as error:
            raise ModelError(f"{self._path} is damaged or of another model ({name}: {error}). {_AGAIN}") from error

    def __iter__(self) -> Iterator[str]:
        yield from self._plain
        yield from self._deflated

    def __len__(self) -> int:
        return len(self._plain) + len(self._deflated)


def load_weights(path: Path, options: ModelOptions) -> Weights:
    """Read a file of parameters. Raises ModelError if it is damaged or of a network of another shape."""
    try:
        stored = MappedArrays(path).arrays
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged or of another model ({str(error).splitlines()[0]}). {_AGAIN}") from error
    plain: dict[str, Array] = {}
    deflated: dict[str, tuple[Array, tuple[int, ...]]] = {}
    for name, shape in shapes(options).items():
        value, data, peaks = (stored.get(name + form) for form in ("", _DEFLATED, _PEAKS))
        if data is not None:
            deflated[name] = data, shape
        elif value is None or value.shape != shape:
            what = f"has no {name}" if value is None else f"{name} is {value.shape}, not {shape}"
            raise ModelError(f"{path} is damaged or of another model ({what}). {_AGAIN}")
        else:
            plain[name] = value if value.dtype == np.int8 else value.astype(np.float32)
        if data is not None or plain[name].dtype == np.int8:
            if peaks is None or peaks.shape != shape[:1]:
                raise ModelError(f"{path} is damaged or of another model ({name} lacks its peaks). {_AGAIN}")
            plain[name + _PEAKS] = peaks.astype(np.float32)
        if not all(np.isfinite(plain.get(each, 0.0)).all() for each in (name, name + _PEAKS)):
            raise ModelError(f"{path} holds values that are not finite. {_AGAIN}")
    return Inflating(path, plain, deflated)


def save_weights(path: Path, weights: Weights) -> None:
    """Write parameters as they are stored: matrices in 8-bit integers with their rows' peaks, vectors in float32."""
    stored: dict[str, Array] = {}
    for name in weights:
        if name.endswith(_PEAKS):
            continue
        value = weights[name]
        if value.ndim > 1:
            integers, stored[name + _PEAKS] = integers_of(weights, name)
            stored[name + _DEFLATED] = _deflate(integers)
        else:
            stored[name] = np.ascontiguousarray(value, np.float32)
    save_arrays(path, stored)


def _deflate(integers: Array) -> Array:
    """As bytes in zlib's format. No sequence of weights comes twice: only how often each integer is there helps."""
    packer = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(packer.compress(integers.tobytes()) + packer.flush(), np.uint8)


def integers_of(weights: Weights, name: str) -> tuple[Array, Array]:
    """A matrix in 8-bit integers and its rows' peaks."""
    value = weights[name]
    return (value, weights[name + _PEAKS]) if value.dtype == np.int8 else quantize_rows(value)


def widened(weights: Weights) -> dict[str, Array]:
    """All parameters in float32."""
    return {
        name: widen_rows(value, weights[name + _PEAKS]) if value.dtype == np.int8 else value
        for name, value in weights.items()
        if not name.endswith(_PEAKS)
    }
