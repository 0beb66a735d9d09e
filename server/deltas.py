"""Text that only grows, for clients that cannot take anything back."""

from __future__ import annotations

from asr.events import Event, Final


class Deltas:
    """Turns events into what each adds to the text that can no longer change; the pieces joined are all finals'."""

    def __init__(self, between: str = " ") -> None:
        self._between = between  # what parts one utterance from the next
        self._sent = 0  # characters of this utterance
        self._first = True

    def accept(self, event: Event) -> str:
        """What an event adds; often nothing."""
        text = event.text if isinstance(event, Final) else event.text[: event.stable_chars]
        new = text[self._sent :]
        if new and self._sent == 0 and not self._first:
            new = self._between + new
        if new:
            self._first = False
        self._sent = 0 if isinstance(event, Final) else len(text)
        return new
