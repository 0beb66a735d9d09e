"""Coded sound as it comes, with as little held back as its form allows.

`asr.audio.audio_file` reads files, and looks at some of a file to find out what it is. Of sound that is being recorded
that would be seconds: here the form is known, FFmpeg is told it and looks at nothing ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, BinaryIO, Protocol, cast

import av
import av.audio
import numpy as np

from asr.audio.flac_frames import FlacFrames
from asr.audio.float_frames import channels_of, is_float
from asr.audio.forms import Form
from asr.audio.one_way import OneWay, needs_way_back
from asr.audio.reasons import reason_of
from asr.errors import AudioError

_DEMUXERS = {
    Form.OGG: "ogg",
    Form.WEBM: "matroska",
    Form.MP4: "mov",
    Form.MP3: "mp3",
    Form.AAC: "aac",
    Form.AMR: "amr",
    Form.AIFF: "aiff",
    Form.CAF: "caf",
    Form.AU: "au",
    Form.AVI: "avi",
}
# Nothing that a file names is opened; and one packet is enough to know how its sound is coded.
_OPTIONS = {"protocol_whitelist": "none", "probesize": "32", "analyzeduration": "1"}
# Of a file in which there is no sound: FFmpeg may keep what it reads, such as a picture of an album.
_MOST_MUTE_BYTES = 16 << 20
_LOUDEST = 16.0  # of samples in [-1, 1]: some go a little beyond
_OPUS_HZ = 48_000  # whatever it was made from
_READ_BYTES = 1 << 15
# Demuxers go back a little within a header, but not behind what was read last: of that it is so much, until there is
# sound.
_LEAST_BYTES = {Form.MP3: 1 << 10}
_MOST_TABLE_BYTES = 1 << 16


class Source(Protocol):
    """What gives coded sound as it comes."""

    def read(self, size: int = -1) -> bytes:
        """Some of the next bytes, at most so many; if none are there yet, it waits; none at the end.

        Without a size: the next piece as it was sent, which is a packet where packets are.
        """


class CodedSound:
    """Sound that is decoded while it comes. Iterating gives ``(n, channels)`` float32 blocks.

    Like an `AudioFile`, one that is damaged gives all that can be decoded first, and then raises AudioError. What
    ends in the middle is not damaged: so live sound ends. A source's own errors are let through.
    """

    def __init__(self, source: Source, form: Form, channels: int = 1) -> None:
        """``channels``: of packets, which do not say. Files do."""
        self._source = _Watched(source, _LEAST_BYTES.get(form, 1))
        self._form = form
        self.channels = channels
        self.sample_rate_hz = 0  # until there is sound
        self._layout = ""
        self._damage = ""
        self._to_float: av.AudioResampler | None = None
        self._form_before = ("", 0, "")  # of what it converts: sample format, rate and channels

    def __iter__(self) -> Iterator[np.ndarray]:
        samples = 0
        for frame in chain(self._frames(), [None]):
            for block in self._convert(frame):
                self._source.heard()
                samples += len(block)
                yield self._checked(block)
        if self._source.failure is not None:
            raise self._source.failure
        if self._source.mute_bytes > _MOST_MUTE_BYTES:
            self._damage = f"no sound in {_MOST_MUTE_BYTES >> 20} MiB"
        reason = f" ({self._damage})" if self._damage else ""
        if not samples and self._form is Form.OPUS:
            raise AudioError(f"no message holds sound as Opus{reason}: send each packet as a message, and no container")
        if not samples:
            raise AudioError(
                f"this begins as {self._form.value} and holds no sound that can be decoded{reason}: "
                "send it whole from its first byte on, with sound in it"
            )
        if self._damage:
            raise AudioError(
                f"the sound ({self._form.value}) is damaged{reason}: the {samples / self.sample_rate_hz:.1f} s that "
                "could be decoded were used. Connect again, and send it from its first byte on"
            )

    def _frames(self) -> Iterator[av.AudioFrame]:
        match self._form:
            case Form.OPUS:
                return self._opus_frames()
            case Form.FLAC:
                return self._flac_frames()
            case _:
                return self._file_frames()

    def _opus_frames(self) -> Iterator[av.AudioFrame]:
        decoder = av.AudioCodecContext.create("opus", "r")
        decoder.sample_rate, decoder.layout = _OPUS_HZ, "mono" if self.channels == 1 else "stereo"
        while packet := self._source.read():
            yield from self._tried(partial(decoder.decode, av.Packet(packet)))

    def _flac_frames(self) -> Iterator[av.AudioFrame]:
        frames = FlacFrames()
        decoder = av.AudioCodecContext.create("flac", "r")
        while True:
            data = self._source.read(_READ_BYTES)
            try:
                packets = frames.accept(data) if data else frames.finish()
            except AudioError as error:
                self._damage = str(error)
                return
            if frames.missing:
                self._damage = "frames are missing"
            for packet in packets:
                if not decoder.is_open:
                    decoder.extradata = frames.info
                yield from self._tried(partial(decoder.decode, av.Packet(packet)))
            if not data:
                return

    def _tried(self, decode: Callable[[], Iterable[Any]]) -> Iterable[av.AudioFrame]:
        """What is in a packet. A broken one is passed over: what comes after it may be sound."""
        try:
            return decode()
        except (av.FFmpegError, ValueError, EOFError) as error:
            self._note(error)
            return ()

    def _file_frames(self) -> Iterator[av.AudioFrame]:
        source = self._with_table() if self._form is Form.MP4 else self._source
        try:
            container = av.open(source, "r", format=_DEMUXERS[self._form], options=_OPTIONS, metadata_errors="replace")
        except (av.FFmpegError, ValueError, EOFError) as error:
            self._note(error)
            return
        with container:
            if not container.streams.audio:
                self._damage = "it has no sound track"
                return
            stream = container.streams.audio[0]
            stream.codec_context.thread_count = 1  # as many as there are cores would not help one who speaks
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                except StopIteration:
                    return
                except (av.FFmpegError, ValueError, EOFError) as error:
                    self._note(error)
                    return
                yield from self._tried(packet.decode)

    def _with_table(self) -> OneWay:
        """An MP4 of which the table of contents is there. Raises AudioError if that does not come first."""
        source = OneWay(cast(BinaryIO, self._source))
        if needs_way_back(source) and not self._source.over:
            raise AudioError(
                "this MP4 has its table of contents at its end, so that nothing of it can be heard before: "
                "send fragmented MP4, as browsers record it, or POST the file"
            )
        end, kind = 0, b""
        while kind not in (b"moov", b"moof") and end < _MOST_TABLE_BYTES and not self._source.over:
            box = source.peek(end + 8)[end:]
            kind, end = box[4:], end + max(8, int.from_bytes(box[:4], "big"))
        source.peek(min(end, _MOST_TABLE_BYTES))
        return source

    def _note(self, error: Exception) -> None:
        """Keep what is wrong. At the end nothing is: whoever records stops anywhere."""
        if not self._source.over:
            self._damage = reason_of(error)

    def _convert(self, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
        """A frame's sound in the form of the first, since few streams change it, but some do; at the end, the rest."""
        if frame is not None and not self.sample_rate_hz:
            self.sample_rate_hz, self._layout = frame.sample_rate, frame.layout.name
            self.channels = frame.layout.nb_channels
        parts: Iterable[av.AudioFrame] = ()
        if frame is not None:
            form = frame.format.name, frame.sample_rate, frame.layout.name
            if is_float(frame) and form[1:] == (self.sample_rate_hz, self._layout):
                parts = (frame,)
            elif self._to_float is None or self._form_before != form:
                self._to_float = av.AudioResampler(format="flt", layout=self._layout, rate=self.sample_rate_hz)
                self._form_before = form
        if not parts and self._to_float is not None:
            parts = self._tried(partial(self._to_float.resample, frame))
        for part in parts:
            yield np.stack(channels_of(part), axis=1)

    def _checked(self, block: np.ndarray) -> np.ndarray:
        """What decoders make of damaged packets may be no sound at all: that is silence."""
        if len(block) and not np.abs(block).max() <= _LOUDEST:
            self._damage = "samples beyond any loudness"
            return np.zeros_like(block)
        return block


class _Watched:
    """A source of which is known whether it is over, and how much of it came without any sound.

    FFmpeg tries again when it could not read: to it an error is an end, and is raised when it has finished.
    """

    name = "<none>"  # FFmpeg's word for it

    def __init__(self, source: Source, least: int) -> None:
        """``least``: bytes to give at a time, until there is sound."""
        self._source = source
        self._least = least
        self.over = False
        self.mute_bytes = 0  # since the last sound
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        data = b""
        if self.failure is None and self.mute_bytes <= _MOST_MUTE_BYTES:
            try:
                data = self._source.read(size)
                while 0 < len(data) < self._least and (more := self._source.read(size - len(data))):
                    data += more
            except Exception as error:
                self.failure = error
        self.over = not data
        self.mute_bytes += len(data)
        return data

    def heard(self) -> None:
        """There was sound in what was read."""
        self.mute_bytes, self._least = 0, 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
