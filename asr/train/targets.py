"""What the first output learns to write of a transcript: its letters, or the phonemes of its words."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Protocol

from asr.lexicon.lexicon import read_lexicon
from asr.lexicon.phonemes import TOKENS
from asr.network.shape import FRAME_REDUCTION
from asr.text.tokens import Tokenizer
from asr.train.config import Config
from asr.train.phone_graph import PhoneGraph, Word


class Targets(Protocol):
    """A transcript as token ids."""

    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of a normalised text; none if it cannot be written with them, or is empty."""

    def graph(self, text: str) -> PhoneGraph | None:
        """All ways of saying a text, where there may be several."""


def can_be_learned(targets: Targets, text: str, seconds: float, config: Config) -> bool:
    """Whether an utterance is neither too short nor too long, can be written, and has steps enough for CTC."""
    tokens = targets.encode(text)
    if not tokens and text:
        return False  # with a word that these tokens cannot write; without any, there is nothing to write
    # CTC needs a step per token and one more between two that are equal.
    needed = len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
    step_s = FRAME_REDUCTION * config.features.hop_ms / 1000
    fits = needed * step_s <= seconds / (1 + config.augment.tempo)
    return fits and config.data.min_s <= seconds <= config.data.max_s


class LetterTargets:
    """Every character is a token."""

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.english_characters()

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def graph(self, text: str) -> None:
        return None


class PhonemeTargets:
    """Every word is any of its pronunciations, or where only one can be, the first.

    Args:
        path: text file of pronunciations (docs/lexicon.md), the most usual of a word first.
    """

    def __init__(self, path: Path) -> None:
        self.tokenizer = Tokenizer(TOKENS)
        self._words: dict[str, Word] = dict(read_lexicon(path))

    def encode(self, text: str) -> list[int]:
        words = text.split()
        if any(word not in self._words for word in words):
            return []
        return [phoneme for word in words for phoneme in self._words[word][0]]

    def graph(self, text: str) -> PhoneGraph:
        return PhoneGraph.of([self._words[word] for word in text.split()])
