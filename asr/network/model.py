r"""The acoustic model: a unidirectional recurrent network whose whole memory is one explicit value.

    frames (B, T, mels)                                         10 ms each
      -> minus a running mean of the stream, over the training data's deviation
      -> two convolutions over time, the second with stride 3    30 ms each from here on
      -> blocks x [ x + relu(conv5(norm(x))) ]                   all lookahead is here
      -> if `stacked` is 2: mean of two + linear(norm(both))    60 ms each from here on, then
      -> layers x [ x + cell(norm(x)) ]                          cell: lstm, gru or rnn
      -> norm -> linear -> logits (B, T / 3, outputs)        letters, and beside them word pieces, if it has any

There is no padding inside: what a convolution needs from before the chunk is in the state, and what
the lookahead needs from after it makes the output late instead::

    inputs of a block   t-4  t-3  t-2  t-1   t
                          \    \    |    /   /
    its output                     t            = x[t-2] + relu(conv(...)): speaks of t-2, comes at t

So a recording cut into chunks gives what it gives whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.network.shape import (
    BLOCK_TAPS,
    CONV_HISTORY,
    CONV_TAPS,
    FRAME_REDUCTION,
    MEMORY_FRAMES,
    PRIOR_FRAMES,
    ModelOptions,
)
from asr.network.weights import Weights, shapes, widened

_CELLS: dict[str, Callable[[int, int], nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@dataclass(frozen=True)
class ModelState:
    """All that the network remembers of a batch of streams, as tensors: see `asr.network.state.StreamState`."""

    mean: Tensor
    count: Tensor
    frames: Tensor
    steps: Tensor
    h: Tensor
    c: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All parts, in order; the batch is the first dimension of each."""
        return self.mean, self.count, self.frames, self.steps, self.h, self.c


