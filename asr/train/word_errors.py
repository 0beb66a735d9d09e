"""Training on what counts in the end: the word errors of what the search finds.

For each line the search, with the language models of the model that training starts from, lists its likeliest readings.
Their scores make them probabilities, and the loss is how many words are expected to be wrong:

    loss = sum over readings of P(reading) * errors(reading)        P ~ exp(sharpness * score)

A reading better than the list's mean gets likelier, a worse one less likely, each by way of all paths of its
pronunciations (`PhoneGraph`). CTC-CRF tells a text from all sequences of phonemes; this tells it from the very readings
that it is mistaken for, with all that the language models say of them. It is for a network that is trained already, at
a low rate and beside CTC-CRF. See R. Prabhavalkar et al., "Minimum word error rate training for attention-based
sequence-to-sequence models" (ICASSP 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import asr
from asr.errors import ConfigError
from asr.text.score import count_word_errors
from asr.train.crf import add_readings
from asr.train.phone_graph import PhoneGraph, Word

_READINGS = 12  # of a line
_BEAM = 80  # hypotheses: enough for the list, and cheap beside the step of the network
_SHARPNESS = 0.25  # as sure as the search is, one reading would be nearly certain, and nothing to be learned
_NEGLIGIBLE = 1e-4  # a reading that moves the loss by less is left out


class WordErrors:
    """Expected word errors of lines of logits.

    Args:
        folder: a model folder with a lexicon and a language model.

    Raises:
        ConfigError: it has none of these.
    """

    def __init__(self, folder: Path) -> None:
        recognizer = asr.load(folder)
        if recognizer.bundle.lexicon is None or recognizer.bundle.lm is None:
            raise ConfigError(
                "[training] word_errors needs a start with lm.safetensors and lexicon.safetensors in it: "
                f"{folder} lacks one"
            )
        self._recognizer, self._lexicon = recognizer, recognizer.bundle.lexicon
        # Readings may differ anywhere: in recognition what is long ago is settled, and so is not in the list.
        self._options = replace(recognizer.bundle.decoding, method="beam", beam=_BEAM, max_delay_steps=1_000_000)
        self._said: dict[str, Word] = {}

    def __call__(self, logits: Tensor, steps: Tensor, texts: Sequence[str]) -> Tensor:
        """The sum over all lines.

        Args:
            logits: ``(B, T, tokens)`` of any float type. Only their softmax counts.
            steps: ``(B,)`` integers, how many of T count.
            texts: what was said.
        """
        loss: Tensor = _Expected.apply(logits, steps.tolist(), texts, self)  # type: ignore[no-untyped-call]
        return loss

    def readings(self, log_probs: np.ndarray) -> list[tuple[str, float]]:
        """The likeliest readings of ``(steps, tokens)`` and their scores."""
        decoder = self._recognizer.make_decoder(self._options)
        decoder.accept(log_probs)
        best: dict[str, float] = {}
        for reading in decoder.finals(_READINGS):
            best.setdefault(reading.text, reading.score)  # one that differs in where its words lie comes later
        return [(text, score) for text, score in best.items() if all(self._ways(word) for word in text.split())]

    def graph(self, text: str) -> PhoneGraph:
        """All ways of saying a reading."""
        return PhoneGraph.of([self._ways(word) for word in text.split()])

    def _ways(self, word: str) -> Word:
        if word not in self._said:
            self._said[word] = tuple(self._lexicon.get(word, ()))
        return self._said[word]


def expectation(scores: np.ndarray, errors: np.ndarray) -> tuple[float, np.ndarray]:
    """The expected errors of a list of readings, and how they change with each score."""
    shares = np.exp(_SHARPNESS * (scores - scores.max()))
    shares /= shares.sum()
    mean = float(shares @ errors)
    return mean, _SHARPNESS * shares * (errors - mean)


class _Expected(torch.autograd.Function):
    """The gradient is made on the way there: the readings' shares of each step come out of the same sums."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        logits, lengths, texts, judge = args
        logs = torch.log_softmax(logits.detach().float().cpu(), dim=-1)
        p, gradient, total = logs.exp().contiguous(), torch.zeros_like(logs), 0.0
        for line, (count, text) in enumerate(zip(lengths, texts, strict=True)):
            readings = judge.readings(logs[line, :count].numpy())
            if not readings:
                continue
            errors = np.array([count_word_errors(text, reading).errors for reading, _ in readings], np.float64)
            mean, slopes = expectation(np.array([score for _, score in readings]), errors)
            total += mean
            counted = [(judge.graph(r), s) for (r, _), s in zip(readings, slopes, strict=True) if abs(s) > _NEGLIGIBLE]
            # The slopes of a list add up to nothing: what the softmax takes from all tokens alike cancels out.
            add_readings(p[line, :count], [graph for graph, _ in counted], [s for _, s in counted], gradient[line])
        ctx.save_for_backward(gradient.to(logits.device))
        ctx.dtype = logits.dtype
        return torch.tensor(total, device=logits.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).to(ctx.dtype), None, None, None
