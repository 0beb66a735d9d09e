"""Distillation: features of a larger model for every training utterance, which the network learns to predict.

The letters of an utterance say what was spoken, not when, and a few hours of them are few. The inner
features of a recogniser that was trained on far more speech say at every step what it heard. Learning
to predict them beside the letters teaches the network what that model knows of speakers and sounds.
What predicts them is thrown away after training.

The features of ``X.jsonl`` are two files in the folder ``[teacher] folder``:

    X.i8         (rows, dimensions) int8, one row for each 30 ms of an utterance, utterance after utterance
    X.ends.npy   (utterances,) int64: the row at which each utterance of the manifest, in its order, ends

Values are in 1/32 of a dimension's standard deviation. An utterance may have no rows: it then only
has its letters to learn from. ``pretrained/recipe/make_teacher_features.py`` makes these files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.errors import ConfigError, DataError

UNIT = 1 / 32  # of a standard deviation: what one step of an int8 stands for
MISSING = -128  # marks a step that has no features


@dataclass(frozen=True)
class TeacherOptions:
    """Which features to learn to predict, where, and how much that counts."""

    folder: str = ""  # of the features; empty for none
    dimensions: int = 288  # of a row
    layer: int = 2  # predicted from this recurrent layer's output; 0 is what the blocks give
    delay_ms: int = 60  # predicted so much later than the logits' delay makes them: a future that is not seen
    weight: float = 1.0  # of their mean squared error beside the letters' loss

    def __post_init__(self) -> None:
        if self.dimensions < 1 or self.layer < 0 or self.delay_ms < 0 or self.weight < 0:
            raise ConfigError(
                "[teacher] dimensions must be at least 1 and layer, delay_ms and weight must not be negative"
            )


class TeacherRows:
    """The features of one corpus, memory-mapped."""

    def __init__(self, folder: Path, name: str, utterances: int, dimensions: int) -> None:
        path, ends_path = folder / f"{name}.i8", folder / f"{name}.ends.npy"
        if not path.exists() or not ends_path.exists():
            raise DataError(f"no teacher's features for {name} in {folder}: make them, or leave [teacher] folder out")
        self._ends = np.load(ends_path)
        rows = int(self._ends[-1]) if len(self._ends) else 0
        if len(self._ends) != utterances or path.stat().st_size != rows * dimensions:
            raise DataError(
                f"{path}: not {dimensions} features a row for the {utterances} utterances of its manifest: "
                "make it again, or correct [teacher] dimensions"
            )
        self._rows = np.memmap(path, np.int8, "r", shape=(rows, dimensions)) if rows else None
        self._none = np.zeros((0, dimensions), np.int8)

    def __getitem__(self, index: int) -> np.ndarray:
        """The rows of an utterance, ``(rows, dimensions)`` int8; no row if it has none."""
        start = int(self._ends[index - 1]) if index else 0
        return self._none if self._rows is None else self._rows[start : int(self._ends[index])]


def rows_of_line(parts: list[tuple[np.ndarray, int]], frame_reduction: int) -> Tensor:
    """The features of a line's steps.

    Args:
        parts: of each utterance on the line its rows ``(rows, dimensions)`` and how many frames it now
            has: a changed tempo stretches the rows along.
        frame_reduction: frames in a step.

    Returns:
        ``(frames // frame_reduction, dimensions)`` int8, `MISSING` where an utterance has none.
    """
    table = np.concatenate([*(rows for rows, _ in parts), np.full((1, parts[0][0].shape[1]), MISSING, np.int8)])
    index, start = [], 0
    for rows, frames in parts:
        middles = (np.arange(frames) + 0.5) * (len(rows) / frames)
        index.append(start + middles.astype(np.int64) if len(rows) else np.full(frames, len(table) - 1))
        start += len(rows)
    middle = frame_reduction // 2
    return torch.from_numpy(table[np.concatenate(index)[middle::frame_reduction]])


class Student(nn.Module):
    """Predicts the teacher's features from a layer's output."""

    def __init__(self, width: int, options: TeacherOptions) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, options.dimensions)

    def forward(self, inner: Tensor) -> Tensor:
        """``(..., width)`` to ``(..., dimensions)``, in standard deviations."""
        predicted: Tensor = self.output(self.norm(inner.float()))  # in float32: see asr.network.model._normed
        return predicted


def distance(predicted: Tensor, rows: Tensor, delay: int) -> Tensor:
    """Mean squared error of ``(B, T, dimensions)`` predictions, which come ``delay`` steps after their rows."""
    steps = min(predicted.shape[1] - delay, rows.shape[1])
    rows = rows[:, :steps]
    known = rows[:, :, 0] != MISSING
    if not bool(known.any()):
        return predicted.sum() * 0.0
    return F.mse_loss(predicted[:, delay : delay + steps][known].float(), rows[known].float() * UNIT)
