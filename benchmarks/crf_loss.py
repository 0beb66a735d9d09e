"""What CTC and CTC-CRF cost a training step: CPU time on one core for a second of audio.

    taskset -c 0 python benchmarks/crf_loss.py

Lines of random phonemes, 12 s each, two pronunciations for one word in four; emissions of an untrained network (nearly
flat) and of a trained one (blanks, spikes where the phonemes are, some of them wrong). Steps of 30 ms.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from asr.train.crf import best_path, crf_loss
from asr.train.phone_graph import PhoneGraph, Word
from asr.train.phone_lm import PHONEMES, PhoneLm

LINES, STEPS, WORDS, STEP_S = 16, 400, 33, 0.03


def cost(work: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of CPU a round."""
    work()
    start = time.process_time()
    for _ in range(rounds):
        work()
    return (time.process_time() - start) / rounds


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    # The most frequent of 39 phonemes are heard far more often than the rest.
    phones = np.minimum(rng.geometric(0.07, 500_000), PHONEMES)
    lm = PhoneLm.estimate(phones)

    def word() -> Word:
        given = [tuple(rng.choice(phones, 4).tolist()) for _ in range(1 + (rng.random() < 0.25))]
        return tuple(dict.fromkeys(given))

    texts = [[word() for _ in range(WORDS)] for _ in range(LINES)]
    graphs = [PhoneGraph.of(words) for words in texts]
    steps = torch.full((LINES,), STEPS)
    flat = 0.3 * torch.randn(LINES, STEPS, PHONEMES + 1)
    trained = 1.5 * torch.randn(LINES, STEPS, PHONEMES + 1)
    trained[:, :, 0] += 6
    for line, words in zip(trained, texts, strict=True):
        spoken = [phone for pronunciations in words for phone in pronunciations[0]]
        for at, phone in zip(np.linspace(2, STEPS - 3, len(spoken)).astype(int), spoken, strict=True):
            line[at, phone if rng.random() < 0.85 else int(rng.integers(1, PHONEMES + 1))] += 8
    seconds = LINES * STEPS * STEP_S
    print(f"{LINES} lines, {seconds:.0f} s of audio, {np.mean([len(g.labels) for g in graphs]):.0f} states a line")
    print(f"{'':34}  ms per s  of real time")
    built = cost(lambda: [PhoneGraph.of(words) for words in texts])
    print(f"{'graphs':34}  {1000 * built / seconds:8.3f}  1/{seconds / built:.0f}")
    for name, logits in (("untrained", flat), ("trained", trained)):
        for what, weight, prune in (("CTC", 0.0, 0.0), ("CTC-CRF", 1.0, 1e-6), ("CTC-CRF, nothing pruned", 1.0, 0.0)):
            spent = cost(lambda x=logits, w=weight, p=prune: crf_loss(x, steps, graphs, lm, w, prune=p))  # type: ignore[misc]
            print(f"{f'{name}: {what}':34}  {1000 * spent / seconds:8.3f}  1/{seconds / spent:.0f}")
    spent = cost(lambda: [best_path(line, graph) for line, graph in zip(trained, graphs, strict=True)])
    print(f"{'trained: alignment':34}  {1000 * spent / seconds:8.3f}  1/{seconds / spent:.0f}")


if __name__ == "__main__":
    main()
