"""The acoustic model in 8-bit integers: what recognition runs.

Same call as `asr.network.model.AcousticModel`, same state, about a quarter of the time for a single stream.
Weights are 8-bit with one scale per output unit, activations 8-bit with one scale per vector, sums
exact 32-bit integers, and everything between them plain float32 in a fixed order. So a stream's result
does not depend, in any bit, on which other streams are advanced in the same call: a guarantee that
floating-point matrix libraries do not give, and the reason for a kernel of our own (`quantized_kernel`).
Many streams at once go through a matrix library (`quantized_batch`), to the same bits.

Compiled by Numba at first use and cached on disk; it releases the GIL while it runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.network import quantized_batch, quantized_kernel
from asr.network.model import FRAME_REDUCTION, AcousticModel, ModelOptions, ModelState
from asr.network.quantized_weights import quantize


class QuantizedModel:
    """``logits, state = model(frames, state)``, as `AcousticModel`, for recognition only.

    Holds only constants: any number of threads may call it at once. Raises ModelError for a network that is too wide.
    """

    def __init__(self, model: AcousticModel) -> None:
        self.options: ModelOptions = model.options
        self._initial = model.initial_state
        self._weights = quantize(model)
        self._batch = quantized_batch.BatchKernel(self._weights)

    def initial_state(self, batch: int = 1) -> ModelState:
        """See `AcousticModel.initial_state`."""
        return self._initial(batch)

    def __call__(self, frames: Tensor, state: ModelState, pieces: bool = True) -> tuple[Tensor, ModelState]:
        """See `AcousticModel.forward`. Without pieces, no time is spent on them."""
        if frames.shape[1] % FRAME_REDUCTION:
            raise ValueError(f"frames must come in multiples of {FRAME_REDUCTION}, not {frames.shape[1]}")
        batch, steps = frames.shape[0], frames.shape[1] // FRAME_REDUCTION
        after = ModelState(*(part.clone(memory_format=torch.contiguous_format) for part in state.tensors()))
        w = self._weights
        output = w.output if pieces else w.letters
        logits = torch.empty(batch, steps, len(output.weight))
        arrays = [array.numpy() for array in (frames.contiguous(), *after.tensors(), logits)]
        if quantized_batch.is_faster(batch):
            self._batch.advance(*arrays)
        else:
            quantized_kernel.advance(
                *arrays, w.scale, w.conv1, w.conv2, w.blocks, w.delays, w.inputs, w.memory, w.norm, output, w.cell_code
            )
        return logits, after
