"""Make the features that ``[teacher]`` trains on, with Moonshine tiny's encoder (MIT licence).

    pip install onnxruntime moonshine-voice==0.1.0
    python pretrained/recipe/make_teacher_features.py --cache .cache --output teacher MANIFEST.jsonl...

For every utterance the encoder's 288 outputs, 24 ms apart, are laid on the network's steps of 30 ms and
kept as int8 in 1/32 of a deviation (``asr/train/teacher.py`` has the format). Means and deviations are
those of the first run, in ``OUTPUT/scale.npz``. Manifests that have their features already are left
out. About 100 times real time on one core; 35 MB an hour of speech.
"""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from tqdm import tqdm

from asr.train.corpus import SampleCache, read_corpus
from asr.train.teacher import UNIT

RATE_HZ = 16_000
STEP_SAMPLES = 480  # 30 ms: a step of the network
# Moonshine's three convolutions of 127, 7 and 3 taps with strides of 64, 3 and 2.
FRAME_SAMPLES = 384
FIRST_MIDDLE_SAMPLES = 447
SHORTEST_S, LONGEST_S = 0.2, 26.0  # what the encoder takes and the trainer uses; others get no rows
SCALE_UTTERANCES = 25  # of each manifest, for the means and deviations


class Encoder:
    def __init__(self) -> None:
        package = find_spec("moonshine_voice")
        if package is None or not package.submodule_search_locations:
            raise SystemExit("this needs Moonshine's encoder: pip install moonshine-voice==0.1.0")
        path = Path(package.submodule_search_locations[0]) / "assets" / "tiny-en" / "encoder_model.ort"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Features ``(n // 480, 288)`` of ``(n,)`` samples at 16 kHz."""
        mask = np.ones((1, len(samples)), np.int64)
        (found,) = self._session.run(None, {"input_values": samples[None], "attention_mask": mask})
        frames = found[0]
        middles = (np.arange(len(samples) // STEP_SAMPLES) + 0.5) * STEP_SAMPLES
        at = np.clip((middles - FIRST_MIDDLE_SAMPLES) / FRAME_SAMPLES, 0, len(frames) - 1)
        low = at.astype(int)
        share = (at - low)[:, None].astype(np.float32)
        rows: np.ndarray = frames[low] * (1 - share) + frames[np.minimum(low + 1, len(frames) - 1)] * share
        return rows


def usable(cache: SampleCache, index: int) -> bool:
    return SHORTEST_S <= cache.length(index) / RATE_HZ <= LONGEST_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder for the features")
    parser.add_argument("--cache", type=Path, required=True, help="folder for decoded samples, as [data] cache")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    encoder = Encoder()
    corpora = {}
    for path in arguments.manifests:
        utterances = read_corpus(path)
        corpora[path.stem] = SampleCache(path, utterances, RATE_HZ, arguments.cache)

    scale_path = arguments.output / "scale.npz"
    if not scale_path.exists():
        rng, sample = np.random.default_rng(0), []
        for cache in corpora.values():
            picked = rng.choice(len(cache), min(len(cache), SCALE_UTTERANCES), replace=False)
            sample += [encoder(cache[i]) for i in picked if usable(cache, i)]
        rows = np.concatenate(sample)
        np.savez(scale_path, mean=rows.mean(axis=0), deviation=rows.std(axis=0))
    scale = np.load(scale_path)

    for name, cache in corpora.items():
        ends_path = arguments.output / f"{name}.ends.npy"
        if ends_path.exists():
            continue
        part, ends, total = arguments.output / f"{name}.part", [], 0
        with part.open("wb") as file:
            for i in tqdm(range(len(cache)), desc=name, unit="utterance"):
                if usable(cache, i):
                    rows = (encoder(cache[i]) - scale["mean"]) / scale["deviation"]
                    file.write(np.clip(np.rint(rows / UNIT), -127, 127).astype(np.int8).tobytes())
                    total += len(rows)
                ends.append(total)
        os.replace(part, arguments.output / f"{name}.i8")
        np.save(ends_path, np.array(ends))


if __name__ == "__main__":
    main()
