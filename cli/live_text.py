"""Live text on a terminal: finished utterances scroll up, and below them the one being spoken and a status line are
rewritten in place."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from asr.events import Partial

if TYPE_CHECKING:
    from rich.text import Text

# To the start of the line, and nothing from there on. In two steps: a screen that is cleared as a whole, tmux keeps
# among the lines that have scrolled away.
_CLEAR = "\r\x1b[K\x1b[C\x1b[J\r"
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor, which would blink where nobody writes
_CUT = "… "  # stands for the beginning of an utterance that is longer than its lines
_MOST_LINES = 4  # of the utterance being spoken: of a longer one the end is shown


class LiveText:
    """What to write to a terminal so that it shows what it should.

    The cursor rests where what is rewritten begins. So a window that is made narrower, and breaks the lines below
    anew, leaves nothing behind: all that follows the cursor is cleared.
    """

    def __init__(self, colour: bool = True) -> None:
        from rich.console import Console

        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system="standard" if colour else None,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._drawn = ""
        self._hidden = False

    def final(self, text: str) -> str:
        """The characters that put a line above what is rewritten, for good."""
        self._drawn = ""
        return f"{_CLEAR}{text}\n"

    def frame(self, partial: Partial | None, status: Text | None, columns: int, rows: int) -> str:
        """The characters that show an utterance being spoken, what may still change dim, and a status line.

        Nothing if they stand there already. ``status`` must fit in ``columns - 1`` cells.
        """
        # The last column stays free: some terminals go to the next line as soon as it is written.
        lines = self._wrapped(partial, max(1, columns - 1), min(_MOST_LINES, rows - 2)) if partial else []
        if status is not None and (rows > 1 or not lines):
            lines.append(status)
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        drawn = _CLEAR + "\r\n".join(self._styled(line) for line in lines) + up + "\r"
        if drawn == self._drawn:
            return ""
        self._drawn = drawn
        hide, self._hidden = "" if self._hidden else _HIDE, True
        return hide + drawn

    def clear(self) -> str:
        """The characters that take away all that would be rewritten, and give the cursor back."""
        self._drawn = ""
        show, self._hidden = _SHOW if self._hidden else "", False
        return (_CLEAR if show else "") + show

    def _wrapped(self, partial: Partial, columns: int, most: int) -> list[Text]:
        from rich.cells import cell_len
        from rich.text import Text

        text = Text(partial.text, end="")
        text.stylize("dim", partial.stable_chars)
        lines = list(text.wrap(self._console, columns))
        if len(lines) > max(1, most):
            lines = lines[-max(1, most) :]
            while cell_len(lines[0].plain.rstrip()) > max(0, columns - len(_CUT)):
                lines[0] = lines[0][1:]
            lines[0] = Text(_CUT) + lines[0]
        for line in lines:
            line.rstrip()
            line.truncate(columns)
        return lines

    def _styled(self, line: Text) -> str:
        with self._console.capture() as capture:
            self._console.print(line, end="", soft_wrap=True)
        return capture.get()
