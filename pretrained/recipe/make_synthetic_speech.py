"""Make training speech from sentences with two fast synthesisers: hibari-tts (PyPI) and flite (Debian).

    pip install hibari-tts soundfile soxr
    python pretrained/recipe/make_synthetic_speech.py sentences.txt synthetic --hours 10

``sentences.txt`` has a sentence a line, letters and punctuation only. Writes the corpus ``synthetic.jsonl`` and
``synthetic.tar``. Voices are varied by speed, and by playing them faster or slower: another length of vocal tract.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
from hibari import Hibari

RATE_HZ = 16_000
SPOKEN = {"mr.": "mister", "mrs.": "missus", "dr.": "doctor"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("corpus")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, tts, rows, seconds = random.Random(options.seed), Hibari(), [], 0.0
    with tarfile.open(options.corpus + ".tar", "w") as tar:
        for number, sentence in enumerate(options.sentences.read_text().splitlines()):
            voice = rng.choices(["hibari", "slt", "rms", "awb"], [6, 2, 2, 1])[0]
            samples = finish(hibari(tts, sentence, rng) if voice == "hibari" else flite(voice, sentence, rng), rng)
            blob = io.BytesIO()
            soundfile.write(blob, samples, RATE_HZ, format="FLAC")
            name = f"{Path(options.corpus).name}-{number:06d}"
            entry = tarfile.TarInfo(name + ".flac")
            entry.size = blob.tell()
            blob.seek(0)
            tar.addfile(entry, blob)
            length_s = len(samples) / RATE_HZ
            row = {"id": name, "corpus": Path(options.corpus).name, "speaker": voice, "seconds": length_s}
            rows.append({**row, "text": spoken(sentence), "raw": sentence})
            seconds += length_s
            if seconds > 3600 * options.hours:
                break
    Path(options.corpus + ".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def spoken(sentence: str) -> str:
    words = [SPOKEN.get(word, word) for word in sentence.lower().replace("-", " ").split()]
    return " ".join(re.sub(r"[^a-z' ]", " ", " ".join(words)).split())


def hibari(tts: Hibari, sentence: str, rng: random.Random) -> np.ndarray:
    stretch = rng.choice([1.0, rng.uniform(0.72, 1.25)])
    samples = tts(sentence, speed=rng.uniform(0.75, 1.35) / stretch, seed=rng.randrange(1 << 30))
    return soxr.resample(np.asarray(samples, np.float32).reshape(-1), 24_000 * stretch, RATE_HZ)


def flite(voice: str, sentence: str, rng: random.Random) -> np.ndarray:
    stretch = rng.uniform(0.85, 1.15)
    duration = f"duration_stretch={rng.uniform(0.75, 1.2) * stretch:.2f}"
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice, "--setf", duration, "-t", sentence, "-o", file.name]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        samples, rate_hz = soundfile.read(file.name, dtype="float32")
    return soxr.resample(samples, rate_hz * stretch, RATE_HZ)


def finish(samples: np.ndarray, rng: random.Random) -> np.ndarray:
    """Silence around the sentence, a little noise, one level."""
    around = [np.zeros(int(RATE_HZ * rng.uniform(0.05, 0.4)), np.float32) for _ in range(2)]
    samples = np.concatenate([around[0], samples, around[1]])
    noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, 10 ** (rng.uniform(-80, -50) / 20), len(samples))
    samples = samples + noise.astype(np.float32)
    return samples * (0.5 / max(0.05, float(np.abs(samples).max())))


if __name__ == "__main__":
    main()
