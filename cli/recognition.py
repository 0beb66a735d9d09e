"""Arguments of every command that recognises speech: the model, the search, and words to expect."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.search.hotwords import HotWord


def add_model_arguments(command: argparse.ArgumentParser) -> None:
    """Add ``--model`` and ``--pronunciations``: what `asr.load` takes."""
    command.add_argument("--model", metavar="DIR", help="model folder (default: english, the one that comes with asr)")
    command.add_argument(
        "--pronunciations",
        type=Path,
        metavar="FILE",
        help="text file of how words are said, a word and its phonemes a line, as in `tomato T AH M AA T OW`; these go "
        "before the model's own",
    )


def add_beam_argument(command: argparse.ArgumentParser) -> None:
    """Add ``--beam``."""
    command.add_argument("--beam", type=int, metavar="N", help="hypotheses kept per step; 0 decodes greedily")


def add_recognition_arguments(command: argparse.ArgumentParser) -> None:
    """Add ``--model``, ``--pronunciations``, ``--beam`` and ``--hot-word``."""
    add_model_arguments(command)
    add_beam_argument(command)
    command.add_argument(
        "--hot-word",
        action="append",
        default=[],
        metavar="PHRASE[:BOOST]",
        help="a word or phrase to expect; may be given several times",
    )


def add_writing_arguments(command: argparse.ArgumentParser) -> None:
    """Add ``--written``, ``--spoken`` and ``--replace``."""
    command.add_argument(
        "--written",
        action="store_true",
        default=True,
        help="write sentences, capitals, numbers, dates and money as one writes them (the default)",
    )
    command.add_argument(
        "--spoken", dest="written", action="store_false", help="write plain words, just as they were heard"
    )
    command.add_argument(
        "--replace", type=Path, metavar="FILE", help="replacements, a line each: spoken words => what to write"
    )


def parse_hot_word(text: str) -> HotWord:
    """A hot word from ``PHRASE`` or ``PHRASE:BOOST``."""
    from asr.search.hotwords import DEFAULT_BOOST, HotWord

    phrase, colon, boost = text.rpartition(":")
    if not colon:
        return HotWord(text, DEFAULT_BOOST)
    try:
        return HotWord(phrase, float(boost))
    except ValueError:
        raise ConfigError(f"hot word {text!r}: {boost!r} is no number; write PHRASE or PHRASE:BOOST") from None
