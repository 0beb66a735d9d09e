"""Speech corpora: manifests over tar shards, LibriSpeech-style folders, and their decoded samples."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from asr.audio.audio_file import AudioFile
from asr.audio.resample import StreamResampler
from asr.errors import AudioError, DataError
from asr.text.normalize import normalize

_AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".opus", ".ogg")


@dataclass(frozen=True)
class Utterance:
    """One transcribed recording."""

    id: str
    corpus: str
    text: str  # normalised; empty where nothing is said
    shard: Path | None  # the tar that holds it; None for a plain file
    member: str  # its name in the shard, or its path
    licence: str = ""


def read_corpus(path: Path) -> list[Utterance]:
    """The utterances of a manifest (``X.jsonl`` beside ``X.tar``) or of a LibriSpeech-style folder.

    A manifest has a JSON object a line with at least ``id`` and ``text``; the shard holds ``ID.opus``
    (or another audio suffix). A folder holds, at any depth, ``*.trans.txt`` files of lines
    ``ID TRANSCRIPT`` with the audio files beside them.

    ``"text": ""`` in a manifest says that a recording has no words: noise. Nothing else does.

    Raises:
        DataError: nothing there; a line that cannot be read, has no audio, or has a text of which no word is left.
    """
    if not path.exists():
        raise DataError(f"{path}: no such manifest or folder. Check the name")
    if path.is_dir():
        utterances = list(_read_folder(path))
    elif path.suffix == ".jsonl":
        utterances = list(_read_manifest(path))
    else:
        raise DataError(f"{path}: neither a manifest (.jsonl beside a .tar) nor a folder with *.trans.txt files")
    if not utterances:
        raise DataError(f"{path}: no utterances in it")
    return utterances


def _read_manifest(path: Path) -> Iterator[Utterance]:
    shard = path.with_suffix(".tar")
    if not shard.exists():
        raise DataError(f"{path}: its shard {shard.name} is not beside it")
    with tarfile.open(shard) as tar:
        members = {Path(name).stem: name for name in tar.getnames() if name.endswith(_AUDIO_SUFFIXES)}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = str(row["id"]), row["text"]
            if not isinstance(text, str):
                raise TypeError(f"its text is {json.dumps(text)}, not a string")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: needs a JSON object with id and text ({error})") from error
        if name not in members:
            raise DataError(f"{path}:{number}: {shard.name} has no audio named {name}")
        words = _words(text, f"{path}:{number}", name) if text else ""
        yield Utterance(
            name, str(row.get("corpus", path.stem)), words, shard, members[name], str(row.get("licence", ""))
        )


def _read_folder(path: Path) -> Iterator[Utterance]:
    for transcripts in sorted(path.rglob("*.trans.txt")):
        for number, line in enumerate(transcripts.read_text(encoding="utf-8").splitlines(), start=1):
            name, _, text = line.partition(" ")
            if not name:
                continue
            audio = next((f for s in _AUDIO_SUFFIXES if (f := transcripts.parent / f"{name}{s}").exists()), None)
            if audio is None:
                raise DataError(f"{transcripts}:{number}: no audio file named {name} beside it")
            yield Utterance(name, path.name, _words(text, f"{transcripts}:{number}", name), None, str(audio))


def _words(text: str, place: str, name: str) -> str:
    """A text as it is trained on and scored. One of which nothing is left was said, and is not silence."""
    words = normalize(text)
    if not words:
        raise DataError(
            f"{place}: no word is left of {name}'s text {text!r}: write numbers as words and words in a to z, or leave "
            'the line out. A recording in which nothing is said goes into a manifest with "text": ""'
        )
    return words


class SampleCache:
    """Decoded samples of one corpus, as 16-bit integers in one memory-mapped file.

    Decoding a corpus once and mapping it costs disk (115 MB an hour at 16 kHz) and saves the decoder's
    time in every epoch.
    """

    def __init__(self, source: Path, utterances: list[Utterance], sample_rate_hz: int, folder: Path) -> None:
        identity = f"{source.name} {_fingerprint(source, utterances)} {sample_rate_hz} {[u.id for u in utterances]}"
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        samples_path, ends_path = folder / f"{key}.pcm", folder / f"{key}.npy"
        if not ends_path.exists():
            _decode(source.stem, utterances, sample_rate_hz, samples_path, ends_path)
        self._ends = np.load(ends_path)
        self._samples = np.memmap(samples_path, dtype=np.int16, mode="r") if self._ends[-1] else np.zeros(0, np.int16)

    def __len__(self) -> int:
        return len(self._ends)

    def length(self, index: int) -> int:
        """Samples in an utterance."""
        return int(self._ends[index] - (self._ends[index - 1] if index else 0))

    def __getitem__(self, index: int) -> np.ndarray:
        """Samples of an utterance, ``(n,)`` float32 in [-1, 1]."""
        start = int(self._ends[index - 1]) if index else 0
        return self._samples[start : int(self._ends[index])].astype(np.float32) / 32768.0


def _fingerprint(source: Path, utterances: list[Utterance]) -> str:
    """By content where that is one file: a copy of a shard, with another date, is the same shard."""
    shard = utterances[0].shard
    if shard is None:
        return f"{source.stat().st_size} {source.stat().st_mtime_ns}"
    with shard.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _decode(name: str, utterances: list[Utterance], sample_rate_hz: int, samples_path: Path, ends_path: Path) -> None:
    part = samples_path.with_suffix(f".{os.getpid()}.part")
    ends: list[int] = []
    total = 0
    quiet = not sys.stderr.isatty()
    progress = tqdm(total=len(utterances), desc=f"decoding {name}", unit="", delay=5, disable=quiet, leave=False)
    with part.open("wb") as out, ThreadPoolExecutor() as pool, progress:
        blobs = _blobs(utterances)
        # A bounded number in flight: the pool's map would read the whole shard into memory.
        while batch := [blob for _, blob in zip(range(64), blobs, strict=False)]:
            for samples in pool.map(lambda item: decode_samples(item[1], item[0], sample_rate_hz), batch):
                integers = as_integers(samples)
                out.write(integers.tobytes())
                total += len(integers)
                ends.append(total)
            progress.update(len(batch))
    # Whole or not at all, and the ends last: another process may be waiting for them.
    part.replace(samples_path)
    with part.open("wb") as file:
        np.save(file, np.array(ends, dtype=np.int64))
    part.replace(ends_path)


def as_integers(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as 16-bit integers."""
    integers: np.ndarray = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return integers


def _blobs(utterances: list[Utterance]) -> Iterator[tuple[str, bytes]]:
    shards: dict[Path, tarfile.TarFile] = {}
    try:
        for utterance in utterances:
            if utterance.shard is None:
                yield utterance.id, Path(utterance.member).read_bytes()
                continue
            if utterance.shard not in shards:
                shards[utterance.shard] = tarfile.open(utterance.shard)  # noqa: SIM115 (closed below)
            file = shards[utterance.shard].extractfile(utterance.member)
            assert file is not None
            yield utterance.id, file.read()
    finally:
        for shard in shards.values():
            shard.close()


def decode_samples(blob: bytes, name: str, sample_rate_hz: int) -> np.ndarray:
    """Decode an audio file in memory to ``(n,)`` float32 mono samples at a rate."""
    source = io.BytesIO(blob)
    source.name = name
    try:
        with AudioFile(source) as audio:
            resampler = StreamResampler(audio.sample_rate_hz, sample_rate_hz)
            parts = [resampler.accept(block) for block in audio]
            return np.concatenate([*parts, resampler.finish()])
    except AudioError as error:
        raise DataError(f"utterance {name}: {error}") from error
