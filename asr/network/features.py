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

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asr.array_table import ArrayTable
from asr.errors import ConfigError
from asr.network.fbank_kernel import LOG_FLOOR, log_energies, make_table, working_memory

__all__ = [
    "BLOCK_FRAMES",
    "LOG_FLOOR",
    "Fbank",
    "FeatureOptions",
    "StreamingFbank",
    "log_mel",
    "mel_matrix",
    "povey_window",
]

Array = np.ndarray[Any, Any]

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


def _mel(hz: float | Array) -> Array:
    return 1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0)


def mel_matrix(options: FeatureOptions, pitch: float = 1.0) -> Array:
    """Triangular mel filters as a matrix, shape ``(fft_size // 2 + 1, mels)`` float32.

    ``pitch`` scales the frequency axis that the filters read: 1.1 makes the features those of a voice
    whose whole spectrum lies 10 % higher. Training uses it; recognition leaves it at 1.
    """
    bins = options.fft_size // 2
    edges = np.linspace(_mel(options.low_hz), _mel(options.high_hz), options.mels + 2)
    # The filters are triangles on the mel axis. The Nyquist bin is not used, as in Kaldi.
    at = _mel(np.arange(bins) * options.sample_rate_hz / options.fft_size * pitch)[:, None]
    rise = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    weights = np.zeros((bins + 1, options.mels), dtype=np.float32)
    weights[:-1] = np.maximum(0.0, np.minimum(rise, fall))
    return weights


def povey_window(samples: int) -> Array:
    """Kaldi's default window, a Hann window to the power of 0.85, shape ``(samples,)`` float32."""
    phase = np.arange(samples, dtype=np.float64) * (2 * np.pi / (samples - 1))
    return np.asarray((0.5 - 0.5 * np.cos(phase)) ** 0.85, dtype=np.float32)


class Fbank:
    """The filterbank itself: frames of samples in, log-mel energies out. Holds no state; safe to share."""

    def __init__(self, options: FeatureOptions, pitch: float = 1.0) -> None:
        self.options = options
        window = povey_window(options.window_samples)
        self._table = ArrayTable(make_table(window, options.preemphasis, mel_matrix(options, pitch)))

    def __call__(self, windows: Array) -> Array:
        """Log-mel energies of windows of samples: ``(…, window_samples)`` to ``(…, mels)``, float32.

        A window's result does not depend, in any bit, on the others.
        """
        *shape, size = windows.shape
        rows = np.ascontiguousarray(windows, np.float32).reshape(-1, size)
        energies = np.empty((len(rows), self.options.mels), np.float32)
        log_energies(self._table, rows, working_memory(size, self.options.fft_size), energies)
        return energies.reshape(*shape, self.options.mels)

    def windows(self, samples: Array, tempo: float = 1.0) -> Array:
        """Cut ``(n,)`` samples into overlapping windows, ``(frames, window_samples)``.

        ``tempo`` stretches the hop: 1.1 gives the frames of the same voice speaking 10 % faster.
        """
        size, hop = self.options.window_samples, self.options.hop_samples
        if len(samples) < size:
            return np.zeros((0, size), np.float32)
        if tempo == 1.0:
            # What `sliding_window_view` gives, in a tenth of its time.
            samples, step = np.ascontiguousarray(samples), samples.itemsize
            shape, strides = ((len(samples) - size) // hop + 1, size), (hop * step, step)
            return np.ndarray(shape, samples.dtype, samples, strides=strides)
        starts = np.rint(np.arange(0, len(samples) - size + 1e-6, hop * tempo)).astype(np.int64)
        cut: Array = sliding_window_view(samples, size)[np.minimum(starts, len(samples) - size)]
        return cut


class StreamingFbank:
    """The filterbank of one stream: samples in as they come, frames out as soon as a block is complete.

    Frames are always computed in blocks of ``block_frames`` that start at a multiple of it, so that a frame
    is the same bit for bit however the samples were cut, whatever a library does with more or fewer rows.
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

    def is_still(self, spread: float) -> bool:
        """Whether no two samples of the next block lie farther apart. Only when `ready`."""
        block = self._buffer[self._start : self._start + self._need]
        # Of speech, a few samples tell.
        return all(float(some.max() - some.min()) <= spread for some in (block[:: self._need // 16], block))

    def take(self) -> Array:
        """The next block, ``(block_frames, mels)``. Only when `ready`."""
        return self._fbank(self.take_windows())

    def take_windows(self) -> Array:
        """The windows of the next block, ``(block_frames, window_samples)``, of which `Fbank` makes its frames."""
        if not self.ready:
            raise ValueError("no block is ready: push more samples")
        samples = self._buffer[self._start : self._start + self._need]
        self._start += self._advance
        return self._fbank.windows(samples)

    def accept(self, samples: np.ndarray) -> Array:
        """Take ``(n,)`` samples; return all frames that are ready now, ``(k * block_frames, mels)``, k >= 0."""
        self.push(samples)
        blocks: list[Array] = []
        while self.ready:
            blocks.append(self.take())
        return np.concatenate(blocks) if blocks else np.zeros((0, self._fbank.options.mels), np.float32)

    def finish(self) -> Array:
        """The frames of the last, incomplete block, ``(fewer than block_frames, mels)``; the stream starts anew."""
        options = self._fbank.options
        left = len(self._buffer) - self._start
        whole = max(0, (left - options.window_samples) // options.hop_samples + 1)
        padded = np.zeros(self._need, dtype=np.float32)
        padded[:left] = self._buffer[self._start :]
        self._buffer, self._start = np.zeros(0, dtype=np.float32), 0
        return self._fbank(self._fbank.windows(padded))[:whole]


def log_mel(samples: np.ndarray, options: FeatureOptions) -> Array:
    """All frames of a whole recording: ``(n,)`` float32 samples to ``(frames, mels)``."""
    stream = StreamingFbank(Fbank(options))
    return np.concatenate([stream.accept(samples), stream.finish()])
