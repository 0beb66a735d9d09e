"""The acoustic model in 8-bit integers: what recognition runs.

The function of `asr.network.model.AcousticModel` without torch, in a quarter of its time for a single stream.
Weights are 8-bit with one scale per output unit, activations 8-bit with one scale per vector, sums
exact 32-bit integers, and everything between them plain float32 in a fixed order. So a stream's result
does not depend, in any bit, on which other streams are advanced in the same call: a guarantee that
floating-point matrix libraries do not give, and the reason for a kernel of our own (`quantized_kernel`).
On x86 all goes through products of many rows (`packed_kernel`), to the same bits. Compiled code releases the
GIL while it runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.array_table import ArrayTable
from asr.large_pages import in_large_pages
from asr.network import packed_kernel, packed_weights, quantized_kernel
from asr.network.quantized_weights import quantize
from asr.network.shape import FRAME_REDUCTION, GATES, ModelOptions
from asr.network.state import StreamState
from asr.network.weights import Weights

Array = np.ndarray[Any, Any]


class QuantizedModel:
    """``logits, state = model(frames, state)``, for recognition only.

    Holds only constants: any number of threads may call it at once. Raises ModelError for a network that is too wide.
    """

    def __init__(self, options: ModelOptions, weights: Weights) -> None:
        self.options = options
        self._mean = weights["mean"]
        quantized = quantize(options, weights)
        self._packed = packed_weights.available() and packed_weights.fits(quantized)
        constants = packed_weights.pack(quantized) if self._packed else quantized
        del quantized  # so that at most two copies are there at once
        self._weights = ArrayTable(in_large_pages(constants))

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first frame of ``batch`` streams."""
        return StreamState.initial(self.options, self._mean, batch)

    def __call__(self, frames: Array, state: StreamState, pieces: bool = True) -> tuple[Array, StreamState]:
        """Advance a batch by frames, ``(B, T, mels)`` float32: see `AcousticModel.forward`.

        Without pieces, no time is spent on them.
        """
        return self.advance(frames, state.copy(), pieces)

    def advance(self, frames: Array, state: StreamState, pieces: bool = True) -> tuple[Array, StreamState]:
        """The same with ``state``, whose arrays are in C order, used up: it becomes the new one."""
        options = self.options
        if frames.shape[1] % options.frames:
            raise ValueError(f"frames must come in multiples of {options.frames}, not {frames.shape[1]}")
        batch, steps = frames.shape[0], frames.shape[1] // FRAME_REDUCTION
        outputs = options.outputs if pieces else options.tokens
        logits = np.empty((batch, steps, outputs), np.float32)
        if self._packed:
            gates = GATES[options.cell] * options.width
            packed = packed_kernel.make_step(frames, state, logits, options.conv_width, gates, options.stacked)
            packed_kernel.advance(self._weights, ArrayTable(packed))
        else:
            step = quantized_kernel.make_step(frames, state, logits, options.conv_width)
            quantized_kernel.advance(self._weights, ArrayTable(step))
        return logits, state
