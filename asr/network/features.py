"""Log-mel filterbank features, for a whole recording and for a stream.

The recipe is Kaldi's ``fbank`` (25 ms Povey window, 10 ms hop, DC removed, pre-emphasis, 80 mel bins,
natural log of the power), without dither and with samples in [-1, 1], so other implementations of it
can be checked against this one number by number.

A frame exists once all its samples do ("snip edges"): frame ``t`` covers samples
``[t * hop, t * hop + window)``::

    samples  |----------------------------------------------- ...
    frame 0  [=========================]            400 samples
    frame 1            [=========================]  160 later
    frame 2                      [=========================]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.errors import ConfigError

LOG_FLOOR = float(np.finfo(np.float32).eps)  # Kaldi's floor: log-mel energies never fall below ln(1.19e-7) = -15.94
BLOCK_FRAMES = 12  # frames computed together: 120 ms, one step of the acoustic model at a frame reduction of 3


@dataclass(frozen=True)
class FeatureOptions:
    """What turns samples into frames. A model only works with the options it was trained with."""

    sample_rate_hz: int = 16_000  # speech holds little above 8 kHz
    window_ms: float = 25.0  # long enough to resolve the harmonics of a low voice
    hop_ms: float = 10.0  # short enough to see a stop consonant's burst
    mels: int = 80  # the field's usual resolution
    low_hz: float = 20.0  # below is rumble
    high_hz: float = 7_600.0  # above, resamplers and codecs disagree most
    preemphasis: float = 0.97  # levels the fall of a voice's spectrum

    def __post_init__(self) -> None:
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise ConfigError(
                f"feature band {self.low_hz}-{self.high_hz} Hz does not fit a sample rate of {self.sample_rate_hz} Hz: "
                "choose 0 <= low_hz < high_hz <= sample_rate_hz / 2"
            )
        if self.mels < 1 or self.hop_samples < 1 or self.window_samples < 2:
            raise ConfigError("features need mels >= 1, a hop of at least one sample and a window of at least two")

    @property
    def window_samples(self) -> int:
        return round(self.window_ms * self.sample_rate_hz / 1000)

    @property
    def hop_samples(self) -> int:
        return round(self.hop_ms * self.sample_rate_hz / 1000)

    @property
    def fft_size(self) -> int:
        return 1 << (self.window_samples - 1).bit_length()


def mel_matrix(options: FeatureOptions, pitch: float = 1.0) -> Tensor:
    """Triangular mel filters as a matrix, shape ``(fft_size // 2 + 1, mels)``.

    ``pitch`` scales the frequency axis that the filters read: 1.1 makes the features those of a voice
    whose whole spectrum lies 10 % higher. Training uses it; recognition leaves it at 1.
    """

    def mel(hz: float | np.ndarray) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0)

    bins = options.fft_size // 2
    edges = np.linspace(mel(options.low_hz), mel(options.high_hz), options.mels + 2)
    # The filters are triangles on the mel axis. The Nyquist bin is not used, as in Kaldi.
    at = mel(np.arange(bins) * options.sample_rate_hz / options.fft_size * pitch)[:, None]
    rise = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    weights = np.zeros((bins + 1, options.mels), dtype=np.float32)
    weights[:-1] = np.maximum(0.0, np.minimum(rise, fall))
    return torch.from_numpy(weights)


def povey_window(samples: int) -> Tensor:
    """Kaldi's default window, a Hann window to the power of 0.85, shape ``(samples,)``."""
    phase = torch.arange(samples, dtype=torch.float64) * (2 * math.pi / (samples - 1))
    return ((0.5 - 0.5 * torch.cos(phase)) ** 0.85).float()


class Fbank:
    """The filterbank itself: frames of samples in, log-mel energies out. Holds no state; safe to share."""

    def __init__(self, options: FeatureOptions, pitch: float = 1.0) -> None:
        self.options = options
        self._window = povey_window(options.window_samples)
        self._mel = mel_matrix(options, pitch)

    def __call__(self, windows: Tensor) -> Tensor:
        """Log-mel energies of windows of samples: ``(n, window_samples)`` to ``(n, mels)``, float32."""
        return self.blocks(windows[None])[0]

    def blocks(self, windows: Tensor) -> Tensor:
        """As calling it, for several blocks of windows at once: ``(B, n, window_samples)`` to ``(B, n, mels)``.

        A block's result does not depend, in any bit, on the others: what a library might compute otherwise for
        more rows is computed block by block, and the rest element by element for all.
        """
        centred = windows - windows.mean(dim=2, keepdim=True)
        # x[i] - 0.97 x[i-1]; the first sample stands in for its own predecessor.
        previous = torch.cat([centred[:, :, :1], centred[:, :, :-1]], dim=2)
        shaped = (centred - self.options.preemphasis * previous) * self._window
        spectrum = torch.stack([torch.fft.rfft(block, n=self.options.fft_size) for block in shaped])
        power = spectrum.real.square() + spectrum.imag.square()
        energies = torch.stack([block @ self._mel for block in power])
        return energies.clamp_min(LOG_FLOOR).log()

    def windows(self, samples: Tensor, tempo: float = 1.0) -> Tensor:
        """Cut ``(n,)`` samples into overlapping windows, ``(frames, window_samples)``.

        ``tempo`` stretches the hop: 1.1 gives the frames of the same voice speaking 10 % faster.
        """
        size, hop = self.options.window_samples, self.options.hop_samples
        if len(samples) < size:
            return samples.new_zeros((0, size))
        if tempo == 1.0:
            return samples.unfold(0, size, hop)
        starts = torch.arange(0, len(samples) - size + 1e-6, hop * tempo).round().long()
        return samples.unfold(0, size, 1)[starts.clamp_max(len(samples) - size)]


class StreamingFbank:
    """The filterbank of one stream: samples in as they come, frames out as soon as a block is complete.

    Frames are always computed in blocks of ``block_frames`` that start at a multiple of it. Matrix
    libraries may round a row differently when it stands among more or fewer others; with blocks that
    depend only on the sample clock, a frame is the same bit for bit however the samples were cut.
    Not safe to use from two threads at once.
    """

    def __init__(self, fbank: Fbank, block_frames: int = BLOCK_FRAMES) -> None:
        if block_frames < 1:
            raise ConfigError("block_frames must be at least 1")
        options = fbank.options
        self._fbank = fbank
        self._advance = block_frames * options.hop_samples
        self._need = self._advance - options.hop_samples + options.window_samples
        self._buffer = np.zeros(0, dtype=np.float32)
        self._start = 0  # of what is not used yet, in the buffer

    def push(self, samples: np.ndarray) -> None:
        """Queue ``(n,)`` float32 samples in [-1, 1]. `take` gives their frames."""
        self._buffer = np.concatenate([self._buffer[self._start :], np.asarray(samples, dtype=np.float32)])
        self._start = 0

    @property
    def ready(self) -> bool:
        """Whether `take` has a block to give."""
        return len(self._buffer) - self._start >= self._need

    @property
    def ready_blocks(self) -> int:
        """How many blocks `take` has to give."""
        return max(0, (len(self._buffer) - self._start - self._need) // self._advance + 1)

    @property
    def missing_samples(self) -> int:
        """How many more samples would make every sample pushed so far part of a full block."""
        left = len(self._buffer) - self._start
        if left <= self._need:
            return self._need - left
        return -(left - self._need) % self._advance

    @property
    def spread(self) -> float:
        """How far the samples of the next block lie apart, its greatest less its least. Only when `ready`."""
        return float(np.ptp(self._buffer[self._start : self._start + self._need]))

    def take(self) -> Tensor:
        """The next block, ``(block_frames, mels)``. Only when `ready`."""
        return self._fbank(self.take_windows())

    def take_windows(self) -> Tensor:
        """The windows of the next block, ``(block_frames, window_samples)``, of which `Fbank` makes its frames."""
        if not self.ready:
            raise ValueError("no block is ready: push more samples")
        samples = torch.from_numpy(self._buffer[self._start : self._start + self._need])
        self._start += self._advance
        return self._fbank.windows(samples)

    def accept(self, samples: np.ndarray) -> Tensor:
        """Take ``(n,)`` samples; return all frames that are ready now, ``(k * block_frames, mels)``, k >= 0."""
        self.push(samples)
        blocks: list[Tensor] = []
        while self.ready:
            blocks.append(self.take())
        return torch.cat(blocks) if blocks else torch.zeros(0, self._fbank.options.mels)

    def finish(self) -> Tensor:
        """The frames of the last, incomplete block, ``(fewer than block_frames, mels)``; the stream starts anew."""
        options = self._fbank.options
        left = len(self._buffer) - self._start
        whole = max(0, (left - options.window_samples) // options.hop_samples + 1)
        padded = np.zeros(self._need, dtype=np.float32)
        padded[:left] = self._buffer[self._start :]
        self._buffer, self._start = np.zeros(0, dtype=np.float32), 0
        return self._fbank(self._fbank.windows(torch.from_numpy(padded)))[:whole]


def log_mel(samples: np.ndarray, options: FeatureOptions) -> Tensor:
    """All frames of a whole recording: ``(n,)`` float32 samples to ``(frames, mels)``."""
    stream = StreamingFbank(Fbank(options))
    return torch.cat([stream.accept(samples), stream.finish()])
