"""Augmentation of whole batches: frames as the filterbank makes them, and each change what it says it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from asr.network.features import LOG_FLOOR, Fbank, FeatureOptions
from asr.train.augment import AugmentOptions
from asr.train.augment_torch import BatchAugmenter, random_rooms

FEATURES = FeatureOptions()
OFF = AugmentOptions(
    tempo=0, pitch=0, gain_db=0, noise=0, room=0, narrowband=0, mp3=0, hiss=0, freq_masks=0, time_masks_per_s=0
)
CPU = torch.device("cpu")


def batch(sizes: list[int]) -> tuple[Tensor, np.ndarray]:
    rng = np.random.default_rng(len(sizes))
    samples = torch.zeros(len(sizes), max(sizes))
    for line, size in zip(samples, sizes, strict=True):
        line[:size] = torch.from_numpy(0.1 * rng.standard_normal(size, dtype=np.float32))
    return samples, np.array(sizes)


def changed(**options: object) -> BatchAugmenter:
    from dataclasses import replace

    noise = np.random.default_rng(5).standard_normal(8_000, dtype=np.float32)
    rooms = random_rooms(3, 16_000, np.random.default_rng(6))
    return BatchAugmenter(replace(OFF, **options), FEATURES, [noise], rooms, CPU)  # type: ignore[arg-type]


def test_unchanged_frames_are_the_filterbanks() -> None:
    """Without augmentation each line has the frames that it has alone, then silence; too short a line has none."""
    samples, sizes = batch([16_000, 5_000, 399, 400, 12_345])
    frames, counts = changed()(samples, sizes)
    fbank = Fbank(FEATURES)
    for line, size, found, count in zip(samples, sizes, frames, counts, strict=True):
        expected = fbank(fbank.windows(line[:size].numpy()))
        assert count == len(expected)
        np.testing.assert_allclose(found[:count], expected, atol=1e-3)
        assert bool((found[count:] == math.log(LOG_FLOOR)).all())


def test_tempo_changes_how_many_frames_there_are() -> None:
    """Lines are a tenth shorter or longer at most, each by its own."""
    samples, sizes = batch([32_000] * 20)
    _, counts = changed(tempo=0.1)(samples, sizes)
    assert counts.min() < 190 < 206 < counts.max()
    assert counts.min() >= 179
    assert counts.max() <= 220


def test_views_of_a_line_have_its_tempo_and_their_own_noise() -> None:
    """Two views of twenty lines have the same counts of frames, which differ from line to line, and other frames."""
    samples, sizes = batch([32_000] * 20)
    frames, counts = changed(tempo=0.1, hiss=1.0, hiss_db=(-30.0, -30.0))(samples.repeat(2, 1), np.tile(sizes, 2), 2)
    np.testing.assert_array_equal(counts[:20], counts[20:])
    assert len(set(counts)) > 5
    assert bool(((frames[:20] - frames[20:]).abs().amax(dim=(1, 2)) > 0.05).all())


def test_noise_lies_as_far_below_the_speech_as_it_should() -> None:
    """At 10 dB below, noise adds a tenth of the power of white speech; room, gain and hiss are heard as well."""
    samples, sizes = batch([16_000] * 8)
    clean, counts = changed()(samples, sizes)
    noisy, _ = changed(noise=1.0, noise_snr_db=(10.0, 10.0))(samples, sizes)
    louder = (noisy.exp().mean(dim=(1, 2)) / clean.exp().mean(dim=(1, 2))).numpy()
    np.testing.assert_allclose(louder, 1.1, atol=0.04)
    for options in ({"room": 1.0}, {"gain_db": 10.0}, {"hiss": 1.0, "hiss_db": (-30.0, -30.0)}, {"narrowband": 1.0}):
        other, same = changed(**options)(samples, sizes)
        assert bool(((other - clean).abs().amax(dim=(1, 2)) > 0.05).all()), options
        np.testing.assert_array_equal(same, counts)


@pytest.mark.parametrize("options", [{"freq_masks": 2, "freq_mask_bins": 12}, {"time_masks_per_s": 3.0}])
def test_masks_blank_bands_and_stretches_within_the_line(options) -> None:
    """Masked cells have the filling value, the others are as they were, and nothing behind a line's end changes."""
    samples, sizes = batch([16_000, 8_000, 16_000, 16_000])
    augmenter = changed(**options)
    frames, counts = augmenter(samples, sizes)
    fill = torch.full((FEATURES.mels,), 77.0)
    masked = augmenter.mask(frames, counts, fill)
    blank = masked == 77.0
    assert 0.01 < blank.float().mean() < 0.5
    assert bool((masked[~blank] == frames[~blank]).all())
    assert not bool(blank[1, counts[1] :].any())
