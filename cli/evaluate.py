"""``asr evaluate MODEL MANIFEST…``: word error rates."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.before_work import refuse_unwritable
from asr.cli.corpora import add_corpus_arguments
from asr.cli.recognition import add_beam_argument

if TYPE_CHECKING:
    from asr.evaluate import Score


def add_arguments(commands: Any) -> None:
    """Add this subcommand."""
    command = commands.add_parser(
        "evaluate",
        help="print word error rates of a model",
        description="Score a model on corpora: WER, CER, errors by kind and real-time factor, one corpus a line.",
    )
    command.add_argument("model", metavar="MODEL", help="model folder, or `english` for the one that comes with asr")
    add_corpus_arguments(command)
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="write references and hypotheses, a JSON object a line"
    )
    add_beam_argument(command)
    command.add_argument("--no-lm", action="store_true", help="search without the language model")
    command.add_argument("--precision", choices=["int8", "float32"], default="int8")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score each corpus, then print the table."""
    from tqdm import tqdm

    import asr
    from asr.evaluate import Score, evaluate
    from asr.search.decoder import with_beam
    from asr.train.corpus import SampleCache, read_corpus
    from asr.train.corpus_names import named_corpora

    if options.output is not None:
        refuse_unwritable(options.output)
    recognizer = asr.load(options.model, options.precision)
    decoding = with_beam(recognizer.bundle.decoding, options.beam)
    if options.no_lm:
        decoding = replace(decoding, alpha=0.0)
    recognizer.warm_up()  # before the clock runs
    scores: dict[str, Score] = {}
    rows: list[str] = []
    for name, path in named_corpora(options.corpora).items():
        utterances = read_corpus(path)
        cache = SampleCache(path, utterances, recognizer.sample_rate_hz, options.cache)
        score = Score()
        results = evaluate(recognizer, [(u.id, u.text) for u in utterances], cache.__getitem__, decoding)
        for one in tqdm(results, desc=name, total=len(utterances), disable=not sys.stderr.isatty(), leave=False):
            score = score.add(one)
            rows.append(
                json.dumps({"corpus": name, "id": one.id, "reference": one.reference, "hypothesis": one.hypothesis})
            )
        scores[name] = score
    print(table(scores))
    if options.output is not None:
        options.output.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return 0


def table(scores: Mapping[str, Score]) -> str:
    """A table of scores, a corpus a line, and a line for all of them."""
    from asr.evaluate import Score

    total = Score()
    for score in scores.values():
        total = Score(
            total.utterances + score.utterances,
            total.words + score.words,
            total.characters + score.characters,
            total.audio_s + score.audio_s,
            total.cpu_s + score.cpu_s,
        )
    width = max([26, *(len(name) + 1 for name in scores)])
    lines = [
        f"{'corpus':<{width}}{'utts':>6}{'words':>8}{'WER %':>8}{'CER %':>8}{'ins':>6}{'del':>6}{'sub':>6}{'RTF':>8}"
    ]
    for name, s in [*scores.items(), *([("all", total)] if len(scores) > 1 else [])]:
        w = s.words
        lines.append(
            f"{name:<{width}}{s.utterances:>6}{w.length:>8}{100 * w.rate:>8.2f}{100 * s.characters.rate:>8.2f}"
            f"{w.insertions:>6}{w.deletions:>6}{w.substitutions:>6}{s.real_time_factor:>8.4f}"
        )
    return "\n".join(lines)
