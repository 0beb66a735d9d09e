"""Beam search with a language model, side by side with others: CPU time and word errors on the same emissions.

    python benchmarks/decoder.py MANIFEST --minutes 10 \
        --peer flashlight-text=/path/to/venv/bin/python --peer pyctcdecode=…

The shipped model runs once; every decoder then gets its log probabilities, the same language model, as ARPA, and the
same weights, one process and one thread after the other. `score` is the mean over utterances of what all of them look
for: the log probability of the text, exactly, summed over all alignments, plus the
weighted language model. Peers need environments of their own: `pip install flashlight-text ctc-beam-decoder` and
`pip install pyctcdecode kenlm`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from speech import machine

import asr
from asr.lm.arpa import write_arpa
from asr.text.score import ErrorCount, count_word_errors
from asr.train.corpus import SampleCache, read_corpus

WORKER = Path(__file__).with_name("decoder_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="of audio (default: 10)")
    parser.add_argument("--beams", type=int, nargs="+", default=[16, 32, 100])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    peers = dict(peer.split("=", 1) for peer in options.peer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recognizer = asr.load()
        emissions, references, audio_s = prepare(recognizer, folder, options.manifest, options.minutes, options.cache)
        print(f"{machine()}; {options.manifest.stem}: {len(references)} utterances, {audio_s:.0f} s of audio")
        print(f"{'decoder':<18}{'beam':>6}{'ms per s':>10}{'score':>10}{'WER %':>8}")
        for decoder, python in {"asr": sys.executable, "asr-120ms": sys.executable, **peers}.items():
            command = [python, str(WORKER), decoder, str(folder), *map(str, options.beams)]
            result = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
            for line in result.stdout.splitlines():
                row = json.loads(line)
                pairs = zip(references, row["texts"], strict=True)
                errors = sum((count_word_errors(*pair) for pair in pairs), ErrorCount())
                scores = [exact_score(recognizer, *pair) for pair in zip(emissions, row["texts"], strict=True)]
                print(f"{decoder:<18}{row['beam']:>6}{1000 * row['cpu_s'] / audio_s:>10.3f}", end="")
                print(f"{np.mean(scores):>10.3f}{100 * errors.rate:>8.2f}", flush=True)


def prepare(
    recognizer: asr.Recognizer, folder: Path, manifest: Path, minutes: float, cache: Path
) -> tuple[list[np.ndarray], list[str], float]:
    """Write what the decoders read; return emissions, references and the seconds of audio."""
    torch.set_num_threads(1)
    utterances = read_corpus(manifest)
    samples = SampleCache(manifest, utterances, recognizer.sample_rate_hz, cache)
    emissions, references, audio_s = {}, [], 0.0
    for index, utterance in enumerate(utterances):
        audio = samples[index]
        if audio_s + len(audio) / recognizer.sample_rate_hz > 60 * minutes:
            break
        audio_s += len(audio) / recognizer.sample_rate_hz
        emissions[f"{index:06d}"] = recognizer.emissions(audio)
        references.append(utterance.text)
    np.savez(folder / "emissions.npz", **emissions)  # type: ignore[arg-type]
    lm = recognizer.bundle.lm
    if lm is None:
        raise SystemExit("the model has no language model")
    write_arpa(lm.to_table(), folder / "lm.arpa")
    (folder / "words.txt").write_text("\n".join(lm.words[3:]))
    labels = [token.replace(" ", "<space>") for token in recognizer.bundle.tokenizer.tokens]
    (folder / "labels.txt").write_text("\n".join(labels))
    tuned = recognizer.bundle.decoding
    (folder / "weights.json").write_text(
        json.dumps({name: getattr(tuned, name) for name in ("alpha", "beta", "oov_penalty")})
    )
    return list(emissions.values()), references, audio_s


def exact_score(recognizer: asr.Recognizer, log_probs: np.ndarray, text: str) -> float:
    """Natural log of a text's probability, with or without a space at its end, plus the language model's part."""
    bundle = recognizer.bundle
    rows = torch.from_numpy(np.asarray(log_probs, dtype=np.float64))
    losses = []
    for ending in ("", " ") if text else ("",):
        tokens = torch.tensor([bundle.tokenizer.encode(text + ending)])
        lengths = torch.tensor([len(rows)]), torch.tensor([tokens.shape[1]])
        losses.append(-torch.nn.functional.ctc_loss(rows[:, None], tokens, *lengths, reduction="sum"))
    score = float(torch.logsumexp(torch.stack(losses), dim=0))
    assert bundle.lm is not None
    history = ["<s>"]
    for word in text.split():
        score += bundle.decoding.alpha * bundle.lm.score(history, word) + bundle.decoding.beta
        score += 0.0 if word in bundle.lm.ids else bundle.decoding.oov_penalty
        history.append(word)
    return score


if __name__ == "__main__":
    main()
