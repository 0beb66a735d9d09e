"""The line under live text: how long it has listened, how loud it is, and to what."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_FLOOR_DB = -60.0  # of full scale: the meter's left end, a quiet room
_LOUD_DB, _CLIPPED_DB = -9.0, -0.5
_FALL_DB = 3.0  # a chunk, so that an eye can follow peaks
_METER_CELLS, _LEAST_METER_CELLS = 20, 5
_LEAST_NAME_CELLS = 8


class StatusLine:
    """What is known of a recording, and how it is shown in a line of any width."""

    def __init__(self, name: str, sample_rate_hz: int, blocks: str = "█░") -> None:
        """Begin at zero.

        Args:
            name: of the device.
            sample_rate_hz: of the chunks, s16le and one channel.
            blocks: characters of the meter, full and empty.
        """
        self.name = name
        self.state = ""  # what it waits for, if it does
        self.losses = 0  # times that sound was lost
        self._rate_hz = sample_rate_hz
        self._blocks = blocks
        self._samples = 0
        self._level_db = _FLOOR_DB

    @property
    def position_s(self) -> float:
        """Seconds of sound so far: the time that words are dated by."""
        return self._samples / self._rate_hz

    def heard(self, chunk: bytes) -> None:
        """Take a chunk into account."""
        if chunk:
            self._samples += len(chunk) // 2
            self._level_db = max(peak_db(chunk), self._level_db - _FALL_DB)

    def draw(self, columns: int) -> Text:
        """The line, in at most so many cells: what there is no room for is left out, the clock last."""
        from rich.cells import cell_len
        from rich.text import Text

        line = Text(_clock(self.position_s), no_wrap=True, overflow="crop")
        room = columns - len(line.plain)
        lost = f"  sound lost {self.losses}x" if self.losses else ""
        if lost and len(lost) <= room:
            line.append(lost, "red")
            room -= len(lost)
        if self.state:
            if room >= 2 + _LEAST_NAME_CELLS:
                line.append("  " + _shorten(self.state, room - 2), "yellow")
            line.truncate(max(0, columns))
            return line
        cells = min(_METER_CELLS, room - 2)
        if cells >= _LEAST_METER_CELLS:
            # A long name had better shorten the meter than go, and then itself be shortened.
            cells = max(min(cells, room - 4 - cell_len(self.name)), min(cells, _METER_CELLS // 2))
            line.append("  ")
            line.append_text(self._meter(cells))
            room -= 2 + cells
        if room >= 2 + _LEAST_NAME_CELLS:
            line.append("  " + _shorten(self.name, room - 2), "dim")
        line.truncate(max(0, columns))
        return line

    def _meter(self, cells: int) -> Text:
        from rich.text import Text

        level = min(1.0, max(0.0, 1 - self._level_db / _FLOOR_DB))
        full = round(level * cells)
        style = "red" if self._level_db >= _CLIPPED_DB else "yellow" if self._level_db >= _LOUD_DB else "green"
        return Text.assemble((self._blocks[0] * full, style), (self._blocks[1] * (cells - full), "dim"))


def peak_db(chunk: bytes) -> float:
    """The loudest sample of s16le bytes, in decibels of full scale, -60 at least."""
    import numpy as np

    peak = int(np.abs(np.frombuffer(chunk, "<i2").astype(np.int32)).max(initial=0))
    return max(_FLOOR_DB, 20 * float(np.log10(max(peak, 1) / 32_767)))


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _shorten(text: str, cells: int) -> str:
    from rich.text import Text

    shown = Text(text)
    shown.truncate(cells, overflow="ellipsis")
    return shown.plain
