"""Make a model's file smaller: its network's matrices in coarser steps, which deflate better.

    python pretrained/recipe/make_smaller.py MODEL OUTPUT --step 0.11
    python pretrained/recipe/make_smaller.py MODEL OUTPUT --four-bits

A step of 0.11 of a row's deviation takes 5.3 bits a weight, where the trainer's own take about seven. Measure the words
afterwards (asr evaluate OUTPUT ...): nothing is trained again.

With ``--four-bits`` the layers' weights get four bits, as a network must have been trained to
(asr/train/four_bits.py); the first convolutions and the outputs get steps all the same.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from asr.bundle import load_bundle
from asr.network.integers import coarse_rows
from asr.network.weights import save_weights, widened
from asr.train.four_bits import coarse_arrays

_WEIGHTS = "weights.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--four-bits", action="store_true", help="for a network that was trained with four bits")
    parser.add_argument("--step", type=float, default=0.11, help="of a row's deviation (default: 0.11)")
    options = parser.parse_args(arguments)
    weights = widened(load_bundle(options.model).weights)
    options.output.mkdir(parents=True, exist_ok=True)
    for path in options.model.iterdir():
        if path.is_file() and path.name != _WEIGHTS:
            shutil.copyfile(path, options.output / path.name)
    coarse = coarse_arrays(weights) if options.four_bits else dict(weights)
    for name, value in weights.items():
        if value.ndim > 1 and f"{name}.peaks" not in coarse:
            coarse[name], coarse[f"{name}.peaks"] = coarse_rows(value, options.step)
    save_weights(options.output / _WEIGHTS, coarse)
    sizes = [(folder / _WEIGHTS).stat().st_size / 1e6 for folder in (options.model, options.output)]
    print(f"{_WEIGHTS}: {sizes[0]:.2f} -> {sizes[1]:.2f} MB")


if __name__ == "__main__":
    main()
