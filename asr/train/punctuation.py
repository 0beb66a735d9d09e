"""Training of the model of punctuation and capitals on running text: what ``asr punctuation train`` does."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asr.errors import ConfigError, DataError
from asr.train.mark_balance import balance
from asr.train.marked_text import CAPITAL, COMMA, NONE, UNSAID, MarkedText, WordForms
from asr.train.punctuation_network import PunctuationNetwork
from asr.train.punctuation_words import WordTable
from asr.written.punctuation import (
    MARKS,
    NEW_UTTERANCE,
    UNKNOWN_PAUSE,
    Punctuation,
)

_SHOWN = 100  # steps from one report to the next
_JUDGED = 20  # steps' worth of text on which marks are balanced
_SAVED_S = 240.0  # from one checkpoint to the next
# How often pauses of each kind follow a word with each mark: in 4,300 places of read training speech as recognised, and
# as a speaker may do who stops to think.
READ_PAUSES = np.array([[0.69, 0.27, 0.035, 0.005], [0.10, 0.29, 0.42, 0.19], *[[0.01, 0.02, 0.12, 0.85]] * 2])
LOOSE_PAUSES = np.array([[0.72, 0.15, 0.08, 0.05], [0.35, 0.25, 0.25, 0.15], *[[0.12, 0.13, 0.30, 0.45]] * 2])


@dataclass(frozen=True)
class PunctuationOptions:
    """The model's shape and how to train it."""

    words: int = 20_000  # most frequent ones have vectors of their own
    listed: int = 100_000  # so many have a prior for capitals
    endings: int = 4_096  # vectors of words' last letters
    width: int = 64  # of these vectors: most of the file
    units: int = 288  # of the LSTM; a native kernel needs a multiple of 32
    lookahead: int = 4  # words after each that are read before it is decided: text settles so much later
    lines: int = 128  # texts in a step
    length: int = 64  # words of each
    steps: int = 5_000  # in all; the learning rate falls to zero at the last
    learning_rate: float = 3e-3  # its peak
    warmup_steps: int = 100  # it rises from zero over these
    average_decay: float = 0.995  # running average of the weights, which is what is kept
    unheard: float = 0.35  # share of lines whose pauses are unknown
    misheard: float = 0.03  # share of words put in place of others, as recognition does
    kernels: Literal["torch", "native"] = "torch"  # native: ours, in C, for CPUs with AMX or AVX-512 BF16
    seed: int = 3  # of the initial weights and of the texts' order

    def __post_init__(self) -> None:
        if min(self.words, self.endings, self.lookahead, self.steps, self.lines, self.length) < 1:
            raise ConfigError("words, endings, lookahead, steps, lines and length must be at least 1")


def shared(texts: Sequence[tuple[MarkedText, float | None]]) -> list[tuple[MarkedText, float]]:
    """Texts with their shares, of one in all: those without one have the rest, by their lengths."""
    rest = max(0.0, 1.0 - sum(share for _, share in texts if share is not None))
    words = sum(len(text.words) for text, share in texts if share is None)
    return [(text, rest * len(text.words) / max(1, words) if share is None else share) for text, share in texts]


