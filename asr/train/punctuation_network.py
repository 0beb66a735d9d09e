"""The model of punctuation as it is trained; `asr.written.punctuation` says what it is."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.network.integers import PEAK
from asr.network.model import initialise_cell
from asr.train import native
from asr.written.punctuation import FEATURES, MATRICES, NEW_UTTERANCE, NORMS, OUTPUTS, PAUSE_KINDS, Punctuation

Array = np.ndarray[Any, Any]


# What the parameters are called in the model file, but for the cell's two biases, which are one there, and the norms.
_STORED = {
    "words": "words",
    "endings": "endings",
    "nothing": "nothing",
    "window.weight": "window",
    "window.bias": "window.bias",
    "cell.weight_ih_l0": "cell.input",
    "cell.weight_hh_l0": "cell.memory",
    "out.weight": "out",
    "out.bias": "out.bias",
}


class PunctuationNetwork(nn.Module):
    """One LSTM layer over windows of words.

    Args:
        words: how many have a vector.
        endings: how many vectors there are for words' endings.
        width: of these.
        units: of the LSTM.
        lookahead: words after each that its window holds.
    """

    def __init__(self, words: int, endings: int, width: int, units: int, lookahead: int) -> None:
        super().__init__()
        self.units, self.lookahead = units, lookahead
        self.words = nn.Parameter(torch.randn(words, width) / math.sqrt(width))
        self.endings = nn.Parameter(torch.randn(endings, width) / math.sqrt(width))
        self.nothing = nn.Parameter(torch.zeros(width + FEATURES))
        self.window = nn.Linear((lookahead + 1) * (width + FEATURES), units)
        self.norm, self.last_norm = nn.LayerNorm(units), nn.LayerNorm(units)
        self.cell = nn.LSTM(units, units)
        self.out = nn.Linear(units, OUTPUTS)
        initialise_cell(self.cell)

    def forward(
        self,
        numbers: Tensor,
        endings: Tensor,
        priors: Tensor,
        pauses: Tensor,
        kernels: Literal["torch", "native"] = "torch",
    ) -> Tensor:
        """Scores ``(length, lines, OUTPUTS)`` for words ``(length + lookahead, lines)``.

        Args:
            numbers: int64; those from the count of vectors on have none.
            endings: int64.
            priors: float32, log odds of a capital; NaN where that is not known.
            pauses: int64, before each word; `NEW_UTTERANCE` where no window may look across.
        """
        dtype = torch.bfloat16 if kernels == "native" else torch.float32
        known = numbers < len(self.words)
        vectors = F.embedding(numbers.clamp_max(len(self.words) - 1), self.words) * known.unsqueeze(-1)
        vectors = vectors + F.embedding(endings, self.endings)
        said = ~priors.isnan()
        beside = torch.stack([priors.nan_to_num() / 4, said.float()], dim=-1)
        each = torch.cat([vectors, beside, F.one_hot(pauses, PAUSE_KINDS)], dim=-1).to(dtype)
        length = len(numbers) - self.lookahead
        parts = [each[:length]]
        over = torch.zeros(numbers[:length].shape, dtype=torch.bool)
        for k in range(1, self.lookahead + 1):
            over = over | (pauses[k : k + length] == NEW_UTTERANCE)
            parts.append(torch.where(over.unsqueeze(-1), self.nothing.to(dtype), each[k : k + length]))
        z = F.linear(torch.cat(parts, dim=-1), self.window.weight.to(dtype), self.window.bias.to(dtype))
        if kernels == "native":
            hidden = native.lstm_layer(z, self.norm, self.cell, self.last_norm)
        else:
            hidden = self.last_norm(z + self.cell(self.norm(z))[0])
        scores: Tensor = F.linear(hidden, self.out.weight.to(hidden.dtype)).float() + self.out.bias
        return scores

    @classmethod
    def of_model(cls, model: Punctuation, lookahead: int) -> PunctuationNetwork:
        """A network that says what a model says, with a window of more words that it makes nothing of yet.

        Raises ConfigError if the model reads more words ahead.
        """
        if lookahead < model.lookahead:
            raise ConfigError(f"the model reads {model.lookahead} words ahead: so many at least are to be read")
        network = cls(len(model.stored["words"]), len(model.stored["endings"]), model.width, model.units, lookahead)
        values = {name: np.array(value, np.float32) for name, value in model.stored.items()}
        for name in MATRICES:
            values[name] *= (values[f"{name}.peaks"] / PEAK)[:, None]
        given = {own: values[name] for own, name in _STORED.items()}
        given |= {f"{name}.{part}": values[name][row] for name in NORMS for row, part in enumerate(("weight", "bias"))}
        given["cell.bias_ih_l0"] = values["cell.bias"]
        state = network.state_dict()
        state["window.weight"].zero_()
        state["window.weight"][:, : values["window"].shape[1]] = torch.from_numpy(given.pop("window.weight"))
        state["cell.bias_hh_l0"].zero_()
        for name, value in given.items():
            state[name].copy_(torch.from_numpy(value))
        return network

    def values(self) -> dict[str, Array]:
        """The parameters under the names that the model file has."""
        arrays = {name: value.detach().float().numpy().copy() for name, value in self.state_dict().items()}
        values = {name: arrays[own] for own, name in _STORED.items()}
        values["cell.bias"] = arrays["cell.bias_ih_l0"] + arrays["cell.bias_hh_l0"]
        return values | {name: np.stack([arrays[f"{name}.weight"], arrays[f"{name}.bias"]]) for name in NORMS}
