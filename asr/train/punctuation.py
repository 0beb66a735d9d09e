"""Training of the model of punctuation and capitals on running text: what ``asr punctuation train`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asr.array_table import ArrayTable
from asr.errors import ConfigError, DataError
from asr.lm import LanguageModel
from asr.train.averaged_run import AveragedRun
from asr.train.marked_text import CAPITAL, COMMA, NONE, UNSAID, MarkedText, WordForms
from asr.train.punctuation_balance import best_shifts
from asr.train.punctuation_network import PunctuationNetwork
from asr.train.punctuation_words import WordTable
from asr.written.punctuation import (
    MARKS,
    NEW_UTTERANCE,
    UNKNOWN_PAUSE,
    Punctuation,
)
from asr.written.sentence_hints import HINTS, hint_lines

_SHOWN = 100  # steps from one report to the next
_BALANCED = 48  # steps' worth of lines that the scores are balanced on
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
    units: int = 288  # of each LSTM; a native kernel needs a multiple of 32
    layers: int = 2  # LSTMs
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
        if min(self.words, self.endings, self.layers, self.lookahead, self.steps, self.lines, self.length) < 1:
            raise ConfigError("words, endings, layers, lookahead, steps, lines and length must be at least 1")


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
        start: Punctuation | None = None,
        lm: LanguageModel | None = None,
    ) -> None:
        """Args:
        output: the file to write.
        texts: and their shares of what is trained on.
        forms: the words that the texts' numbers stand for.
        options: see there.
        start: a model to go on from; it has its own words, endings, width and units.
        lm: the language model whose hints the model is to read, from then on always; none for a model without.
        """
        self.output, self.options, self.lm = output, options, lm
        hints = 0 if lm is None else HINTS
        size = options.length + options.lookahead
        texts = [(text, share) for text, share in texts if len(text.words) > size and share > 0]
        if not texts:
            raise DataError(f"no text has more than {size} words to learn from")
        self.texts = [text for text, _ in texts]
        shares = np.array([share for _, share in texts])
        self.shares = shares / shares.sum()
        torch.manual_seed(options.seed)
        if start is None:
            counts = np.sum([np.bincount(text.words, minlength=len(forms.words)) for text in self.texts], axis=0)
            self.table = WordTable.counted(forms, counts, options.words, options.listed, options.endings)
            vectors = min(options.words, len(self.table.words))
            self.model = PunctuationNetwork(
                vectors, options.endings, options.width, options.units, options.lookahead, options.layers, hints
            )
        else:
            self.table = WordTable.of_model(start, forms)
            self.model = PunctuationNetwork.of_model(start, options.lookahead, options.layers, hints)
        if lm is not None:
            self._lm_words = np.array([lm.ids.get(word, 0) for word in forms.words], dtype=np.int64)
            self._lm_table = ArrayTable(lm.arrays)
        self.starts = [np.flatnonzero(np.append(True, (text.marks > COMMA) | text.ends)[:-1]) for text in self.texts]
        self.steps = AveragedRun(self.model, self.model.matrices, options.learning_rate, options.average_decay, output)

    def run(self, report: Callable[[str], None] = print) -> Punctuation:
        """Train to the end and write the model."""
        o, steps = self.options, self.steps
        report(f"{sum(len(text.words) for text in self.texts):,} words of text; step {steps.step} of {o.steps}")

        def tell(loss: float, speed: float) -> None:
            report(f"step {steps.step}: loss {loss:.4f}, {speed:,.0f} words a second")

        steps.train(o.steps, self.loss, self.share, o.lines * o.length, _SHOWN, tell)
        with steps.averaged():
            values, shifts = self.model.values(), self._balance()
        table = self.table
        model = Punctuation.of_parameters(table.words, table.forms, table.stored, values, shifts, self.lm)
        report("without pauses, scores are shifted by " + ", ".join(f"{shift:+.1f}" for shift in shifts.tolist()))
        model.save(self.output)
        steps.done()
        return model

    def _balance(self) -> np.ndarray:
        """Shifts of the scores where pauses are not known, found on such lines of the texts."""
        scores, marks, capitals = [], [], []
        for step in range(_BALANCED):
            inputs, at_marks, at_capitals = self._batch(self.options.steps + step)
            pauses = inputs[3]
            lines = (pauses == UNKNOWN_PAUSE).any(dim=0)
            with torch.no_grad():
                given = self.model(*(part[:, lines] for part in inputs), kernels=self.options.kernels)
            scores.append(given.flatten(0, 1).numpy())
            marks.append(at_marks[:, lines].flatten().numpy())
            capitals.append(at_capitals[:, lines].flatten().numpy())
        return best_shifts(np.concatenate(scores), np.concatenate(marks), np.concatenate(capitals))

    def _line(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Words, marks, capitals and pauses of a stretch of text, some of it in utterances of their own; gaps in it."""
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
        return words, marks, capitals, pauses, np.append(True, ends[:-1])

    def _batch(self, step: int) -> tuple[list[Tensor], Tensor, Tensor]:
        rng = np.random.default_rng((self.options.seed, step))
        lines = zip(*(self._line(rng) for _ in range(self.options.lines)), strict=True)
        words, marks, capitals, pauses, fresh = (np.stack(part, axis=1) for part in lines)
        table, length = self.table, self.options.length
        inputs = [table.numbers[words], table.endings[words], table.priors[words], pauses]
        if self.lm is not None:
            hints = np.empty((*words.shape, HINTS), np.float32)
            hint_lines(self._lm_table, self._lm_words[words], ~fresh, hints)
            inputs.append(hints)
        marked, capital = (torch.from_numpy(part[:length]) for part in (marks, capitals))
        return [torch.from_numpy(part) for part in inputs], marked, capital

    def share(self, step: int) -> float:
        """Of the peak learning rate."""
        return min(1.0, (step + 1) / self.options.warmup_steps) * (1 - step / self.options.steps)

    def loss(self, step: int) -> Tensor:
        """Surprise at a step's marks, and at its capitals where something says so."""
        inputs, marks, capitals = self._batch(step)
        scores = self.model(*inputs, kernels=self.options.kernels)
        at_marks = F.cross_entropy(scores[..., : len(MARKS)].flatten(0, 1), marks.flatten(), ignore_index=-1)
        said = capitals != UNSAID
        chosen = scores[..., -1][said]
        return at_marks + F.binary_cross_entropy_with_logits(chosen, (capitals[said] == CAPITAL).float())
