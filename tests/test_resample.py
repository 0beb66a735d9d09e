"""Streaming change of sample rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.resample import StreamResampler
from asr.errors import AudioError


def resampled(samples: np.ndarray, from_hz: float, cuts: list[int]) -> np.ndarray:
    resampler = StreamResampler(from_hz, 16_000)
    return np.concatenate([*[resampler.accept(part) for part in np.split(samples, cuts)], resampler.finish()])


@settings(max_examples=60)
@given(
    rate_hz=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    cuts=st.lists(st.integers(0, 9_000), max_size=20),
    length=st.integers(0, 9_000),
)
def test_any_chunking_gives_the_same_samples(rate_hz, cuts, length) -> None:
    """Cut anywhere, the output equals that of the whole, bit for bit."""
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    cuts = sorted(min(cut, length) for cut in cuts)
    np.testing.assert_array_equal(resampled(samples, rate_hz, cuts), resampled(samples, rate_hz, []))


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_a_tone_stays_a_tone(rate_hz) -> None:
    """A 440 Hz tone comes out with its frequency, level, length and phase."""
    tone = np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz).astype(np.float32)
    out = resampled(tone, rate_hz, [])
    assert abs(len(out) - 16_000) <= 1
    expected = np.sin(2 * np.pi * 440 * np.arange(len(out)) / 16_000)
    assert np.abs(out - expected)[500:-500].max() < 1e-3


@pytest.mark.parametrize("rate_hz", [0, -8_000, 100, 10_000_000, float("nan")])
def test_a_rate_that_cannot_be_is_refused(rate_hz) -> None:
    """The error says which rates can be used."""
    with pytest.raises(AudioError, match="not usable: give one from"):
        StreamResampler(rate_hz, 16_000)
