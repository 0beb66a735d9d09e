"""The recurrent language model as it is trained; `asr.search.second_lm` says what it is, and runs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.network.integers import widen_rows
from asr.network.model import initialise_cell
from asr.search.second_lm import BANDS, NAMES, NORMS, SecondLm
from asr.train import native

_RARER = -2.0  # where the two rarer bands begin in the first sum: their words are a tenth of a text


class SecondNetwork(nn.Module):
    """One LSTM layer over words.

    Args:
        sizes: words of each band, most frequent first; the last two are the unknown word and the start of a text.
        widths: of their vectors.
        units: of the LSTM.
    """

    def __init__(self, sizes: Sequence[int], widths: Sequence[int], units: int) -> None:
        super().__init__()
        self.ends, self.units = np.cumsum(sizes).tolist(), units
        self.words, self.inputs, self.outputs, self.bias = (nn.ParameterList() for _ in range(4))
        for size, width in zip(sizes, widths, strict=True):
            self.words.append(nn.Parameter(torch.randn(size, width) / math.sqrt(width)))
            self.inputs.append(nn.Parameter(torch.randn(units, width) / math.sqrt(width)))
            self.outputs.append(nn.Parameter(torch.randn(width, units) / math.sqrt(units)))
            self.bias.append(nn.Parameter(torch.zeros(size)))
        self.bands = nn.Linear(units, BANDS - 1)
        self.norm, self.last_norm = nn.LayerNorm(units), nn.LayerNorm(units)
        self.cell = nn.LSTM(units, units)
        with torch.no_grad():
            self.bands.weight.zero_()
            self.bands.bias.fill_(_RARER)
        initialise_cell(self.cell)

    def hidden(self, numbers: Tensor, kernels: Literal["torch", "native"] = "torch") -> Tensor:
        """What the layer gives after each word, ``(length, lines, units)``, for numbers ``(length, lines)`` int64."""
        z = self._vectors(numbers, torch.bfloat16 if kernels == "native" else torch.float32)
        if kernels == "native":
            return native.lstm_layers(z, [self.norm], [self.cell], self.last_norm)
        normed: Tensor = self.last_norm(z + self.cell(self.norm(z))[0])
        return normed

    def _vectors(self, numbers: Tensor, dtype: torch.dtype) -> Tensor:
        flat = numbers.flatten()
        out = torch.zeros(len(flat), self.units, dtype=dtype)
        for first, end, words, inputs in zip([0, *self.ends], self.ends, self.words, self.inputs, strict=False):
            at = ((flat >= first) & (flat < end)).nonzero().squeeze(1)
            vectors = F.embedding(flat[at] - first, words).to(dtype)
            out = out.index_copy(0, at, vectors @ inputs.to(dtype).t())
        return out.view(*numbers.shape, self.units)

    def surprise(self, hidden: Tensor, numbers: Tensor) -> Tensor:
        """Minus the log probability of each word, ``(n,)``, after texts whose layer gave ``hidden``, ``(n, units)``."""
        bands = F.linear(hidden, self.bands.weight.to(hidden.dtype)).float() + self.bands.bias
        near = self._scores(hidden, 0)
        total = torch.logsumexp(torch.cat([near, bands], dim=1), dim=1)
        band = torch.bucketize(numbers, torch.tensor(self.ends), right=True)
        own = near.gather(1, numbers.clamp_max(self.ends[0] - 1)[:, None])[:, 0]
        shared = bands.gather(1, (band - 1).clamp_min(0)[:, None])[:, 0]
        surprise: Tensor = total - torch.where(band == 0, own, shared)
        for k in range(1, BANDS):
            at = (band == k).nonzero().squeeze(1)
            within = F.cross_entropy(self._scores(hidden[at], k), numbers[at] - self.ends[k - 1], reduction="none")
            surprise = surprise.index_add(0, at, within)
        return surprise

    def _scores(self, hidden: Tensor, band: int) -> Tensor:
        dtype = hidden.dtype
        vectors = F.linear(hidden, self.outputs[band].to(dtype))
        scores: Tensor = F.linear(vectors, self.words[band].to(dtype)).float() + self.bias[band]
        return scores

    @classmethod
    def of_model(cls, model: SecondLm) -> SecondNetwork:
        """A network that says what a model says."""
        stored = model.stored
        values = {name: torch.from_numpy(widen_rows(stored[name], stored[f"{name}.peaks"])) for name in NAMES}
        values |= {name: torch.from_numpy(np.array(stored[name])) for name in stored if name.endswith(".bias")}
        sizes, widths = zip(*(values[f"words.{band}"].shape for band in range(BANDS)), strict=True)
        network = cls(sizes, widths, model.units)
        state = network.state_dict()
        for own, name in _stored_names().items():
            state[own].copy_(values[name])
        state["cell.bias_hh_l0"].zero_()
        for name in NORMS:
            for own, value in zip((f"{name}.weight", f"{name}.bias"), stored[name], strict=True):
                state[own].copy_(torch.from_numpy(np.array(value)))
        return network

    def finished(self, words: Sequence[str]) -> SecondLm:
        """The model that recognition takes."""
        arrays = {name: value.detach().float().numpy().copy() for name, value in self.state_dict().items()}
        values = {name: arrays[own] for own, name in _stored_names().items()}
        values["cell.input.bias"] += arrays["cell.bias_hh_l0"]
        values |= {name: np.stack([arrays[f"{name}.weight"], arrays[f"{name}.bias"]]) for name in NORMS}
        return SecondLm.of_parameters(words, values)


def _stored_names() -> dict[str, str]:
    """What the model's file calls parameters that it has as they are, but for the layer's second bias."""
    names = {
        "bands.weight": "bands",
        "bands.bias": "bands.bias",
        "cell.weight_ih_l0": "cell.input",
        "cell.weight_hh_l0": "cell.memory",
        "cell.bias_ih_l0": "cell.input.bias",
    }
    for band in range(BANDS):
        names |= {f"{part}.{band}": f"{part}.{band}" for part in ("words", "inputs", "outputs")}
        names[f"bias.{band}"] = f"words.{band}.bias"
    return names
