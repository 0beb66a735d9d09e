"""The model that training began with, as a teacher: `[training] stay`.

A network whose ways are changed (four bits a weight, two steps taken as one) finds back sooner if it is asked, beside
what is right, to say what it said before: how sure it was, and of what else, is more than a transcript tells.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.bundle import load_bundle
from asr.network.model import AcousticModel
from asr.network.quantized import QuantizedModel


class Former:
    """What a finished model says of frames.

    Args:
        folder: the model's.
        device: where the frames are; on a CPU the 8-bit kernel runs it, in a tenth of the time of a training step.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        bundle = load_bundle(folder)
        self.options = bundle.shape
        self._model: QuantizedModel | AcousticModel
        if device.type == "cpu":
            self._model = QuantizedModel(bundle.shape, bundle.weights)
        else:
            self._model = AcousticModel.of_weights(bundle.shape, bundle.weights).to(device).requires_grad_(False)

    def __call__(self, frames: Tensor) -> Tensor:
        """Logits ``(B, T / 3, outputs)`` of ``(B, T, mels)``, float32."""
        state = self._model.initial_state(len(frames))
        if isinstance(self._model, QuantizedModel):
            return torch.from_numpy(self._model(frames.numpy(), state)[0])  # type: ignore[arg-type]
        with torch.no_grad():
            logits: Tensor = self._model(frames, state)[0]
        return logits.float()


def distance(log_probs: Tensor, to: Tensor, steps: Tensor) -> Tensor:
    """How far log probabilities ``(B, T, tokens)`` are from others that they are drawn to, summed over all steps.

    It is Kullback and Leibler's divergence. ``steps`` are those of each line, ``(B,)``.
    """
    within = torch.arange(to.shape[1], device=to.device) < steps[:, None].to(to.device)
    rows = F.kl_div(log_probs, to, reduction="none", log_target=True).sum(dim=-1)
    return (rows * within).sum()
