"""Train on a GPU as fast as it can: all speech in its memory, augmentation and losses on it, and a fixed time.

    python pretrained/recipe/train_on_gpu.py prepare config.toml --output prepared speech/*.train.jsonl
    python pretrained/recipe/train_on_gpu.py train config.toml --prepared prepared --output run --seconds 600

The configuration is that of ``asr train`` (docs/training.md). The first command decodes the speech, with all cores,
codes a share of it as MP3 and finds the pronunciations of the transcripts. The second one takes what is prepared, and
what comes to that folder while it runs from the next epoch on. It begins with the model that ``[training] start``
names, which may have fewer recurrent layers; the new ones are silent at first. The learning rate and, for the last
share of the time (``--late``), weaker augmentation follow the clock, so that a run always ends with both low.

A GPU waits for the processor that starts its work most of the time: recurrent layers are thousands of small kernels. So
a step is made of several batches at once (``--at-once``), each begun by a thread of its own, and their gradients are
added up.

With ``--consistency`` every line is in its batch twice, each time with other noise, rooms, masks and dropout, and the
network is asked to say the same of both (Z. Yao et al., "CR-CTC: consistency regularization on CTC for improved speech
recognition", ICLR 2025). A batch then holds half as many different lines.

With ``--teacher`` the network is asked to say what the one that it began with says of the same frames, too. One that
begins with layers that work otherwise than they did (``[model] stacked``, or ``--four-bits``) finds its way back so in
minutes. What ``--four-bits`` made is to be exported with `make_smaller.py MODEL OUTPUT --four-bits`.

CuPy makes it several times as fast (asr/train/crf_cuda.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import pickle
import queue
import random
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import Tensor, nn

from asr.bundle import load_bundle
from asr.errors import ConfigError
from asr.network.features import LOG_FLOOR
from asr.network.model import AcousticModel
from asr.network.shape import FRAME_REDUCTION, MEMORY_FRAMES, PRIOR_FRAMES
from asr.network.weights import widened
from asr.options import from_table, read_tables
from asr.text.tokens import Tokenizer
from asr.train.augment import AugmentOptions
from asr.train.augment_torch import BatchAugmenter, random_rooms
from asr.train.batches import plan_epoch
from asr.train.bfloat16 import has_bfloat16
from asr.train.codec import through_mp3
from asr.train.config import Config, find_paths, load_config
from asr.train.corpus import Utterance, as_integers, decode_samples, read_corpus
from asr.train.crf import crf_loss
from asr.train.crf_cuda import end_to_end, pinned
from asr.train.former import distance
from asr.train.four_bits import rounded
from asr.train.phone_graph import PhoneGraph
from asr.train.phone_lm import PhoneLm
from asr.train.targets import PhonemeTargets, can_be_learned
from asr.train.trainer import make_optimisers, read_tars

CODED = 0.12  # share of the utterances that are also there as MP3
JOINED = 0.15  # share of the utterances that are also in a line of several, so that the state learns to run on
CHUNK = 64  # utterances that a process prepares at a time
LONGEST_S = (MEMORY_FRAMES - PRIOR_FRAMES) / 100 - 1  # of a line: as far as the running mean forgets nothing
TAIL_FRAMES = 9  # silence after the last word of a line: a word's last sound must not need to be the last frame
PART_BYTES = 15_000_000  # of a file of weights


@dataclass(frozen=True)
class Line:
    """What is learned at once: one utterance or several.

    Attributes:
        parts: numbers of the recordings in its chunk, each with its coded copy's number or the same.
        labels, starts, predecessors: of its `PhoneGraph`.
        pieces: its word pieces.
        tokens: how many phonemes it has.
        seconds: its length.
    """

    parts: list[tuple[int, int]]
    labels: np.ndarray
    starts: np.ndarray
    predecessors: np.ndarray
    pieces: list[int]
    tokens: int
    seconds: float


# Preparing.


class Preparer:
    """Makes chunks of utterances into samples and lines. One in each process."""

    def __init__(self, config: Config, base: Path) -> None:
        self.config = config
        self.targets = PhonemeTargets(base / config.data.lexicon)
        self.pieces = Tokenizer.load(base / config.data.pieces)

    def __call__(self, utterances: list[Utterance], blobs: list[bytes]) -> tuple[list[np.ndarray], list[Line]]:
        config = self.config
        rng = random.Random(utterances[0].id)
        recordings: list[np.ndarray] = []
        usable: list[tuple[tuple[int, int], str, float]] = []
        for utterance, blob in zip(utterances, blobs, strict=True):
            samples = decode_samples(blob, utterance.id, config.features.sample_rate_hz)
            seconds = len(samples) / config.features.sample_rate_hz
            if seconds > LONGEST_S or not can_be_learned(self.targets, utterance.text, seconds, config):
                continue
            number = coded = len(recordings)
            recordings.append(as_integers(samples))
            if rng.random() < CODED:
                rate = rng.choice(config.augment.mp3_kbit_s)
                coded = len(recordings)
                recordings.append(as_integers(through_mp3(samples, config.features.sample_rate_hz, rate)))
            usable.append(((number, coded), utterance.text, seconds))
        lines = [self._line([each]) for each in usable]
        short = [each for each in usable if each[2] < config.training.join_s / 2]
        rng.shuffle(short)
        together: list[Any] = []
        for each in short[: round(2 * JOINED * len(usable))]:
            if together and sum(one[2] for one in together) + each[2] > config.training.join_s:
                lines.append(self._line(together))
                together = []
            together.append(each)
        return recordings, lines

    def _line(self, usable: Sequence[tuple[tuple[int, int], str, float]]) -> Line:
        text = " ".join(text for _, text, _ in usable if text)
        graph = self.targets.graph(text)
        return Line(
            [parts for parts, _, _ in usable],
            graph.labels,
            graph.starts,
            graph.predecessors,
            self.pieces.encode(text),
            max(1, len(self.targets.encode(text))),
            sum(seconds for _, _, seconds in usable),
        )


def in_chunks(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[k : k + size] for k in range(0, len(values), size))


_preparer: Preparer | None = None


def _begin(config: Config, base: Path) -> None:
    global _preparer
    torch.set_num_threads(1)
    _preparer = Preparer(config, base)


def _prepare_chunk(utterances: list[Utterance], blobs: list[bytes], path: Path) -> tuple[int, float]:
    assert _preparer is not None
    recordings, lines = _preparer(utterances, blobs)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        pickle.dump((recordings, lines), file, protocol=5)
    part.replace(path)
    return len(lines), sum(line.seconds for line in lines)


def prepare(config: Config, base: Path, manifests: Sequence[Path], output: Path, processes: int) -> None:
    output.mkdir(parents=True, exist_ok=True)
    counts: dict[str, list[Any]] = {}
    with ProcessPoolExecutor(processes, initializer=_begin, initargs=(config, base)) as pool:
        for manifest in manifests:
            utterances = read_corpus(manifest)
            with tarfile.open(manifest.with_suffix(".tar")) as tar:
                for number, chunk in enumerate(in_chunks(utterances, CHUNK)):
                    blobs = [tar.extractfile(utterance.member).read() for utterance in chunk]  # type: ignore[union-attr]
                    path = output / f"{manifest.stem}.{number}.pkl"
                    counts.setdefault(manifest.stem, []).append(pool.submit(_prepare_chunk, list(chunk), blobs, path))
        for name, futures in counts.items():
            found = [future.result() for future in futures]
            print(f"{name}: {sum(n for n, _ in found)} lines, {sum(s for _, s in found) / 3600:.2f} h", flush=True)


# Training.


class Speech:
    """All lines, their samples in the GPU's memory."""

    def __init__(self, folder: Path, device: torch.device, most_samples: int, twice: Sequence[str]) -> None:
        self._folder, self._seen, self._twice = folder, set[Path](), tuple(twice)
        self.samples = torch.empty(most_samples, dtype=torch.int16, device=device)
        self.used = 0
        self.lines: list[Line] = []
        self.parts: list[list[tuple[int, int, int, int]]] = []  # start and length, as it was and as coded
        self.graphs: list[PhoneGraph] = []
        self.order: list[int] = []  # lines, those of a corpus that counts twice two times

    def read(self) -> None:
        """Take what is new in the folder."""
        for path in sorted(set(self._folder.glob("*.pkl")) - self._seen):
            self._seen.add(path)
            with path.open("rb") as file:
                recordings, lines = pickle.load(file)
            sizes = [len(recording) for recording in recordings]
            total = sum(sizes)
            if self.used + total > len(self.samples):
                print(f"no room for {path.name}", flush=True)
                continue
            starts = self.used + np.cumsum([0, *sizes])
            if total:
                self.samples[self.used : self.used + total].copy_(torch.from_numpy(np.concatenate(recordings)))
            self.used += total
            for line in lines:
                count = 2 if path.name.startswith(self._twice) else 1
                self.order += [len(self.lines)] * count
                self.lines.append(line)
                self.parts.append([(int(starts[a]), sizes[a], int(starts[b]), sizes[b]) for a, b in line.parts])
                none = np.zeros(0, np.int32)
                self.graphs.append(PhoneGraph(line.labels, line.starts, line.predecessors, (), none))

    @property
    def hours(self) -> float:
        return sum(line.seconds for line in self.lines if len(line.parts) == 1) / 3600


