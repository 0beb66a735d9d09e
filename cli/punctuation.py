"""``asr punctuation``: make and measure a model of punctuation and capitals."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.before_work import need_packages, refuse_unwritable
from asr.cli.timed_report import timed_report

if TYPE_CHECKING:
    from asr.lm import LanguageModel


def add_arguments(commands: Any) -> None:
    """Add this subcommand and its own."""
    command = commands.add_parser(
        "punctuation",
        help="make or measure a model of punctuation",
        description="Train the model that sets punctuation and capitals in the written form, or measure one.",
    )
    actions = command.add_subparsers(title="actions", required=True, metavar="ACTION")
    train = actions.add_parser(
        "train",
        help="train a model",
        description="Train on text with punctuation and capitals. Put the result into a model folder as "
        "punctuation.safetensors. Interrupt it at any time: the same command goes on. Once it is done, the same "
        "command trains anew and replaces the result.",
    )
    train.add_argument("output", type=Path, metavar="OUT", help="file to write, e.g. punctuation.safetensors")
    train.add_argument(
        "text",
        nargs="+",
        metavar="TEXT[=SHARE]",
        help="text files, plain or .gz, .bz2, .xz; shares of what is trained on, as 0.2: others have the rest",
    )
    train.add_argument("--steps", type=int, default=5_000, metavar="N", help="of 8,192 words each (default: 5000)")
    train.add_argument(
        "--start", type=Path, metavar="MODEL", help="go on from this punctuation.safetensors, on text of your own say"
    )
    train.add_argument(
        "--lookahead", type=int, metavar="N", help="words after each that are read first (default: the start's, or 4)"
    )
    train.add_argument(
        "--lm",
        type=Path,
        metavar="FILE",
        help="the lm.safetensors that will lie beside the model: it gives hints where sentences end (default: none, "
        "or that beside the start, if the start reads one)",
    )
    train.add_argument("--layers", type=int, metavar="N", help="LSTMs (default: the start's, or 2)")
    train.add_argument(
        "--most-words", type=int, default=20_000_000, metavar="N", help="read of each text (default: 20000000)"
    )
    train.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help="its peak (default: 0.003, and half of it from a start)",
    )
    train.add_argument(
        "--kernels",
        choices=("torch", "native"),
        default="torch",
        help="native: faster, for CPUs with AMX or AVX-512 BF16 (default: torch)",
    )
    train.set_defaults(run=run_train)
    score = actions.add_parser(
        "score",
        help="print precision and recall on text",
        description="Set marks and capitals on a text's words, and compare them with the text's own.",
    )
    score.add_argument("model", type=Path, metavar="MODEL", help="a punctuation.safetensors")
    score.add_argument(
        "--lm", type=Path, metavar="FILE", help="its language model (default: lm.safetensors beside the model)"
    )
    score.add_argument("text", nargs="+", type=Path, metavar="TEXT", help="text files that it was not trained on")
    score.add_argument("--most-words", type=int, default=50_000, metavar="N", help="read of each text (default: 50000)")
    score.add_argument(
        "--held-out", action="store_true", help="only the lines that `asr punctuation train` leaves out of every text"
    )
    score.set_defaults(run=run_score)


def run_train(options: argparse.Namespace) -> int:
    """Train a model and write it."""
    need_packages("torch")
    refuse_unwritable(options.output)
    from asr import heap
    from asr.errors import ConfigError
    from asr.lm import LanguageModel
    from asr.train.marked_text import TRAINED, MarkedTextReader
    from asr.train.punctuation import PunctuationOptions, PunctuationTrainer, shared
    from asr.written.punctuation import Punctuation

    lm = LanguageModel.load(options.lm) if options.lm else None
    start = None
    if options.start:
        start = Punctuation.load(options.start, lm or _lm_beside(options.start))
        lm = lm or (start.lm if start.reads_hints else None)
    lookahead, layers, peak = options.lookahead, options.layers, options.learning_rate
    if lookahead is None:
        lookahead = start.lookahead if start else PunctuationOptions.lookahead
    if layers is None:
        layers = start.layers if start else PunctuationOptions.layers
    if peak is None:
        peak = PunctuationOptions.learning_rate / (2 if start else 1)
    settings = PunctuationOptions(
        steps=options.steps,
        kernels=options.kernels,
        lookahead=lookahead,
        layers=layers,
        learning_rate=peak,
    )
    reader, report = MarkedTextReader(), timed_report()
    texts = []
    for argument in options.text:
        name, equals, share = argument.rpartition("=")
        try:
            given = float(share) if equals else None
        except ValueError:
            raise ConfigError(f"{argument}: {share!r} is no number; write TEXT or TEXT=SHARE") from None
        text = reader.read(Path(name if equals else argument), options.most_words, TRAINED)
        report(f"{name or argument}: {len(text.words):,} words")
        texts.append((text, given))
    heap.keep_all()
    PunctuationTrainer(options.output, shared(texts), reader.forms, settings, start, lm).run(report)
    report(f"wrote {options.output}, {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


def _lm_beside(model: Path) -> LanguageModel | None:
    """The language model in a model's folder."""
    from asr.bundle import LM_FILE
    from asr.lm import LanguageModel

    path = model.with_name(LM_FILE)
    return LanguageModel.load(path) if path.exists() else None


def run_score(options: argparse.Namespace) -> int:
    """Measure a model on each text."""
    from asr.lm import LanguageModel
    from asr.train.marked_text import HELD_OUT, MarkedTextReader
    from asr.train.punctuation_score import score_text
    from asr.written.punctuation import Punctuation

    lm = LanguageModel.load(options.lm) if options.lm else _lm_beside(options.model)
    model = Punctuation.load(options.model, lm)
    for path in options.text:
        reader = MarkedTextReader()
        text = reader.read(path, options.most_words, HELD_OUT if options.held_out else None)
        print(f"{path}: {len(text.words):,} words")
        print(score_text(model, text, reader.forms).table())
    return 0
