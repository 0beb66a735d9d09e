"""Greedy scoring of whole utterances in batches: the fast look that training takes at its dev sets."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from asr.network.model import AcousticModel
from asr.text.score import ErrorCount, count_errors, count_word_errors
from asr.text.tokens import Tokenizer
from asr.train.batches import Batch
from asr.train.targets import Targets


def greedy_text(best: Tensor, tokenizer: Tokenizer) -> str:
    """Text of the best token per step, ``(T,)``: repeats merged, blanks dropped, spaces tidied."""
    return " ".join(tokenizer.decode(torch.unique_consecutive(best).tolist()).split())


@torch.inference_mode()
def score_batches(
    model: AcousticModel,
    batches: Iterable[tuple[list[int], list[str], Batch]],
    targets: Targets,
    pieces: Tokenizer | None,
    bf16: bool,
) -> dict[str, ErrorCount]:
    """Errors of greedy decoding: ``tokens`` of the first output, and ``words`` of word pieces or else of letters."""
    device, delay, count = model.output.weight.device, model.options.delay, len(targets.tokenizer)
    tokens, words = ErrorCount(), ErrorCount()
    for indices, references, batch in batches:
        frames = batch.frames.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = model(frames, model.initial_state(len(indices)))[0][:, delay:]
        first = logits[:, :, :count].argmax(dim=-1).cpu()
        last = first if pieces is None else logits[:, :, count:].argmax(dim=-1).cpu()
        for row, reference in enumerate(references):
            steps = int(batch.steps[row])
            if expected := targets.encode(reference):
                ids = torch.unique_consecutive(first[row, :steps]).tolist()
                tokens += count_errors(expected, [i for i in ids if i != targets.tokenizer.blank])
            words += count_word_errors(reference, greedy_text(last[row, :steps], pieces or targets.tokenizer))
    return {"tokens": tokens, "words": words}
