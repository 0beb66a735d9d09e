"""How far the work is and how long it will take, on a terminal's last line; elsewhere nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from asr.cli.one_file import Outcome, Progress


@contextmanager
def file_progress(name: str) -> Iterator[Progress]:
    """How far one file is, by seconds of sound."""
    from tqdm import tqdm

    bar = tqdm(
        desc=Path(name).name,
        unit="s",
        disable=not sys.stderr.isatty(),
        leave=False,
        bar_format="{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s, {rate_fmt}",
    )

    def progress(read_s: float, stated_s: float | None) -> None:
        bar.total = max(stated_s or 0.0, read_s)
        bar.update(read_s - bar.n)

    try:
        yield progress
    finally:
        bar.close()


class BatchProgress:
    """How far many files are. Their sizes stand for their lengths, which are not known before they are read."""

    def __init__(self, sizes: Sequence[int]) -> None:
        from tqdm import tqdm

        self._sizes = sizes
        self._shares = [0.0] * len(sizes)
        self._files = self._failed = 0
        self._audio_s = 0.0
        self._began_s = time.monotonic()
        self._bar = tqdm(
            total=sum(sizes),
            disable=not sys.stderr.isatty(),
            leave=False,
            smoothing=0.0,  # files differ: the mean so far foretells best
            bar_format="{percentage:3.0f}% |{bar}| {remaining} left{postfix}",
        )

    def update(self, number: int, message: Outcome | float) -> None:
        """Take a file's outcome, or the share of it that is done."""
        share = 1.0 if isinstance(message, Outcome) else message
        if isinstance(message, Outcome):
            self._files += 1
            self._failed += message.failure is not None
            self._audio_s += message.audio_s
            speed = self._audio_s / max(1e-9, time.monotonic() - self._began_s)
            self._bar.set_postfix_str(
                f"{self._files:,}/{len(self._sizes):,} files, {self._audio_s / 3600:.2f} h, {speed:.0f} x real time"
                + (f", {self._failed:,} failed" if self._failed else ""),
                refresh=False,
            )
        self._bar.update((share - self._shares[number]) * self._sizes[number])
        self._shares[number] = share

    def close(self) -> None:
        self._bar.close()
