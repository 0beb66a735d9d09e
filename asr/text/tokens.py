"""Tokens: what the acoustic model's outputs stand for, and how text becomes a sequence of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import DataError, ModelError

BLANK = "<blank>"
SPACE = "<space>"  # how a space is written in tokens.txt, where a bare one would be lost to editors


class Tokenizer:
    """Maps text to token ids and back, over an ordered list of tokens.

    Token 0 is CTC's blank. Any other token is a string of one or more characters: single characters, or
    word pieces beside them. Encoding takes the longest token that matches; decoding joins strings.
    """

    blank = 0

    def __init__(self, tokens: Sequence[str]) -> None:
        if not tokens or tokens[0] != BLANK:
            raise ModelError(f"the first token must be {BLANK}: is this a tokens.txt of this package?")
        if len(set(tokens)) != len(tokens) or any(not token for token in tokens):
            raise ModelError("tokens must be distinct and not empty: check tokens.txt")
        self.tokens = tuple(tokens)
        self._ids = {token: index for index, token in enumerate(tokens) if index != self.blank}
        self._longest = max((len(token) for token in self._ids), default=0)
        self.alphabet = "".join(dict.fromkeys("".join(self._ids)))  # every character that some token holds, once

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Raises DataError naming the first character that no token can write."""
        ids: list[int] = []
        at = 0
        while at < len(text):
            for size in range(min(self._longest, len(text) - at), 0, -1):
                token = self._ids.get(text[at : at + size])
                if token is not None:
                    ids.append(token)
                    at += size
                    break
            else:
                raise DataError(
                    f"cannot write {text[at]!r} of {text!r} with this model's tokens: normalise the text first"
                )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; blanks are left out."""
        return "".join(self.tokens[index] for index in ids if index != self.blank)

    @classmethod
    def english_characters(cls) -> Tokenizer:
        """Blank, space, apostrophe and a to z: 29 tokens."""
        return cls([BLANK, " ", "'", *"abcdefghijklmnopqrstuvwxyz"])

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read {path}: {error}. Copy the model folder again, with all its files") from error
        return cls([line.replace(SPACE, " ") for line in lines])

    def save(self, path: Path) -> None:
        path.write_text("".join(f"{token.replace(' ', SPACE)}\n" for token in self.tokens), encoding="utf-8")
