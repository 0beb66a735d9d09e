"""The network's shape: what its files, its kernels and its training agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asr.errors import ConfigError

FRAME_REDUCTION = 3  # three 10 ms frames make one step of the network: characters need more than one step per 40 ms
CONV_TAPS = 3  # taps of each of the two first convolutions
CONV_HISTORY = 2 * (CONV_TAPS - 1) + 1 - FRAME_REDUCTION  # input frames before a chunk that its first output reads: 2
STACKED = (1, 2)  # steps that recurrent layers may take as one: they must divide those of a stream's block of audio
BLOCK_TAPS = 5  # taps of a block's convolution
_BLOCK_AHEAD = BLOCK_TAPS // 2  # of which so many may lie in the future
PRIOR_FRAMES = 100  # weight of the training data's mean in the running mean: one second
MEMORY_FRAMES = 2_000  # the running mean forgets what is longer ago than about this: twenty seconds

GATES = {"lstm": 4, "gru": 3, "rnn": 1}  # of each cell: its matrices have so many times the width of rows


@dataclass(frozen=True)
class ModelOptions:
    """The shape of the network."""

    mels: int = 80  # must be the feature extractor's
    tokens: int = 29  # must be the tokeniser's
    pieces: int = 0  # tokens of a second alphabet, of word pieces, which greedy decoding reads; 0: none
    cell: Literal["lstm", "gru", "rnn"] = "lstm"  # what carries memory from step to step
    layers: int = 3  # recurrent layers: each is slow to train, and the place where context is kept
    blocks: int = 3  # convolution blocks before them: quick to train, 120 ms of context each
    width: int = 384  # units per layer; cost grows with its square
    conv_width: int = 256  # channels of the first convolution
    stacked: int = 1  # steps of 30 ms that the recurrent layers take as one: 2 halves their cost
    lookahead_ms: int = 120  # future the output may see; all of it is added latency
    dropout: float = 0.05  # on each block's and layer's output, in training
    middle_ctc: bool = True  # a second CTC output below the recurrent layers, in training only

    def __post_init__(self) -> None:
        if self.cell not in GATES:
            raise ConfigError(f"unknown cell {self.cell!r}: choose one of {', '.join(GATES)}")
        if (
            min(self.mels, self.tokens, self.layers, self.width, self.conv_width) < 1
            or min(self.blocks, self.pieces) < 0
        ):
            raise ConfigError("mels, tokens, layers, width and conv_width must be at least 1, blocks and pieces 0")
        if self.stacked not in STACKED:
            raise ConfigError(f"stacked must be one of {', '.join(map(str, STACKED))}, not {self.stacked}")
        step_ms = 10 * FRAME_REDUCTION
        most_ms = self.blocks * _BLOCK_AHEAD * step_ms
        if not 0 <= self.lookahead_ms <= most_ms or self.lookahead_ms % step_ms:
            raise ConfigError(
                f"lookahead_ms must be a multiple of {step_ms} from 0 to {most_ms} with {self.blocks} blocks, "
                f"not {self.lookahead_ms}"
            )

    @property
    def outputs(self) -> int:
        """Logits per step: those of the tokens, then those of the pieces."""
        return self.tokens + self.pieces

    @property
    def frames(self) -> int:
        """Frames of audio that the network takes at least, and whole numbers of: what one recurrent step reads."""
        return FRAME_REDUCTION * self.stacked

    @property
    def delay(self) -> int:
        """How many outputs late the logits come: output ``t`` speaks of step ``t - delay``."""
        return self.lookahead_ms // (10 * FRAME_REDUCTION)

    @property
    def block_delays(self) -> tuple[int, ...]:
        """How late each block's output comes: the first blocks look ahead, as far as their taps reach."""
        return tuple(min(_BLOCK_AHEAD, max(0, self.delay - _BLOCK_AHEAD * i)) for i in range(self.blocks))
