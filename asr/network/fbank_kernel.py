"""The arithmetic of `asr.network.features.Fbank` in compiled code: some windows side by side, a lane of a vector each.

Every value of a window is worked out by the same operations in the same order, whatever the other lanes hold, and
without a library's mathematics: so a frame is the same bit for bit in any company and on any machine.

A window of real samples is transformed as half as many complex ones, its even samples being their real parts and its
odd ones their imaginary parts. Of Stockham's way of doing that each pass reads one half of the memory and writes the
other, and the results end in order (C. Van Loan, "Computational Frameworks for the Fast Fourier Transform", 1992,
section 1.7).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asr.compiler import entry, inner
from asr.network.vectors import LANES, add, larger, load, log, multiply, spread, store, subtract

Array = np.ndarray[Any, Any]
LOG_FLOOR = float(np.finfo(np.float32).eps)  # Kaldi's floor: log-mel energies never fall below ln(1.19e-7) = -15.94

_inner = inner(_nrt=False)


class FbankTable(NamedTuple):
    """What does not change from window to window."""

    preemphasis: Array  # (1,) float32
    window: Array  # (window_samples,) float32
    turns: Array  # (2, fft_size / 2) float32: cosines and sines of the steps around half as large a circle
    half_turns: Array  # (2, fft_size / 2) float32: the same of the steps that are half as long
    firsts: Array  # (mels,) int64: the first bin of each filter
    starts: Array  # (mels + 1,) int64: where its weights begin
    weights: Array  # float32 (n,): those of all filters, one after the other


def make_table(window: Array, preemphasis: float, matrix: Array) -> FbankTable:
    """The table for windows that are weighed with ``window``, and filters ``(fft_size / 2 + 1, mels)``."""
    half = len(matrix) - 1
    angles = -2 * np.pi / half * np.arange(half) * np.array([[1.0], [0.5]])
    turns, half_turns = (np.stack([np.cos(part), np.sin(part)]).astype(np.float32) for part in angles)
    parts = [np.flatnonzero(column) for column in matrix.T]
    runs = [slice(part[0], part[-1] + 1) if len(part) else slice(0, 0) for part in parts]
    return FbankTable(
        preemphasis=np.array([preemphasis], np.float32),
        window=window.astype(np.float32),
        turns=turns,
        half_turns=half_turns,
        firsts=np.array([run.start for run in runs]),
        starts=np.cumsum([0, *(run.stop - run.start for run in runs)]),
        weights=np.concatenate([matrix[run, m] for m, run in enumerate(runs)]).astype(np.float32),
    )


def working_memory(window_samples: int, fft_size: int) -> Array:
    """Room for `log_energies`."""
    return np.empty(LANES * (max(window_samples, fft_size // 2) + 1 + 2 * fft_size), np.float32)


@_inner
def _shape(t, windows, first, x, z, half):  # type: ignore[no-untyped-def]
    """Windows from ``first`` on side by side, without their means, pre-emphasised and weighed, into ``z``: their even
    samples and then their odd ones, ``(2, half, LANES)``. ``x`` is room for them as they are."""
    size, last = windows.shape[1], windows.shape[0] - 1
    for lane in range(LANES):
        row = min(first + lane, last)
        for i in range(size):
            x[i * LANES + lane] = windows[row, i]
    mean = spread(np.float32(0.0))
    for i in range(size):
        mean = add(mean, load(x, i * LANES))
    mean = multiply(mean, spread(np.float32(1.0) / np.float32(size)))
    share = spread(t.preemphasis[0])
    previous = subtract(load(x, 0), mean)  # the first sample precedes itself
    for i in range(size):
        sample = subtract(load(x, i * LANES), mean)
        shaped = multiply(subtract(sample, multiply(share, previous)), spread(t.window[i]))
        store(z, (i % 2 * half + i // 2) * LANES, shaped)
        previous = sample
    for i in range(size, 2 * half):
        store(z, (i % 2 * half + i // 2) * LANES, spread(np.float32(0.0)))


@_inner
def _transform(turns, z, room, half):  # type: ignore[no-untyped-def]
    """The transform of complex numbers, real parts ``(half, LANES)`` and then imaginary ones; says whether it is in
    ``room`` in the end."""
    count, apart, parts = half, 1, half * LANES
    in_room = False
    while count > 1:
        count //= 2
        source, target = (room, z) if in_room else (z, room)
        for p in range(count):
            cosine, sine = spread(turns[0, p * apart]), spread(turns[1, p * apart])
            for q in range(apart):
                a, b = (p * apart + q) * LANES, ((p + count) * apart + q) * LANES
                c = (2 * p * apart + q) * LANES
                d = c + apart * LANES
                first, second = load(source, a), load(source, b)
                first_too, second_too = load(source, parts + a), load(source, parts + b)
                store(target, c, add(first, second))
                store(target, parts + c, add(first_too, second_too))
                real, imaginary = subtract(first, second), subtract(first_too, second_too)
                store(target, d, subtract(multiply(real, cosine), multiply(imaginary, sine)))
                store(target, parts + d, add(multiply(real, sine), multiply(imaginary, cosine)))
        apart *= 2
        in_room = not in_room
    return in_room


@_inner
def _powers(half_turns, z, half, power):  # type: ignore[no-untyped-def]
    """The power of each bin below the highest, ``(half, LANES)``, of real samples that were transformed in pairs."""
    parts, share = half * LANES, spread(np.float32(0.5))
    for k in range(half):
        a, b = k * LANES, (half - k) % half * LANES
        cosine, sine = spread(half_turns[0, k]), spread(half_turns[1, k])
        here, there = load(z, a), load(z, b)
        here_too, there_too = load(z, parts + a), load(z, parts + b)
        even, even_too = multiply(share, add(here, there)), multiply(share, subtract(here_too, there_too))
        odd, odd_too = multiply(share, add(here_too, there_too)), multiply(share, subtract(there, here))
        real = add(even, subtract(multiply(odd, cosine), multiply(odd_too, sine)))
        imaginary = add(even_too, add(multiply(odd, sine), multiply(odd_too, cosine)))
        store(power, a, add(multiply(real, real), multiply(imaginary, imaginary)))


@entry
def log_energies(t: FbankTable, windows: Array, room: Array, out: Array) -> None:
    """Log-mel energies of windows of samples: ``(n, window_samples)`` to ``(n, mels)``, both float32."""
    half = t.turns.shape[1]
    found, rest = room[:LANES], room[LANES:]
    z, other, x = rest[: 2 * half * LANES], rest[2 * half * LANES : 4 * half * LANES], rest[4 * half * LANES :]
    floor = spread(np.float32(LOG_FLOOR))
    for first in range(0, windows.shape[0], LANES):
        _shape(t, windows, first, x, z, half)
        done = other if _transform(t.turns, z, other, half) else z
        _powers(t.half_turns, done, half, x)
        for m in range(t.firsts.shape[0]):
            energy = spread(np.float32(0.0))
            begin, bin_before = t.starts[m], t.firsts[m] - t.starts[m]
            for i in range(begin, t.starts[m + 1]):
                energy = add(energy, multiply(spread(t.weights[i]), load(x, (bin_before + i) * LANES)))
            store(found, 0, log(larger(energy, floor)))
            for lane in range(min(LANES, windows.shape[0] - first)):
                out[first + lane, m] = found[lane]
