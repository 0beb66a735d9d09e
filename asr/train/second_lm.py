"""Training of the recurrent language model on running text: what ``asr lm train`` does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from asr.errors import ConfigError, DataError
from asr.lm.text import WordNumbers, number_text, read_chunks
from asr.search.second_lm import SecondLm
from asr.train.averaged_run import AveragedRun
from asr.train.second_lm_network import SecondNetwork

_SENTENCE_MARKS = (1, 2)  # among the numbers of a text
_MOST_WORDS = 65_534  # beside two special ones, in 16 bits
_SHOWN = 50  # steps from one report to the next


@dataclass(frozen=True)
class SecondLmOptions:
    """The model's shape and how to train it."""

    words: int = 24_574  # most frequent ones of the vocabulary, a twelfth and a quarter of them in the first two bands
    widths: tuple[int, int, int] = (256, 128, 64)  # of the bands' vectors: most of the file
    units: int = 384  # of the LSTM; a native kernel needs a multiple of 32
    lines: int = 128  # texts in a step
    length: int = 40  # words of each: as many as a long utterance has
    steps: int = 8_000  # in all; the learning rate falls to zero at the last
    learning_rate: float = 2e-3  # its peak
    warmup_steps: int = 100  # it rises from zero over these
    decay: float = 0.9  # last share of the steps, over which it falls to zero
    average_decay: float = 0.995  # running average of the weights, which is what is kept
    kernels: Literal["torch", "native"] = "torch"  # native: ours, in C, for CPUs with AMX or AVX-512 BF16
    seed: int = 5  # of the initial weights and of the texts' order

    def __post_init__(self) -> None:
        if min(self.words, self.steps, self.lines, self.length) < 1:
            raise ConfigError("words, steps, lines and length must be at least 1")
        if self.words > _MOST_WORDS:
            raise ConfigError(f"a recurrent language model can know at most {_MOST_WORDS:,} words")


@dataclass(frozen=True)
class RunningText:
    """A text as numbers."""

    words: np.ndarray  # uint16 (n,), without marks of sentences: utterances run across them
    starts: np.ndarray  # int64: where sentences begin

    def line(self, at: int, length: int) -> np.ndarray:
        """Words from the start of a sentence on."""
        first = int(self.starts[at])
        return self.words[first : first + length]


def read_text(path: Path, vocabulary: dict[str, int], unknown: int) -> RunningText:
    """The words of a text file, plain or compressed, and where its sentences begin."""
    numbers, table = WordNumbers(), np.zeros(0, dtype=np.uint16)
    words, starts, count = [np.zeros(0, dtype=np.uint16)], [np.zeros(0, dtype=np.int64)], 0
    for chunk in read_chunks(path):
        text = number_text(chunk, numbers)
        fresh = [vocabulary.get(word, unknown) for word in numbers.words[len(table) :]]
        table = np.concatenate([table, np.array(fresh, dtype=np.uint16)])
        spoken = ~np.isin(text, _SENTENCE_MARKS)
        starts.append(count + np.cumsum(spoken)[text == 1])
        words.append(table[text[spoken]])
        count += len(words[-1])
    return RunningText(np.concatenate(words), np.concatenate(starts))


class SecondLmTrainer:
    """One run, resumable from the checkpoint beside its output."""

    def __init__(self, output: Path, texts: Sequence[Path], words: Sequence[str], options: SecondLmOptions) -> None:
        self.output, self.options = output, options
        self.words = tuple(words[: options.words])
        if not self.words:
            raise DataError("the vocabulary has no words")
        self.unknown = len(self.words)
        vocabulary = {word: number for number, word in enumerate(self.words)}
        self.texts = [read_text(path, vocabulary, self.unknown) for path in texts]
        lengths = np.array([len(text.words) if len(text.starts) else 0 for text in self.texts], dtype=np.float64)
        if not lengths.sum() > options.length:
            raise DataError("the texts hold no words to learn from")
        self.shares = lengths / lengths.sum()
        torch.manual_seed(options.seed)
        first, second = max(1, len(self.words) // 12), max(1, len(self.words) // 4)
        sizes = (first, second, len(self.words) + 2 - first - second)
        self.model = SecondNetwork(sizes, options.widths, options.units)
        matrices = [f"cell.weight_{part}_l0" for part in ("ih", "hh")]
        self.steps = AveragedRun(self.model, matrices, options.learning_rate, options.average_decay, output)

    def run(self, report: Callable[[str], None] = print) -> SecondLm:
        """Train to the end and write the model."""
        o, steps = self.options, self.steps
        report(f"{sum(len(text.words) for text in self.texts):,} words of text; step {steps.step} of {o.steps}")

        def tell(loss: float, speed: float) -> None:
            report(f"step {steps.step}: perplexity {math.exp(loss):.1f}, {speed:,.0f} words a second")

        steps.train(o.steps, self.loss, self.share, o.lines * o.length, _SHOWN, tell)
        with steps.averaged():
            model = self.model.finished(self.words)
        model.save(self.output)
        steps.done()
        return model

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Words and the words before them, ``(length, lines)`` each. What a short text lacks is the unknown word."""
        o = self.options
        rng = np.random.default_rng((o.seed, step))
        rows = np.full((o.lines, o.length), self.unknown, dtype=np.int64)
        for row, at in zip(rows, rng.choice(len(self.texts), o.lines, p=self.shares), strict=True):
            text = self.texts[at]
            line = text.line(int(rng.integers(len(text.starts))), o.length)
            row[: len(line)] = line
        words = torch.from_numpy(rows.T.copy())
        return words, torch.cat([torch.full((1, o.lines), self.unknown + 1), words[:-1]])

    def share(self, step: int) -> float:
        """Of the peak learning rate."""
        o = self.options
        return min(1.0, (step + 1) / o.warmup_steps) * min(1.0, (1 - step / o.steps) / o.decay)

    def loss(self, step: int) -> Tensor:
        """The mean surprise at a step's words."""
        o = self.options
        words, before = self._batch(step)
        hidden = self.model.hidden(before, o.kernels)
        return self.model.surprise(hidden.reshape(-1, o.units), words.flatten()).mean()
