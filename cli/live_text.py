"""Live text on a terminal: finished utterances scroll up, and the one being spoken is rewritten in place."""

from __future__ import annotations

from asr.events import Event, Final

_CLEAR = "\r\x1b[K"  # to the start of the line, and nothing on it
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_CUT = "… "  # stands for the beginning of an utterance that is longer than the line


class LiveText:
    """What to write to a terminal for each event.

    The utterance being spoken stays on one line, or rewriting it would leave its old lines behind: of
    a longer one the end is shown. What may still change is dim.
    """

    def __init__(self, colour: bool = True) -> None:
        self._dim, self._plain = (_DIM, _PLAIN) if colour else ("", "")
        self._open = False

    def show(self, event: Event, columns: int) -> str:
        """The characters for an event, on a terminal of so many columns."""
        if isinstance(event, Final):
            self._open = False
            return f"{_CLEAR}{event.text}\n"
        self._open = True
        # The last column stays free: some terminals go to the next line as soon as it is written.
        room = max(1, columns - 1)
        text, stable = event.text, event.stable_chars
        if len(text) > room:
            gone = len(text) - max(0, room - len(_CUT))
            text, stable = (_CUT + text[gone:])[:room], max(0, stable - gone) + len(_CUT)
        return f"{_CLEAR}{text[:stable]}{self._dim}{text[stable:]}{self._plain}"

    def close(self) -> str:
        """What leaves the terminal clean, should an utterance have been left open."""
        return "\n" if self._open else ""
