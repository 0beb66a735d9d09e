"""The ARPA text format, in which KenLM, SRILM, IRSTLM and others exchange n-gram models."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from asr.errors import DataError
from asr.lm.table import SPECIAL, UNKNOWN, NgramTable, Order

_LN10 = math.log(10)
_MAGIC: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_NO_UNKNOWN = -100.0 / _LN10  # log10: what toolkits write for a word that the model does not hold
_SAME_CASE = str.maketrans({"\u2019": "'"})


def open_text(path: Path) -> IO[str]:
    """Open a text file, plain or compressed with gzip, bzip2 or xz, whatever its name."""
    try:
        with path.open("rb") as file:
            start = file.read(6)
        for magic, opener in _MAGIC.items():
            if start.startswith(magic):
                return opener(path, "rt", encoding="utf-8")  # type: ignore[no-any-return]
        return path.open(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def read_arpa(path: Path) -> NgramTable:
    """Read an ARPA file, compressed or not.

    Words are lower-cased; of words that then coincide, the likelier is kept. N-grams whose context is
    missing from the file (some toolkits prune so) get it, at its backed-off probability.

    Raises:
        DataError: that names the file and the line that is wrong.
    """
    with open_text(path) as file:
        try:
            return _Reader(path, file).read()
        except (UnicodeDecodeError, EOFError, OSError, lzma.LZMAError) as error:
            raise DataError(f"cannot read {path}: {error}. Is it an ARPA file? Convert a binary model back") from error


class _Reader:
    """One pass over the file."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path = path
        self.lines: Iterator[tuple[int, str]] = enumerate((line.strip() for line in file), 1)
        self.ids: dict[str, int] = {word: index for index, word in enumerate(SPECIAL)}

    def fail(self, number: int, problem: str) -> DataError:
        return DataError(f"{self.path}, line {number}: {problem}")

    def read(self) -> NgramTable:
        counts = self._read_counts()
        log_prob = {0: _NO_UNKNOWN, 1: _NO_UNKNOWN, 2: _NO_UNKNOWN}
        backoff: dict[int, float] = {}
        for number, words, value, weight in self._section(1):
            word = self.ids.setdefault(_fold(words[0]), len(self.ids))
            if value > log_prob.get(word, -math.inf) or word < len(SPECIAL):
                log_prob[word], backoff[word] = value, weight
            if value > 0:
                raise self.fail(number, f"a probability above 1 (log10 {value})")
        size = len(self.ids)
        unigrams = Order(
            np.zeros(size, dtype=np.int64),
            np.arange(size),
            _LN10 * np.array([log_prob[i] for i in range(size)]),
            _LN10 * np.array([backoff.get(i, 0.0) for i in range(size)]),
        )
        table = NgramTable(tuple(self.ids), (unigrams,))
        for n in range(2, len(counts) + 1):
            table = self._add_order(table, n)
        return table

    def _read_counts(self) -> list[int]:
        for _, line in self.lines:
            if line == "\\data\\":
                break
        else:
            raise DataError(f"{self.path}: no \\data\\ section: this is no ARPA file")
        counts: list[int] = []
        for number, line in self.lines:
            if line == "\\1-grams:":
                break
            if line.startswith("ngram "):
                try:
                    counts.append(int(line.partition("=")[2]))
                except ValueError:
                    raise self.fail(number, f"a count that is no number: {line!r}") from None
        if not counts:
            raise DataError(f"{self.path}: no n-gram counts in the \\data\\ section: the file is damaged")
        self.counts = counts
        return counts

    def _section(self, n: int) -> Iterator[tuple[int, list[str], float, float]]:
        """Line number, words, log10 probability and log10 back-off weight of each n-gram of a section."""
        seen = 0
        for number, line in self.lines:
            if not line:
                continue
            if line[0] == "\\" and (line == "\\end\\" or line.endswith("-grams:")):
                break
            fields = line.split()
            if len(fields) not in (n + 1, n + 2):
                raise self.fail(number, f"expected a probability, {n} words and perhaps a back-off weight: {line!r}")
            try:
                value, weight = float(fields[0]), float(fields[n + 1]) if len(fields) == n + 2 else 0.0
            except ValueError:
                raise self.fail(number, f"a weight that is no number: {line!r}") from None
            seen += 1
            yield number, fields[1 : n + 1], value, weight
        if seen != self.counts[n - 1]:
            raise DataError(
                f"{self.path}: {seen} {n}-grams where the header says {self.counts[n - 1]}: the file is cut short "
                "or damaged; copy it again"
            )

    def _add_order(self, table: NgramTable, n: int) -> NgramTable:
        rows: list[list[int]] = []
        values: list[float] = []
        weights: list[float] = []
        for number, words, value, weight in self._section(n):
            try:
                rows.append([self.ids[_fold(word)] for word in words])
            except KeyError as error:
                raise self.fail(number, f"{error.args[0]!r} is not among the 1-grams") from None
            values.append(value)
            weights.append(weight)
        grams = np.array(rows, dtype=np.int64).reshape(-1, n)
        log_prob, backoff = _LN10 * np.array(values), _LN10 * np.array(weights)
        for k in range(1, n - 1):
            missing = grams[table.index(grams[:, : k + 1]) < 0, : k + 1]
            if len(missing):
                table = _insert(table, np.unique(missing, axis=0))
        context = table.index(grams[:, :-1])
        keys = context * len(table.words) + grams[:, -1]
        order = np.lexsort((-log_prob, keys))
        order = order[np.concatenate([[True], np.diff(keys[order]) != 0])] if len(order) else order
        added = Order(context[order], grams[order, -1], log_prob[order], backoff[order])
        return NgramTable(table.words, (*table.orders, added))


