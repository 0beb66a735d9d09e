"""The sums of ``crf.py`` in plain torch, for processors other than the CPU: the whole batch at once, step after step.

The numerator is in logarithms, for float32 has too small a range for its sums, and not every device has more; the
denominator is scaled to one at every step. Lines that are over keep their state.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.train.phone_graph import PhoneGraph
from asr.train.phone_lm import PhoneLm

_NEVER = -1e30  # a logarithm of zero that can be subtracted from itself


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
    """Numerators and denominators ``(B,)`` of probabilities ``(B, T, tokens)``, float64 where the device has that; to
    ``out``, as large as these, the tokens' shares in them are added, times ``above`` and ``below``.

    Nothing is pruned: here a step costs the same however few states count.
    """
    with torch.autocast(p.device.type, enabled=False):  # a caller's bfloat16 is too coarse for these sums
        wide = torch.float32 if p.device.type == "mps" else torch.float64
        steps = torch.tensor(lengths, device=p.device)
        numerators, shares = _numerator(p, steps, graphs)
        out.add_(shares, alpha=above)
        if lm is None:
            return numerators.to(wide), torch.zeros_like(numerators, dtype=wide)
        denominators, shares = _denominator(p, steps, _on_device(lm, p.device, p.dtype))
        out.add_(shares, alpha=below)
        return numerators.to(wide), denominators.to(wide)


def _numerator(p: Tensor, steps: Tensor, graphs: Sequence[PhoneGraph]) -> tuple[Tensor, Tensor]:
    """Logarithms of the sums ``(B,)``, and shares ``(B, T, tokens)``."""
    lines, most, _ = p.shape
    before, after, labels, ends = (part.to(p.device) for part in _padded(graphs))
    states = labels.shape[1]
    logs = p.log().gather(2, labels[:, None, :].expand(lines, most, states))  # (B, T, S)

    def along(now: Tensor, edges: Tensor) -> Tensor:
        """Sums over a state itself and those that the edges lead to; edge S leads nowhere."""
        reached = torch.nn.functional.pad(now, (0, 1), value=_NEVER)
        others = reached.gather(1, edges.flatten(1)).view(edges.shape)
        return torch.cat([now[:, :, None], others], dim=2).logsumexp(dim=2).clamp_min(_NEVER)

    now = p.new_full((lines, states), _NEVER)
    now[:, 0] = 0  # the step before the first
    ahead = p.new_empty(most, lines, states)
    for t in range(most):
        now = torch.where((t < steps)[:, None], along(now, before) + logs[:, t], now)
        ahead[t] = now
    total = (now + ends).logsumexp(dim=1)
    fits = (total > _NEVER / 2) & (steps > 0)
    behind = ends
    for t in range(most - 1, -1, -1):
        ahead[t] += behind
        onward = along(behind + logs[:, t], after)
        behind = torch.where((t < steps)[:, None], onward, behind)
    chance = (ahead - torch.where(fits, total, 0.0)[:, None]).exp().transpose(0, 1)
    heard = (torch.arange(most, device=p.device) < steps[:, None]) & fits[:, None]
    chance = torch.where(heard[:, :, None], chance, 0.0)
    shares = torch.zeros_like(p).scatter_add_(2, labels[:, None, :].expand_as(chance), chance)
    return torch.where(fits, total, -float("inf")), _normal(shares)


def _denominator(p: Tensor, steps: Tensor, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Logarithms of the sums ``(B,)``, and shares ``(B, T, tokens)``.

    L and K are ``(h2, B, h1)``: last phoneme, line, phoneme before; whether the step was that phoneme or blank.
    """
    between, twice = tables  # [h2, h1, p] without doubled phonemes, and these as [h2, h1]
    lines, most, symbols = p.shape
    read = p.clone()
    read[:, :, 0] = 0  # as a phoneme
    blank = p[:, :, 0, None]
    l_now = p.new_zeros(symbols, lines, symbols)
    k_now = l_now.clone()
    k_now[0, :, 0] = 1
    ahead = p.new_empty(most, 2, symbols, lines, symbols)
    scales, total = p.new_ones(most, lines), p.new_zeros(lines)
    each = torch.arange(symbols, device=p.device)
    for t in range(most):
        both = l_now + k_now
        made = torch.bmm(both, between)  # (h2, B, p)
        made[each, :, each] += (k_now * twice[:, None, :]).sum(dim=2)
        l_next = (made.permute(2, 1, 0) + l_now) * read[:, t].t()[:, :, None]
        k_next = both * blank[:, t]
        scale = 1 / (l_next.sum(dim=(0, 2)) + k_next.sum(dim=(0, 2)))
        on = t < steps
        scales[t] = torch.where(on, scale, 1.0)
        total -= scales[t].log()
        l_now = torch.where(on[:, None], l_next * scale[:, None], l_now)
        k_now = torch.where(on[:, None], k_next * scale[:, None], k_now)
        ahead[t, 0], ahead[t, 1] = l_now, k_now
    shares = torch.zeros_like(p)
    l_behind, k_behind = torch.ones_like(l_now), torch.ones_like(k_now)
    other_way = between.transpose(1, 2).contiguous()
    for t in range(most - 1, -1, -1):
        on = (t < steps)[:, None]
        shares[:, t] = (ahead[t, 0] * l_behind).sum(dim=2).t()
        shares[:, t, 0] = (ahead[t, 1] * k_behind).sum(dim=(0, 2))
        # States that no path reaches may have any number here; kept small, it is harmless.
        scale = scales[t][:, None]
        onward = (l_behind * (read[:, t].t()[:, :, None] * scale)).clamp_max(1e30)  # (p, B, h2)
        by_last = onward.permute(2, 1, 0)  # (h2, B, p)
        to_blank = (k_behind * (blank[:, t] * scale)).clamp_max(1e30)
        either = to_blank + torch.bmm(by_last, other_way)
        doubled = by_last[each, :, each]  # (h2, B)
        l_behind = torch.where(on, either + onward, l_behind)
        k_behind = torch.where(on, either + doubled[:, :, None] * twice[:, None, :], k_behind)
    shares *= (torch.arange(most, device=p.device) < steps[:, None])[:, :, None]
    return total, _normal(shares)


