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


# What the parameters are called in the model file. Those of layers, # being a layer's number, lie end to end there; a
# cell's two biases are one, and a norm's two parameters are rows of one array.
_STORED = {
    "words": "words",
    "endings": "endings",
    "nothing": "nothing",
    "window.weight": "window",
    "window.bias": "window.bias",
    "out.weight": "out",
    "out.bias": "out.bias",
    "cells.#.weight_ih_l0": "cell.input",
    "cells.#.weight_hh_l0": "cell.memory",
    "cells.#.bias_ih_l0": "cell.bias",
    "norms.#.weight": "norm.weight",
    "norms.#.bias": "norm.bias",
    "last_norm.weight": "last_norm.weight",
    "last_norm.bias": "last_norm.bias",
}


def _own_names(name: str, layers: int) -> list[str]:
    """A name of `_STORED` for each layer."""
    return [name.replace("#", str(layer)) for layer in range(layers)] if "#" in name else [name]


class PunctuationNetwork(nn.Module):
    """LSTM layers over windows of words.

    Args:
        words: how many have a vector.
        endings: how many vectors there are for words' endings.
        width: of these.
        units: of each LSTM.
        lookahead: words after each that its window holds.
        layers: LSTMs.
        hints: what a language model says of each word, so many numbers.
    """

    def __init__(
        self, words: int, endings: int, width: int, units: int, lookahead: int, layers: int = 1, hints: int = 0
    ) -> None:
        super().__init__()
        self.units, self.lookahead = units, lookahead
        features = width + FEATURES + hints
        self.words = nn.Parameter(torch.randn(words, width) / math.sqrt(width))
        self.endings = nn.Parameter(torch.randn(endings, width) / math.sqrt(width))
        self.nothing = nn.Parameter(torch.zeros(features))
        self.window = nn.Linear((lookahead + 1) * features, units)
        self.norms = nn.ModuleList(nn.LayerNorm(units) for _ in range(layers))
        self.cells = nn.ModuleList(nn.LSTM(units, units) for _ in range(layers))
        self.last_norm = nn.LayerNorm(units)
        self.out = nn.Linear(units, OUTPUTS)
        for cell in self.cells:
            assert isinstance(cell, nn.LSTM)
            initialise_cell(cell)

    @property
    def matrices(self) -> list[str]:
        """Names of the parameters that Muon is for."""
        recurrent = (f"cells.{k}.weight_{part}_l0" for k in range(len(self.cells)) for part in ("ih", "hh"))
        return ["window.weight", *recurrent]

    def forward(
        self,
        numbers: Tensor,
        endings: Tensor,
        priors: Tensor,
        pauses: Tensor,
        hints: Tensor | None = None,
        kernels: Literal["torch", "native"] = "torch",
    ) -> Tensor:
        """Scores ``(length, lines, OUTPUTS)`` for words ``(length + lookahead, lines)``.

        Args:
            numbers: int64; those from the count of vectors on have none.
            endings: int64.
            priors: float32, log odds of a capital; NaN where that is not known.
            pauses: int64, before each word; `NEW_UTTERANCE` where no window may look across.
            hints: float32, with a further dimension; none if the network reads none.
        """
        dtype = torch.bfloat16 if kernels == "native" else torch.float32
        known = numbers < len(self.words)
        vectors = F.embedding(numbers.clamp_max(len(self.words) - 1), self.words) * known.unsqueeze(-1)
        vectors = vectors + F.embedding(endings, self.endings)
        said = ~priors.isnan()
        beside = torch.stack([priors.nan_to_num() / 4, said.float()], dim=-1)
        known_of_each = [vectors, beside, F.one_hot(pauses, PAUSE_KINDS), *([] if hints is None else [hints])]
        each = torch.cat(known_of_each, dim=-1).to(dtype)
        length = len(numbers) - self.lookahead
        parts = [each[:length]]
        over = torch.zeros(numbers[:length].shape, dtype=torch.bool)
        for k in range(1, self.lookahead + 1):
            over = over | (pauses[k : k + length] == NEW_UTTERANCE)
            parts.append(torch.where(over.unsqueeze(-1), self.nothing.to(dtype), each[k : k + length]))
        z = F.linear(torch.cat(parts, dim=-1), self.window.weight.to(dtype), self.window.bias.to(dtype))
        if kernels == "native":
            hidden = native.lstm_layers(z, self.norms, self.cells, self.last_norm)
        else:
            for norm, cell in zip(self.norms, self.cells, strict=True):
                z = z + cell(norm(z))[0]
            hidden = self.last_norm(z)
        scores: Tensor = F.linear(hidden, self.out.weight.to(hidden.dtype)).float() + self.out.bias
        return scores

    @classmethod
    def of_model(
        cls, model: Punctuation, lookahead: int, layers: int | None = None, hints: int | None = None
    ) -> PunctuationNetwork:
        """A network that says what a model says. Words further ahead, layers and hints beyond those that the model has
        are there, and change nothing yet.

        Args:
            model: to go on from.
            lookahead: words after each that the network reads.
            layers: LSTMs; as many as the model has if nobody says.
            hints: numbers beside each word; likewise.

        Raises ConfigError if the model has more of these.
        """
        stored, own_hints = model.stored, model.features - FEATURES
        layers, hints = model.layers if layers is None else layers, own_hints if hints is None else hints
        if lookahead < model.lookahead:
            raise ConfigError(f"the model reads {model.lookahead} words ahead: so many at least are to be read")
        if layers < model.layers or hints < own_hints:
            raise ConfigError(f"the model has {model.layers} layers and reads {own_hints} hints: no less can go on")
        network = cls(len(stored["words"]), len(stored["endings"]), model.width, model.units, lookahead, layers, hints)
        values = {name: np.array(value, np.float32) for name, value in model.stored.items()}
        for name in MATRICES:
            values[name] *= (values[f"{name}.peaks"] / PEAK)[:, None]
        for name in NORMS:
            values[f"{name}.weight"], values[f"{name}.bias"] = values[name]
        given: dict[str, Array] = {}
        for own, name in _STORED.items():
            names = _own_names(own, model.layers)
            given |= zip(names, np.split(values[name], len(names)), strict=True)
        state = network.state_dict()
        read = model.width + model.features
        window, nothing = given.pop("window.weight"), given.pop("nothing")
        wide = state["window.weight"].zero_().view(model.units, lookahead + 1, -1)
        wide[:, : model.lookahead + 1, :read] = torch.from_numpy(window).view(model.units, -1, read)
        state["nothing"][:read] = torch.from_numpy(nothing)
        for k in range(layers):
            state[f"cells.{k}.bias_hh_l0"].zero_()
        for k in range(model.layers, layers):  # a cell of which nothing is kept: its candidates are all zero
            for name in ("weight_ih", "weight_hh", "bias_ih"):
                state[f"cells.{k}.{name}_l0"][2 * model.units : 3 * model.units] = 0
        for name, value in given.items():
            state[name].copy_(torch.from_numpy(value))
        return network

    def values(self) -> dict[str, Array]:
        """The parameters under the names that the model file has."""
        arrays = {name: value.detach().float().numpy().copy() for name, value in self.state_dict().items()}

        def end_to_end(own: str) -> Array:
            return np.concatenate([arrays[name] for name in _own_names(own, len(self.cells))])

        values = {name: end_to_end(own) for own, name in _STORED.items()}
        values["cell.bias"] += end_to_end("cells.#.bias_hh_l0")
        norms = {name: np.stack([values.pop(f"{name}.weight"), values.pop(f"{name}.bias")]) for name in NORMS}
        return values | norms
