"""What is written for a stretch of words: what the stages of the written form pass on."""

from __future__ import annotations

from typing import NamedTuple


class Token(NamedTuple):
    """A piece of written text."""

    text: str
    words: int  # that it stands for
    replaced: bool = False  # as a user wants it: no stage changes its letters
