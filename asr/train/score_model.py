"""Greedy scoring of whole utterances in batches: the fast look that training takes at its dev sets."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from asr.model import AcousticModel
from asr.score import ErrorCount, count_errors, count_word_errors
from asr.tokens import Tokenizer
from asr.train.batches import Batch


def greedy_text(best: Tensor, tokenizer: Tokenizer) -> str:
    """Text of the best token per step, ``(T,)``: repeats merged, blanks dropped, spaces tidied."""
    return " ".join(tokenizer.decode(torch.unique_consecutive(best).tolist()).split())


@torch.inference_mode()
def score_batches(
    model: AcousticModel, batches: Iterable[tuple[list[int], list[str], Batch]], tokenizer: Tokenizer, bf16: bool
) -> tuple[dict[int, str], ErrorCount, ErrorCount]:
    """Hypotheses by utterance index, word errors and character errors."""
    device, delay = model.output.weight.device, model.options.delay
    texts: dict[int, str] = {}
    words, characters = ErrorCount(), ErrorCount()
    for indices, references, batch in batches:
        frames = batch.frames.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits, _ = model(frames, model.initial_state(len(indices)))
        # Word pieces, if the model has them, are its last outputs; the tokenizer is then theirs.
        best = logits[:, delay:, -len(tokenizer) :].argmax(dim=-1).cpu()
        for row, (index, reference) in enumerate(zip(indices, references, strict=True)):
            texts[index] = greedy_text(best[row, : int(batch.steps[row])], tokenizer)
            words += count_word_errors(reference, texts[index])
            characters += count_errors(reference, texts[index])
    return texts, words, characters
