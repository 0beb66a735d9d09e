"""A run of training on text: steps of the optimisers, a running average of the weights, a checkpoint to go on from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from asr.errors import ConfigError, DataError
from asr.train.muon import make_muon

_SAVED_S = 240.0  # from one checkpoint to the next


class AveragedRun:
    """Trains a network with Muon and AdamW; its average is what is kept.

    Args:
        model: to train.
        matrices: names of the parameters that Muon takes.
        learning_rate: its peak.
        average_decay: of the running average.
        output: the file that is made in the end; a checkpoint that lies beside it is gone on from.

    Raises ConfigError for a checkpoint that does not fit.
    """

    def __init__(
        self, model: nn.Module, matrices: Sequence[str], learning_rate: float, average_decay: float, output: Path
    ) -> None:
        self.model, self._rate, self._decay = model, learning_rate, average_decay
        self.step = 0
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        named = dict(model.named_parameters())
        chosen = [named.pop(name) for name in matrices]
        self._optimisers: list[torch.optim.Optimizer] = [
            make_muon(chosen, lr=learning_rate, weight_decay=0.01),
            torch.optim.AdamW(list(named.values()), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self._checkpoint = output.with_name(output.name + ".checkpoint.pt")
        if self._checkpoint.exists():
            self._resume()

    def train(
        self,
        steps: int,
        loss_of: Callable[[int], Tensor],
        share_of: Callable[[int], float],
        words: int,
        shown: int,
        report: Callable[[float, float], None],
    ) -> None:
        """Go on to a number of steps.

        Args:
            steps: in all.
            loss_of: a step's loss.
            share_of: a step's share of the peak learning rate.
            words: of text in a step.
            shown: steps from one report to the next.
            report: is told the mean loss, and words a second.
        """
        saved_at = shown_at = time.monotonic()
        total = count = 0.0
        while self.step < steps:
            total += self.learn(loss_of(self.step), share_of(self.step))
            count += 1
            now = time.monotonic()
            if self.step % shown == 0:
                report(total / count, count * words / (now - shown_at))
                total, count, shown_at = 0.0, 0.0, now
            if now - saved_at > _SAVED_S:
                self.save()
                saved_at = now

    def learn(self, loss: Tensor, share: float) -> float:
        """A step down this loss, at this share of the peak learning rate. Raises DataError if it is not finite."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(f"the loss is {value} at step {self.step}: lower the learning rate")
        for group in (group for optimiser in self._optimisers for group in optimiser.param_groups):
            group["lr"] = self._rate * share
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(self._decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value_now in self.model.state_dict().items():
                self.average[name].lerp_(value_now, 1 - decay)
        self.step += 1
        return value

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network has the averaged weights meanwhile."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        yield
        self.model.load_state_dict(before)

    def save(self) -> None:
        """Write the checkpoint; a crash leaves the old one whole."""
        part = self._checkpoint.with_suffix(".part")
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "step": self.step,
        }
        torch.save(state, part)
        os.replace(part, self._checkpoint)

    def done(self) -> None:
        """The checkpoint is not needed any more."""
        self._checkpoint.unlink(missing_ok=True)

    def _resume(self) -> None:
        try:
            saved = torch.load(self._checkpoint, weights_only=True)
            self.model.load_state_dict(saved["model"])
        except (RuntimeError, KeyError, EOFError, UnpicklingError) as error:
            raise ConfigError(f"{self._checkpoint} is of another model or damaged: delete it to begin anew") from error
        self.average, self.step = saved["average"], saved["step"]
        for optimiser, state in zip(self._optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