@dataclass(frozen=True)
class Work:
    """A batch, on the CPU."""

    starts: Tensor  # (B, parts)
    ends: Tensor  # (B, parts): where in the line each part ends
    graphs: tuple[PhoneGraph, ...]
    pieces: Tensor
    piece_lengths: Tensor
    tokens: int
    seconds: float


class Batches:
    """Makes batches ahead, in a thread of its own."""

    def __init__(self, speech: Speech, config: Config, most_lines: int, views: int) -> None:
        self._speech, self._config, self._most_lines, self._views = speech, config, most_lines // views, views
        self._rng = np.random.default_rng(config.training.seed)
        self.epoch = 0
        self._ready: queue.Queue[Work | BaseException] = queue.Queue(16)
        threading.Thread(target=self._run, daemon=True).start()

    def next(self) -> Work:
        """The next batch. Raises what kept the thread from making it."""
        work = self._ready.get()
        if isinstance(work, BaseException):
            raise work
        return work

    def _run(self) -> None:
        try:
            self._make()
        except BaseException as error:
            self._ready.put(error)

    def _make(self) -> None:
        options, speech = self._config.training, self._speech
        while True:
            speech.read()
            seconds = np.array([line.seconds for line in speech.lines])
            if not len(seconds):
                time.sleep(1)
                continue
            batch_s, least = options.batch_s / self._views, max(1, options.min_lines // self._views)
            plan = plan_epoch(seconds, speech.order, batch_s, least, options.seed, self.epoch, False, 0.0, 0.0)
            batches = [[line[0] for line in part] for batch in plan for part in in_chunks(batch, self._most_lines)]
            for k in self._rng.permutation(len(batches)):
                self._ready.put(self._work(batches[int(k)]))
            self.epoch += 1

    def _work(self, batch: list[int]) -> Work:
        speech, rng = self._speech, self._rng
        most = max(len(speech.parts[i]) for i in batch)
        starts, sizes = np.zeros((len(batch), most), np.int64), np.zeros((len(batch), most), np.int64)
        for row, i in enumerate(batch):
            for column, (start, size, coded, coded_size) in enumerate(speech.parts[i]):
                chosen = (start, size) if rng.random() < 0.5 else (coded, coded_size)
                starts[row, column], sizes[row, column] = chosen
        starts, sizes, batch = np.tile(starts, (self._views, 1)), np.tile(sizes, (self._views, 1)), batch * self._views
        graphs = tuple(speech.graphs[i] for i in batch)
        end_to_end(graphs)
        pieces = [speech.lines[i].pieces for i in batch]
        return Work(
            pinned(torch.from_numpy(starts)),
            pinned(torch.from_numpy(sizes.cumsum(axis=1))),
            graphs,
            pinned(torch.tensor(list(itertools.chain(*pieces)), dtype=torch.long)),
            torch.tensor([len(each) for each in pieces]),
            sum(speech.lines[i].tokens for i in batch),
            sum(speech.lines[i].seconds for i in batch),
        )


class Unforgetting(AcousticModel):
    """For lines so short that the running mean is that of all that was heard: no look at a number, no waiting."""

    def normalise(self, frames: Tensor, mean: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        counts = count + torch.arange(1, frames.shape[1] + 1, dtype=count.dtype, device=count.device)
        means = ((mean * count)[:, None] + frames.cumsum(dim=1)) / counts[:, :, None]
        return (frames - means) * self.scale, means[:, -1], counts[:, -1:]


def teacher_of(folder: Path) -> AcousticModel:
    """A model's network as it is, for another to learn from."""
    bundle = load_bundle(folder)
    teacher = Unforgetting(dataclasses.replace(bundle.shape, middle_ctc=False))
    teacher.load_state_dict({name: torch.from_numpy(value) for name, value in widened(bundle.weights).items()})
    return teacher.eval().requires_grad_(False)


def begin_with(model: AcousticModel, folder: Path) -> None:
    """Take over a model's weights. It may have fewer recurrent layers and fewer units: what is new is silent at first.
    These layers may take several steps as one from now on.

    New units are heard at once and say nothing, or hardly anything: what they give to others begins small, while what
    they take begins as in a new network, so that all of it can be learned.
    """
    start = load_bundle(folder)
    begun = {name: torch.from_numpy(value) for name, value in widened(start.weights).items()}
    old, new, silent = start.shape.width, model.options.width, 0.05
    if new < old:
        raise ConfigError(f"[model] width is {new}, but {folder}, which training begins with, has {old}: give as many")
    if model.options.stacked > start.shape.stacked:  # each of the steps begins with the outputs that there were
        for name in ("output.weight", "output.bias"):
            parts = begun[name].split([start.shape.tokens, start.shape.pieces])
            begun[name] = torch.cat([part for part in parts for _ in range(model.options.stacked)])
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name in begun and begun[name].shape == value.shape:
                value.copy_(begun[name])
            elif name in begun:
                # Rows of gates and columns of taps are as many groups of units laid end to end.
                here, there = (_by_units(each, width) for each, width in ((value, new), (begun[name], old)))
                if name.startswith(("conv2.", "blocks.")):
                    here *= silent
                elif name.startswith(("output.", "cells.")) and "bias" not in name:
                    here *= 0.3
                here[tuple(slice(size) for size in there.shape)] = there
                if "norm" in name and name.endswith("weight"):
                    here *= math.sqrt(old / new)  # the deviation is that of more units, the new ones silent
        for i, cell in enumerate(model.cells):
            assert isinstance(cell, nn.LSTM)
            first = 0 if i >= start.shape.layers else old  # unit of which the cell's candidate gives nothing yet
            for value in cell.parameters():
                value[2 * new + first : 3 * new] = 0


def _by_units(value: Tensor, width: int) -> Tensor:
    """A view of a parameter in which each dimension along units is split in groups of ``width``."""
    shape: list[int] = []
    for size in value.shape:
        shape += [size // width, width] if size > width and size % width == 0 else [size]
    return value.view(shape)


def train(config: Config, late: AugmentOptions, base: Path, options: argparse.Namespace) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device, training = torch.device("cuda" if torch.cuda.is_available() else "cpu"), config.training
    torch.manual_seed(training.seed)
    sys.setswitchinterval(0.0005)  # seconds: the lanes often want Python, and briefly
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    tokens, pieces = 40, len(Tokenizer.load(base / config.data.pieces))
    model = Unforgetting(dataclasses.replace(config.model, tokens=tokens, pieces=pieces))
    begin_with(model, base / training.start)
    model.to(device).train()
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    teacher = teacher_of(base / training.start).to(device) if options.teacher else None
    guidance = Guidance(options.consistency, options.teacher, teacher)
    phone_lm = PhoneLm.load(base / config.data.phone_lm)
    optimisers = make_optimisers(model, None, training)
    parameters = list(model.parameters())

    rng = np.random.default_rng(training.seed)
    noises = [*read_tars(find_paths(config.data.noise, base), config.features.sample_rate_hz)]
    rooms = [*read_tars(find_paths(config.data.rooms, base), config.features.sample_rate_hz)]
    rooms += random_rooms(options.random_rooms, config.features.sample_rate_hz, rng)
    ways = config.augment, late
    lanes = [
        Lane(device, [BatchAugmenter(o, config.features, noises, rooms, device, training.seed + n) for o in ways])
        for n in range(options.at_once)
    ]
    speech = Speech(options.prepared, device, int(options.hours * 3600 * 16_000), options.twice)
    views = 2 if options.consistency else 1
    batches = Batches(speech, config, options.most_lines, views)
    first = batches.next()
    pool = ThreadPoolExecutor(len(lanes))
    begun = time.monotonic()
    end_file = output / "seconds"
    seconds, heard, shown_at, shown_s, saved_at, step = float(options.seconds), 0.0, begun, 0.0, begun, 0
    losses = torch.zeros(6, device=device)
    log = (output / "log.jsonl").open("a")
    while True:
        works = [first if not step and not n else batches.next() for n in range(len(lanes))]
        now = time.monotonic()
        share = (now - begun) / seconds
        if share >= 1:
            break
        rate = training.learning_rate * min(1.0, (step + 1) / training.warmup_steps)
        rate *= min(1.0, (1 - share) / training.decay)
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = rate
        is_late = share > 1 - options.late
        if is_late:
            model.options = dataclasses.replace(model.options, dropout=options.late_dropout)
        gradients_of = [
            partial(lane.gradients, model, parameters, work, speech, is_late, config, phone_lm, guidance)
            for lane, work in zip(lanes, works, strict=True)
        ]
        tokens = sum(work.tokens for work in works)
        with rounded(model) if options.four_bits else nullcontext():
            # The first step is taken one batch after the other: it compiles what all need.
            done = [*(map if not step else pool.map)(lambda each: each(), gradients_of)]
            for lane, (gradients, parts) in zip(lanes, done, strict=True):
                lane.join()
                add_gradients(parameters, gradients, tokens)
                losses += parts / tokens
        torch.nn.utils.clip_grad_norm_(parameters, training.clip)
        for parameter in parameters:
            if parameter.grad is not None:
                torch.nan_to_num_(parameter.grad, 0.0, 0.0, 0.0)  # one broken batch must not end a run
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(training.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            kept = [average[name] for name in average]
            torch._foreach_lerp_(kept, [value.detach() for value in model.state_dict().values()], 1 - decay)
        step += 1
        heard += sum(work.seconds for work in works)
        if step % 50 == 0:
            parts = (losses / 50).tolist()
            losses.zero_()
            now = time.monotonic()
            row = {
                "step": step,
                "epoch": batches.epoch,
                "hours": round(heard / 3600, 1),
                "of": round(speech.hours, 2),
                "at_s": round(now - begun, 1),
                "loss": [round(part, 4) for part in parts],
                "times_real_time": round((heard - shown_s) / (now - shown_at)),
                "lr": round(rate, 6),
                "gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
            }
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(json.dumps(row), flush=True)
            shown_at, shown_s = now, heard
            if end_file.exists():
                seconds = float(end_file.read_text())
        if now - saved_at > options.save_every:
            save(average, output, "average")
            saved_at = now
    save(average, output, "average")
    save({name: value.detach() for name, value in model.state_dict().items()}, output, "last")
    (output / "done").write_text(json.dumps({"steps": step, "hours_heard": heard / 3600, "hours": speech.hours}))
    print("done", step, round(heard / 3600, 1), flush=True)


@dataclass(frozen=True)
class Guidance:
    """What a network is drawn to besides the transcripts."""

    consistency: float = 0.0  # weight of how far two views of a line are apart
    teacher_weight: float = 0.0  # of how far the network is from its teacher
    teacher: AcousticModel | None = None


class Lane:
    """Where a batch's work is done: a stream of its own, so that several go on at once."""

    def __init__(self, device: torch.device, augmenters: Sequence[BatchAugmenter]) -> None:
        self._augmenters = augmenters
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def gradients(
        self,
        model: AcousticModel,
        parameters: Sequence[nn.Parameter],
        work: Work,
        speech: Speech,
        is_late: bool,
        config: Config,
        phone_lm: PhoneLm,
        guidance: Guidance,
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The gradients of a batch's loss, summed over its tokens, and its parts: see `loss_of`."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.default_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            loss, parts = loss_of(model, work, speech.samples, self._augmenters[is_late], config, phone_lm, guidance)
            return torch.autograd.grad(loss, parameters), parts

    def join(self) -> None:
        """What comes next on the device waits for what is under way here."""
        if self._stream is not None:
            torch.cuda.default_stream(self._stream.device).wait_stream(self._stream)


def add_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor], tokens: int) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter.grad is None:
            parameter.grad = gradient / tokens
        else:
            parameter.grad.add_(gradient, alpha=1 / tokens)


def loss_of(
    model: AcousticModel,
    work: Work,
    samples: Tensor,
    augmenter: BatchAugmenter,
    config: Config,
    phone_lm: PhoneLm,
    guidance: Guidance,
) -> tuple[Tensor, Tensor]:
    """The loss of a batch, a sum over its tokens, and its parts: phonemes, pieces, middle, how far two views of a line
    differ, how far the network is from its teacher, all."""
    device, options, delay = samples.device, config.training, config.model.delay
    longest = int(work.ends[:, -1].max())
    starts, ends = work.starts.to(device, non_blocking=True), work.ends.to(device, non_blocking=True)
    with torch.no_grad():
        at = torch.arange(longest, device=device).expand(len(starts), -1)
        where = at + starts[:, :1]
        for part in range(1, starts.shape[1]):
            begins = ends[:, part - 1, None]
            where = torch.where(at >= begins, at - begins + starts[:, part, None], where)
        lines = samples[where.clamp_max(len(samples) - 1)].float() / 32768 * (at < ends[:, -1:])
        del at, where
        frames, counts = augmenter(lines, work.ends[:, -1].numpy(), 2 if guidance.consistency else 1)
        frames = augmenter.mask(frames, counts, model.mean)
        steps = torch.from_numpy((counts + TAIL_FRAMES + FRAME_REDUCTION - 1) // FRAME_REDUCTION)
        size = (int(steps.max()) + delay) * FRAME_REDUCTION
        size += -size % model.options.frames
        frames = F.pad(frames, (0, 0, 0, max(0, size - frames.shape[1])), value=math.log(LOG_FLOOR))[:, :size]
    # Without a cache of weights: threads would share it, and not wait for what another's stream is still casting.
    in_bf16 = options.bf16 and has_bfloat16(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16, cache_enabled=False):
        logits, inner, _ = model.run(frames, model.initial_state(len(frames)))
        assert model.middle is not None
        middle = model.middle(inner[0]).transpose(0, 1)
    tokens = model.options.tokens
    phones = crf_loss(logits[:, delay:, :tokens], steps, work.graphs, phone_lm, options.crf_weight, options.ctc_weight)
    below = crf_loss(middle[:, delay:], steps, work.graphs, None, 0.0, 0.0)
    log_probs = F.log_softmax(logits[:, delay:, tokens:].float(), dim=-1).transpose(0, 1)
    pieces = F.ctc_loss(
        log_probs,
        work.pieces.to(device, non_blocking=True),
        steps,
        work.piece_lengths,
        reduction="sum",
        zero_infinity=True,
    )
    piece_weight, middle_weight = options.piece_weight, options.middle_weight
    loss = (1 - piece_weight) * phones + piece_weight * pieces
    apart = loss.new_zeros(())
    away = apart
    phone_rows, piece_rows = logits[:, delay:, :tokens].float().log_softmax(dim=-1), log_probs.transpose(0, 1)
    if guidance.consistency:
        apart = (1 - piece_weight) * divergence(phone_rows, steps) + piece_weight * divergence(piece_rows, steps)
        loss = loss + guidance.consistency * apart
    if guidance.teacher is not None:
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16, cache_enabled=False):
            said, _, _ = guidance.teacher.run(frames, guidance.teacher.initial_state(len(frames)))
        said = said[:, delay:].float()
        phones_away = distance(phone_rows, said[..., :tokens].log_softmax(dim=-1), steps)
        pieces_away = distance(piece_rows, said[..., tokens:].log_softmax(dim=-1), steps)
        away = (1 - piece_weight) * phones_away + piece_weight * pieces_away
        loss = loss + guidance.teacher_weight * away
    loss = (1 - middle_weight) * loss + middle_weight * below
    return loss, torch.stack([phones, pieces, below, apart, away, loss]).detach()


def divergence(log_probs: Tensor, steps: Tensor) -> Tensor:
    """How far the two halves of a batch ``(2 B, T, tokens)`` are apart: Kullback and Leibler's divergence, both ways.

    It is summed over all steps. Each half is drawn to the other, which itself is taken as it is.
    """
    one, other = log_probs.chunk(2)
    steps = steps[: len(one)]
    return distance(one, other.detach(), steps) + distance(other, one.detach(), steps)


def save(values: dict[str, Tensor], folder: Path, name: str) -> None:
    """Weights in half precision, in files of a few megabytes."""
    part: dict[str, np.ndarray] = {}
    number = 0
    for key, value in values.items():
        array = value.detach().half().cpu().numpy()
        if part and sum(a.nbytes for a in part.values()) + array.nbytes > PART_BYTES:
            save_file(part, folder / f"{name}.{number}.safetensors")
            part, number = {}, number + 1
        part[key] = array
    save_file(part, folder / f"{name}.{number}.safetensors")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("prepare")
    one.add_argument("config", type=Path)
    one.add_argument("manifests", nargs="+", type=Path)
    one.add_argument("--output", type=Path, required=True)
    one.add_argument("--processes", type=int, default=None)
    two = actions.add_parser("train")
    two.add_argument("config", type=Path)
    two.add_argument("--prepared", type=Path, required=True)
    two.add_argument("--output", type=Path, required=True)
    two.add_argument("--seconds", type=float, required=True, help="how long to train; OUTPUT/seconds can change it")
    two.add_argument("--late", type=float, default=0.25, help="share of the time with the weaker augmentation")
    two.add_argument("--late-augment", type=Path, help="TOML file with its [augment]; default: the same")
    two.add_argument("--late-dropout", type=float, default=0.06)
    two.add_argument("--most-lines", type=int, default=768)
    two.add_argument("--at-once", type=int, default=2, help="batches of a step (default: 2)")
    two.add_argument("--hours", type=float, default=110.0, help="of speech and coded copies that there is room for")
    two.add_argument("--random-rooms", type=int, default=300)
    two.add_argument("--twice", nargs="*", default=[], help="corpora that count twice: how their names begin")
    two.add_argument("--consistency", type=float, default=0.0, help="weight of two views' difference; 0: one view only")
    two.add_argument("--teacher", type=float, default=0.0, help="weight of how far it is from what it began with")
    two.add_argument("--four-bits", action="store_true", help="learn weights of four bits: asr/train/four_bits.py")
    two.add_argument("--save-every", type=float, default=60.0)
    options = parser.parse_args(arguments)
    config = load_config(options.config)
    base = options.config.resolve().parent
    if options.action == "prepare":
        prepare(config, base, options.manifests, options.output, options.processes)
    else:
        late = config.augment
        if options.late_augment:
            late = from_table(AugmentOptions, read_tables(options.late_augment)["augment"], str(options.late_augment))
        train(config, late, base, options)


if __name__ == "__main__":
    main()