def _insert(table: NgramTable, grams: np.ndarray) -> NgramTable:
    """Add missing n-grams, ``(N, n)`` word ids, n >= 2, at their backed-off probability."""
    level = grams.shape[1] - 1
    order = table.orders[level]
    contexts = np.concatenate([order.context, table.index(grams[:, :-1])])
    words = np.concatenate([order.word, grams[:, -1]])
    log_prob = np.concatenate([order.log_prob, table.score(grams)])
    backoff = np.concatenate([order.backoff, np.zeros(len(grams))])
    rank = np.argsort(contexts * len(table.words) + words, kind="stable")
    grown = Order(contexts[rank], words[rank], log_prob[rank], backoff[rank])
    orders = list(table.orders)
    orders[level] = grown
    if level + 1 < len(orders):  # the order above names its contexts by their index here
        moved = np.empty(len(rank), dtype=np.int64)
        moved[rank] = np.arange(len(rank))
        above = orders[level + 1]
        orders[level + 1] = Order(moved[above.context], above.word, above.log_prob, above.backoff)
    return NgramTable(table.words, tuple(orders))


def write_arpa(table: NgramTable, path: Path) -> None:
    """Write a model for other toolkits to read."""
    with path.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        for n, order in enumerate(table.orders, 1):
            file.write(f"ngram {n}={len(order)}\n")
        texts: list[str] = list(table.words)
        for n, order in enumerate(table.orders, 1):
            if n > 1:
                words = table.words
                texts = [f"{texts[c]} {words[w]}" for c, w in zip(order.context, order.word, strict=True)]
            file.write(f"\n\\{n}-grams:\n")
            last = n == len(table.orders)
            for text, log_prob, backoff in zip(texts, order.log_prob, order.backoff, strict=True):
                weight = "" if last else f"\t{backoff / _LN10:.6f}"
                file.write(f"{log_prob / _LN10:.6f}\t{text}{weight}\n")
        file.write("\n\\end\\\n")


def _fold(word: str) -> str:
    if word in SPECIAL:
        return word
    return UNKNOWN if word.upper() == "<UNK>" else word.lower().translate(_SAME_CASE)
