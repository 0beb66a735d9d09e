"""The acoustic model: a unidirectional recurrent network whose whole memory is one explicit value.

    frames (B, T, mels)                           10 ms each
      -> normalise by the training data's mean and deviation
      -> two convolutions over time, the second with stride 3     30 ms each from here on
      -> layers x [ x + dropout(cell(norm(x))) ]                  cell: lstm, gru or rnn
      -> lookahead: a weighted sum with the next few outputs
      -> norm -> linear -> logits (B, T / 3, tokens)

There is no padding inside: what a convolution needs from before the chunk is in the state, and what
the lookahead needs from after it makes the output late instead. So a recording cut into chunks gives
what it gives whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from asr.errors import ConfigError

FRAME_REDUCTION = 3  # three 10 ms frames make one step of the network: characters need more than one step per 40 ms
_CONV_TAPS = 3  # taps of each of the two convolutions
_CONV_HISTORY = 2 * (_CONV_TAPS - 1) + 1 - FRAME_REDUCTION  # input frames before a chunk that its first output reads: 2


@dataclass(frozen=True)
class ModelOptions:
    """The shape of the network."""

    mels: int = 80  # must be the feature extractor's
    tokens: int = 29  # must be the tokeniser's
    cell: Literal["lstm", "gru", "rnn"] = "lstm"  # what carries memory from step to step
    layers: int = 4  # depth buys accuracy until about six
    width: int = 512  # units per layer; cost grows with its square
    conv_width: int = 256  # channels of the first convolution
    lookahead_ms: int = 120  # future the output may see; all of it is added latency
    dropout: float = 0.1  # on each layer's output, in training
    middle_ctc: bool = True  # a second CTC output half way up, in training only

    def __post_init__(self) -> None:
        if self.cell not in _CELLS:
            raise ConfigError(f"unknown cell {self.cell!r}: choose one of {', '.join(_CELLS)}")
        if min(self.mels, self.tokens, self.layers, self.width, self.conv_width) < 1:
            raise ConfigError("mels, tokens, layers, width and conv_width must be at least 1")
        if self.lookahead_ms < 0 or self.lookahead_ms % (10 * FRAME_REDUCTION):
            raise ConfigError(f"lookahead_ms must be a multiple of {10 * FRAME_REDUCTION}, not {self.lookahead_ms}")

    @property
    def delay(self) -> int:
        """How many outputs late the logits come: output ``t`` speaks of step ``t - delay``."""
        return self.lookahead_ms // (10 * FRAME_REDUCTION)


_CELLS: dict[str, Callable[[int, int], nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@dataclass(frozen=True)
class ModelState:
    """All that the network remembers of a batch of streams. Its size does not depend on their length."""

    frames: Tensor  # (B, 2, mels): normalised frames that the convolutions still need
    h: Tensor  # (layers, B, width): hidden state of each layer
    c: Tensor  # (layers, B, width): cell state of each layer; (layers, B, 0) for gru and rnn
    ahead: Tensor  # (B, delay, width): outputs that wait for their future

    @staticmethod
    def stack(states: Sequence[ModelState]) -> ModelState:
        """One state for a batch, of the states of its members, in order."""
        return ModelState(
            frames=torch.cat([state.frames for state in states]),
            h=torch.cat([state.h for state in states], dim=1),
            c=torch.cat([state.c for state in states], dim=1),
            ahead=torch.cat([state.ahead for state in states]),
        )

    def split(self) -> list[ModelState]:
        """The states of the batch's members: the inverse of `stack`. Each owns its memory."""
        return [
            ModelState(
                frames=self.frames[i : i + 1].clone(),
                h=self.h[:, i : i + 1].clone(),
                c=self.c[:, i : i + 1].clone(),
                ahead=self.ahead[i : i + 1].clone(),
            )
            for i in range(self.h.shape[1])
        ]


