"""The training configuration: one TOML file, one frozen dataclass per table.

A trained model's folder holds the file it was made with, complete with every default, so that the run
can be repeated.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from asr.errors import ConfigError
from asr.network.features import FeatureOptions
from asr.network.shape import ModelOptions
from asr.options import from_table, read_tables
from asr.train.augment import AugmentOptions
from asr.train.teacher import TeacherOptions


@dataclass(frozen=True)
class DataOptions:
    """What to train and to check on. Paths are relative to the configuration file; ``*`` matches names."""

    train: tuple[str, ...] = ()  # manifests or LibriSpeech-style folders; named twice, it counts twice
    dev: tuple[str, ...] = ()  # the same, for the word error rates shown while training
    noise: tuple[str, ...] = ()  # tar files of background recordings
    rooms: tuple[str, ...] = ()  # tar files of room impulse responses
    lexicon: str = ""  # file of pronunciations: the network then writes phonemes; empty: letters
    phone_lm: str = ""  # phoneme trigram, the denominator of CTC-CRF; empty: plain CTC
    pieces: str = ""  # file of word pieces for a second output, one a line, such as a model's pieces.txt; empty: none
    cache: str = ".cache"  # folder for decoded samples: 115 MB an hour
    min_s: float = 0.2  # shorter utterances are left out
    max_s: float = 25.0  # longer ones too: one would set the memory of a batch


@dataclass(frozen=True)
class TrainingOptions:
    """How to train."""

    start: str = ""  # model folder whose weights to begin with, such as ../pretrained; empty for random ones
    steps: int = 6_000  # optimiser steps in all; the learning rate reaches zero at the last
    batch_s: float = 80.0  # seconds of audio in a batch, padding included
    min_lines: int = 10  # but at least so many lines, however long: recurrent layers are slow on few
    learning_rate: float = 1.5e-3  # its peak
    warmup_steps: int = 100  # it rises from zero over these
    decay: float = 0.45  # last share of the steps, over which it falls to zero
    optimiser: Literal["muon", "adamw"] = "muon"  # muon: for the matrices of the layers, AdamW for the rest
    weight_decay: float = 0.01  # AdamW's
    clip: float = 2.0  # largest norm of a gradient
    middle_weight: float = 0.3  # share of the loss that the middle CTC output has
    crf_weight: float = 1.0  # of CTC-CRF's denominator, if there is a phoneme trigram
    ctc_weight: float = 0.1  # of CTC beside CTC-CRF
    word_errors: float = 0.0  # weight of the expected word errors beside CTC-CRF (word_errors.py); 0: none
    piece_weight: float = 0.75  # share of the rest that the word pieces have, if there are any
    stay: float = 0.0  # weight of how far the outputs are from what the model to start with says (former.py); 0: none
    four_bits: bool = False  # layers' weights of four bits, for a trained model: half of what a stream reads
    sorted_epochs: int = 1  # first epochs that go from short to long utterances: CTC finds its alignment faster
    join: float = 0.1  # share of utterances joined into longer lines, so that the state learns to run on
    join_s: float = 10.0  # longest joined line
    average_decay: float = 0.998  # running average of the weights, which is what is checked and exported
    bf16: bool = True  # autocast of the forward pass, where the device can; the weights stay float32
    kernels: Literal["torch", "native", "amx"] = "torch"  # native: ours, in C, for CPUs with AMX or AVX-512 BF16
    workers: int = 0  # processes that prepare batches; 0 on a small CPU, several beside a GPU
    checkpoint_minutes: float = 4.0  # how much work a crash can cost
    check_every: int = 500  # steps between looks at the dev sets
    check_s: float = 600.0  # seconds of each dev corpus to look at
    seed: int = 1  # of the order, the augmentation, the dropout and the initial weights

    def __post_init__(self) -> None:
        if self.optimiser not in ("adamw", "muon"):
            raise ConfigError(f"unknown optimiser {self.optimiser!r}: choose muon or adamw")
        if self.kernels == "amx":  # their name when they knew no other unit
            object.__setattr__(self, "kernels", "native")
        if self.kernels not in ("torch", "native"):
            raise ConfigError(f"unknown kernels {self.kernels!r}: choose torch or native")
        if self.stay and not self.start:
            raise ConfigError("[training] stay is for going on from a trained model: name it as start")
        if self.word_errors and not self.start:
            raise ConfigError(
                "[training] word_errors is for a trained model with its language models: name it as start"
            )
        if self.kernels == "native" and not self.bf16:
            raise ConfigError('[training] kernels = "native" works in bfloat16: leave bf16 at true')


@dataclass(frozen=True)
class Config:
    """A whole training configuration."""

    data: DataOptions = field(default_factory=DataOptions)
    features: FeatureOptions = field(default_factory=FeatureOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)


def load_config(path: Path) -> Config:
    """Read a TOML file. Unknown tables and keys are errors, so that a typing slip does not train for a day."""
    tables = read_tables(path)
    known = {f.name for f in dataclasses.fields(Config)}
    if unknown := sorted(set(tables) - known):
        raise ConfigError(f"{path}: unknown table [{unknown[0]}]: the tables are {', '.join(sorted(known))}")
    config = Config(
        data=from_table(DataOptions, tables.get("data", {}), f"{path} [data]"),
        features=from_table(FeatureOptions, tables.get("features", {}), f"{path} [features]"),
        model=from_table(ModelOptions, tables.get("model", {}), f"{path} [model]"),
        augment=from_table(AugmentOptions, tables.get("augment", {}), f"{path} [augment]"),
        teacher=from_table(TeacherOptions, tables.get("teacher", {}), f"{path} [teacher]"),
        training=from_table(TrainingOptions, tables.get("training", {}), f"{path} [training]"),
    )
    if config.model.mels != config.features.mels:
        raise ConfigError(f"{path}: [model] mels must equal [features] mels")
    if config.training.word_errors and not config.data.phone_lm:
        raise ConfigError(f"{path}: [training] word_errors goes beside CTC-CRF: name a [data] phone_lm")
    if config.teacher.folder and config.teacher.layer > config.model.layers:
        raise ConfigError(f"{path}: [teacher] layer must be at most [model] layers")
    return config


def find_paths(patterns: tuple[str, ...], base: Path) -> list[Path]:
    """The files that patterns name, relative to a folder; one that names nothing is an error.

    A file that several patterns name is there as often: that is how a corpus is given more weight.
    """
    found: list[Path] = []
    for pattern in patterns:
        full = Path(pattern) if Path(pattern).is_absolute() else base / pattern
        anchor = Path(full.anchor or ".")
        matches = sorted(anchor.glob(str(full.relative_to(anchor)) if full.anchor else str(full)))
        if not matches:
            raise ConfigError(f"no file matches {pattern!r} (looked from {base})")
        found += matches
    return found


def to_tables(config: Config) -> dict[str, Any]:
    """The configuration as nested plain values, for writing as TOML."""
    return dataclasses.asdict(config)