class AcousticModel(nn.Module):
    """See the top of this file. ``logits, state = model(frames, state)``."""

    mean: Tensor
    scale: Tensor

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        width = options.width
        self.register_buffer("mean", torch.zeros(options.mels))
        self.register_buffer("scale", torch.ones(options.mels))
        self.conv1 = nn.Conv1d(options.mels, options.conv_width, CONV_TAPS)
        self.conv2 = nn.Conv1d(options.conv_width, width, CONV_TAPS, stride=FRAME_REDUCTION)
        self.block_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(options.blocks))
        # A linear map of five steps laid end to end: the same as a convolution, and faster on time-major data.
        self.blocks = nn.ModuleList(nn.Linear(BLOCK_TAPS * width, width) for _ in range(options.blocks))
        cell = _CELLS[options.cell]
        stacked = options.stacked * width  # laid end to end, too
        self.stack_norm = nn.LayerNorm(stacked) if options.stacked > 1 else None
        self.stack = nn.Linear(stacked, width) if options.stacked > 1 else None
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(options.layers))
        self.cells = nn.ModuleList(cell(width, width) for _ in range(options.layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, options.stacked * options.outputs)
        self.middle = nn.Linear(width, options.tokens) if options.middle_ctc else None
        self._initialise()

    @staticmethod
    def of_weights(options: ModelOptions, weights: Weights) -> AcousticModel:
        """A network with these parameters, in evaluation mode."""
        model = AcousticModel(options)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in widened(weights).items()})
        return model.eval()

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters that recognition needs, float32, by name."""
        values = self.state_dict()
        return {name: values[name].float().numpy(force=True) for name in shapes(self.options)}

    def _initialise(self) -> None:
        with torch.no_grad():
            for block in self.blocks:
                assert isinstance(block, nn.Linear)
                nn.init.kaiming_normal_(block.weight, nonlinearity="relu")
                nn.init.zeros_(block.bias)
            if self.stack is not None:
                nn.init.zeros_(self.stack.weight)
                nn.init.zeros_(self.stack.bias)
            for cell in self.cells:
                assert isinstance(cell, nn.RNNBase)
                initialise_cell(cell)

    def set_normalisation(self, mean: Tensor, deviation: Tensor) -> None:
        """Fix the input normalisation: per mel bin, ``(mels,)`` each, from the training data."""
        self.mean.copy_(mean)
        self.scale.copy_(1 / deviation.clamp_min(1e-3))

    def initial_state(self, batch: int = 1) -> ModelState:
        """The state before the first frame of ``batch`` streams."""
        o, like = self.options, self.output.weight
        return ModelState(
            mean=self.mean.expand(batch, -1).clone(),
            count=like.new_full((batch, 1), PRIOR_FRAMES),
            frames=like.new_zeros(batch, CONV_HISTORY, o.mels),
            steps=like.new_zeros(batch, o.blocks, BLOCK_TAPS - 1, o.width),
            h=like.new_zeros(batch, o.layers, o.width),
            c=like.new_zeros(batch, o.layers, o.width if o.cell == "lstm" else 0),
        )

    def forward(self, frames: Tensor, state: ModelState, pieces: bool = True) -> tuple[Tensor, ModelState]:
        """Advance a batch by some frames.

        Args:
            frames: log-mel frames, shape ``(B, T, mels)``, T a multiple of `ModelOptions.frames`.
            state: the state that the last call returned, or `initial_state`.
            pieces: whether the logits of the word pieces are wanted.

        Returns:
            Logits ``(B, T // 3, outputs)``, or only those of the tokens, and the new state. Logits come
            `ModelOptions.delay` steps late: a stream's first ``delay`` outputs speak of nothing and are to be
            dropped, and ``3 * delay`` more frames must be fed after its end to get its last ones.
        """
        logits, _, state = self.run(frames, state)
        return (logits if pieces else logits[:, :, : self.options.tokens]), state

    def run(self, frames: Tensor, state: ModelState) -> tuple[Tensor, list[Tensor], ModelState]:
        """As `forward`, and what training needs besides.

        Second comes what the blocks give, ``(T // 3, B, width)``, and then each recurrent layer, whose steps may be
        fewer: time first, as the layers have it.
        """
        if frames.shape[1] % self.options.frames:
            raise ValueError(f"frames must come in multiples of {self.options.frames}, not {frames.shape[1]}")
        normal, mean, count = self.normalise(frames, state.mean, state.count)
        x = torch.cat([state.frames, normal], dim=1)  # (B, 2 + T, mels)
        z = self.first_steps(x)
        steps = len(z)

        buffers: list[Tensor] = []
        for i in range(self.options.blocks):
            z = torch.cat([state.steps[:, i].transpose(0, 1).to(z.dtype), z])  # (4 + S, B, width)
            buffers.append(z[steps:].transpose(0, 1).float())
            z = self.add_block(i, z, self.taps(i, z))

        inner = [z]
        z = self.stack_steps(z)
        hs: list[Tensor] = []
        cs: list[Tensor] = []
        for i, cell in enumerate(self.cells):
            h, c = state.h[:, i][None].contiguous(), state.c[:, i][None].contiguous()
            if self.options.cell == "lstm":
                out, (h, c) = cell(self.cell_inputs(i, z), (h, c))
            else:
                out, h = cell(self.cell_inputs(i, z), h)
            hs.append(h[0].float())
            cs.append(c[0].float())
            z = z + self._drop(out)
            inner.append(z)

        logits = self.unstack_rows(self.output(_normed(self.norm, z)))
        steps_after = torch.stack(buffers, dim=1) if buffers else state.steps
        after = ModelState(
            mean=mean,
            count=count,
            frames=x[:, x.shape[1] - CONV_HISTORY :],
            steps=steps_after,
            h=torch.stack(hs, dim=1),
            c=torch.stack(cs, dim=1),
        )
        return logits, inner, after

    def first_steps(self, x: Tensor) -> Tensor:
        """What the blocks read, ``(T / 3, B, width)``, of normalised frames ``(B, 2 + T, mels)``, two of them past."""
        y = torch.relu(self.conv1(x.transpose(1, 2)))  # (B, conv_width, T)
        z: Tensor = self.conv2(y)
        return z.permute(2, 0, 1).contiguous()  # recurrent layers want time first

    def taps(self, block: int, z: Tensor) -> Tensor:
        """What a block multiplies, ``(S, B, 5 * width)``, of its steps ``(4 + S, B, width)``, four of them before."""
        normed, steps = _normed(self.block_norms[block], z), len(z) - BLOCK_TAPS + 1
        return torch.cat([normed[k : k + steps] for k in range(BLOCK_TAPS)], dim=-1)

    def add_block(self, block: int, z: Tensor, taps: Tensor) -> Tensor:
        """What a block gives of the same steps and their `taps`, ``(S, B, width)``."""
        start = BLOCK_TAPS - 1 - self.options.block_delays[block]
        return z[start : start + len(taps)] + self._drop(torch.relu(self.blocks[block](taps)))

    def stack_steps(self, z: Tensor) -> Tensor:
        """Of the blocks' steps ``(S, B, width)`` what the recurrent layers read, ``(S / stacked, B, width)``."""
        if self.stack is None or self.stack_norm is None:
            return z
        count = self.options.stacked
        parts = [z[k::count] for k in range(count)]
        normed = _normed(self.stack_norm, torch.cat(parts, dim=-1))
        mean: Tensor = sum(parts[1:], parts[0]) / count
        return mean + F.linear(normed, self.stack.weight.to(z.dtype), self.stack.bias.to(z.dtype))

    def cell_inputs(self, layer: int, z: Tensor) -> Tensor:
        """What a recurrent layer multiplies of the steps that come to it."""
        return _normed(self.norms[layer], z)

    def unstack_rows(self, scores: Tensor) -> Tensor:
        """Logits ``(B, S, outputs)`` of what the output gives, ``(S / stacked, B, stacked * outputs)``.

        Of its outputs, those of the tokens come first, for one step after another, then those of the pieces.
        """
        scores = scores.transpose(0, 1)
        o = self.options
        if o.stacked == 1:
            return scores
        tokens = o.stacked * o.tokens
        parts = (scores[..., :tokens], scores[..., tokens:])
        rows = [part.reshape(len(part), -1, part.shape[2] // o.stacked) for part in parts if part.shape[-1]]
        return torch.cat(rows, dim=-1)

    def normalise(self, frames: Tensor, mean: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Subtract from each frame the mean of the stream up to and with it, and scale.

        The mean starts as the training data's with the weight of a second, follows the stream's own
        level and colour, and forgets what is long ago.
        """
        # While nothing is forgotten the running mean is a cumulative sum; the recursion is only for long streams.
        length = frames.shape[1]
        counts = count + torch.arange(1, length + 1, dtype=count.dtype, device=count.device)  # (B, T)
        if bool((counts[:, -1] <= MEMORY_FRAMES).all()):
            means = (mean * count)[:, None] + frames.cumsum(dim=1)
            means = means / counts[:, :, None]
            return (frames - means) * self.scale, means[:, -1], counts[:, -1:]
        rows = []
        for t in range(length):
            count = (count + 1).clamp_max(MEMORY_FRAMES)
            mean = mean + (frames[:, t] - mean) / count
            rows.append(mean)
        return (frames - torch.stack(rows, dim=1)) * self.scale, mean, count

    def _drop(self, out: Tensor) -> Tensor:
        """Dropout with one mask per sequence, the same at all its steps: a recurrent layer cannot average it away."""
        rate = self.options.dropout
        if not self.training or rate == 0:
            return out
        keep = torch.rand(1, *out.shape[1:], device=out.device) >= rate
        return out * (keep.to(out.dtype) / (1 - rate))


def initialise_cell(cell: nn.RNNBase) -> None:
    """Random weights for a recurrent layer: orthogonal from step to step, small from its input."""
    with torch.no_grad():
        for name, value in cell.named_parameters():
            if name.startswith("weight_hh"):
                for part in value.chunk(value.shape[0] // cell.hidden_size):
                    nn.init.orthogonal_(part)
            elif name.startswith("weight_ih"):
                nn.init.normal_(value, std=1 / math.sqrt(3 * cell.hidden_size))
            else:
                nn.init.zeros_(value)
                # A forget gate that starts open lets gradients reach far back.
                if isinstance(cell, nn.LSTM) and name.startswith("bias_ih"):
                    value[cell.hidden_size : 2 * cell.hidden_size] = 1.0


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalise in float32, whatever ``x`` is in: in bfloat16 a CPU sums the gradient of the norm's weights in
    bfloat16, too, and a long batch leaves little of it."""
    normed: Tensor = norm(x.float())
    return normed.to(x.dtype)
