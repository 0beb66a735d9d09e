"""Make features that speak of letters from a teacher's features: a second, optional step of distillation.

    python pretrained/recipe/make_teacher_letters.py --input teacher --output teacher_letters MANIFEST.jsonl...

A teacher's features (``make_teacher_features.py``) hold much that has nothing to do with letters, and a
small network spends itself on it. This trains a small convolutional CTC head on them for a few epochs, and
writes the head's hidden layer as the features to learn from: what of the teacher's features matters for
letters. Manifests without features are an error; each gets its rows in the output.
With ``--score MANIFEST`` it says how well the head alone reads a dev set (greedy), whose features it needs.
About five minutes on one core for 20 hours of speech and four epochs.
"""

from __future__ import annotations

import argparse
import functools
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from asr.text.score import ErrorCount, count_errors, count_word_errors
from asr.text.tokens import Tokenizer
from asr.train.batches import plan_epoch
from asr.train.corpus import read_corpus
from asr.train.score_model import greedy_text
from asr.train.teacher import UNIT, TeacherRows

WIDTH = 256  # of the hidden layer, and so of the rows that come out
BATCH_ROWS = 12_000.0  # six minutes of speech, padding included
PEAK_RATE, WARMUP_STEPS, DROPOUT = 2e-3, 100, 0.2
SCALE_UTTERANCES = 20  # of each corpus, for the means and deviations


class Head(nn.Module):
    """Two convolutions of three rows and a linear layer: ``(B, T, dimensions)`` rows to letters."""

    def __init__(self, dimensions: int, tokens: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3 * dimensions, WIDTH), nn.Linear(3 * WIDTH, WIDTH)
        self.first_norm, self.second_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.output = nn.Linear(WIDTH, tokens)

    def hidden(self, rows: Tensor) -> Tensor:
        """``(B, T, WIDTH)``, before its activation: what the student is to learn."""
        x = F.dropout(F.gelu(self.first_norm(self.first(_neighbours(rows)))), DROPOUT, self.training)
        found: Tensor = self.second_norm(self.second(_neighbours(x)))
        return found

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.output(F.dropout(F.gelu(self.hidden(rows)), DROPOUT, self.training))
        return logits


def _neighbours(x: Tensor) -> Tensor:
    """Each row with the one before it and the one after it."""
    x = F.pad(x, (0, 0, 1, 1))
    return torch.cat([x[:, :-2], x[:, 1:-1], x[:, 2:]], dim=-1)


class Rows:
    """The utterances of a manifest and their rows."""

    def __init__(self, manifest: Path, folder: Path, dimensions: int) -> None:
        self.name, self.utterances = manifest.stem, read_corpus(manifest)
        self._rows = TeacherRows(folder, self.name, len(self.utterances), dimensions)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._rows[index].astype(np.float32)) * UNIT

    def length(self, index: int) -> int:
        return len(self._rows[index])

    def trainable(self) -> list[int]:
        """Those with a text that CTC can place."""
        return [i for i, u in enumerate(self.utterances) if u.text and self.length(i) > len(u.text) + 2]

    def text(self, index: int) -> str:
        return self.utterances[index].text


def train(corpora: list[Rows], dimensions: int, epochs: int, tokenizer: Tokenizer) -> Head:
    head = Head(dimensions, len(tokenizer))
    optimiser = torch.optim.AdamW(head.parameters(), PEAK_RATE, weight_decay=0.02)
    items = [(corpus, i) for corpus in corpora for i in corpus.trainable()]
    lengths = np.array([float(corpus.length(i)) for corpus, i in items])
    epoch = functools.partial(plan_epoch, lengths, range(len(items)), BATCH_ROWS, 1, 0)
    plan = [batch for number in range(epochs) for batch in epoch(number, False, 0.0, 0.0)]
    progress = tqdm(plan, desc="head", unit="step")
    for step, batch in enumerate(progress):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * (1 - step / len(plan))
        chosen = [items[k] for line in batch for k in line]
        lines = [corpus[i] for corpus, i in chosen]
        texts = [tokenizer.encode(corpus.text(i)) for corpus, i in chosen]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = head(nn.utils.rnn.pad_sequence(lines, batch_first=True))
        loss = F.ctc_loss(
            F.log_softmax(logits.float(), dim=-1).transpose(0, 1),
            torch.tensor([token for text in texts for token in text]),
            torch.tensor([len(line) for line in lines]),
            torch.tensor([len(text) for text in texts]),
            reduction="sum",
            zero_infinity=True,
        ) / sum(map(len, texts))
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        progress.set_postfix_str(f"loss {float(loss.detach()):.3f}")
    return head.eval()


@torch.no_grad()
def score(head: Head, corpus: Rows, tokenizer: Tokenizer) -> None:
    words, characters = ErrorCount(), ErrorCount()
    for i in corpus.trainable():
        text = greedy_text(head(corpus[i][None])[0].argmax(dim=-1), tokenizer)
        words += count_word_errors(corpus.text(i), text)
        characters += count_errors(corpus.text(i), text)
    print(f"{corpus.name}: WER {100 * words.rate:.2f} %, CER {100 * characters.rate:.2f} %")


@torch.no_grad()
def write(head: Head, corpora: list[Rows], output: Path) -> None:
    rng, sample = np.random.default_rng(0), []
    for corpus in corpora:
        order = [int(i) for i in rng.permutation(len(corpus.utterances)) if corpus.length(int(i))]
        sample += [head.hidden(corpus[i][None])[0] for i in order[:SCALE_UTTERANCES]]
    rows = torch.cat(sample)
    mean, deviation = rows.mean(dim=0), rows.std(dim=0)
    output.mkdir(parents=True, exist_ok=True)
    for corpus in corpora:
        part, ends, total = output / f"{corpus.name}.part", [], 0
        with part.open("wb") as file:
            for i in range(len(corpus.utterances)):
                if corpus.length(i):
                    found = (head.hidden(corpus[i][None])[0] - mean) / deviation
                    file.write((found / UNIT).round().clamp(-127, 127).to(torch.int8).numpy().tobytes())
                    total += len(found)
                ends.append(total)
        os.replace(part, output / f"{corpus.name}.i8")
        np.save(output / f"{corpus.name}.ends.npy", np.array(ends))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--input", type=Path, required=True, help="folder of the teacher's features")
    parser.add_argument("--output", type=Path, required=True, help="folder for the new ones")
    parser.add_argument("--dimensions", type=int, default=288, help="of a row of the input")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--score", type=Path, help="manifest of a dev set")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = Tokenizer.english_characters()
    corpora = [Rows(path, arguments.input, arguments.dimensions) for path in arguments.manifests]
    head = train(corpora, arguments.dimensions, arguments.epochs, tokenizer)
    if arguments.score is not None:
        score(head, Rows(arguments.score, arguments.input, arguments.dimensions), tokenizer)
    write(head, corpora, arguments.output)
    print(f"written to {arguments.output}: [teacher] folder = {str(arguments.output)!r}, dimensions = {WIDTH}")


if __name__ == "__main__":
    main()
