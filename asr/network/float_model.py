"""The network in float32, as it was trained: what recognition runs with ``precision="float32"``. Needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from asr.network.model import AcousticModel, ModelState
from asr.network.state import StreamState

Array = np.ndarray[Any, Any]


class FloatModel:
    """An `AcousticModel` with the arrays of `QuantizedModel` for tensors: the same call, the same state."""

    def __init__(self, model: AcousticModel) -> None:
        self.options = model.options
        self._model = model.eval()

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first frame of ``batch`` streams."""
        return StreamState.initial(self.options, self._model.mean.numpy(), batch)

    def __call__(self, frames: Array, state: StreamState, pieces: bool = True) -> tuple[Array, StreamState]:
        """See `AcousticModel.forward`."""
        return self.advance(frames, state, pieces)

    def advance(self, frames: Array, state: StreamState, pieces: bool = True) -> tuple[Array, StreamState]:
        """The same; ``state`` may be used up, and here is not."""
        with torch.inference_mode():
            before = ModelState(*(torch.from_numpy(part) for part in state.arrays()))
            logits, after = self._model(torch.from_numpy(frames), before, pieces)
            return logits.numpy(), StreamState(*(part.contiguous().numpy() for part in after.tensors()))
