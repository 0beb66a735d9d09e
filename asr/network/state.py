"""What a stream's network remembers: arrays of a size that does not depend on how much was heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.network.shape import BLOCK_TAPS, CONV_HISTORY, PRIOR_FRAMES, ModelOptions

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StreamState:
    """All that the network remembers of a batch of streams, float32. Its size does not depend on their length."""

    mean: Array  # (B, mels): running mean of the frames
    count: Array  # (B, 1): how many frames it stands for
    frames: Array  # (B, 2, mels): normalised frames that the first convolutions still need
    steps: Array  # (B, blocks, 4, width): inputs that each block still needs
    h: Array  # (B, layers, width): hidden state of each layer
    c: Array  # (B, layers, width): cell state of each layer; (B, layers, 0) for gru and rnn

    @staticmethod
    def initial(options: ModelOptions, mean: Array, batch: int = 1) -> StreamState:
        """The state before the first frame of ``batch`` streams; ``mean`` is the training data's, ``(mels,)``."""
        o = options

        def zeros(*shape: int) -> Array:
            return np.zeros((batch, *shape), np.float32)

        return StreamState(
            mean=np.repeat(mean[None].astype(np.float32), batch, axis=0),
            count=np.full((batch, 1), PRIOR_FRAMES, np.float32),
            frames=zeros(CONV_HISTORY, o.mels),
            steps=zeros(o.blocks, BLOCK_TAPS - 1, o.width),
            h=zeros(o.layers, o.width),
            c=zeros(o.layers, o.width if o.cell == "lstm" else 0),
        )

    @staticmethod
    def stack(states: Sequence[StreamState]) -> StreamState:
        """One state for a batch, of the states of its members, in order, in memory of its own."""
        return StreamState(*(np.concatenate(parts) for parts in zip(*(s.arrays() for s in states), strict=True)))

    def split(self) -> list[StreamState]:
        """The states of the batch's members: the inverse of `stack`. None shares memory with another."""
        if len(self.mean) == 1:
            return [self]
        return [StreamState(*(part[i : i + 1].copy() for part in self.arrays())) for i in range(len(self.mean))]

    def copy(self) -> StreamState:
        """The same in memory of its own."""
        return StreamState(*(np.array(part, order="C") for part in self.arrays()))

    def arrays(self) -> tuple[Array, Array, Array, Array, Array, Array]:
        """All parts, in order; the batch is the first dimension of each."""
        return self.mean, self.count, self.frames, self.steps, self.h, self.c
