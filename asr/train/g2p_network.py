"""The network that reads a word's letters from both ends, and its training on aligned words.

Two layers of bidirectional LSTM over letters; at each letter, which of the graphones of that letter stands there. It
sees the whole word, which the n-grams do not; they know what follows what, which it does not. `asr.lexicon.g2p` uses
both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from asr.errors import DataError
from asr.train.bfloat16 import has_bfloat16


@dataclass(frozen=True)
class G2pNetworkOptions:
    """Its size and how it is trained."""

    embedding: int = 64  # values a letter is turned into
    hidden: int = 128  # of each direction of each layer
    dropout: float = 0.15  # between the layers and before the output
    epochs: int = 8  # times through the words
    batch: int = 96  # words, all of one length
    rate: float = 3e-3  # highest, after a twentieth of the steps; it falls to nothing
    seed: int = 1


class G2pNetwork(nn.Module):
    """Letters ``(batch, length)`` to log probabilities of graphones ``(batch, length, graphones)``."""

    def __init__(self, letters: int, graphone_letter: Sequence[int], options: G2pNetworkOptions) -> None:
        super().__init__()
        self.embedding = nn.Embedding(letters, options.embedding)
        self.dropout = nn.Dropout(options.dropout)
        self.lstm = nn.LSTM(
            options.embedding, options.hidden, 2, bidirectional=True, batch_first=True, dropout=options.dropout
        )
        self.output = nn.Linear(2 * options.hidden, len(graphone_letter))
        possible = torch.arange(letters)[:, None] == torch.tensor(list(graphone_letter))[None, :]
        self.register_buffer("impossible", torch.where(possible, 0.0, -1e4), persistent=False)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        impossible: torch.Tensor = self.get_buffer("impossible")
        hidden, _ = self.lstm(self.embedding(letters))
        logits = self.output(self.dropout(hidden)).float() + impossible[letters]
        return functional.log_softmax(logits, -1)

    def parameters_by_name(self) -> dict[str, np.ndarray]:
        """What `asr.lexicon.g2p` reads, by name: matrices (values out, values in), the two biases of a gate as one."""
        state = {name: value.detach().float().numpy() for name, value in self.state_dict().items()}
        named = {"embedding": state["embedding.weight"]}
        for layer in range(self.lstm.num_layers):
            for way, suffix in (("forward", ""), ("backward", "_reverse")):
                end = f"l{layer}{suffix}"
                named[f"{layer}.{way}.input"] = state[f"lstm.weight_ih_{end}"]
                named[f"{layer}.{way}.recurrent"] = state[f"lstm.weight_hh_{end}"]
                named[f"{layer}.{way}.bias"] = state[f"lstm.bias_ih_{end}"] + state[f"lstm.bias_hh_{end}"]
        return named | {"output": state["output.weight"], "output.bias": state["output.bias"]}


def train_network(
    words: Sequence[tuple[Sequence[int], Sequence[int]]],
    graphone_letter: Sequence[int],
    letters: int,
    options: G2pNetworkOptions,
    report: Callable[[str], None] = print,
) -> G2pNetwork:
    """Train on pairs of a word's letters and its graphones, both as numbers and of equal length."""
    if not words:
        raise DataError("no aligned words: nothing to train a network on")
    torch.manual_seed(options.seed)
    shuffle = np.random.default_rng(options.seed)
    by_length: dict[int, list[int]] = {}
    for index, (word, _) in enumerate(words):
        by_length.setdefault(len(word), []).append(index)
    examples = {
        length: torch.tensor([[list(words[i][0]), list(words[i][1])] for i in rows])
        for length, rows in by_length.items()
    }
    network = G2pNetwork(letters, graphone_letter, options)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-3)
    per_epoch = sum(-(-len(rows) // options.batch) for rows in by_length.values())
    steps = per_epoch * options.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, steps, pct_start=0.05)
    for epoch in range(options.epochs):
        network.train()
        batches = [
            (length, rows[begin : begin + options.batch])
            for length, data in examples.items()
            for rows in [shuffle.permutation(len(data))]
            for begin in range(0, len(rows), options.batch)
        ]
        total, seen = 0.0, 0
        for index in shuffle.permutation(len(batches)):
            length, rows = batches[index]
            batch = examples[length][torch.from_numpy(rows)]
            with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
                log_probs = network(batch[:, 0])
            loss = functional.nll_loss(log_probs.flatten(0, 1), batch[:, 1].flatten())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            total, seen = total + float(loss.detach()) * batch[:, 1].numel(), seen + batch[:, 1].numel()
        report(f"network, epoch {epoch + 1} of {options.epochs}: {total / seen:.4f} nats a letter")
    return network.eval()
