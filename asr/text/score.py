"""Word and character error counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorCount:
    """Edits that turn hypotheses into references, over ``length`` reference items."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference item; 0 when there is neither reference nor error."""
        if self.length:
            return self.errors / self.length
        return float("inf") if self.errors else 0.0

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )


def count_errors(reference: Sequence[object], hypothesis: Sequence[object]) -> ErrorCount:
    """The fewest edits between two sequences (Levenshtein), split by kind.

    Pass ``text.split()`` for words, or the text itself for characters.
    """
    # Each cell holds (errors, substitutions, deletions, insertions); ties prefer substitutions.
    row = [(j, 0, 0, j) for j in range(len(hypothesis) + 1)]
    for i, wanted in enumerate(reference, start=1):
        diagonal, row[0] = row[0], (i, 0, i, 0)
        for j, got in enumerate(hypothesis, start=1):
            above, left = row[j], row[j - 1]
            if wanted == got:
                best = diagonal
            else:
                e, s, d, n = diagonal
                best = (e + 1, s + 1, d, n)
                if above[0] + 1 < best[0]:
                    best = (above[0] + 1, above[1], above[2] + 1, above[3])
                if left[0] + 1 < best[0]:
                    best = (left[0] + 1, left[1], left[2], left[3] + 1)
            diagonal, row[j] = above, best
    _, substitutions, deletions, insertions = row[-1]
    return ErrorCount(substitutions, deletions, insertions, len(reference))


def right_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """For each word of a hypothesis, whether it stands at its place in the reference (least-edit alignment)."""
    rows = [list(range(len(hypothesis) + 1))]
    for i, wanted in enumerate(reference, start=1):
        above, row = rows[-1], [i]
        for j, got in enumerate(hypothesis, start=1):
            row.append(min(above[j - 1] + (wanted != got), above[j] + 1, row[j - 1] + 1))
        rows.append(row)
    right = [False] * len(hypothesis)
    i, j = len(reference), len(hypothesis)
    while i and j:
        same = reference[i - 1] == hypothesis[j - 1]
        if rows[i][j] == rows[i - 1][j - 1] + (not same):
            i, j = i - 1, j - 1
            right[j] = same
        elif rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return right


def count_word_errors(reference: str, hypothesis: str) -> ErrorCount:
    return count_errors(reference.split(), hypothesis.split())
