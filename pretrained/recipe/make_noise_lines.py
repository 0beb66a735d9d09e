"""Make lines without words: hiss, hum and recorded noise at many levels, which teach a network to hear nothing in them.

    python pretrained/recipe/make_noise_lines.py noise_lines esc10.tar --minutes 40

Writes the corpus ``noise_lines.jsonl``, whose transcripts are empty, and ``noise_lines.tar``.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr.train.corpus import decode_samples

RATE_HZ = 16_000
KINDS = {"hiss": 0.45, "hum": 0.1, "clip": 0.25, "mixed": 0.2}
COLOURS = (0.0, 0.0, 0.0, 1.0, 2.0)  # hiss falls with the frequency to this power: white mostly, pink, brown
SHORTEST_S, LONGEST_S = 1.5, 8.0
CUT = 0.3  # share of the lines in which the noise begins or ends in the middle


def read_clips(paths: Sequence[Path]) -> list[np.ndarray]:
    """Recordings without speech, ``(n,)`` float32 each."""
    clips = []
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    clips.append(decode_samples(file.read(), member.name, RATE_HZ))
    return [clip for clip in clips if len(clip)]


def make_noise(count: int, clips: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """So many samples of one kind of noise, float32."""
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    samples = np.zeros(count)
    if kind in ("hiss", "mixed"):
        samples += level(rng, -85, -30) * hiss(count, float(rng.choice(COLOURS)), rng)
    if kind == "hum" or (kind == "mixed" and rng.random() < 0.5):
        samples += level(rng, -80, -30) * hum(count, rng)
    if kind in ("clip", "mixed") and clips:
        clip = clips[int(rng.integers(len(clips)))]
        samples += level(rng, -40, 0) * np.resize(np.roll(clip, -int(rng.integers(len(clip)))), count)
    if rng.random() < CUT:
        begin, end = sorted(rng.integers(0, count, 2))
        samples[begin:end] = 0
    return np.clip(samples, -1, 1).astype(np.float32)


def level(rng: np.random.Generator, low_db: float, high_db: float) -> float:
    return float(10 ** (rng.uniform(low_db, high_db) / 20))


def hiss(count: int, colour: float, rng: np.random.Generator) -> np.ndarray:
    frequencies_hz = np.maximum(np.fft.rfftfreq(count, 1 / RATE_HZ), 20.0)
    samples = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * frequencies_hz ** (-colour / 2), count)
    return np.asarray(samples / np.sqrt(np.mean(np.square(samples))))


def hum(count: int, rng: np.random.Generator) -> np.ndarray:
    """The mains and its overtones."""
    times_s, base_hz = np.arange(count) / RATE_HZ, rng.choice([50.0, 60.0]) * rng.uniform(0.998, 1.002)
    samples = np.zeros(count)
    for k in range(1, 12):
        samples += rng.uniform(0, 1) / k * np.sin(2 * np.pi * base_hz * k * times_s + rng.uniform(0, 2 * np.pi))
    return np.asarray(samples / np.sqrt(np.mean(np.square(samples))))


def as_wav(samples: np.ndarray) -> bytes:
    blob = io.BytesIO()
    with wave.open(blob, "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return blob.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("noise", type=Path, nargs="*", help="tar files of recordings without speech")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    rng, clips = np.random.default_rng(options.seed), read_clips(options.noise)
    rows, seconds = list[dict[str, object]](), 0.0
    with tarfile.open(options.corpus.with_name(f"{options.corpus.name}.tar"), "w") as tar:
        while seconds < 60 * options.minutes:
            samples = make_noise(int(RATE_HZ * rng.uniform(SHORTEST_S, LONGEST_S)), clips, rng)
            blob, name = as_wav(samples), f"noise-{len(rows):05d}"
            entry = tarfile.TarInfo(f"{name}.wav")
            entry.size = len(blob)
            tar.addfile(entry, io.BytesIO(blob))
            length_s = len(samples) / RATE_HZ
            rows.append({"id": name, "corpus": options.corpus.name, "seconds": length_s, "text": ""})
            seconds += length_s
    manifest = options.corpus.with_name(f"{options.corpus.name}.jsonl")
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} lines without words, {seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
