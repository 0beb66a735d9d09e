"""The sums of ``crf.py`` on an NVIDIA GPU: ``kernels/crf.cu``, compiled at run time by CuPy.

`crf_torch` does the same in plain torch, a launch of some kernels for every step of the longest line. Without CuPy
it is what a GPU gets.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.train.phone_graph import PhoneGraph
from asr.train.phone_lm import PhoneLm

_NUMERATOR_THREADS = 256
_DENOMINATOR_THREADS = 800  # half of the pairs of forty symbols
_UNIT = 1024.0  # the trigram is in half precision, of which rare phonemes need the lower end
_ROOM = 34  # floats that a sum over a block takes


@functools.cache
def available() -> bool:
    """Whether CuPy is there and finds a GPU."""
    try:
        import cupy

        return bool(cupy.cuda.is_available())
    except ImportError:
        return False


def add_shares(
    p: Tensor,
    lengths: Sequence[int],
    graphs: Sequence[PhoneGraph],
    lm: PhoneLm | None,
    above: float,
    below: float,
    prune: float,
    out: Tensor,
) -> tuple[Tensor, Tensor]:
    """Numerators and denominators ``(B,)``, float64, of probabilities ``(B, T, tokens)`` float32 on a GPU; to ``out``,
    as large as these, the tokens' shares in them are added, times ``above`` and ``below``.

    Nothing is pruned: here a step costs the same however few states count.
    """
    lines, most, tokens = p.shape
    steps = pinned(torch.tensor(lengths, dtype=torch.int32)).to(p.device, non_blocking=True)
    parts, widest = end_to_end(tuple(graphs))
    on_device = [part.to(p.device, non_blocking=True) for part in parts]
    totals = torch.empty(lines, device=p.device)
    ahead = torch.empty(lines * most * widest, device=p.device)
    _launch(
        "numerator",
        (lines, _NUMERATOR_THREADS, 4 * (2 * widest + tokens + _ROOM)),
        [p, steps, *on_device, ahead, totals, out],
        [above],
        [most, tokens, widest],
    )
    del ahead
    if lm is None:
        return totals.double(), torch.zeros_like(totals, dtype=torch.float64)
    between, twice = _tables(lm, p.device)
    pairs, row = tokens * tokens, between.shape[1]
    ahead = torch.empty(lines * most * 2 * pairs, device=p.device)
    scales, sums = torch.empty(lines * most, device=p.device), torch.empty(lines, device=p.device)
    _launch(
        "denominator",
        (lines, _DENOMINATOR_THREADS, 4 * (4 * pairs + 2 * tokens + _ROOM) + 2 * between.numel()),
        [p, steps, between, twice, ahead, scales, sums, out],
        [below, _UNIT],
        [most, tokens, row],
    )
    return totals.double(), sums.double()


@functools.lru_cache(maxsize=64)
def end_to_end(graphs: tuple[PhoneGraph, ...]) -> tuple[list[Tensor], int]:
    """What the numerator's kernel wants of graphs, and the most states of one.

    Kept, so that a thread can make it ahead of the step that needs it: by more batches than any queue of them holds.
    """
    sizes = [len(graph.labels) for graph in graphs]
    firsts = np.zeros(len(graphs) + 1, np.int32)
    np.cumsum(sizes, out=firsts[1:])
    labels = np.concatenate([graph.labels for graph in graphs]).astype(np.int32)
    counts = np.concatenate([np.diff(graph.starts) for graph in graphs])
    before = np.concatenate([graph.predecessors for graph in graphs]).astype(np.int32)
    base = np.repeat(firsts[:-1], sizes)
    target = np.repeat(np.arange(len(labels)), counts)
    source = before + base[target]
    order = np.argsort(source, kind="stable")
    after = (target - base[target])[order].astype(np.int32)
    ends = np.zeros(len(labels), np.uint8)
    for graph, first in zip(graphs, firsts, strict=False):
        ends[first + np.array(graph.ends)] = 1
    parts = [
        firsts,
        labels,
        _starts(counts),
        before if len(before) else np.zeros(1, np.int32),
        _starts(np.bincount(source, minlength=len(labels))),
        after if len(after) else np.zeros(1, np.int32),
        ends,
    ]
    return [pinned(torch.from_numpy(part)) for part in parts], max(sizes, default=0)


def pinned(tensor: Tensor) -> Tensor:
    """Where a GPU can fetch it while the CPU goes on."""
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


@functools.lru_cache(maxsize=4)
def _tables(lm: PhoneLm, device: torch.device) -> tuple[Tensor, Tensor]:
    """The trigram ``[last][before][phoneme]`` in half precision without doubled phonemes, and these in float32."""
    symbols = np.arange(lm.symbols)
    between = lm.probabilities.transpose(1, 0, 2).copy()
    twice = between[symbols, :, symbols].copy()
    between[symbols, :, symbols] = 0
    # Rows of an odd number of pairs: threads that read one row each then meet in no bank of shared memory.
    row = 2 * (lm.symbols // 2 | 1) if lm.symbols % 2 == 0 else lm.symbols + 1
    padded = np.zeros((lm.symbols**2, row), np.float16)
    padded[:, : lm.symbols] = (between * _UNIT).reshape(-1, lm.symbols)
    return torch.from_numpy(padded).to(device), torch.from_numpy(twice).to(device)


def _launch(
    name: str, shape: tuple[int, int, int], tensors: Sequence[Tensor], reals: Sequence[float], numbers: Sequence[int]
) -> None:
    import cupy

    blocks, threads, shared = shape
    kernel = _kernel(name)
    if shared > kernel.max_dynamic_shared_size_bytes:
        kernel.max_dynamic_shared_size_bytes = shared
    arguments: list[Any] = [np.uintp(tensor.data_ptr()) for tensor in tensors]
    arguments += [*map(np.float32, reals), *map(np.int32, numbers)]
    with cupy.cuda.Device(tensors[0].device.index), _stream(tensors[0].device):
        kernel((blocks,), (threads,), tuple(arguments), shared_mem=shared)


def _stream(device: torch.device) -> Any:
    import cupy

    return cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream)


@functools.cache
def _kernel(name: str) -> Any:
    import cupy

    source = Path(__file__).with_name("kernels") / "crf.cu"
    return cupy.RawKernel(source.read_text(encoding="utf-8"), name, options=("--std=c++17",))
