"""Speech for the tests: five utterances of five speakers, and the shipped model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from mic_process import write_wav

import asr
from asr.audio.audio_file import AudioFile
from asr.audio.resample import StreamResampler
from asr.recognizer import Recognizer

DATA = Path(__file__).parent / "data"

# How long an example takes depends on what else a machine does, and on what Numba compiles in it: tests are not timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@dataclass(frozen=True)
class Clip:
    """A recorded utterance."""

    path: Path
    samples: np.ndarray  # (n,) float32 at 16 kHz
    text: str


def read_samples(path: Path) -> np.ndarray:
    """Samples of a file at 16 kHz, ``(n,)`` float32."""
    with AudioFile(path) as audio:
        resampler = StreamResampler(audio.sample_rate_hz, 16_000)
        return np.concatenate([*[resampler.accept(block) for block in audio], resampler.finish()])


@pytest.fixture(scope="session")
def clips() -> list[Clip]:
    rows = [json.loads(line) for line in (DATA / "transcripts.jsonl").read_text().splitlines()]
    paths = [DATA / f"{row['id']}.opus" for row in rows]
    return [Clip(path, read_samples(path), row["text"]) for path, row in zip(paths, rows, strict=True)]


@pytest.fixture(scope="session")
def speech(clips: list[Clip]) -> np.ndarray:
    """All clips end to end with pauses between: 24 s, ``(n,)`` float32 at 16 kHz."""
    pause = np.zeros(16_000, dtype=np.float32)
    return np.concatenate([part for clip in clips for part in (clip.samples, pause)])


@pytest.fixture(scope="session")
def heard(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> Path:
    """Ten seconds of two speakers, as a file at the 48 kHz of a microphone."""
    return write_wav(tmp_path_factory.mktemp("mic") / "heard.wav", speech[: 16_000 * 10], 48_000)


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    """Pronunciations by which the first clip's *husband* is another word."""
    path = tmp_path / "mine.txt"
    path.write_text(
        "# what is heard is another word, and its own is not\nmother   HH AH1 Z B AH0 N D\nhusband  ZH ZH OY\n"
    )
    return path


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    recognizer = asr.load()
    recognizer.warm_up()
    return recognizer
