"""The interface of ctcdecode (https://github.com/parlance/ctcdecode) over this package's beam search.

For programs written for that library, which no longer builds: change ``from ctcdecode import …`` to
``from asr.ctcdecode import …``. Argument names, shapes and the sign of scores are the same. What differs:

- ``model_path`` is an ARPA file, compressed or not, or a file from ``asr lm build``; not KenLM's binaries.
- With a language model, texts that differ only by spaces in a row are one, and words that the model
  does not know are possible, at the cost of its ``<unk>``.
- ``num_processes`` are threads: the search releases the interpreter's lock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("asr.ctcdecode needs torch: pip install 'asr-stream[torch]'", name="torch") from error

from asr.errors import ConfigError, DataError
from asr.lm import LanguageModel
from asr.lm.build import build_from_arpa
from asr.search.beam import BeamDecoder
from asr.search.decoder import DecoderOptions, Hypothesis
from asr.text.tokens import BLANK, Tokenizer

Decoded = tuple[Tensor, Tensor, Tensor, Tensor]


class _Labels:
    """Labels in any order, as tokens with the blank first."""

    def __init__(self, labels: Sequence[str], blank_id: int, lower: bool) -> None:
        if not 0 <= blank_id < len(labels):
            raise ConfigError(f"blank_id {blank_id} is not within the {len(labels)} labels")
        self.order = [blank_id, *(i for i in range(len(labels)) if i != blank_id)]
        names = [labels[i].lower() if lower else labels[i] for i in self.order[1:]]
        self.tokenizer = Tokenizer([BLANK, *names])


class CTCBeamDecoder:
    """Decodes whole utterances.

    Args:
        labels: what the columns of the probabilities stand for; ``" "`` is the space between words.
        model_path: a language model, or None.
        alpha: its weight.
        beta: added per word, with a language model.
        cutoff_top_n: only so many of a step's likeliest labels extend a hypothesis.
        cutoff_prob: and only so many that their probabilities add up to this.
        beam_width: hypotheses kept per step.
        num_processes: utterances decoded at the same time.
        blank_id: which label is CTC's blank.
        log_probs_input: the probabilities are natural logs.
    """

    def __init__(
        self,
        labels: Sequence[str],
        model_path: str | Path | None = None,
        alpha: float = 0,
        beta: float = 0,
        cutoff_top_n: int = 40,
        cutoff_prob: float = 1.0,
        beam_width: int = 100,
        num_processes: int = 4,
        blank_id: int = 0,
        log_probs_input: bool = False,
    ) -> None:
        self._lm = _load_lm(Path(model_path)) if model_path else None
        self._labels = _Labels(labels, blank_id, self._lm is not None)
        self._cutoff_top_n, self._cutoff_prob = cutoff_top_n, cutoff_prob
        self._num_processes = max(1, num_processes)
        self._log_probs_input = log_probs_input
        self._beam_width = beam_width
        self.reset_params(alpha, beta)

    def reset_params(self, alpha: float, beta: float) -> None:
        """Change the language model's weight and what is added per word."""
        self._options = DecoderOptions(
            beam=self._beam_width,
            alpha=alpha,
            beta=beta,
            oov_penalty=0.0,
            blank_ceiling=1.0,
            token_floor=-math.inf,
            beam_range=math.inf,
            max_delay_steps=1_000_000,
        )

    def decode(self, probs: Tensor, seq_lens: Tensor | None = None) -> Decoded:
        """Decode a batch.

        Args:
            probs: ``(batch, steps, labels)``.
            seq_lens: ``(batch,)`` number of valid steps of each; all by default.

        Returns:
            ``beam_results`` ``(batch, beam_width, steps)`` int32 labels, best first;
            ``beam_scores`` ``(batch, beam_width)`` negative natural logs, least first;
            ``timesteps`` like ``beam_results``, the step at which each label begins;
            ``out_lens`` ``(batch, beam_width)`` the number of labels. What lies beyond is undefined.
        """
        rows = self._rows(probs)
        lengths = [len(rows[0])] * len(rows) if seq_lens is None else [int(n) for n in seq_lens]
        if len(lengths) != len(rows):
            raise DataError(f"seq_lens has {len(lengths)} entries for a batch of {len(rows)}")

        def decode_one(index: int) -> list[Hypothesis]:
            decoder = self._make()
            decoder.accept(rows[index][: lengths[index]])
            return decoder.finals(self._beam_width)

        with ThreadPoolExecutor(self._num_processes) as pool:
            return self._pack(list(pool.map(decode_one, range(len(rows)))), probs.shape[1])

    def character_based(self) -> bool | None:
        """Whether the language model's units are characters: here they are words."""
        return None if self._lm is None else False

    def max_order(self) -> int | None:
        """Words in the language model's longest n-grams."""
        return None if self._lm is None else self._lm.order

    def dict_size(self) -> int | None:
        """Words that the language model knows."""
        return None if self._lm is None else self._lm.counts[0]

    def _make(self) -> BeamDecoder:
        return BeamDecoder(self._options, self._labels.tokenizer, self._lm, join_spaces=False)

    def _rows(self, probs: Tensor) -> list[np.ndarray]:
        """Log probabilities of each utterance, the blank first, what is cut off at minus infinity."""
        if probs.ndim != 3 or probs.shape[2] != len(self._labels.order):
            raise DataError(f"probs must be (batch, steps, {len(self._labels.order)}), not {tuple(probs.shape)}")
        values = probs.detach().cpu().double().numpy()
        if not np.isfinite(values).all() and (np.isnan(values).any() or not self._log_probs_input):
            raise DataError("probs holds values that are not numbers: check the model's output")
        with np.errstate(divide="ignore"):
            logs = values if self._log_probs_input else np.log(values)
        logs = logs[:, :, self._labels.order]
        ranked = -np.sort(-logs, axis=2)
        cumulated = np.cumsum(np.exp(ranked), axis=2)
        # The label that reaches the cut-off is still kept.
        kept = np.minimum((cumulated < self._cutoff_prob).sum(axis=2) + 1, min(self._cutoff_top_n, logs.shape[2]))
        least = np.take_along_axis(ranked, kept[:, :, None] - 1, axis=2)
        blank = logs[:, :, :1].copy()
        logs = np.where(logs >= least, logs, -np.inf)
        logs[:, :, :1] = blank
        return list(logs)

    def _pack(self, decoded: list[list[Hypothesis]], steps: int) -> Decoded:
        shape = len(decoded), self._beam_width
        results, timesteps = (torch.zeros(*shape, steps, dtype=torch.int32) for _ in range(2))
        scores, lengths = torch.zeros(shape), torch.zeros(shape, dtype=torch.int32)
        order = self._labels.order
        for i, hypotheses in enumerate(decoded):
            scores[i] = math.inf
            for j, hypothesis in enumerate(hypotheses):
                n = len(hypothesis.tokens)
                results[i, j, :n] = torch.tensor([order[token] for token in hypothesis.tokens], dtype=torch.int32)
                timesteps[i, j, :n] = torch.tensor(hypothesis.steps, dtype=torch.int32)
                scores[i, j], lengths[i, j] = -hypothesis.score, n
        return results, scores, timesteps, lengths


