"""What a stream begins with: samples, the header of a WAV file, or a file that is to be decoded."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

from asr.audio.forms import Form

from .codec import Audio, Coded, ProtocolError, SampleFormat, Settings
from .compressed import FILE_MARKS, begins_with_frames, frames_form, is_mp4, may_be_mp4
from .wav_header import WAV_MARKS, WavHeader

_MARK_BYTES = 4
_MARKS = (*WAV_MARKS, *FILE_MARKS)
_SAYS = {"s16le": "16-bit integers", "f32le": "32-bit floats", "mulaw": "mu-law", "alaw": "A-law"}
# What may come of a file whose beginning went elsewhere: a client has connected again, and goes on recording.
_MIDDLE_MARKS = {b"\x1f\x43\xb6\x75": Form.WEBM.value}
_BEGIN_ANEW = "record anew for each connection, and send it from its first byte on"


class StreamHead:
    """Takes the header off a stream that is the bytes of a WAV file, tells of which other file it is, and gives raw
    samples on as they are.

    What is too little to tell by waits for the next piece, so that it does not matter how a stream is cut.
    """

    def __init__(self, decoding: bool = False, said: Form | None = None) -> None:
        """Args:
        decoding: whether files are taken that are to be decoded first.
        said: what the client says that it sends, if that is to be decoded.
        """
        self._decoding = decoding
        self._said = said
        self._held = b""
        self._decided = False
        self._wav: WavHeader | None = None
        self._format: SampleFormat | None = None  # as the header says, or as samples are decoded
        self._channels = 1  # as the client says
        self.form: Form | None = None  # what the stream is, once that is known, if it is to be decoded
        self.opened = False  # whether the engine has had something of the stream: its settings are fixed

    @property
    def is_wav(self) -> bool:
        """Whether the stream is a WAV file, as far as can be seen."""
        return self._wav is not None or self._held[:_MARK_BYTES] in WAV_MARKS

    def take(self, data: bytes, settings: Settings, named: Collection[str]) -> bytes:
        """The samples among what came, or what is to be decoded. Raises ProtocolError for what is neither, or not what
        the client said.

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
            data, self._decided, self._channels = data[begin:], True, settings.channels
        self.opened = self.opened or (bool(data) and self.form is None)
        return data

    def rest(self) -> bytes:
        """Samples that were held back, since the client wants what was said so far, or the stream ends."""
        if self.form is not None:
            return b""
        self.opened = True
        if self._wav is not None or not self._held:
            return b""
        samples, self._held, self._decided = self._held, b"", True
        return samples

    def commands(self, data: bytes, hear: Callable[[bytes], tuple[Audio, ...]]) -> tuple[Audio | Coded, ...]:
        """What to do with that which `take` gave.

        Args:
            hear: what to do with samples, also when they are decoded.
        """
        if not data:
            return ()
        if self.form is None:
            return hear(data)
        return (Coded(data, self.form, partial(self._decoded, hear), self._channels),)

    def _decoded(
        self, hear: Callable[[bytes], tuple[Audio, ...]], form: SampleFormat, data: bytes
    ) -> tuple[Audio, ...]:
        self._format, self.opened = form, True
        return hear(data)

    def fit(self, settings: Settings) -> Settings:
        """Settings with what the header says, if there was one, or with what was decoded."""
        return settings if self._format is None else replace(settings, **_values(self._format))

    def _find_samples(self, head: bytes) -> int | None:
        """Where samples, or what is to be decoded, begin; None if that is not yet known."""
        if self._wav is not None:
            return self._read_header(self._wav, head)
        mark = head[:_MARK_BYTES]
        if self._said is Form.OPUS and mark not in _MARKS:  # nor are packets shorter ones
            self.form = Form.OPUS
            return 0
        may_be_mark = len(mark) < _MARK_BYTES and any(one.startswith(mark) for one in (*_MARKS, *_MIDDLE_MARKS))
        if may_be_mark or may_be_mp4(head):
            return None
        if mark in WAV_MARKS:
            return self._find_in_riff(head)
        if mark in _MIDDLE_MARKS:
            raise ProtocolError("bad_audio", f"this is {_MIDDLE_MARKS[mark]} without its beginning: {_BEGIN_ANEW}")
        if mark in FILE_MARKS:
            return self._begin_file(FILE_MARKS[mark])
        if is_mp4(head):
            return self._begin_file(Form.MP4)
        frames = begins_with_frames(head)
        if frames:
            return self._begin_file(frames_form(head))
        if frames is None:
            return None
        if self._said is not None:
            message = f"the settings say {self._said.value} and this is none: {_BEGIN_ANEW}"
            raise ProtocolError("bad_audio", message)
        return 0

    def _begin_file(self, form: Form) -> int:
        if not self._decoding:
            raise ProtocolError("bad_audio", f"send raw samples: containers are not served, and this is {form.value}")
        if self.opened:
            message = f"this is {form.value}, and the stream was begun as raw samples: send sound before all else"
            raise ProtocolError("bad_audio", message)
        self.form = form
        return 0

    def _find_in_riff(self, head: bytes) -> int | None:
        kind = head[8:12]
        if kind == b"AVI ":
            return self._begin_file(Form.AVI)
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
        """Refuse a header that says something else than the client, or than what the stream was opened with; and a file
        of another form than the client said."""
        if self.form is Form.OPUS and settings.channels > 2:
            raise ProtocolError("bad_audio", f"Opus packets have 1 or 2 channels, and not {settings.channels}")
        if self.form is not None or self._said is not None:
            wanted = _say("encoding", settings.encoding) if self._said is None else self._said.value
            if self.form is not self._said and (self._said is not None or "encoding" in named):
                found = "a WAV file" if self.form is None else self.form.value
                message = f"the settings say {wanted} and this is {found}: leave the encoding out, or say the same"
                raise ProtocolError("bad_audio", message)
            return
        said = {} if self._format is None else _values(self._format)
        for name, value in said.items():
            theirs = getattr(settings, name)
            if value != theirs and (self.opened or name in named):
                says, wanted = _say(name, value), _say(name, theirs)
                message = f"the WAV header says {says} and the settings say {wanted}: leave them out, or say the same"
                raise ProtocolError("bad_audio", message)


def _values(form: SampleFormat) -> dict[str, Any]:
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
