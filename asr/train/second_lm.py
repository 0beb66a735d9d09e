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
    lines: int = 64  # texts in a step
    length: int = 128  # words of each, and starts of utterances among them: some minute of talk
    pauses: float = 0.5  # share of sentences before which a new utterance begins: the model reads on across it
    breaks: float = 0.015  # the same of all other words: a speaker pauses anywhere
    changes: float = 0.3  # share of texts that break off where another begins: the next utterance is of something else
    steps: int = 5_000  # in all; the learning rate falls to zero at the last
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

    def line(self, at: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Words from the start of a sentence on, and which of them begin a sentence."""
        first = int(self.starts[at])
        words = self.words[first : first + length]
        begins = np.zeros(len(words), dtype=np.bool_)
        begins[self.starts[at : np.searchsorted(self.starts, first + len(words))] - first] = True
        return words, begins


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

    def __init__(
        self,
        output: Path,
        texts: Sequence[Path],
        words: Sequence[str],
        options: SecondLmOptions,
        start: SecondLm | None = None,
    ) -> None:
        self.output, self.options = output, options
        self.words = tuple(words[: options.words]) if start is None else start.words
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
        if start is None:
            first, second = max(1, len(self.words) // 12), max(1, len(self.words) // 4)
            sizes = (first, second, len(self.words) + 2 - first - second)
            self.model = SecondNetwork(sizes, options.widths, options.units)
        else:
            self.model = SecondNetwork.of_model(start)
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

    def _line(self, rng: np.random.Generator) -> np.ndarray:
        """A text's numbers, with that of the start of an utterance wherever one begins; one more than is read."""
        o, numbers, missing = self.options, list[np.ndarray](), self.options.length + 1
        while missing > 0:
            text = self.texts[rng.choice(len(self.texts), p=self.shares)]
            most = int(rng.integers(1, missing + 1)) if rng.random() < o.changes else missing
            words, begins = text.line(int(rng.integers(len(text.starts))), most)
            begins = rng.random(len(words)) < np.where(begins, o.pauses, o.breaks)
            begins[:1] = True
            numbers.append(np.insert(words.astype(np.int64), np.flatnonzero(begins), self.unknown + 1))
            missing -= len(numbers[-1])  # a sentence without words may end a text: then another is drawn
        return np.concatenate(numbers)[: o.length + 1]

    def _batch(self, step: int) -> Tensor:
        """Numbers ``(length + 1, lines)``."""
        rng = np.random.default_rng((self.options.seed, step))
        return torch.from_numpy(np.stack([self._line(rng) for _ in range(self.options.lines)], axis=1))

    def share(self, step: int) -> float:
        """Of the peak learning rate."""
        o = self.options
        return min(1.0, (step + 1) / o.warmup_steps) * min(1.0, (1 - step / o.steps) / o.decay)

    def loss(self, step: int) -> Tensor:
        """The mean surprise at a step's words."""
        o = self.options
        numbers = self._batch(step)
        hidden = self.model.hidden(numbers[:-1], o.kernels).flatten(0, 1)
        words = numbers[1:].flatten()
        said = (words != self.unknown + 1).nonzero().squeeze(1)  # when a speaker pauses is not to be foreseen
        return self.model.surprise(hidden[said], words[said]).mean()
