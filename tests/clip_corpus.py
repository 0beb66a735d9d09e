"""Some of the tests' clips as a corpus to train on phonemes with: manifest, shard, pronunciations, phoneme trigram."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from test_crf import random_lm

import asr
from asr.lexicon.phonemes import decode_phonemes

DATA = Path(__file__).parent / "data"


def write_clip_corpus(folder: Path, recognizer: asr.Recognizer, count: int = 2) -> None:
    """Write ``clips.jsonl``, ``clips.tar``, ``lexicon.txt`` and ``phone_lm.safetensors`` into a folder."""
    rows = (DATA / "transcripts.jsonl").read_text().splitlines()[:count]
    (folder / "clips.jsonl").write_text("\n".join(rows))
    with tarfile.open(folder / "clips.tar", "w") as tar:
        for row in rows:
            tar.add(DATA / f"{json.loads(row)['id']}.opus", f"{json.loads(row)['id']}.opus")
    lexicon = recognizer.bundle.lexicon
    assert lexicon is not None
    words = sorted({word for row in rows for word in json.loads(row)["text"].split()})
    lines = [f"{word}  {decode_phonemes(said)}" for word in words for said in lexicon[word]]
    (folder / "lexicon.txt").write_text("\n".join(lines))
    random_lm(39).save(folder / "phone_lm.safetensors")
