"""Speech for the benchmarks: the tests' clips, or utterances of a manifest."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from machine import machine as machine

from asr.train.corpus import SampleCache, read_corpus

ROOT = Path(__file__).parent.parent
RATE_HZ = 16_000


def load_speech(manifest: Path | None, limit_s: float) -> tuple[list[np.ndarray], list[str]]:
    """Utterances, ``(n,)`` float32 at 16 kHz, and what is said in them, up to a total length."""
    if manifest is None:
        manifest = Path(tempfile.mkdtemp()) / "clips.jsonl"
        manifest.write_text((ROOT / "tests/data/transcripts.jsonl").read_text())
        import tarfile

        with tarfile.open(manifest.with_suffix(".tar"), "w") as tar:
            for path in sorted((ROOT / "tests/data").glob("*.opus")):
                tar.add(path, path.name)
    utterances = read_corpus(manifest)
    with tempfile.TemporaryDirectory() as folder:
        cache = SampleCache(manifest, utterances, RATE_HZ, Path(folder))
        picked = np.random.default_rng(0).permutation(len(utterances))
        audio: list[np.ndarray] = []
        texts: list[str] = []
        for i in picked:
            if sum(map(len, audio)) / RATE_HZ >= limit_s:
                break
            audio.append(cache[int(i)])
            texts.append(utterances[int(i)].text)
    return audio, texts
