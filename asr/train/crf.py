"""CTC and CTC-CRF over pronunciations: the loss that a network of phonemes is trained with.

    loss = -(numerator - weight * denominator) - ctc_weight * numerator

The numerator is the logarithm of the sum of all paths that read as one of the text's pronunciations (`PhoneGraph`),
the denominator that of all paths, each weighted by a phoneme trigram of what it reads (`PhoneLm`): wrong readings that
sound alike lose. Without the denominator it is CTC. See H. Xiang and Z. Ou, "CRF-based single-stage acoustic modeling
with CTC topology" (ICASSP 2019).

On the CPU ``kernels/crf.c`` does it, compiled at first use, a line at a time; on an NVIDIA GPU with CuPy
``crf_cuda.py``; elsewhere ``crf_torch.py``, the whole batch at once.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.errors import DataError
from asr.train import crf_cuda, crf_torch
from asr.train.compile_c import LOOSE, compiled
from asr.train.phone_graph import PhoneGraph
from asr.train.phone_lm import PhoneLm

_LANES = 8  # of a vector in crf.c
_LEAST_PROBABILITY = 1e-20  # keeps a reading possible that the network has ruled out, or it would never learn it


def crf_loss(
    logits: Tensor,
    steps: Tensor,
    graphs: Sequence[PhoneGraph],
    phone_lm: PhoneLm | None = None,
    weight: float = 1.0,
    ctc_weight: float = 0.1,
    prune: float = 1e-6,
) -> Tensor:
    """The sum of the lines' losses; a text that does not fit into its steps counts nothing, as with ``zero_infinity``.

    Args:
        logits: ``(B, T, tokens)`` of any float type, token 0 the blank. Only their softmax counts.
        steps: ``(B,)`` integers, how many of T count.
        graphs: the lines' texts.
        phone_lm: the denominator's trigram, with as many symbols as there are tokens. Not needed if ``weight`` is zero.
        weight: of the denominator; zero for plain CTC.
        ctc_weight: of CTC beside CTC-CRF: how much the numerator counts more than the denominator.
        prune: on the CPU, pairs of phonemes with less than this part of a step's sum are left out of the denominator.

    Raises:
        DataError: the parts' sizes do not fit together, or a graph has a phoneme that is no token.
        ConfigError: on the CPU, there is no C compiler.
    """
    return crf_parts(logits, steps, graphs, phone_lm, weight, ctc_weight, prune)[0]


def ctc_loss(logits: Tensor, steps: Tensor, graphs: Sequence[PhoneGraph]) -> Tensor:
    """The sum of the lines' CTC losses over their graphs: `crf_loss` without a denominator."""
    return crf_loss(logits, steps, graphs, weight=0.0, ctc_weight=0.0)


