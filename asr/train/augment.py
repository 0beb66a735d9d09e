"""Augmentation: what turns a few hours of clean recordings into many rooms, voices and microphones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from asr.errors import ConfigError
from asr.network.features import LOG_FLOOR, Fbank, FeatureOptions
from asr.train.codec import through_mp3

SILENCE = 1e-9  # power below which there is nothing to be heard (-90 dB of full scale)
_PITCH_STEP = 0.02  # pitch factors are rounded to this, so that few filterbanks need building


@dataclass(frozen=True)
class AugmentOptions:
    """How strongly training audio is changed. All zero turns it off."""

    tempo: float = 0.08  # speaking rate is scaled by up to 1 +- this, the voice unchanged
    pitch: float = 0.06  # the spectrum is scaled by up to 1 +- this: other vocal tracts, children
    gain_db: float = 10.0  # level is moved by up to +- this
    noise: float = 0.15  # share of utterances with a background noise
    noise_snr_db: tuple[float, float] = (5.0, 25.0)  # how far the noise lies below the speech
    room: float = 0.1  # share of utterances played in a room
    narrowband: float = 0.04  # share of utterances cut at telephone bandwidth
    mp3: float = 0.1  # share of utterances coded as MP3 and decoded, which takes a core 1/150 of their length
    mp3_kbit_s: tuple[int, ...] = (16, 24, 24, 24, 32)  # bit rates to draw from
    hiss: float = 0.2  # share of utterances with white noise, too soft to hear or nearly so
    hiss_db: tuple[float, float] = (-95.0, -55.0)  # its level, of full scale
    freq_masks: int = 1  # SpecAugment: bands of mel bins blanked
    freq_mask_bins: int = 12  # SpecAugment: widest band
    time_masks_per_s: float = 0.2  # SpecAugment: blanked stretches per second
    time_mask_ms: int = 120  # SpecAugment: longest stretch

    def __post_init__(self) -> None:
        if self.mp3 > 0 and not self.mp3_kbit_s:
            raise ConfigError("[augment] mp3 needs bit rates in mp3_kbit_s")


@lru_cache(maxsize=64)
def _fbank(options: FeatureOptions, pitch: float) -> Fbank:
    return Fbank(options, pitch)


class Augmenter:
    """Applies `AugmentOptions`, all randomness from the generator it is given.

    Args:
        noises: background recordings, ``(n,)`` float32 each.
        rooms: impulse responses, ``(n,)`` float32 each.
    """

    def __init__(
        self,
        options: AugmentOptions,
        features: FeatureOptions,
        noises: Sequence[np.ndarray] = (),
        rooms: Sequence[np.ndarray] = (),
    ) -> None:
        self.options = options
        self.features = features
        self.noises = [noise for noise in noises if np.any(noise)]
        self.rooms = [direct_sound_first(room) for room in rooms if np.any(room)]

    def __call__(self, samples: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Log-mel frames of a changed copy: ``(n,)`` samples to ``(frames, mels)``."""
        o = self.options
        if self.rooms and rng.random() < o.room:
            samples = _reverberate(samples, self.rooms[rng.integers(len(self.rooms))])
        if self.noises and rng.random() < o.noise:
            samples = self._add_noise(samples, rng)
        samples = samples * np.float32(10 ** (rng.uniform(-o.gain_db, o.gain_db) / 20))
        samples = np.clip(samples, -1.0, 1.0)  # too loud is clipped, as a sound card does
        if rng.random() < o.hiss:
            level = np.float32(10 ** (rng.uniform(*o.hiss_db) / 20))
            samples = samples + level * rng.standard_normal(len(samples), dtype=np.float32)
        if rng.random() < o.mp3:
            rate = self.features.sample_rate_hz
            samples = through_mp3(samples, rate, int(o.mp3_kbit_s[rng.integers(len(o.mp3_kbit_s))]))
        tempo = 1 + rng.uniform(-o.tempo, o.tempo)
        pitch = 1 + round(rng.uniform(-o.pitch, o.pitch) / _PITCH_STEP) * _PITCH_STEP
        fbank = _fbank(self.features, pitch)
        frames = torch.from_numpy(fbank(fbank.windows(samples, tempo)))
        if rng.random() < o.narrowband:
            frames = self._narrow(frames, rng)
        return frames

    def mask(self, frames: Tensor, fill: Tensor, rng: np.random.Generator) -> None:
        """SpecAugment in place on ``(frames, mels)``: blank bands and stretches with ``fill``, ``(mels,)``."""
        o = self.options
        count, mels = frames.shape
        for _ in range(o.freq_masks):
            width = int(rng.integers(0, o.freq_mask_bins + 1))
            low = int(rng.integers(0, max(1, mels - width)))
            frames[:, low : low + width] = fill[low : low + width]
        longest = round(o.time_mask_ms / self.features.hop_ms)
        for _ in range(round(o.time_masks_per_s * count * self.features.hop_ms / 1000)):
            width = int(rng.integers(0, longest + 1))
            start = int(rng.integers(0, max(1, count - width)))
            frames[start : start + width] = fill

    def _add_noise(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = self.noises[rng.integers(len(self.noises))]
        start = int(rng.integers(len(noise)))
        noise = np.resize(np.roll(noise, -start), len(samples))
        snr_db = rng.uniform(*self.options.noise_snr_db)
        speech_power, noise_power = np.mean(np.square(samples)), np.mean(np.square(noise))
        if noise_power < SILENCE or speech_power < SILENCE:
            return samples  # raised to the wanted ratio, a silent stretch of noise would be beyond all numbers
        scale = np.float32(np.sqrt(speech_power / noise_power * 10 ** (-snr_db / 10)))
        return np.asarray(samples + noise * scale)

    def _narrow(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        """What a telephone leaves: nothing above 3.4 to 4 kHz."""
        f = self.features
        mel = 1127.0 * np.log1p(np.array([f.low_hz, rng.uniform(3400, 4000), f.high_hz]) / 700.0)
        cut = int((mel[1] - mel[0]) / (mel[2] - mel[0]) * f.mels)
        frames = frames.clone()
        frames[:, cut:] = float(np.log(LOG_FLOOR)) + rng.uniform(0, 3)
        return frames


def direct_sound_first(room: np.ndarray) -> np.ndarray:
    """Cut an impulse response to start at its peak, so that it does not shift the words in time."""
    room = room[int(np.argmax(np.abs(room))) :][:16_000]
    return np.asarray(room / np.sqrt(np.sum(np.square(room))), dtype=np.float32)


def _reverberate(samples: np.ndarray, room: np.ndarray) -> np.ndarray:
    size = 1 << (len(samples) + len(room) - 2).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(room, size), size)
    return np.asarray(wet[: len(samples)], dtype=np.float32)
