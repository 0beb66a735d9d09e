"""The loss of the recurrent language model and its gradients at once, some hundred texts at a time.

Scores of all words for a whole step are more than a processor's cache holds: each of some twenty passes over them then
goes to memory, which takes most of a step's time. Of some hundred words they stay in the cache, and once the loss is
known there, so are the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_ROWS = 256  # at a time


class BandLoss(torch.autograd.Function):
    """The sum of minus the log probabilities of words: see `asr.train.second_lm_network.SecondNetwork.surprise`."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, ends: Sequence[int], hidden: Tensor, *parameters: Tensor) -> Tensor:
        """Args:
        numbers: of the words, ``(n,)`` int64.
        ends: the number after each band's last word.
        hidden: what the layer gave before each, ``(n, units)``; its type is that of the products.
        parameters: weight and bias of the other bands' scores; then of each band words, outputs and bias.
        """
        gradients = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        to_hidden = torch.zeros(hidden.shape, dtype=torch.float32)
        kind = hidden.dtype
        (band_weight, band_bias), rest = parameters[:2], parameters[2:]
        bands = [rest[3 * k : 3 * k + 3] for k in range(len(ends))]
        band_of = torch.bucketize(numbers, torch.tensor(ends), right=True)
        total = 0.0
        first = 0
        for k, (words, outputs, bias) in enumerate(bands):
            # All words have a part in the first sum; those of another band in that band's sum besides.
            chosen = torch.arange(len(numbers)) if k == 0 else (band_of == k).nonzero().squeeze(1)
            words_now, outputs_now = words.to(kind), outputs.to(kind)
            for at in torch.split(chosen, _ROWS):
                x = hidden[at]
                vectors = x @ outputs_now.t()
                own = torch.where(band_of[at] == k, numbers[at] - first, len(words) + band_of[at] - 1)
                scores = (vectors @ words_now.t()).float().add_(bias)
                if k == 0:
                    others = (x @ band_weight.to(kind).t()).float().add_(band_bias)
                    scores = torch.cat([scores, others], dim=1)
                log_sum = torch.logsumexp(scores, dim=1, keepdim=True)
                total += float((log_sum - scores.gather(1, own[:, None])).sum(dtype=torch.float64))
                scores.sub_(log_sum).exp_()
                scores.scatter_add_(1, own[:, None], torch.full((len(at), 1), -1.0))
                if k == 0:
                    others = scores[:, len(words) :]
                    gradients[0] += others.t() @ x.float()
                    gradients[1] += others.sum(0)
                    to_hidden[at] += others @ band_weight
                    scores = scores[:, : len(words)]
                gradients[2 + 3 * k + 2] += scores.sum(0)
                steep = scores.to(kind)
                gradients[2 + 3 * k] += steep.t() @ vectors
                to_vectors = steep @ words_now
                gradients[2 + 3 * k + 1] += to_vectors.t() @ x
                to_hidden[at] += to_vectors @ outputs_now
            first = ends[k]
        ctx.gradients, ctx.to_hidden = gradients, to_hidden.to(kind)
        return torch.tensor(total)

    @staticmethod
    def backward(ctx: Any, *steepness: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = steepness
        gradients = [gradient * factor for gradient in ctx.gradients]
        return None, None, ctx.to_hidden * factor, *gradients