def _normal(shares: Tensor) -> Tensor:
    """A step's shares add up to one, or are all zero: takes off what rounding did over many steps."""
    return shares / shares.sum(dim=2, keepdim=True).clamp_min(1e-30)


@functools.lru_cache(maxsize=4)
def _on_device(lm: PhoneLm, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    between = torch.from_numpy(lm.probabilities).to(device, dtype).permute(1, 0, 2).contiguous()
    symbols = torch.arange(lm.symbols, device=device)
    twice = between[symbols, :, symbols].clone()
    between[symbols, :, symbols] = 0
    return between, twice


def _padded(graphs: Sequence[PhoneGraph]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch's predecessors and successors ``(B, S, most)``, labels ``(B, S)``, and 0 for final states or _NEVER."""
    lines, states = len(graphs), max(len(graph.labels) for graph in graphs)
    labels, ends = np.zeros((lines, states), np.int64), np.full((lines, states), _NEVER, np.float32)
    sources, targets = [], []
    for b, graph in enumerate(graphs):
        labels[b, : len(graph.labels)] = graph.labels
        ends[b, graph.ends] = 0
        target = np.repeat(np.arange(len(graph.labels)), np.diff(graph.starts))
        sources.append(graph.predecessors.astype(np.int64) + b * states)
        targets.append(target + b * states)
    source, target = np.concatenate(sources), np.concatenate(targets)
    before = _lists(target, source % states, lines * states, states).reshape(lines, states, -1)
    after = _lists(source, target % states, lines * states, states).reshape(lines, states, -1)
    return torch.from_numpy(before), torch.from_numpy(after), torch.from_numpy(labels), torch.from_numpy(ends)


def _lists(keys: NDArray[np.int64], values: NDArray[np.int64], rows: int, nothing: int) -> NDArray[np.int64]:
    """``(rows, most)``: the values of each key, then ``nothing``."""
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    counts = np.bincount(keys, minlength=rows)
    column = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    lists = np.full((rows, max(1, int(counts.max(initial=0)))), nothing, np.int64)
    lists[keys, column] = values
    return lists