class AcousticModel(nn.Module):
    """See the top of this file. ``logits, state = model(frames, state)``."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        width = options.width
        self.register_buffer("mean", torch.zeros(options.mels))
        self.register_buffer("scale", torch.ones(options.mels))
        self.conv1 = nn.Conv1d(options.mels, options.conv_width, _CONV_TAPS)
        self.conv2 = nn.Conv1d(options.conv_width, width, _CONV_TAPS, stride=FRAME_REDUCTION)
        cell = _CELLS[options.cell]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(options.layers))
        self.cells = nn.ModuleList(cell(width, width) for _ in range(options.layers))
        # Row convolution: each unit has its own weights over itself and the next `delay` outputs.
        self.ahead = nn.Parameter(torch.zeros(options.delay + 1, width))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, options.tokens)
        self.middle = nn.Linear(width, options.tokens) if options.middle_ctc else None
        self._initialise()

    mean: Tensor
    scale: Tensor

    def _initialise(self) -> None:
        with torch.no_grad():
            self.ahead[0] = 1.0
            for cell in self.cells:
                for name, value in cell.named_parameters():
                    if name.startswith("weight_hh"):
                        for block in value.chunk(value.shape[0] // self.options.width):
                            nn.init.orthogonal_(block)
                    elif name.startswith("weight_ih"):
                        nn.init.normal_(value, std=1 / math.sqrt(self.options.width))
                    else:
                        nn.init.zeros_(value)
                        # A forget gate that starts open lets gradients reach far back.
                        if self.options.cell == "lstm" and name.startswith("bias_ih"):
                            value[self.options.width : 2 * self.options.width] = 1.0

    def set_normalisation(self, mean: Tensor, deviation: Tensor) -> None:
        """Fix the input normalisation: per mel bin, ``(mels,)`` each, from the training data."""
        self.mean.copy_(mean)
        self.scale.copy_(1 / deviation.clamp_min(1e-3))

    def initial_state(self, batch: int = 1) -> ModelState:
        """The state before the first frame of ``batch`` streams."""
        o, like = self.options, self.output.weight
        return ModelState(
            frames=like.new_zeros(batch, _CONV_HISTORY, o.mels),
            h=like.new_zeros(o.layers, batch, o.width),
            c=like.new_zeros(o.layers, batch, o.width if o.cell == "lstm" else 0),
            ahead=like.new_zeros(batch, o.delay, o.width),
        )

    def _drop(self, out: Tensor) -> Tensor:
        """Dropout with one mask per sequence, the same at all its steps: a recurrent layer cannot average it away."""
        rate = self.options.dropout
        if not self.training or rate == 0:
            return out
        keep = torch.rand(1, *out.shape[1:], device=out.device) >= rate
        return out * (keep.to(out.dtype) / (1 - rate))

    def forward(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Advance a batch by some frames.

        Args:
            frames: log-mel frames, shape ``(B, T, mels)``, T a multiple of 3.
            state: the state that the last call returned, or `initial_state`.

        Returns:
            Logits ``(B, T // 3, tokens)`` and the new state. Logits come `ModelOptions.delay` steps
            late: a stream's first ``delay`` outputs speak of nothing and are to be dropped, and
            ``3 * delay`` more frames must be fed after its end to get its last ones.
        """
        logits, _, state = self.run(frames, state)
        return logits, state

    def run(self, frames: Tensor, state: ModelState) -> tuple[Tensor, Tensor | None, ModelState]:
        """As `forward`, with the logits of the middle output second: what training needs."""
        if frames.shape[1] % FRAME_REDUCTION:
            raise ValueError(f"frames must come in multiples of {FRAME_REDUCTION}, not {frames.shape[1]}")
        x = torch.cat([state.frames, (frames - self.mean) * self.scale], dim=1)  # (B, 2 + T, mels)
        history = x[:, x.shape[1] - _CONV_HISTORY :]
        y = torch.relu(self.conv1(x.transpose(1, 2)))  # (B, conv_width, T)
        z = self.conv2(y).permute(2, 0, 1).contiguous()  # (T / 3, B, width): recurrent layers want time first

        middle: Tensor | None = None
        hs: list[Tensor] = []
        cs: list[Tensor] = []
        for i, (norm, cell) in enumerate(zip(self.norms, self.cells, strict=True)):
            h, c = state.h[i : i + 1], state.c[i : i + 1]
            out, memory = cell(norm(z), (h, c) if self.options.cell == "lstm" else h)
            h, c = memory if self.options.cell == "lstm" else (memory, c)
            hs.append(h)
            cs.append(c)
            z = z + self._drop(out)
            if self.middle is not None and self.training and i + 1 == (self.options.layers + 1) // 2:
                middle = self.middle(z).transpose(0, 1)

        # Output t is the weighted sum of steps t - delay ... t, the oldest of which it speaks of.
        z = torch.cat([state.ahead.transpose(0, 1).to(z.dtype), z])  # (delay + T / 3, B, width)
        delay, steps = self.options.delay, frames.shape[1] // FRAME_REDUCTION
        ahead = self.ahead.to(z.dtype)
        summed = z[:steps] * ahead[0]
        for i in range(1, delay + 1):
            summed = torch.addcmul(summed, z[i : i + steps], ahead[i])
        logits = self.output(self.norm(summed)).transpose(0, 1)
        after = ModelState(
            frames=history, h=torch.cat(hs).float(), c=torch.cat(cs).float(), ahead=z[steps:].transpose(0, 1).float()
        )
        return logits, middle, after
