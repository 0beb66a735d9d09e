"""``asr lexicon``: make a lexicon of words, and the grapheme-to-phoneme model that says those no dictionary has."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from asr.cli.before_work import need_packages, refuse_unwritable
from asr.cli.timed_report import timed_report


def add_arguments(commands: Any) -> None:
    """Add this subcommand and its own."""
    command = commands.add_parser(
        "lexicon",
        help="make or read a pronunciation lexicon",
        description="Make, read or extend the lexicon of a model that hears phonemes: docs/lexicon.md.",
    )
    actions = command.add_subparsers(title="actions", required=True, metavar="ACTION")
    train = actions.add_parser(
        "train-g2p",
        help="train a grapheme-to-phoneme model on the CMU dictionary",
        description="Train the model that says words which no dictionary has. Takes ten minutes to half an hour.",
    )
    train.add_argument("output", type=Path, metavar="OUT", help="file to write, e.g. g2p.safetensors")
    train.add_argument(
        "--epochs", type=int, default=8, metavar="N", help="of the network (default: 8; 0 for n-grams only)"
    )
    train.add_argument(
        "--hold-out",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="share of the word families to leave out and measure the model on (default: 0.05)",
    )
    train.set_defaults(run=run_train)
    build = actions.add_parser(
        "build",
        help="make a lexicon for a list of words",
        description="Pronounce each word: by the files given, the CMU dictionary, a rule, or the grapheme model.",
    )
    build.add_argument("words", type=Path, metavar="WORDS", help="text file, a word a line; what follows it is ignored")
    build.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="lexicon.safetensors, or NAME.txt for people"
    )
    build.add_argument("--g2p", type=Path, metavar="FILE", help="grapheme-to-phoneme model, for words no rule fits")
    build.add_argument(
        "--lexicon",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="text file that goes first; repeatable",
    )
    build.set_defaults(run=run_build)
    say = actions.add_parser("say", help="print how words are pronounced")
    say.add_argument("lexicon", type=Path, metavar="LEXICON", help="lexicon.safetensors, or a text file NAME.txt")
    say.add_argument("word", nargs="+", metavar="WORD")
    say.add_argument("--g2p", type=Path, metavar="FILE", help="grapheme-to-phoneme model, for words no rule fits")
    say.set_defaults(run=run_say)


def run_train(options: argparse.Namespace) -> int:
    """Train, measure and write a model."""
    need_packages("torch")
    refuse_unwritable(options.output)
    from dataclasses import replace

    from asr.errors import ConfigError
    from asr.train.cmudict import load_cmudict
    from asr.train.g2p import G2pOptions, measure_g2p, split_families, train_g2p
    from asr.train.g2p_network import G2pNetworkOptions

    if not 0 <= options.hold_out < 1 or options.epochs < 0:
        raise ConfigError("--hold-out is a share from 0 to less than 1, --epochs a number from 0")
    report = timed_report()
    training, held_out = split_families(load_cmudict(), options.hold_out)
    settings = G2pOptions(network=replace(G2pNetworkOptions(), epochs=options.epochs) if options.epochs else None)
    model = train_g2p(training, settings, report)
    model.save(options.output)
    report(f"wrote {options.output}, {options.output.stat().st_size / 1e6:.2f} MB")
    if held_out:
        print(measure_g2p(model, held_out))
    return 0


def run_build(options: argparse.Namespace) -> int:
    """Pronounce a list of words and write the lexicon."""
    from collections import Counter

    from asr.errors import DataError
    from asr.lexicon.g2p import GraphemeToPhoneme
    from asr.lexicon.lexicon import Lexicon, read_lexicon, write_lexicon
    from asr.lexicon.pronounce import Pronouncer
    from asr.train.cmudict import load_cmudict

    try:
        lines = options.words.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {options.words}: {error}. It must be text, a word a line") from error
    g2p = GraphemeToPhoneme.load(options.g2p) if options.g2p else None
    given = [read_lexicon(path) for path in options.lexicon]
    pronouncer = Pronouncer([*given, load_cmudict()], g2p)
    words = {line.split()[0].lower() for line in lines if line.strip()} | {word for file in given for word in file}
    entries, sources, left = {}, Counter[str](), []
    for word in sorted(words):
        try:
            entries[word], source = pronouncer.pronounce(word)
            sources[source] += 1
        except DataError as error:
            left.append(str(error))
    if not entries:
        raise DataError(f"{options.words} has no word that can be pronounced. {left[0] if left else 'It is empty'}")
    lexicon = Lexicon(entries)
    if options.output.suffix == ".safetensors":
        lexicon.save(options.output)
    else:
        write_lexicon(lexicon, options.output)
    for line in left[:5]:
        print(f"left out: {line}", file=sys.stderr)
    counts = ", ".join(f"{count:,} by {source}" for source, count in sources.most_common())
    size = options.output.stat().st_size / 1e6
    print(
        f"wrote {options.output}, {size:.2f} MB: {len(lexicon):,} words ({counts}), {len(left):,} left out",
        file=sys.stderr,
    )
    return 0


def run_say(options: argparse.Namespace) -> int:
    """Print a line for each pronunciation, which a lexicon file can hold; return 1 if a word has none."""
    from asr.errors import DataError
    from asr.lexicon.g2p import GraphemeToPhoneme
    from asr.lexicon.lexicon import Lexicon, read_lexicon
    from asr.lexicon.phonemes import decode_phonemes
    from asr.lexicon.pronounce import Pronouncer

    path = options.lexicon
    lexicon = Lexicon.load(path) if path.suffix == ".safetensors" else read_lexicon(path)
    pronouncer = Pronouncer([lexicon], GraphemeToPhoneme.load(options.g2p) if options.g2p else None)
    failed = False
    for word in options.word:
        try:
            pronunciations, source = pronouncer.pronounce(word.lower())
        except DataError as error:
            print(f"asr: {error}", file=sys.stderr)
            failed = True
            continue
        for said in pronunciations:
            print(f"{word.lower()}  {decode_phonemes(said)}  # {source}")
    return int(failed)