class PunctuationTrainer:
    """One run, resumable from the checkpoint beside its output."""

    def __init__(
        self,
        output: Path,
        texts: Sequence[tuple[MarkedText, float]],
        forms: WordForms,
        options: PunctuationOptions,
    ) -> None:
        """Args:
        output: the file to write.
        texts: and their shares of what is trained on.
        forms: the words that the texts' numbers stand for.
        options: see there.
        """
        self.output, self.options = output, options
        size = options.length + options.lookahead
        texts = [(text, share) for text, share in texts if len(text.words) > size and share > 0]
        if not texts:
            raise DataError(f"no text has more than {size} words to learn from")
        self.texts = [text for text, _ in texts]
        shares = np.array([share for _, share in texts])
        self.shares = shares / shares.sum()
        counts = np.zeros(len(forms.words))
        for text in self.texts:
            counts += np.bincount(text.words, minlength=len(forms.words))
        self.table = WordTable(forms, counts, options.words, options.listed, options.endings)
        self.starts = [np.flatnonzero(np.append(True, (text.marks > COMMA) | text.ends)[:-1]) for text in self.texts]
        torch.manual_seed(options.seed)
        self.model = PunctuationNetwork(
            min(options.words, len(self.table.words)),
            options.endings,
            options.width,
            options.units,
            options.lookahead,
        )
        self.table.numbers = np.minimum(self.table.numbers, len(self.model.words))
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        named = dict(self.model.named_parameters())
        matrices = [named.pop(name) for name in ("window.weight", "cell.weight_ih_l0", "cell.weight_hh_l0")]
        others = list(named.values())
        rate = options.learning_rate
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self.step = 0
        self.checkpoint = output.with_name(output.name + ".checkpoint.pt")
        if self.checkpoint.exists():
            self._resume()

    def run(self, report: Callable[[str], None] = print) -> Punctuation:
        """Train to the end and write the model."""
        options = self.options
        words = sum(len(text.words) for text in self.texts)
        report(f"{words:,} words of text; step {self.step} of {options.steps}")
        saved_at = shown_at = time.monotonic()
        total = count = 0.0
        while self.step < options.steps:
            total += self._train_step()
            count += 1
            self.step += 1
            now = time.monotonic()
            if self.step % _SHOWN == 0:
                speed = count * options.lines * options.length / (now - shown_at)
                report(f"step {self.step}: loss {total / count:.4f}, {speed:,.0f} words a second")
                total, count, shown_at = 0.0, 0.0, now
            if now - saved_at > _SAVED_S:
                self._save()
                saved_at = now
        model = self.finished()
        model.save(self.output)
        self.checkpoint.unlink(missing_ok=True)
        return model

    def finished(self) -> Punctuation:
        """The model that recognition takes, of the averaged weights."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.out.bias.data += balance(*self._judged())
        model = Punctuation.of_parameters(self.table.words, self.table.forms, self.table.stored, self.model.values())
        self.model.load_state_dict(before)
        return model

    def _judged(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores of stretches of text that are yet to come, their marks and their capitals."""
        parts = []
        with torch.no_grad():
            for step in range(self.options.steps, self.options.steps + _JUDGED):
                *inputs, marks, capitals = self._batch(step)
                scores = self.model(*inputs, kernels=self.options.kernels)
                parts.append((scores.flatten(0, 1).numpy(), marks.flatten().numpy(), capitals.flatten().numpy()))
        found, there, own = (np.concatenate(part) for part in zip(*parts, strict=True))
        return found, there, own

    def _line(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Words, marks, capitals and pauses of a stretch of text, some of it in utterances of their own."""
        o = self.options
        at = int(rng.choice(len(self.texts), p=self.shares))
        text, starts, size = self.texts[at], self.starts[at], o.length + o.lookahead
        first = min(int(starts[rng.integers(len(starts))]), len(text.words) - size)
        cut = slice(first, first + size)
        words, marks, ends = text.words[cut], text.marks[cut].astype(np.int64), text.ends[cut]
        capitals = text.capitals[cut].astype(np.int64)
        wrong = rng.random(size) < o.misheard
        words = np.where(wrong, text.words[rng.integers(len(text.words), size=size)], words)
        capitals = np.where(wrong, UNSAID, capitals)
        chances = np.array([0.01, rng.choice([0.03, 0.25]), *[rng.choice([0.1, 0.6, 0.95])] * 2])
        over = ends | (rng.random(size) < chances[marks])
        if rng.random() < o.unheard:
            pauses = np.full(size, UNKNOWN_PAUSE)
        else:
            loose = rng.choice([0.0, 0.5, 1.0])
            edges = (loose * LOOSE_PAUSES + (1 - loose) * READ_PAUSES).cumsum(axis=1)[marks][:, :-1]
            pauses = 1 + (rng.random(size)[:, None] > edges).sum(axis=1)
        pauses = np.concatenate([[NEW_UTTERANCE], np.where(over, NEW_UTTERANCE, pauses)[:-1]])
        # A line without a full stop may be a heading: what its last word lacks is no lesson.
        marks = np.where(ends & (marks == NONE), -1, marks)
        return words, marks, capitals, pauses

    def _batch(self, step: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng((self.options.seed, step))
        lines = zip(*(self._line(rng) for _ in range(self.options.lines)), strict=True)
        words, marks, capitals, pauses = (np.stack(part, axis=1) for part in lines)
        table, length = self.table, self.options.length
        inputs = (table.numbers[words], table.endings[words], table.priors[words], pauses)
        return tuple(torch.from_numpy(part) for part in (*inputs, marks[:length], capitals[:length]))

    def loss(self, scores: Tensor, marks: Tensor, capitals: Tensor) -> Tensor:
        """Surprise at the marks, and at the capitals where something says so."""
        at_marks = F.cross_entropy(scores[..., : len(MARKS)].flatten(0, 1), marks.flatten(), ignore_index=-1)
        said = capitals != UNSAID
        chosen = scores[..., -1][said]
        return at_marks + F.binary_cross_entropy_with_logits(chosen, (capitals[said] == CAPITAL).float())

    def _train_step(self) -> float:
        o = self.options
        *inputs, marks, capitals = self._batch(self.step)
        rate = o.learning_rate * min(1.0, (self.step + 1) / o.warmup_steps) * (1 - self.step / o.steps)
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = rate
        loss = self.loss(self.model(*inputs, kernels=o.kernels), marks, capitals)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(o.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(f"the loss is {value} at step {self.step}: lower the learning rate")
        return value

    def _save(self) -> None:
        part = self.checkpoint.with_suffix(".part")
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
        }
        torch.save(state, part)
        os.replace(part, self.checkpoint)  # a crash leaves the old one whole

    def _resume(self) -> None:
        try:
            saved = torch.load(self.checkpoint, weights_only=True)
            self.model.load_state_dict(saved["model"])
        except (RuntimeError, KeyError, EOFError, UnpicklingError) as error:
            raise ConfigError(f"{self.checkpoint} is of another model or damaged: delete it to begin anew") from error
        self.average, self.step = saved["average"], saved["step"]
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
