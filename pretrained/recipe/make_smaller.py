"""Make a model's file smaller: its network's matrices in coarser steps, which deflate better, or in four bits.

    python pretrained/recipe/make_smaller.py MODEL OUTPUT --step 0.11
    python pretrained/recipe/make_smaller.py MODEL OUTPUT --four-bits --speech MANIFEST…

A step of 0.11 of a row's deviation takes 5.3 bits a weight, where the trainer's own take about seven. Measure the words
afterwards (asr evaluate OUTPUT …): nothing is trained again.

With ``--four-bits`` the layers' weights get four bits; the first convolutions and the outputs get steps all the same.
Speech to train on, of all kinds that are to be recognised, says how to round them (asr/train/feedback_rounding.py);
without it they are rounded to the nearest, as a network must have been trained to (asr/train/four_bits.py). With
``--keep weight_hh`` the recurrent matrices, whose errors come back at every step, stay in bytes.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.bundle import load_bundle
from asr.errors import ConfigError
from asr.network.features import FeatureOptions, log_mel
from asr.network.integers import coarse_rows
from asr.network.model import AcousticModel
from asr.network.weights import save_weights, widened
from asr.train.corpus import SampleCache, read_corpus
from asr.train.feedback_rounding import round_network
from asr.train.four_bits import coarse_arrays

_WEIGHTS = "weights.safetensors"
_LONGEST_S = 16.0  # of a line: what fills up the others of its batch is worked out for nothing
_BATCH_S = 240.0  # of lines together


def read_speech(
    manifests: Sequence[Path], minutes: float, cache: Path, features: FeatureOptions, multiple: int
) -> list[tuple[Tensor, Tensor]]:
    """As much of each corpus, drawn at random, as batches of frames and of lengths: see `round_network`."""
    rng, rate = np.random.default_rng(1), features.sample_rate_hz
    lines: list[Tensor] = []
    for path in manifests:
        utterances = read_corpus(path)
        samples, left_s = SampleCache(path, utterances, rate, cache), minutes * 60 / len(manifests)
        for index in rng.permutation(len(utterances)).tolist():
            if left_s <= 0:
                break
            heard = np.asarray(samples[index], np.float32)
            if len(heard) <= _LONGEST_S * rate:
                frames = log_mel(heard, features)
                lines.append(torch.from_numpy(frames[: len(frames) // multiple * multiple]).float())
                left_s -= len(heard) / rate
    lines = sorted((line for line in lines if len(line)), key=len)
    if not lines:
        raise ConfigError(f"there is no speech of up to {_LONGEST_S:.0f} s in {', '.join(map(str, manifests))}")
    batches: list[list[Tensor]] = [[]]
    for line in lines:
        if (len(batches[-1]) + 1) * len(line) * features.hop_ms > 1000 * _BATCH_S and batches[-1]:
            batches.append([])
        batches[-1].append(line)
    return [
        (torch.nn.utils.rnn.pad_sequence(batch, batch_first=True), torch.tensor([len(line) for line in batch]))
        for batch in batches
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--four-bits", action="store_true", help="in place of steps, for the layers' weights")
    parser.add_argument("--speech", type=Path, nargs="+", metavar="MANIFEST", help="says how to round to four bits")
    parser.add_argument(
        "--keep",
        default=[],
        nargs="+",
        metavar="PART",
        help="with speech: leave matrices in whose names this is in bytes",
    )
    parser.add_argument("--minutes", type=float, default=45.0, help="of it, as much of each (default: 45)")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="folder for decoded samples")
    parser.add_argument("--step", type=float, default=0.11, help="of a row's deviation (default: 0.11)")
    options = parser.parse_args(arguments)
    if options.speech and not options.four_bits:
        parser.error("--speech is for --four-bits")
    bundle = load_bundle(options.model)
    weights = widened(bundle.weights)
    if options.speech:
        speech = read_speech(options.speech, options.minutes, options.cache, bundle.features, bundle.shape.frames)
        coarse = round_network(AcousticModel.of_weights(bundle.shape, weights), speech, options.keep, print)
    else:
        coarse = coarse_arrays(weights) if options.four_bits else dict(weights)
    for name, value in weights.items():
        if value.ndim > 1 and f"{name}.peaks" not in coarse:
            coarse[name], coarse[f"{name}.peaks"] = coarse_rows(value, options.step)
    options.output.mkdir(parents=True, exist_ok=True)
    for path in options.model.iterdir():
        if path.is_file() and path.name != _WEIGHTS:
            shutil.copyfile(path, options.output / path.name)
    save_weights(options.output / _WEIGHTS, coarse)
    sizes = [(folder / _WEIGHTS).stat().st_size / 1e6 for folder in (options.model, options.output)]
    print(f"{_WEIGHTS}: {sizes[0]:.2f} -> {sizes[1]:.2f} MB")


if __name__ == "__main__":
    main()
