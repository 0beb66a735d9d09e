"""What a stream begins with: samples, the header of a WAV file, or a file that cannot be heard as it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from .codec import ProtocolError, Settings
from .compressed import FILE_MARKS, begins_with_frames, is_mp4
from .wav_header import WAV_MARKS, WavFormat, WavHeader

_MARK_BYTES = 4
_MARKS = (*WAV_MARKS, *FILE_MARKS)
_SAYS = {"s16le": "16-bit integers", "f32le": "32-bit floats", "mulaw": "mu-law", "alaw": "A-law"}


class StreamHead:
    """Takes the header off a stream that is the bytes of a WAV file, and gives others on as they are.

    What is too little to tell by waits for the next piece, so that it does not matter how a stream is cut.
    """

    def __init__(self) -> None:
        self._held = b""
        self._decided = False
        self._wav: WavHeader | None = None
        self._format: WavFormat | None = None
        self.opened = False  # whether the engine has had something of the stream: its settings are fixed

    @property
    def is_wav(self) -> bool:
        """Whether the stream is a WAV file, as far as can be seen."""
        return self._wav is not None or self._held[:_MARK_BYTES] in WAV_MARKS

    def take(self, data: bytes, settings: Settings, named: Collection[str]) -> bytes:
        """The samples among what came. Raises ProtocolError for what holds none, or is not what the client said.

        Args:
            data: the next piece of the stream.
            settings: how the client wants it opened.
            named: which of them, by their names, the client has set: what the header says must be the same.
        """
        if not self._decided:
            data, self._held = self._held + data, b""
            begin = self._find_samples(data)
            if begin is None:
                self._held = data
                return b""
            self._check(settings, named)
            data, self._decided = data[begin:], True
        self.opened = self.opened or bool(data)
        return data

    def rest(self) -> bytes:
        """Samples that were held back, since the client wants what was said so far, or the stream ends."""
        self.opened = True
        if self._wav is not None or not self._held:
            return b""
        samples, self._held, self._decided = self._held, b"", True
        return samples

    def fit(self, settings: Settings) -> Settings:
        """Settings with what the header says, if there was one."""
        return settings if self._format is None else replace(settings, **_values(self._format))

    def _find_samples(self, head: bytes) -> int | None:
        """Where samples begin; None if that is not yet known."""
        if self._wav is not None:
            return self._read_header(self._wav, head)
        mark = head[:_MARK_BYTES]
        if len(mark) < _MARK_BYTES and any(one.startswith(mark) for one in _MARKS):
            return None
        if mark in WAV_MARKS:
            return self._find_in_riff(head)
        if mark in FILE_MARKS:
            raise _refusal(FILE_MARKS[mark])
        if is_mp4(head):
            raise _refusal("MP4")
        frames = begins_with_frames(head)
        if frames:
            raise _refusal("MP3 or AAC")
        return None if frames is None else 0

    def _find_in_riff(self, head: bytes) -> int | None:
        kind = head[8:12]
        if kind == b"AVI ":
            raise _refusal("AVI")
        if kind == b"WAVE":
            self._wav = WavHeader()
            return self._read_header(self._wav, head)
        return None if any(one.startswith(kind) for one in (b"WAVE", b"AVI ")) else 0

    def _read_header(self, wav: WavHeader, head: bytes) -> int | None:
        found = wav.read(head)
        if found is None:
            return None
        self._format, begin = found
        return begin

    def _check(self, settings: Settings, named: Collection[str]) -> None:
        """Refuse a header that says something else than the client, or than what the stream was opened with."""
        said = {} if self._format is None else _values(self._format)
        for name, value in said.items():
            theirs = getattr(settings, name)
            if value != theirs and (self.opened or name in named):
                says, wanted = _say(name, value), _say(name, theirs)
                message = f"the WAV header says {says} and the settings say {wanted}: leave them out, or say the same"
                raise ProtocolError("bad_audio", message)


def _values(form: WavFormat) -> dict[str, Any]:
    """By the names that they have in `Settings`."""
    return {"sample_rate_hz": form.sample_rate_hz, "channels": form.channels, "encoding": form.encoding}


def _say(name: str, value: Any) -> str:
    match name:
        case "sample_rate_hz":
            return f"{value:g} Hz"
        case "channels":
            return f"{value} channel{'' if value == 1 else 's'}"
        case _:
            return _SAYS[value]


def _refusal(kind: str) -> ProtocolError:
    return ProtocolError("bad_audio", f"send raw samples: containers are not served, and this is {kind}")
