"""Users' own replacements: *open a i* is written *OpenAI*."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from asr.errors import ConfigError, DataError
from asr.written.words import LONGEST, Words

_MOST = 10_000  # rules of one stream


@dataclass(frozen=True)
class Replacement:
    """What is said or written, and what to write for it."""

    spoken: str  # whole words; with a capital in it, only what is written just so
    written: str  # to the letter

    def __post_init__(self) -> None:
        words = self.spoken.split()
        if not words or not self.written.strip():
            raise ConfigError(f"replacement {self.spoken!r} => {self.written!r}: needs words on both sides")
        if len(words) >= LONGEST:
            raise ConfigError(f"replacement {self.spoken[:40]!r}: at most {LONGEST - 1} words")
        object.__setattr__(self, "spoken", " ".join(words))
        object.__setattr__(self, "written", " ".join(self.written.split()))


class Replacements:
    """Rules, found by their first word. Never changes."""

    def __init__(self, rules: Iterable[Replacement]) -> None:
        """Of two rules for the same words the later one holds. Raises ConfigError for too many."""
        chosen = {rule.spoken: rule for rule in rules}
        if len(chosen) > _MOST:
            raise ConfigError(f"{len(chosen)} replacements: at most {_MOST} can be given")
        self._by_first: dict[str, list[tuple[list[str], str]]] = {}
        for rule in chosen.values():
            words = rule.spoken.split()
            self._by_first.setdefault(words[0].lower(), []).append((words, rule.written))
        for found in self._by_first.values():
            found.sort(key=lambda entry: -len(entry[0]))

    def __bool__(self) -> bool:
        return bool(self._by_first)

    def find(self, words: Words, at: int) -> tuple[str, int] | None:
        """What to write for the longest phrase that stands here, and how many words that is."""
        for phrase, written in self._by_first.get(words[at].lower(), ()):
            if all(_same(wanted, words[at + k]) for k, wanted in enumerate(phrase)):
                return written, len(phrase)
        return None


def make_replacements(pairs: Iterable[tuple[str, str]]) -> tuple[Replacement, ...]:
    """Replacements from pairs of what is said and what is written. Raises ConfigError for a pair that cannot be used,
    or too many."""
    rules = tuple(Replacement(spoken, written) for spoken, written in pairs)
    Replacements(rules)
    return rules


def _same(wanted: str, word: str) -> bool:
    return word == wanted or (wanted.islower() and word.lower() == wanted)


def read_replacements(path: Path) -> tuple[Replacement, ...]:
    """Replacements from a text file: ``spoken => written`` or the two with a tab between, a line each; # comments.

    Raises DataError that names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}. The file must be text in UTF-8") from error
    rules = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = re.split(r"\s=>\s|\t", line.strip(), maxsplit=1)
        if len(parts) != 2:
            raise DataError(f"{path}:{number}: write `spoken => written`, or the two with a tab between")
        try:
            rules.append(Replacement(*parts))
        except ConfigError as error:
            raise DataError(f"{path}:{number}: {error}") from error
    return tuple(rules)