def crf_parts(
    logits: Tensor,
    steps: Tensor,
    graphs: Sequence[PhoneGraph],
    phone_lm: PhoneLm | None = None,
    weight: float = 1.0,
    ctc_weight: float = 0.1,
    prune: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    """`crf_loss`, with its numerators and denominators ``(B,)`` in float64, which have no gradient.

    Where a text does not fit, the numerator is minus infinity. With a weight of zero, denominators are zero.
    """
    lm = phone_lm if weight else None
    if weight and phone_lm is None:
        raise DataError("a denominator needs a phoneme trigram: give one, or a weight of zero for plain CTC")
    tokens, most = logits.shape[2], logits.shape[1]
    if lm is not None and lm.symbols != tokens:
        raise DataError(f"the phoneme trigram has {lm.symbols} symbols, the logits {tokens} tokens: not the same")
    if len(graphs) != len(logits) or len(steps) != len(logits):
        raise DataError(f"{len(logits)} lines of logits, {len(steps)} of steps and {len(graphs)} texts: not the same")
    lengths: list[int] = steps.tolist()
    if any(not 0 <= count <= most for count in lengths):
        raise DataError(f"steps must be from 0 to {most}, the logits' length: found {min(lengths)} to {max(lengths)}")
    for graph in graphs:
        if graph.labels.max() >= tokens:
            raise DataError(f"a text has phoneme {graph.labels.max()}, the logits only {tokens} tokens")
    parts: tuple[Tensor, Tensor, Tensor] = _Crf.apply(logits, lengths, graphs, lm, weight, ctc_weight, prune)  # type: ignore[no-untyped-call]
    return parts


@dataclass(frozen=True)
class Alignment:
    """The likeliest way to say a text.

    Attributes:
        choices: for each word, which of its pronunciations.
        begins: for each word, the steps at which the phonemes of that pronunciation begin.
        log_probability: of the path.
    """

    choices: tuple[int, ...]
    begins: tuple[tuple[int, ...], ...]
    log_probability: float


def best_path(logits: Tensor, graph: PhoneGraph) -> Alignment | None:
    """The likeliest path of a text through a line's logits ``(T, tokens)``; None if the text does not fit into T."""
    logs = F.log_softmax(logits.detach().float().cpu(), dim=-1).clamp_min(-1e4).contiguous()
    count, states = len(logs), len(graph.labels)
    if graph.labels.max() >= logs.shape[1]:
        raise DataError(f"a text has phoneme {graph.labels.max()}, the logits only {logs.shape[1]} tokens")
    path, room = torch.empty(count, dtype=torch.int32), torch.empty(2 * states, dtype=torch.float64)
    choices = torch.empty(count * states, dtype=torch.int16)
    score = _library(logs.shape[1]).best_path(
        logs.data_ptr(), count, logs.shape[1], *_pointers(graph), path.data_ptr(), room.data_ptr(), choices.data_ptr()
    )
    if score == -float("inf"):
        return None
    chosen, begins = [0] * len(graph.words), [list[int]() for _ in graph.words]
    before = -1
    for step, state in enumerate(path.tolist()):
        if state != before and graph.labels[state]:
            word, chosen_now = graph.choice(state)
            chosen[word] = chosen_now
            begins[word].append(step)
        before = state
    return Alignment(tuple(chosen), tuple(tuple(steps) for steps in begins), score)


def add_readings(p: Tensor, graphs: Sequence[PhoneGraph], weights: Sequence[float], out: Tensor) -> Tensor:
    """How likely each of several texts is of the same line, and each step's tokens in its paths.

    Args:
        p: ``(T, tokens)`` float32 probabilities on the CPU, contiguous.
        graphs: the texts.
        weights: one for each.
        out: as large as ``p``; the shares of the tokens in a text's paths, which add up to one in each step, are added
            to it, times the text's weight.

    Returns:
        The natural logarithm of each text's probability, ``(texts,)`` float64; minus infinity where it does not fit.
    """
    count, tokens = p.shape
    p, library = p.clamp_min(_LEAST_PROBABILITY), _library(tokens)
    room, bounds = _numerator_memory(count, graphs)
    totals = [
        library.numerator(
            p.data_ptr(), count, tokens, *_pointers(graph), weight, out.data_ptr(), room.data_ptr(), bounds.data_ptr()
        )
        for graph, weight in zip(graphs, weights, strict=True)
    ]
    return torch.tensor(totals, dtype=torch.float64)


class _Crf(torch.autograd.Function):
    """See `crf_parts`. The gradient is made on the way there: it comes out of the same sums."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits, lengths, graphs, lm, weight, ctc_weight, prune = args
        p = torch.softmax(logits.detach().float(), dim=-1).clamp_min(_LEAST_PROBABILITY).contiguous()
        factor = 1 + ctc_weight
        add = _ways(p.device.type)
        gradient = torch.zeros_like(p)
        numerators, denominators = add(p, lengths, graphs, lm, -factor, weight, prune, gradient)
        fits = torch.isfinite(numerators) & torch.isfinite(denominators)
        losses = torch.where(fits, weight * denominators - factor * numerators, 0.0)
        counts = torch.tensor(lengths).to(p.device, non_blocking=True)
        heard = torch.arange(p.shape[1], device=p.device) < counts[:, None]
        # Each step's shares add up to one: through the softmax that leaves their difference.
        gradient.add_(p, alpha=factor - weight).mul_((heard & fits[:, None])[:, :, None])
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(numerators, denominators)
        return losses.sum().float(), numerators, denominators

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).to(ctx.dtype), None, None, None, None, None, None


def _ways(device: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """What makes the sums on a device."""
    if device == "cpu":
        return _add_shares
    return crf_cuda.add_shares if device == "cuda" and crf_cuda.available() else crf_torch.add_shares


def _add_shares(
    p: Tensor,
    lengths: Sequence[int],
    graphs: Sequence[PhoneGraph],
    lm: PhoneLm | None,
    above: float,
    below: float,
    prune: float,
    out: Tensor,
) -> tuple[Tensor, Tensor]:
    """Numerators and denominators ``(B,)`` of probabilities; to ``out``, as large as these, the tokens' shares in them
    are added, times ``above`` and ``below``."""
    tokens, most = p.shape[2], max(lengths, default=0)
    library = _library(tokens)
    tables = None if lm is None else _tables(lm)
    numerators = torch.full((len(lengths),), -float("inf"), dtype=torch.float64)
    denominators = torch.zeros(len(lengths), dtype=torch.float64)
    wide = -(-tokens // _LANES) * _LANES
    line = p.shape[1] * tokens * p.element_size()

    def work(numbers: Sequence[int]) -> None:
        room, bounds = _numerator_memory(most, graphs)
        table_room = torch.empty((2 * most + 4) * tokens * wide if tables else 0)
        for b in numbers:
            given, share = p.data_ptr() + b * line, out.data_ptr() + b * line
            numerators[b] = library.numerator(
                given, lengths[b], tokens, *_pointers(graphs[b]), above, share, room.data_ptr(), bounds.data_ptr()
            )
            if tables is not None and numerators[b] > -float("inf"):
                pointers = [table.data_ptr() for table in tables]
                denominators[b] = library.denominator(
                    given, lengths[b], *pointers, max(prune, 1e-25), below, share, table_room.data_ptr()
                )

    # Kernels let go of the interpreter, so threads run them side by side; long lines first and dealt in turn.
    threads = max(1, min(torch.get_num_threads(), os.cpu_count() or 1, len(lengths)))
    order = sorted(range(len(lengths)), key=lambda b: -lengths[b])
    if threads == 1:
        work(order)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, [order[k::threads] for k in range(threads)]))
    return numerators, denominators


def _numerator_memory(steps: int, graphs: Sequence[PhoneGraph]) -> tuple[Tensor, Tensor]:
    """What the numerator's kernel works in, for any of some graphs and so many steps at most."""
    widest = max((len(graph.labels) for graph in graphs), default=0)
    room = torch.empty(2 * ((steps + 2) * widest + steps), dtype=torch.float64)  # long doubles
    return room, torch.empty(2 * (steps + widest), dtype=torch.int32)


def _pointers(graph: PhoneGraph) -> tuple[int, int, int, int]:
    return len(graph.labels), graph.labels.ctypes.data, graph.starts.ctypes.data, graph.predecessors.ctypes.data


@functools.lru_cache(maxsize=4)
def _tables(lm: PhoneLm) -> tuple[Tensor, Tensor, Tensor]:
    """The trigram in the kernel's two orders, and its doubled phonemes."""
    given = torch.from_numpy(lm.probabilities)
    symbols = range(lm.symbols)
    between = given.permute(1, 0, 2).clone()  # [h2, h1, p]
    twice = between[symbols, :, symbols].t()  # [h1, h2]
    between[symbols, :, symbols] = 0
    padding = (0, -lm.symbols % _LANES)
    return tuple(F.pad(table, padding).contiguous() for table in (between, between.transpose(1, 2), twice))  # type: ignore[return-value]


@functools.cache
def _library(symbols: int) -> ctypes.CDLL:
    source = Path(__file__).with_name("kernels") / "crf.c"
    flags = ["-std=gnu11", "-O3", "-march=native", *LOOSE, f"-DSYMBOLS={symbols}"]
    library = compiled(source, flags, "training with phonemes on the CPU")
    pointer, number, real, double = ctypes.c_void_p, ctypes.c_int, ctypes.c_float, ctypes.c_double
    graph: list[Any] = [number, pointer, pointer, pointer]
    library.numerator.argtypes = [pointer, number, number, *graph, double, pointer, pointer, pointer]
    library.best_path.argtypes = [pointer, number, number, *graph, pointer, pointer, pointer]
    library.denominator.argtypes = [pointer, number, pointer, pointer, pointer, real, double, pointer, pointer]
    for function in (library.numerator, library.best_path, library.denominator):
        function.restype = double
    return library
