"""Arguments of commands that go through corpora."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_corpus_arguments(command: argparse.ArgumentParser) -> None:
    """Add the corpora and ``--cache``."""
    command.add_argument(
        "corpora",
        nargs="+",
        type=Path,
        metavar="MANIFEST",
        help="manifest (.jsonl beside a .tar) or LibriSpeech-style folder",
    )
    command.add_argument(
        "--cache", type=Path, default=Path(".cache"), metavar="DIR", help="folder for decoded samples (default: .cache)"
    )
