"""``asr lm``: make and measure language models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from asr.cli.before_work import need_packages, refuse_unwritable
from asr.cli.timed_report import timed_report


def add_arguments(commands: Any) -> None:
    """Add this subcommand and its own."""
    command = commands.add_parser(
        "lm",
        help="make or measure a language model",
        description="Make a language model from text or from an ARPA file, or measure one on text.",
    )
    actions = command.add_subparsers(title="actions", required=True, metavar="ACTION")
    build = actions.add_parser(
        "build",
        help="make a language model",
        description="Estimate a model from text (modified Kneser-Ney, pruned to a size), or convert an ARPA file. "
        "Put the result into a model folder as lm.safetensors, then run `asr tune` on that folder.",
    )
    build.add_argument("output", type=Path, metavar="OUT", help="file to write, e.g. lm.safetensors")
    build.add_argument(
        "text",
        nargs="*",
        type=Path,
        metavar="TEXT",
        help="text files, plain or .gz, .bz2, .xz; one named twice counts twice",
    )
    build.add_argument("--arpa", type=Path, metavar="FILE", help="convert this model instead of reading text")
    build.add_argument("--order", type=int, default=3, metavar="N", help="longest n-gram, 1 to 4 (default: 3)")
    build.add_argument("--words", type=int, default=60_000, metavar="N", help="size of the vocabulary (default: 60000)")
    build.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help="take the words of this file, one a line, instead"
    )
    build.add_argument("--least-count", type=int, default=2, metavar="N", help="rarer words stay unknown (default: 2)")
    build.add_argument("--megabytes", type=float, default=12.0, metavar="X", help="size of the result (default: 12)")
    build.add_argument(
        "--hold-out",
        type=int,
        default=0,
        metavar="N",
        help="leave out every Nth sentence and measure the model on these",
    )
    build.add_argument("--write-arpa", type=Path, metavar="FILE", help="also write the model in ARPA format")
    build.set_defaults(run=run_build)
    train = actions.add_parser(
        "train",
        help="train a recurrent language model",
        description="Train the recurrent model that the search asks beside the n-grams, on running text. Put the "
        "result into a model folder as second_lm.safetensors, then run `asr tune` on that folder. Interrupt it at any "
        "time: the same command goes on. Once it is done, the same command trains anew and replaces the result.",
    )
    train.add_argument("output", type=Path, metavar="OUT", help="file to write, e.g. second_lm.safetensors")
    train.add_argument(
        "text", nargs="+", type=Path, metavar="TEXT", help="text files, plain or .gz, .bz2, .xz; named twice: twice"
    )
    train.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help="a word a line, the most frequent first; a start has its own"
    )
    train.add_argument(
        "--words", type=int, default=24_574, metavar="N", help="of that vocabulary at most so many (default: 24574)"
    )
    train.add_argument("--start", type=Path, metavar="MODEL", help="go on from this second_lm.safetensors")
    train.add_argument("--steps", type=int, default=5_000, metavar="N", help="of 8,192 words each (default: 5000)")
    train.add_argument(
        "--learning-rate", type=float, metavar="X", help="its peak (default: 0.002, and half of it from a start)"
    )
    train.add_argument(
        "--kernels",
        choices=("torch", "native"),
        default="torch",
        help="native: faster, for CPUs with AMX or AVX-512 BF16 (default: torch)",
    )
    train.set_defaults(run=run_train)
    export = actions.add_parser("export", help="write a language model in ARPA format")
    export.add_argument("lm", type=Path, metavar="LM", help="a language model file")
    export.add_argument("output", type=Path, metavar="OUT", help="file to write")
    export.set_defaults(run=run_export)
    score = actions.add_parser("score", help="print the perplexity of text files")
    score.add_argument("lm", type=Path, metavar="LM", help="a language model file")
    score.add_argument("text", nargs="+", type=Path, metavar="TEXT")
    score.set_defaults(run=run_score)


def run_build(options: argparse.Namespace) -> int:
    """Make a model and write it."""
    from asr.errors import ConfigError, DataError
    from asr.lm.arpa import write_arpa
    from asr.lm.build import BuildOptions, build_from_arpa, build_from_text

    if bool(options.text) == (options.arpa is not None):
        raise ConfigError("give either text files or --arpa FILE")
    refuse_unwritable(options.output)
    if options.write_arpa is not None:
        refuse_unwritable(options.write_arpa)
    settings = BuildOptions(
        options.order, options.words, options.least_count, options.megabytes, options.hold_out, options.vocabulary
    )
    report = timed_report()
    if options.arpa is not None:
        lm, ngrams = build_from_arpa(options.arpa, report)
    else:
        lm, ngrams = build_from_text(options.text, settings, report)
    try:
        lm.save(options.output)
        if options.write_arpa is not None:
            write_arpa(ngrams, options.write_arpa)
    except OSError as error:
        raise DataError(f"cannot write {error.filename or options.output}: {error.strerror}") from error
    report(f"wrote {options.output}, {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


def run_train(options: argparse.Namespace) -> int:
    """Train a recurrent model and write it."""
    need_packages("torch")
    from asr import heap
    from asr.errors import ConfigError
    from asr.lm.build import read_vocabulary
    from asr.search.second_lm import SecondLm
    from asr.train.second_lm import SecondLmOptions, SecondLmTrainer

    if bool(options.vocabulary) == bool(options.start):
        raise ConfigError("give either --vocabulary FILE or --start MODEL")
    refuse_unwritable(options.output)
    start = SecondLm.load(options.start) if options.start else None
    words = start.words if start else read_vocabulary(options.vocabulary)
    rate = options.learning_rate or SecondLmOptions.learning_rate / (2 if start else 1)
    settings = SecondLmOptions(words=options.words, steps=options.steps, kernels=options.kernels, learning_rate=rate)
    report = timed_report()
    heap.keep_all()
    SecondLmTrainer(options.output, options.text, words, settings, start).run(report)
    report(f"wrote {options.output}, {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write a stored model for other toolkits to read."""
    from asr.errors import DataError
    from asr.lm import LanguageModel
    from asr.lm.arpa import write_arpa

    table = LanguageModel.load(options.lm).to_table()
    try:
        write_arpa(table, options.output)
    except OSError as error:
        raise DataError(f"cannot write {options.output}: {error.strerror}") from error
    return 0


def run_score(options: argparse.Namespace) -> int:
    """Print a line for each text."""
    from asr.lm import LanguageModel
    from asr.lm.build import read_sentences, score_text

    lm = LanguageModel.load(options.lm)
    for path in options.text:
        print(f"{path.name}: {score_text(lm, read_sentences(path))}")
    return 0
