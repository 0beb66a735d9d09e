"""Augmentation of a whole batch at once, on a GPU: the same changes as `augment`, from samples to log-mel frames.

The random numbers are others, and MP3 is not coded here: lines that are to be coded come coded already. What decides on
sizes is drawn on the CPU, which so never waits for the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from asr.network.features import LOG_FLOOR, FeatureOptions, mel_matrix, povey_window
from asr.train.augment import SILENCE, AugmentOptions, direct_sound_first

_PITCH_STEP = 0.02  # pitch factors are multiples of this, so that few filterbanks need building
_ROWS_SAMPLES = 12_000_000  # samples whose spectra are made at a time, which take 250 times as many bytes


class BatchAugmenter:
    """Applies `AugmentOptions` to padded lines.

    Args:
        noises: background recordings, ``(n,)`` float32 each.
        rooms: impulse responses, ``(n,)`` float32 each.
        device: where the work is done.
        seed: of all random numbers.
    """

    def __init__(
        self,
        options: AugmentOptions,
        features: FeatureOptions,
        noises: Sequence[np.ndarray],
        rooms: Sequence[np.ndarray],
        device: torch.device,
        seed: int = 1,
    ) -> None:
        self.options, self._features, self._device = options, features, device
        self._generator = torch.Generator(device).manual_seed(seed)
        self._rng = np.random.default_rng(seed)
        noises = [noise for noise in noises if np.mean(np.square(noise)) > SILENCE]
        lengths = [len(noise) for noise in noises]
        self._noise = torch.from_numpy(np.concatenate([*noises, np.zeros(1, np.float32)])).to(device)
        self._noise_lengths = torch.tensor(lengths or [1], device=device)
        self._noise_starts = torch.tensor(np.cumsum([0, *lengths])[: max(1, len(lengths))], device=device)
        self._has_noise = bool(noises)
        responses = [direct_sound_first(room) for room in rooms if np.any(room)]
        self._rooms = torch.zeros(len(responses), max((len(room) for room in responses), default=1), device=device)
        for i, room in enumerate(responses):
            self._rooms[i, : len(room)] = torch.from_numpy(room)
        self._window = torch.from_numpy(povey_window(features.window_samples)).to(device)
        self._pitches = max(0, round(options.pitch / _PITCH_STEP))
        factors = [1 + _PITCH_STEP * k for k in range(-self._pitches, self._pitches + 1)]
        self._mels = torch.from_numpy(np.stack([mel_matrix(features, factor) for factor in factors])).to(device)

    def __call__(self, samples: Tensor, sizes: np.ndarray, views: int = 1) -> tuple[Tensor, np.ndarray]:
        """Lines ``(B, n)`` float32, of which ``(B,)`` samples count, as frames ``(B, T, mels)`` and how many
        of these count, ``(B,)``.

        What lies behind a line's last frame is digital silence. With several views the batch holds the same lines so
        many times over, and only these: their tempo is then the same, so that they can be compared frame by frame.
        """
        o, f, lines = self.options, self._features, len(samples)
        lengths = self._moved(sizes)
        heard = torch.arange(samples.shape[1], device=self._device) < lengths[:, None]
        if len(self._rooms) and o.room > 0:
            samples = self._in_rooms(samples)
        if self._has_noise and o.noise > 0:
            samples = self._with_noise(samples, lengths, heard)
        samples = samples * 10 ** (self._between(-o.gain_db, o.gain_db, lines) / 20)[:, None]
        samples = samples.clamp(-1, 1)  # too loud is clipped, as a sound card does
        level = 10 ** (self._between(*o.hiss_db, lines) / 20) * (self._random(lines) < o.hiss)
        noise = torch.randn(samples.shape, generator=self._generator, device=self._device)
        samples = (samples + noise * level[:, None]) * heard
        tempo = np.tile(1 + self._rng.uniform(-o.tempo, o.tempo, lines // views), views)
        pitch = torch.randint(0, len(self._mels), (lines,), generator=self._generator, device=self._device)
        counts = np.floor((sizes - f.window_samples + 1e-6) / (f.hop_samples * tempo)).astype(np.int64) + 1
        counts[sizes < f.window_samples] = 0
        most, hops = max(1, int(counts.max())), self._moved((f.hop_samples * tempo).astype(np.float32))
        rows = max(1, _ROWS_SAMPLES // (most * f.window_samples))
        parts = [
            self._frames(samples[k : k + rows], hops[k : k + rows], pitch[k : k + rows], most)
            for k in range(0, lines, rows)
        ]
        frames = self._narrow(torch.cat(parts))
        within = torch.arange(most, device=self._device) < self._moved(counts)[:, None]
        return torch.where(within[:, :, None], frames, math.log(LOG_FLOOR)), counts

    def mask(self, frames: Tensor, sizes: np.ndarray, fill: Tensor) -> Tensor:
        """SpecAugment: frames ``(B, T, mels)``, of which ``(B,)`` count, with bands and stretches blanked."""
        counts = self._moved(sizes)
        o, (lines, most, mels) = self.options, frames.shape
        blank = torch.zeros(lines, most, mels, dtype=torch.bool, device=self._device)
        bins, times = torch.arange(mels, device=self._device), torch.arange(most, device=self._device)
        for _ in range(o.freq_masks):
            width = (self._random(lines) * (o.freq_mask_bins + 1)).floor()
            low = (self._random(lines) * (mels - width)).floor()
            blank |= ((bins >= low[:, None]) & (bins < (low + width)[:, None]))[:, None, :]
        hop_s = self._features.hop_ms / 1000
        longest = round(o.time_mask_ms / self._features.hop_ms)
        masks = torch.round(o.time_masks_per_s * counts * hop_s)
        for k in range(round(o.time_masks_per_s * most * hop_s)):
            width = (self._random(lines) * (longest + 1)).floor() * (k < masks)
            start = (self._random(lines) * (counts - width).clamp_min(1)).floor()
            blank |= ((times >= start[:, None]) & (times < (start + width)[:, None]))[:, :, None]
        within = times < counts[:, None]
        return torch.where(blank & within[:, :, None], fill, frames)

    def _moved(self, values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else tensor

    def _chosen(self, lines: int, share: float) -> np.ndarray:
        return np.flatnonzero(self._rng.random(lines) < share)

    def _random(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator, device=self._device)

    def _between(self, low: float, high: float, count: int) -> Tensor:
        return low + (high - low) * self._random(count)

    def _in_rooms(self, samples: Tensor) -> Tensor:
        rows = self._chosen(len(samples), self.options.room)
        if not len(rows):
            return samples
        chosen = self._moved(rows)
        rooms = torch.randint(0, len(self._rooms), (len(chosen),), generator=self._generator, device=self._device)
        size = 1 << (samples.shape[1] + self._rooms.shape[1] - 2).bit_length()
        wet = torch.fft.irfft(torch.fft.rfft(samples[chosen], size) * torch.fft.rfft(self._rooms[rooms], size), size)
        return samples.index_copy(0, chosen, wet[:, : samples.shape[1]])

    def _with_noise(self, samples: Tensor, lengths: Tensor, heard: Tensor) -> Tensor:
        rows = self._chosen(len(samples), self.options.noise)
        count = len(rows)
        if not count:
            return samples
        chosen = self._moved(rows)
        which = torch.randint(0, len(self._noise_lengths), (count,), generator=self._generator, device=self._device)
        size = self._noise_lengths[which]
        at = (self._random(count) * size).long()[:, None] + torch.arange(samples.shape[1], device=self._device)
        noise = self._noise[self._noise_starts[which][:, None] + at % size[:, None]] * heard[chosen]
        speech = samples[chosen]
        seconds = lengths[chosen].clamp_min(1)
        speech_power, noise_power = speech.square().sum(dim=1) / seconds, noise.square().sum(dim=1) / seconds
        ratio = 10 ** (-self._between(*self.options.noise_snr_db, count) / 10)
        # Raised to the wanted ratio, a silent stretch of noise would be beyond all numbers.
        scale = torch.where(
            (noise_power > SILENCE) & (speech_power > SILENCE), speech_power / noise_power * ratio, 0.0
        ).sqrt()
        return samples.index_copy(0, chosen, speech + noise * scale[:, None])

    def _frames(self, samples: Tensor, hops: Tensor, pitch: Tensor, most: int) -> Tensor:
        """As `Fbank` makes them."""
        f = self._features
        starts = (torch.arange(most, device=self._device) * hops[:, None]).round().long()
        starts = starts.clamp_max(max(0, samples.shape[1] - f.window_samples))
        at = starts[:, :, None] + torch.arange(f.window_samples, device=self._device)
        windows = samples.gather(1, at.flatten(1).clamp_max(samples.shape[1] - 1)).view(at.shape)
        centred = windows - windows.mean(dim=2, keepdim=True)
        previous = torch.cat([centred[:, :, :1], centred[:, :, :-1]], dim=2)
        spectrum = torch.fft.rfft((centred - f.preemphasis * previous) * self._window, n=f.fft_size)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.bmm(power, self._mels[pitch]).clamp_min(LOG_FLOOR).log()

    def _narrow(self, frames: Tensor) -> Tensor:
        """What a telephone leaves of some lines: nothing above 3.4 to 4 kHz."""
        f, lines = self._features, len(frames)
        edge = 1127.0 * torch.log1p(self._between(3400, 4000, lines) / 700.0)
        low, high = (1127.0 * math.log1p(hz / 700.0) for hz in (f.low_hz, f.high_hz))
        cut = ((edge - low) / (high - low) * f.mels).floor()
        cut = torch.where(self._random(lines) < self.options.narrowband, cut, f.mels)
        floor = math.log(LOG_FLOOR) + self._between(0, 3, lines)
        beyond = torch.arange(f.mels, device=self._device) >= cut[:, None]
        return torch.where(beyond[:, None, :], floor[:, None, None], frames)


def random_rooms(count: int, sample_rate_hz: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Impulse responses that no room has: a direct sound, and noise that fades by 60 dB in 0.1 to 0.7 s after it."""
    rooms = []
    for _ in range(count):
        fades_s, level = rng.uniform(0.1, 0.7), rng.uniform(0.02, 0.12)
        times_s = np.arange(round(fades_s * sample_rate_hz)) / sample_rate_hz
        room = level * rng.standard_normal(len(times_s)) * 10 ** (-3 * times_s / fades_s)
        room[: round(rng.uniform(0.001, 0.012) * sample_rate_hz)] = 0.0
        room[0] = 1.0
        rooms.append(room.astype(np.float32))
    return rooms