class DecoderState:
    """What an `OnlineCTCBeamDecoder` knows of one stream. Use one per stream, from its first chunk to its last."""

    def __init__(self, decoder: OnlineCTCBeamDecoder) -> None:
        self._decoder = decoder._make()


class OnlineCTCBeamDecoder(CTCBeamDecoder):
    """Decodes streams chunk by chunk; the arguments are those of `CTCBeamDecoder`."""

    def decode(  # type: ignore[override]
        self, probs: Tensor, states: Sequence[DecoderState], is_eos_s: Sequence[bool], seq_lens: Tensor | None = None
    ) -> Decoded:
        """Take the next chunk of each stream.

        Args:
            probs: ``(batch, steps, labels)``.
            states: the streams' states, which are changed.
            is_eos_s: whether each stream ends with this chunk.
            seq_lens: ``(batch,)`` number of valid steps of each; all by default.

        Returns:
            As `CTCBeamDecoder.decode`, of all chunks so far; the results are as long as the longest.
        """
        rows = self._rows(probs)
        lengths = [len(rows[0])] * len(rows) if seq_lens is None else [int(n) for n in seq_lens]
        if not len(rows) == len(states) == len(is_eos_s) == len(lengths):
            raise DataError("probs, states, is_eos_s and seq_lens must be of the same batch")

        def decode_one(index: int) -> list[Hypothesis]:
            decoder = states[index]._decoder
            decoder.accept(rows[index][: lengths[index]])
            return decoder.finals(self._beam_width) if is_eos_s[index] else decoder.ranked(self._beam_width)

        with ThreadPoolExecutor(self._num_processes) as pool:
            decoded = list(pool.map(decode_one, range(len(rows))))
        longest = max((len(h.tokens) for hypotheses in decoded for h in hypotheses), default=0)
        return self._pack(decoded, longest)


def _load_lm(path: Path) -> LanguageModel:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise DataError(f"cannot read the language model {path}: {error.strerror}") from error
    # Eight bytes of length and then a brace begin a safetensors file.
    if start[8:9] == b"{":
        return LanguageModel.load(path)
    return build_from_arpa(path, lambda _: None)[0]
