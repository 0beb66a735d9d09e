"""The filterbank: what it computes, and that a stream computes the same."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError
from asr.network.features import (
    BLOCK_FRAMES,
    LOG_FLOOR,
    Fbank,
    FeatureOptions,
    StreamingFbank,
    log_mel,
    mel_matrix,
    povey_window,
)

OPTIONS = FeatureOptions()


def streamed(samples: np.ndarray, cuts: list[int]) -> np.ndarray:
    stream = StreamingFbank(Fbank(OPTIONS))
    parts = [stream.accept(part) for part in np.split(samples, cuts)]
    return np.concatenate([*parts, stream.finish()])


def test_agrees_with_kaldi_native_fbank(clips) -> None:
    """On real speech each log-mel energy is that of an independent implementation of Kaldi's recipe."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = OPTIONS.sample_rate_hz
    options.mel_opts.num_bins = OPTIONS.mels
    options.mel_opts.low_freq = OPTIONS.low_hz
    options.mel_opts.high_freq = OPTIONS.high_hz
    for clip in clips:
        theirs = knf.OnlineFbank(options)
        theirs.accept_waveform(OPTIONS.sample_rate_hz, clip.samples.tolist())
        theirs.input_finished()
        expected = np.stack([theirs.get_frame(i) for i in range(theirs.num_frames_ready)])
        ours = log_mel(clip.samples, OPTIONS)
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() < 5e-3
        assert np.abs(ours - expected).mean() < 1e-5


def test_agrees_with_torchaudio(clips) -> None:
    """The same against torchaudio's Kaldi-compatible filterbank, where torchaudio can be imported."""
    try:
        import torch
        from torchaudio.compliance import kaldi
    except (ImportError, OSError) as error:
        pytest.skip(f"torchaudio does not import here: {error}")
    expected = kaldi.fbank(
        torch.from_numpy(clips[0].samples)[None],
        num_mel_bins=OPTIONS.mels,
        low_freq=OPTIONS.low_hz,
        high_freq=OPTIONS.high_hz,
    )
    assert np.abs(log_mel(clips[0].samples, OPTIONS) - expected.numpy()).max() < 5e-3


@settings(max_examples=40)
@given(data=st.data())
def test_any_chunking_gives_the_same_frames(clips, data) -> None:
    """Cut anywhere, a stream's frames equal the whole recording's bit for bit."""
    samples = clips[1].samples[: data.draw(st.integers(0, 40_000))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=30)))
    assert np.array_equal(streamed(samples, cuts), log_mel(samples, OPTIONS))


def test_chunks_of_one_sample(clips) -> None:
    """Fed sample by sample, a stream's frames equal the whole recording's bit for bit."""
    samples = clips[0].samples[:8_000]
    assert np.array_equal(streamed(samples, list(range(len(samples)))), log_mel(samples, OPTIONS))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_a_window_gives_the_same_bits_in_any_company(seed, others) -> None:
    """A stream's block of frames is the same bit for bit alone and among those of other streams."""
    windows = np.random.default_rng(seed).normal(0, 0.1, (others, BLOCK_FRAMES, 400)).astype(np.float32)
    fbank = Fbank(OPTIONS)
    together = fbank(windows)
    assert all(np.array_equal(fbank(windows[i]), together[i]) for i in range(others))


@pytest.mark.parametrize("pitch", [0.9, 1.0, 1.1])
@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        FeatureOptions(sample_rate_hz=8_000, high_hz=3_800.0, mels=40),
        FeatureOptions(window_ms=32.0, preemphasis=0.0, high_hz=8_000.0),
        FeatureOptions(sample_rate_hz=100, window_ms=20.0, high_hz=50.0, low_hz=0.0, mels=1),
    ],
    ids=["usual", "8 kHz", "whole window", "two samples"],
)
def test_the_energies_are_those_of_the_recipe(clips, options, pitch) -> None:
    """In double precision, with a library's transform and the whole matrix of filters, the recipe gives the same, for
    any rate, window and pitch, and for any number of windows."""
    fbank = Fbank(options, pitch)
    windows = fbank.windows(clips[0].samples)[:37]
    centred = windows - windows.mean(axis=1, keepdims=True, dtype=np.float64)
    previous = np.concatenate([centred[:, :1], centred[:, :-1]], axis=1)
    spectrum = np.fft.rfft(
        (centred - options.preemphasis * previous) * povey_window(windows.shape[1]), options.fft_size
    )
    energies = np.abs(spectrum) ** 2 @ mel_matrix(options, pitch).astype(np.float64)
    expected = np.log(np.maximum(energies, LOG_FLOOR))
    assert np.abs(fbank(windows) - expected).max() < 2e-3
    assert np.abs(fbank(windows) - expected).mean() < 1e-5
    assert fbank(windows[:0]).shape == (0, options.mels)


def test_a_frame_is_out_as_soon_as_its_block_is_full() -> None:
    """The first block needs 120 ms and the overhang of its last window, not a sample more."""
    stream = StreamingFbank(Fbank(OPTIONS))
    need = (BLOCK_FRAMES - 1) * 160 + 400
    assert len(stream.accept(np.zeros(need - 1, dtype=np.float32))) == 0
    assert len(stream.accept(np.zeros(1, dtype=np.float32))) == BLOCK_FRAMES


def test_a_tone_lights_the_bin_it_falls_in() -> None:
    """The loudest bin of a 1 kHz tone is the one whose centre is nearest 1 kHz."""
    t = np.arange(16_000) / 16_000
    frames = log_mel(np.sin(2 * np.pi * 1_000 * t).astype(np.float32), OPTIONS)
    mel = 1127 * np.log1p(np.array([OPTIONS.low_hz, 1_000, OPTIONS.high_hz]) / 700)
    position = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (OPTIONS.mels + 1) - 1
    assert abs(int(frames[10].argmax()) - position) <= 1


def test_pitch_moves_the_spectrum() -> None:
    """Features of a 1 kHz tone with pitch 1.1 are those of a 1.1 kHz tone."""
    t = np.arange(4_000) / 16_000
    low = np.sin(2 * np.pi * 1_000 * t).astype(np.float32)
    high = np.sin(2 * np.pi * 1_100 * t).astype(np.float32)
    plain, raised = Fbank(OPTIONS), Fbank(OPTIONS, pitch=1.1)
    assert raised(raised.windows(low))[5].argmax() == plain(plain.windows(high))[5].argmax()


def test_tempo_changes_the_number_of_frames() -> None:
    """Tempo 1.25 gives four fifths of the frames."""
    fbank = Fbank(OPTIONS)
    samples = np.zeros(16_000, np.float32)
    assert abs(len(fbank.windows(samples, 1.25)) - 0.8 * len(fbank.windows(samples))) <= 1


def test_every_mel_bin_hears_something() -> None:
    """No filter is empty, so that no feature is a constant."""
    assert (mel_matrix(OPTIONS).sum(axis=0) > 0).all()


def test_options_that_cannot_work_are_refused() -> None:
    """A band above half the sample rate is an error that says so."""
    with pytest.raises(ConfigError, match="does not fit a sample rate"):
        FeatureOptions(sample_rate_hz=8_000)
