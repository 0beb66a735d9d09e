"""The training loop: CTC on a CPU or a GPU, resumable at any step to the same curve."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from asr import heap
from asr.bundle import load_bundle, save_bundle
from asr.errors import ConfigError, DataError
from asr.network.features import Fbank
from asr.network.model import AcousticModel
from asr.network.shape import FRAME_REDUCTION
from asr.network.weights import widened
from asr.text.tokens import BLANK, Tokenizer
from asr.train import native
from asr.train.augment import Augmenter
from asr.train.batches import Batch, Corpus, EpochBatches, collate, plan_epoch
from asr.train.bfloat16 import has_bfloat16
from asr.train.config import Config, TrainingOptions, find_paths, to_tables
from asr.train.corpus import SampleCache, Utterance, decode_samples, read_corpus
from asr.train.corpus_names import named_corpora
from asr.train.crf import crf_loss
from asr.train.former import Former
from asr.train.former import distance as distance_from
from asr.train.four_bits import coarse_arrays, rounded
from asr.train.muon import make_muon
from asr.train.phone_lm import PhoneLm
from asr.train.score_model import score_batches
from asr.train.targets import LetterTargets, PhonemeTargets, Targets, can_be_learned
from asr.train.teacher import Student, TeacherRows, distance
from asr.train.word_errors import WordErrors

_NORMALISATION_UTTERANCES = 400  # enough for a mean and a deviation per mel bin
_DEV_BATCH_S = 240.0


def train(config: Config, base: Path, output: Path, device: str | None = None) -> None:
    """Train a model into the folder ``output``, going on from its checkpoint if it has one.

    Args:
        config: what to do.
        base: folder that the paths in the configuration start from.
        output: gets ``checkpoint.pt``, ``log.jsonl`` and, at every check, a usable model folder ``model/``.
        device: ``cpu`` or ``cuda``; by default a GPU if there is one.
    """
    Trainer(config, base, output, device).run()


class Trainer:
    """One training run. See `train`."""

    def __init__(self, config: Config, base: Path, output: Path, device: str | None) -> None:
        self.rank, self.processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.bf16 = config.training.bf16 and has_bfloat16(self.device)
        self.base, self.output = base, output
        output.mkdir(parents=True, exist_ok=True)
        lexicon = config.data.lexicon
        self.targets: Targets = PhonemeTargets(base / lexicon) if lexicon else LetterTargets()
        self.tokenizer = self.targets.tokenizer
        self.phone_lm = PhoneLm.load(base / config.data.phone_lm) if config.data.phone_lm else None
        self.pieces = Tokenizer.load(base / config.data.pieces) if config.data.pieces else None
        pieces = 0 if self.pieces is None else len(self.pieces)
        self.config = config = replace(config, model=replace(config.model, tokens=len(self.tokenizer), pieces=pieces))
        rate = config.features.sample_rate_hz
        cache = base / config.data.cache
        teacher = base / config.teacher.folder if config.teacher.folder else None
        if teacher and config.teacher.layer and config.model.stacked > 1:
            raise ConfigError("[teacher] layer must be 0 with [model] stacked = 2: later layers have fewer steps")
        self.corpus = _load_corpus(find_paths(config.data.train, base), cache, rate, teacher, config.teacher.dimensions)
        dev = named_corpora(find_paths(config.data.dev, base))
        self.dev = {name: _load_corpus([path], cache, rate) for name, path in dev.items()}
        self.chosen = self._usable_utterances()
        self.hours = float(self.corpus.seconds[self.chosen].sum()) / 3600  # of speech to train on
        self.augmenter = Augmenter(
            config.augment,
            config.features,
            noises=list(read_tars(find_paths(config.data.noise, base), rate)),
            rooms=list(read_tars(find_paths(config.data.rooms, base), rate)),
        )
        torch.manual_seed(config.training.seed)
        self.model = AcousticModel(config.model)
        self.step = self.epoch = self.batch = 0
        self.seconds = 0.0  # of speech trained on so far
        self.teacher_error = self.former_distance = 0.0  # of the last step
        resumed = (output / "checkpoint.pt").exists()
        if not resumed and config.training.start:
            self._start_from(base / config.training.start)
        elif not resumed:
            self.model.set_normalisation(*self._measure_normalisation())
        self.model.to(self.device)
        wanted = config.training.word_errors
        self.word_errors = WordErrors(base / config.training.start) if wanted else None
        self.former = self._former(base / config.training.start) if config.training.stay else None
        self.student = Student(config.model.width, config.teacher).to(self.device) if teacher else None
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.optimisers = make_optimisers(self.model, self.student, config.training)
        if config.training.kernels == "native":
            native.check(self.model)
        if resumed:
            self._load_checkpoint()

    def run(self) -> None:
        options = self.config.training
        parameters = sum(p.numel() for p in self.model.parameters())
        if self.rank == 0:
            wordless = sum(not self.corpus.utterances[i].text for i in self.chosen)
            without = f" ({wordless} without words)" if wordless else ""
            print(f"{len(self.chosen)} utterances{without}, {self.hours:.1f} h; {parameters:,} parameters; ", end="")
            print(f"step {self.step} of {options.steps} on {self.device}", flush=True)
            if options.bf16 and not self.bf16:
                print("in float32: this processor's recurrent layers have no bfloat16", flush=True)
        if self.step >= options.steps:
            if self.rank == 0:
                print(f"this run is finished: its model is in {self.output / 'model'}; to train another, give --output")
            return
        progress = tqdm(
            total=options.steps,
            initial=self.step,
            unit="step",
            disable=self.rank > 0 or not sys.stderr.isatty(),
            smoothing=0.02,
        )
        saved_at = shown_at = time.monotonic()
        shown_s, loss_sum, error_sum, away_sum, loss_count = self.seconds, 0.0, 0.0, 0.0, 0
        for batch in self._batches():
            loss = self._train_step(batch)
            if math.isfinite(loss):
                loss_sum, error_sum, loss_count = loss_sum + loss, error_sum + self.teacher_error, loss_count + 1
                away_sum += self.former_distance
            self.step += 1
            self.batch += 1
            self.seconds += batch.seconds * self.processes
            progress.update()
            if self.step % 50 == 0:
                now = time.monotonic()
                speed = (self.seconds - shown_s) / (now - shown_at)
                self._log(
                    loss=round(loss_sum / max(1, loss_count), 4),
                    **({} if self.student is None else {"teacher": round(error_sum / max(1, loss_count), 4)}),
                    **({} if self.former is None else {"away": round(away_sum / max(1, loss_count), 4)}),
                    times_real_time=round(speed, 1),
                    lr=self._learning_rate(),
                )
                progress.set_postfix_str(f"epoch {self.epoch} loss {loss_sum / max(1, loss_count):.3f} {speed:.0f}x")
                shown_at, shown_s, loss_sum, error_sum, away_sum, loss_count = now, self.seconds, 0.0, 0.0, 0.0, 0
            done = self.step >= options.steps
            if self.step % options.check_every == 0 or done:
                self.check()
                shown_at, shown_s = time.monotonic(), self.seconds
            if done or time.monotonic() - saved_at > options.checkpoint_minutes * 60:
                self._save_checkpoint()
                heap.give_back()
                saved_at = time.monotonic()
            if done:
                break
        progress.close()

    def check(self) -> None:
        """Score the averaged weights on the dev sets and write them as a usable model folder."""
        if self.rank:
            return
        rates: dict[str, float] = {}
        model = AcousticModel(self.config.model)
        model.load_state_dict({name: value.cpu() for name, value in self.average.items()})
        model.to(self.device).eval()
        with self._as_used(model):
            for name, corpus in self.dev.items():
                score = score_batches(model, self._dev_batches(corpus), self.targets, self.pieces, self.bf16)
                rates |= {f"{name} {what}": round(100 * errors.rate, 2) for what, errors in score.items()}
        self._log(wer=rates)
        folder, features = self.output / "model", self.config.features
        arrays = coarse_arrays(model.arrays()) if self.config.training.four_bits else model.arrays()
        save_bundle(folder, model.options, arrays, features, self.tokenizer, self._provenance(), self.pieces)

    def _as_used(self, model: AcousticModel) -> AbstractContextManager[None]:
        """The model's weights as recognition will have them."""
        return rounded(model) if self.config.training.four_bits else nullcontext()

    def _provenance(self) -> dict[str, Any]:
        """What the model's folder says of its making: the configuration, with names of data in place of this
        machine's paths, and how far it got."""
        data = self.config.data
        patterns = {"train": data.train, "dev": data.dev, "noise": data.noise, "rooms": data.rooms}
        names = {key: [path.name for path in find_paths(value, self.base)] for key, value in patterns.items()}
        return {
            **to_tables(self.config),
            "teacher": {**dataclasses.asdict(self.config.teacher), "folder": Path(self.config.teacher.folder).name},
            "data": {
                **names,
                "lexicon": Path(data.lexicon).name,
                "phone_lm": Path(data.phone_lm).name,
                "pieces": Path(data.pieces).name,
                "min_s": data.min_s,
                "max_s": data.max_s,
            },
            "run": {"steps": self.step, "hours": round(self.hours, 2), "hours_heard": round(self.seconds / 3600, 1)},
        }

    def _train_step(self, batch: Batch) -> float:
        options = self.config.training
        # Dropout is then the same after a resume.
        torch.manual_seed(options.seed * 1_000_003 + self.step * self.processes + self.rank)
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = self._learning_rate()
        self.model.train()
        with self._as_used(self.model):
            loss, shown = self._loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
        self._share_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters(), options.clip)
        for optimiser in self.optimisers:
            if torch.isfinite(norm):  # one broken batch must not end a run of days
                optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        # The average starts short and lengthens, or the first weights would stay in it for long.
        decay = min(options.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return shown

    def _loss(self, batch: Batch) -> tuple[Tensor, float]:
        """A batch's loss, and what is shown of it: without that of a teacher."""
        options, device = self.config.training, self.device
        frames, delay = batch.frames.to(device, non_blocking=True), self.config.model.delay
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16):
            if options.kernels == "native":
                logits, inner = native.run(self.model, frames)
            else:
                logits, inner, _ = self.model.run(frames, self.model.initial_state(frames.shape[0]))
            middle = None if self.model.middle is None else self.model.middle(inner[0]).transpose(0, 1)
        ctc = native.ctc if options.kernels == "native" else _ctc
        letters = len(self.tokenizer)
        loss = self._first_loss(ctc, logits[:, delay:, :letters], batch, self.phone_lm)
        if batch.pieces is not None:
            weight = options.piece_weight
            loss = (1 - weight) * loss + weight * _of_batch(ctc, logits[:, delay:, letters:], batch, batch.pieces)
        if middle is not None:
            weight = options.middle_weight
            loss = (1 - weight) * loss + weight * self._first_loss(ctc, middle[:, delay:], batch, None)
        shown = float(loss.detach())
        if self.student is not None and batch.teacher is not None:
            teacher = self.config.teacher
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16):
                predicted = self.student(inner[teacher.layer]).transpose(0, 1)
            late = delay + round(teacher.delay_ms / (FRAME_REDUCTION * self.config.features.hop_ms))
            error = distance(predicted, batch.teacher.to(device, non_blocking=True), late)
            self.teacher_error = float(error.detach())
            loss = loss + teacher.weight * error
        if self.former is not None:
            away = self._distance_from(self.former, frames, logits[:, delay:], batch)
            self.former_distance = float(away.detach())
            loss = loss + options.stay * away
        return loss, shown

    def _distance_from(self, former: Former, frames: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """How far the outputs are from what the former model says, by the token; pieces have their share, if any."""
        said, letters = former(frames)[:, self.config.model.delay :], len(self.tokenizer)
        steps = min(said.shape[1], logits.shape[1])
        said, logits = said[:, :steps], logits[:, :steps].float()
        parts = [(slice(0, letters), 1.0)]
        if self.pieces is not None:
            share = self.config.training.piece_weight
            parts = [(slice(0, letters), 1 - share), (slice(letters, None), share)]
        away = logits.new_zeros(())
        for part, share in parts:
            own, its = (scores[:, :, part].log_softmax(dim=-1) for scores in (logits, said))
            away = away + share * distance_from(own, its, batch.steps)
        return away / _tokens(batch)

    def _first_loss(self, ctc: Callable[..., Tensor], logits: Tensor, batch: Batch, phone_lm: PhoneLm | None) -> Tensor:
        """The loss per token of an output that writes the first alphabet: CTC, or CTC-CRF with a phoneme trigram."""
        if not batch.graphs:
            return _of_batch(ctc, logits, batch)
        options = self.config.training
        weight, ctc_weight = (0.0, 0.0) if phone_lm is None else (options.crf_weight, options.ctc_weight)
        loss = crf_loss(logits, batch.steps, batch.graphs, phone_lm, weight, ctc_weight)
        if phone_lm is not None and self.word_errors is not None:
            loss = loss + options.word_errors * self.word_errors(logits, batch.steps, batch.texts)
        return loss / _tokens(batch)

    def _parameters(self) -> list[nn.Parameter]:
        """All that is trained: the model's, and those that only training needs."""
        return [*self.model.parameters(), *(self.student.parameters() if self.student is not None else ())]

    def _share_gradients(self) -> None:
        """Average the gradients over the processes, as one long vector."""
        if self.processes == 1:
            return
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.processes
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def _learning_rate(self) -> float:
        options = self.config.training
        rise = min(1.0, (self.step + 1) / options.warmup_steps)
        left = max(0.0, 1 - self.step / options.steps)
        return options.learning_rate * rise * min(1.0, left / options.decay)

    def _batches(self) -> Iterator[Batch]:
        options = self.config.training
        while True:
            plan = plan_epoch(
                self.corpus.seconds,
                self.chosen,
                options.batch_s,
                options.min_lines,
                options.seed,
                self.epoch,
                self.epoch < options.sorted_epochs,
                options.join,
                options.join_s,
                self.processes,
            )
            batches = EpochBatches(
                self.corpus,
                plan,
                self.augmenter,
                self.targets,
                self.model.mean.cpu(),
                self.config.model.delay,
                (options.seed, self.epoch),
                self.pieces,
            )
            # Each process takes its share of the epoch; the few batches that do not divide evenly are left out.
            even = len(plan) - len(plan) % self.processes
            rest = range(self.batch * self.processes + self.rank, even, self.processes)
            loader: DataLoader[Batch] = DataLoader(
                batches,
                sampler=rest,
                batch_size=None,
                num_workers=options.workers,
                prefetch_factor=4 if options.workers else None,
            )
            yield from loader
            self.epoch, self.batch = self.epoch + 1, 0

    def _usable_utterances(self) -> list[int]:
        chosen = [
            i
            for i, utterance in enumerate(self.corpus.utterances)
            if can_be_learned(self.targets, utterance.text, float(self.corpus.seconds[i]), self.config)
        ]
        if not chosen:
            raise DataError("no utterance is left to train on: check [data] min_s and max_s, and the transcripts")
        return chosen

    def _start_from(self, folder: Path) -> None:
        """Take over a finished model's weights. Its middle output was not kept: that one starts afresh.

        Recurrent layers may begin to take several steps as one: these begin with what they did at each.
        """
        start = load_bundle(folder)
        ours = dataclasses.replace(self.config.model, middle_ctc=False)
        comparable = dataclasses.replace(start.shape, dropout=ours.dropout, tokens=ours.tokens, pieces=ours.pieces)
        stacks = ours.stacked if start.shape.stacked == 1 else 1  # that begin here
        comparable = dataclasses.replace(comparable, stacked=stacks * start.shape.stacked)
        if comparable != ours or start.features != self.config.features:
            raise ConfigError(f"[training] start: {folder} was made with other [model] or [features]: use its own")
        values = {name: torch.from_numpy(value) for name, value in widened(start.weights).items()}
        known = {token: row for row, token in enumerate(start.tokenizer.tokens)}
        known_pieces = {token: len(known) + i for i, token in enumerate(start.pieces.tokens if start.pieces else ())}
        # A piece that was never trained begins as the letter that it ends with; where the first output writes phonemes,
        # the letters are among its pieces.
        letters = known | known_pieces
        same = start.tokenizer.tokens == self.tokenizer.tokens
        rows = [known[token] if same else -1 for token in self.tokenizer.tokens]
        for token in self.pieces.tokens if self.pieces else ():
            rows.append(known_pieces.get(token, letters.get(token if token == BLANK else token[-1], -1)))
        if start.shape.stacked > 1:
            own = self.pieces.tokens if self.pieces else ()
            if not same or own != (start.pieces.tokens if start.pieces else ()):
                raise ConfigError(f"[training] start: {folder} takes steps as one: only its own tokens can go on")
            rows = list(range(len(values["output.bias"])))
        tokens = len(self.tokenizer)
        take = torch.tensor(rows[:tokens] * stacks + rows[tokens:] * stacks)
        for name, fresh in (("output.weight", self.model.output.weight), ("output.bias", self.model.output.bias)):
            # What nothing was trained for begins with this model's random weights.
            trained = (take >= 0).view(-1, *[1] * (fresh.dim() - 1))
            values[name] = torch.where(trained, values[name][take.clamp_min(0)], fresh.detach())
        self.model.load_state_dict(values, strict=False)

    def _former(self, folder: Path) -> Former:
        """The model that training began with, whose outputs must be this one's."""
        former = Former(folder, self.device)
        ours = self.config.model
        if (former.options.tokens, former.options.pieces) != (ours.tokens, ours.pieces):
            raise ConfigError(f"[training] stay: {folder} has other tokens or pieces: leave stay at 0")
        return former

    def _measure_normalisation(self) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(self.config.training.seed)
        count = min(_NORMALISATION_UTTERANCES, len(self.chosen))
        picked = rng.choice(len(self.chosen), count, replace=False)
        utterances = [self.augmenter(self.corpus.samples(self.chosen[i]), rng) for i in picked]
        # The network subtracts a running mean, so the deviation that matters is the one within an utterance.
        deviations = torch.cat([frames - frames.mean(dim=0) for frames in utterances])
        return torch.cat(utterances).mean(dim=0), deviations.std(dim=0)

    def _dev_batches(self, corpus: Corpus) -> Iterator[tuple[list[int], list[str], Batch]]:
        fbank, budget = Fbank(self.config.features), self.config.training.check_s
        order = np.random.default_rng(0).permutation(len(corpus.utterances))
        picked = [int(i) for i in order[np.cumsum(corpus.seconds[order]) <= budget]] or [int(order[0])]
        for lines in plan_epoch(corpus.seconds, picked, _DEV_BATCH_S, 1, 0, 0, True, 0.0, 0.0):
            indices = [line[0] for line in lines]
            frames = [torch.from_numpy(fbank(fbank.windows(corpus.samples(i)))) for i in indices]
            seconds = float(corpus.seconds[indices].sum())
            batch = collate(frames, [[]] * len(frames), self.config.model.delay, self.config.features.hop_ms, seconds)
            yield indices, [corpus.utterances[i].text for i in indices], batch

    def _log(self, **values: Any) -> None:
        if self.rank:
            return
        row = {"step": self.step, "epoch": self.epoch, "hours": round(self.seconds / 3600, 2), **values}
        with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if "wer" in values or not sys.stderr.isatty():
            tqdm.write(json.dumps(row))
            sys.stdout.flush()

    def _save_checkpoint(self) -> None:
        if self.rank:
            return
        part = self.output / "checkpoint.part"
        torch.save(
            {
                "model": self.model.state_dict(),
                "student": None if self.student is None else self.student.state_dict(),
                "average": self.average,
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "step": self.step,
                "epoch": self.epoch,
                "batch": self.batch,
                "seconds": self.seconds,
            },
            part,
        )
        os.replace(part, self.output / "checkpoint.pt")  # a crash leaves the old one whole

    def _load_checkpoint(self) -> None:
        saved = torch.load(self.output / "checkpoint.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(saved["model"])
        if self.student is not None:
            self.student.load_state_dict(saved["student"])
        self.average = saved["average"]
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.step, self.epoch, self.batch = saved["step"], saved["epoch"], saved["batch"]
        self.seconds = saved["seconds"]


def make_optimisers(
    model: AcousticModel, student: Student | None, options: TrainingOptions
) -> list[torch.optim.Optimizer]:
    """One optimiser for all parameters, or Muon for the layers' matrices and AdamW for the rest."""
    layers = {id(p) for module in (model.cells, model.blocks) for p in module.parameters() if p.ndim == 2}
    for_muon = layers if options.optimiser == "muon" else set()
    matrices = [p for p in model.parameters() if id(p) in for_muon]
    rest = [p for p in model.parameters() if id(p) not in for_muon]
    if student is not None:
        rest += student.parameters()
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    if not matrices:
        return [adamw]
    return [make_muon(matrices, lr=options.learning_rate, weight_decay=options.weight_decay), adamw]


def _tokens(batch: Batch) -> int:
    """Tokens of a batch; a line without words counts as one, or a batch of such lines would weigh by the step."""
    return int(batch.target_lengths.clamp_min(1).sum())


def _of_batch(
    ctc: Callable[..., Tensor], logits: Tensor, batch: Batch, texts: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """CTC loss per letter of ``(B, T, tokens)`` logits, of the batch's texts as letters or as other tokens."""
    parts = (part.to(logits.device) for part in (batch.steps, *(texts or (batch.targets, batch.target_lengths))))
    return ctc(logits, *parts) / _tokens(batch)


def _ctc(logits: Tensor, steps: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """The sum of a batch's CTC losses, in float32."""
    log_probs = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)
    return F.ctc_loss(log_probs, targets, steps, target_lengths, reduction="sum", zero_infinity=True)


def _load_corpus(
    paths: list[Path], cache: Path, sample_rate_hz: int, teacher: Path | None = None, dimensions: int = 0
) -> Corpus:
    loaded: dict[Path, tuple[list[Utterance], SampleCache, TeacherRows | None]] = {}
    for path in dict.fromkeys(paths):  # one that is named several times is read once
        utterances = read_corpus(path)
        rows = None if teacher is None else TeacherRows(teacher, path.stem, len(utterances), dimensions)
        loaded[path] = utterances, SampleCache(path, utterances, sample_rate_hz, cache), rows
    return Corpus([loaded[path] for path in paths], sample_rate_hz)


def read_tars(paths: list[Path], sample_rate_hz: int) -> Iterator[np.ndarray]:
    """The samples of every recording in tar files."""
    import tarfile

    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    yield decode_samples(file.read(), member.name, sample_rate_hz)
