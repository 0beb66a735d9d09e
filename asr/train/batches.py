"""Batches: which utterances an optimiser step sees, and the tensors made of them.

Everything is a function of (seed, epoch, batch): a run that was interrupted goes on with exactly the
batches it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from asr.network.features import LOG_FLOOR
from asr.network.shape import FRAME_REDUCTION, STACKED
from asr.text.tokens import Tokenizer
from asr.train.augment import Augmenter
from asr.train.corpus import SampleCache, Utterance
from asr.train.phone_graph import PhoneGraph
from asr.train.targets import Targets
from asr.train.teacher import MISSING, TeacherRows, rows_of_line

_TAIL_MS = 90  # silence after the last word of a line: a word's last sound must not need to be the last frame


@dataclass(frozen=True)
class Batch:
    """What one step trains on."""

    frames: Tensor  # (B, T, mels), padded, T a multiple of 3
    steps: Tensor  # (B,): network steps of each line, the model's delay not counted
    targets: Tensor  # (sum of lengths,): token ids of all lines, end to end
    target_lengths: Tensor  # (B,)
    seconds: float  # of speech in it, padding not counted
    graphs: tuple[PhoneGraph, ...] = ()  # all ways of saying the lines, if the tokens are phonemes
    pieces: tuple[Tensor, Tensor] | None = None  # targets and their lengths again, as word pieces
    teacher: Tensor | None = None  # (B, longest of steps, dimensions) int8, teacher.MISSING where there is nothing
    texts: tuple[str, ...] = ()  # what the lines say


class Corpus:
    """All utterances of several corpora, by one index."""

    def __init__(
        self, parts: Sequence[tuple[list[Utterance], SampleCache, TeacherRows | None]], sample_rate_hz: int
    ) -> None:
        self._parts = [cache for _, cache, _ in parts]
        self._teachers = [teacher for _, _, teacher in parts]
        self._where = [(p, i) for p, (utterances, _, _) in enumerate(parts) for i in range(len(utterances))]
        self.utterances = [u for utterances, _, _ in parts for u in utterances]
        self.seconds = np.array([self._parts[p].length(i) / sample_rate_hz for p, i in self._where])

    def samples(self, index: int) -> np.ndarray:
        part, i = self._where[index]
        return self._parts[part][i]

    def teacher(self, index: int) -> np.ndarray | None:
        part, i = self._where[index]
        rows = self._teachers[part]
        return None if rows is None else rows[i]


def plan_epoch(
    seconds: np.ndarray,
    chosen: Sequence[int],
    batch_s: float,
    min_lines: int,
    seed: int,
    epoch: int,
    by_length: bool,
    join: float,
    join_s: float,
    processes: int = 1,
) -> list[list[list[int]]]:
    """Batches of lines of utterance indices, each utterance of ``chosen`` exactly once.

    A line is one utterance or several joined. Lines of like length share a batch, whose padded length
    is at most ``batch_s``, unless ``min_lines`` lines are longer. Each run of ``processes`` batches is of like
    length, too: the processes that take one each wait for the longest.
    """
    rng = np.random.default_rng([seed, epoch])
    order = [chosen[i] for i in rng.permutation(len(chosen))]
    lines: list[list[int]] = []
    if by_length:
        lines = [[index] for index in order]
    else:
        open_line: list[int] = []
        for index in order:
            if rng.random() >= join:
                lines.append([index])
            elif open_line and sum(seconds[i] for i in open_line) + seconds[index] > join_s:
                lines.append(open_line)
                open_line = [index]
            else:
                open_line.append(index)
        if open_line:
            lines.append(open_line)
    lengths = np.array([sum(seconds[i] for i in line) for line in lines])
    # The order by length is blurred, so that an epoch's batches are not always the same neighbours.
    blurred = lengths if by_length else lengths * rng.uniform(0.85, 1.15, len(lengths))
    batches: list[list[list[int]]] = []
    longest = 0.0
    for i in np.argsort(blurred, kind="stable"):
        longest = max(longest, lengths[i])
        if not batches or (len(batches[-1]) >= min_lines and longest * (len(batches[-1]) + 1) > batch_s):
            batches.append([])
            longest = lengths[i]
        batches[-1].append(lines[i])
    if not by_length:
        # Those that do not divide evenly, which may be left out, come last: any, or the longest always would.
        spare = [batches.pop(int(rng.integers(len(batches)))) for _ in range(len(batches) % processes)]
        groups = [batches[i : i + processes] for i in range(0, len(batches), processes)]
        batches = [batch for i in rng.permutation(len(groups)) for batch in groups[i]] + spare
    return batches


class EpochBatches(Dataset[Batch]):
    """The batches of one epoch, made when asked for."""

    def __init__(
        self,
        corpus: Corpus,
        plan: list[list[list[int]]],
        augmenter: Augmenter,
        targets: Targets,
        mean: Tensor,
        delay: int,
        seed: tuple[int, int],
        pieces: Tokenizer | None = None,
    ) -> None:
        self._corpus, self._plan, self._augmenter, self._targets = corpus, plan, augmenter, targets
        self._mean, self._delay, self._seed, self._pieces = mean, delay, seed, pieces

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([*self._seed, index])
        lines, texts, teacher, seconds = [], [], [], 0.0
        for line in self._plan[index]:
            parts = [self._augmenter(self._corpus.samples(i), rng) for i in line]
            seconds += sum(float(self._corpus.seconds[i]) for i in line)
            frames = torch.cat(parts)
            self._augmenter.mask(frames, self._mean, rng)
            lines.append(frames)
            rows = [
                (r, len(part))
                for i, part in zip(line, parts, strict=True)
                if (r := self._corpus.teacher(i)) is not None
            ]
            if rows:
                teacher.append(rows_of_line(rows, FRAME_REDUCTION))
            texts.append(" ".join(t for i in line if (t := self._corpus.utterances[i].text)))
        targets = [self._targets.encode(text) for text in texts]
        pieces = None if self._pieces is None else [self._pieces.encode(text) for text in texts]
        graphs = tuple(graph for text in texts if (graph := self._targets.graph(text)) is not None)
        hop_ms = self._augmenter.features.hop_ms
        return collate(lines, targets, self._delay, hop_ms, seconds, teacher, pieces, graphs, tuple(texts))


def collate(
    lines: Sequence[Tensor],
    targets: Sequence[list[int]],
    delay: int,
    hop_ms: float,
    seconds: float,
    teacher: Sequence[Tensor] = (),
    pieces: Sequence[list[int]] | None = None,
    graphs: tuple[PhoneGraph, ...] = (),
    texts: tuple[str, ...] = (),
) -> Batch:
    """Pad lines of ``(frames, mels)`` with digital silence into one batch, room for the model's delay included.

    ``targets`` are the token ids of what they say, ``texts``. ``teacher`` has the features ``(steps, dimensions)`` of
    each line, or is empty.
    """
    tail = round(_TAIL_MS / hop_ms)
    steps = torch.tensor([-(-(len(line) + tail) // FRAME_REDUCTION) for line in lines])
    most = int(steps.max()) + delay
    most += -most % max(STACKED)  # so that every network can take them
    frames = torch.full((len(lines), most * FRAME_REDUCTION, lines[0].shape[1]), float(np.log(LOG_FLOOR)))
    for i, line in enumerate(lines):
        frames[i, : len(line)] = line
    features: Tensor | None = None
    if teacher:
        shape = len(lines), int(steps.max()), teacher[0].shape[1]
        features = torch.full(shape, MISSING, dtype=torch.int8)
        for i, rows in enumerate(teacher):
            features[i, : len(rows)] = rows
    as_pieces = None if pieces is None else _end_to_end(pieces)
    return Batch(frames, steps, *_end_to_end(targets), seconds, graphs, as_pieces, features, texts)


def _end_to_end(targets: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    joined = [token for target in targets for token in target]
    return torch.tensor(joined, dtype=torch.long), torch.tensor([len(target) for target in targets])
