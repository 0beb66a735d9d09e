"""A network's parameters as arrays, by name: how a model folder keeps them, and what every way to run it begins with.

Matrices are either float32 or already in 8-bit integers, which then have their rows' peaks beside them under
``NAME.peaks``: see `asr.network.integers`.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        "output.weight": (o.outputs, o.width),
        "output.bias": (o.outputs,),
    }
    for i in range(o.blocks):
        found |= {f"block_norms.{i}.{part}": (o.width,) for part in ("weight", "bias")}
        found |= {f"blocks.{i}.weight": (o.width, BLOCK_TAPS * o.width), f"blocks.{i}.bias": (o.width,)}
    for i in range(o.layers):
        found |= {f"norms.{i}.{part}": (o.width,) for part in ("weight", "bias")}
        for part in ("ih", "hh"):
            found |= {f"cells.{i}.weight_{part}_l0": (gates, o.width), f"cells.{i}.bias_{part}_l0": (gates,)}
    return found


def load_weights(path: Path, options: ModelOptions) -> Weights:
    """Read a file of parameters. Raises ModelError if it is damaged or of a network of another shape."""
    try:
        stored = MappedArrays(path).arrays
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged or of another model ({str(error).splitlines()[0]}). {_AGAIN}") from error
    weights: dict[str, Array] = {}
    for name, shape in shapes(options).items():
        value = stored.get(name)
        if value is None or value.shape != shape:
            what = f"has no {name}" if value is None else f"{name} is {value.shape}, not {shape}"
            raise ModelError(f"{path} is damaged or of another model ({what}). {_AGAIN}")
        if value.dtype == np.int8:
            peaks = stored.get(name + _PEAKS)
            if peaks is None or peaks.shape != shape[:1]:
                raise ModelError(f"{path} is damaged or of another model ({name} lacks its peaks). {_AGAIN}")
            weights[name], value = value, peaks
            weights[name + _PEAKS] = value = peaks.astype(np.float32)
        else:
            weights[name] = value = value.astype(np.float32)
        if not np.isfinite(value).all():
            raise ModelError(f"{path} holds values that are not finite. {_AGAIN}")
    return weights


def save_weights(path: Path, weights: Weights) -> None:
    """Write parameters as they are stored: matrices in 8-bit integers with their rows' peaks, vectors in float32."""
    stored: dict[str, Array] = {}
    for name, value in weights.items():
        if value.ndim > 1:
            stored[name], stored[name + _PEAKS] = integers_of(weights, name)
        elif not name.endswith(_PEAKS):
            stored[name] = np.ascontiguousarray(value, np.float32)
    save_arrays(path, stored)


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
