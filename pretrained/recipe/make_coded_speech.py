"""Make copies of corpora as MP3 files of few bits, which much of the world's recorded speech once was.

    pip install '.[train]'
    python pretrained/recipe/make_coded_speech.py --output coded data/*.train.jsonl

Writes ``coded/X.jsonl``, the manifest as it is, and ``coded/X.tar`` with ``ID.mp3``: the utterances and their order are
the same, and so are a teacher's features. Coding beforehand costs once what ``[augment] mp3`` costs in every epoch.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from asr.train.codec import encode_mp3
from asr.train.corpus import decode_samples, read_corpus

RATE_HZ = 16_000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--kbit-s", nargs="+", type=int, default=[16, 24, 24, 24, 24, 24, 24, 24, 32, 32])
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for manifest in options.manifests:
        with (
            tarfile.open(manifest.with_suffix(".tar")) as source,
            tarfile.open(options.output / f"{manifest.stem}.tar", "w") as copy,
        ):
            for utterance in read_corpus(manifest):
                audio = source.extractfile(utterance.member)
                assert audio is not None, f"{utterance.member} is not a file"
                samples = decode_samples(audio.read(), utterance.id, RATE_HZ)
                coded = encode_mp3(samples, RATE_HZ, random.Random(utterance.id).choice(options.kbit_s))
                entry = tarfile.TarInfo(f"{utterance.id}.mp3")
                entry.size = len(coded)
                copy.addfile(entry, io.BytesIO(coded))
        shutil.copyfile(manifest, options.output / manifest.name)


if __name__ == "__main__":
    main()
