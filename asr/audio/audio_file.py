"""Any audio or video file as a stream of blocks, in constant memory.

PyAV carries FFmpeg's demuxers and decoders inside its wheel, so nothing needs to be installed on the
system. The file's own sample rate is kept: `asr.audio.resample` changes it, the same way for files and
live audio.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import av
import av.audio
import numpy as np

from asr.audio.float_frames import channels_of, is_float, make_converter
from asr.audio.one_way import OneWay, keep, needs_way_back
from asr.audio.reasons import reason_of
from asr.audio.wav_header import promised_samples
from asr.errors import AudioError

_LIVE_S, _WHOLE_S = 0.1, 1.0  # of sound in a block: so much as is soon there, or as recognition takes in one
_ENDLESS_BYTES = 0x7F00_0000  # so long, or longer, says a header whose writer did not know the length
_WANTED = "give a WAV, FLAC, MP3, Ogg, Opus, M4A, WebM or other file with sound in it"


class AudioFile:
    """An open file with sound in it. Iterating gives ``(n,)`` float32 blocks in [-1, 1], channels averaged; or, with
    ``separate``, ``(n, channels)``, as many in each block.

        with AudioFile("talk.mp3") as audio:
            for block in audio:
                ...

    A damaged or cut-off file gives all that can be decoded first and then raises AudioError, so a caller
    can keep what came before.
    """

    def __init__(self, source: str | Path | BinaryIO, least_s: float | None = None, separate: bool = False) -> None:
        """Args:
        source: a path, or an open binary file.
        least_s: of sound in each block but the last, in seconds; by default a second, and of what may be live a tenth.
        separate: whether to keep channels apart.
        """
        self._separate = separate
        self._apart = 0  # channels of what was decoded first, if they are kept apart
        self.name = str(source) if isinstance(source, (str, Path)) else getattr(source, "name", "the stream")
        with ExitStack() as opened:
            self._source = self._reach(source, opened)
            is_path = isinstance(self._source, (str, Path))
            self._seekable = not isinstance(self._source, OneWay)
            self._least_s = least_s if least_s is not None else _WHOLE_S if self._seekable else _LIVE_S
            try:
                # The `file:` prefix keeps names with a colon from being read as a network address.
                target = f"file:{self._source}" if is_path else self._source
                # What comes from elsewhere may be a list of addresses: nothing that it names is opened.
                options = {} if is_path else {"protocol_whitelist": "none"}
                self._container = opened.enter_context(
                    av.open(target, mode="r", metadata_errors="replace", options=options)
                )
            except (av.FFmpegError, ValueError, OSError, EOFError) as error:
                raise AudioError(f"{self.name}: not readable as audio ({reason_of(error)}): {_WANTED}") from error
            streams = self._container.streams.audio
            if not streams:
                raise AudioError(f"{self.name}: has no sound track: {_WANTED}")
            self._stream = streams[0]
            self._damage = ""
            self.sample_rate_hz = int(self._stream.rate or 0)
            self.channels = int(self._stream.codec_context.channels)
            self.duration_s = self._duration()
            if self.sample_rate_hz <= 0:
                raise AudioError(
                    f"{self.name}: says its sample rate is 0 Hz. The header is damaged: convert or record it again"
                )
            self._opened = opened.pop_all()

    def _reach(self, source: str | Path | BinaryIO, opened: ExitStack) -> str | Path | BinaryIO | OneWay:
        """What FFmpeg can read: the source itself, or what a pipe gives. What that takes is added to ``opened``."""
        if isinstance(source, (str, Path)):
            path = Path(source)
            if not path.exists():
                raise AudioError(f"{path}: no such file. Check the name")
            if path.is_dir():
                raise AudioError(f"{path}: is a folder. Name the files in it")
            found = path.stat()
            if stat.S_ISREG(found.st_mode):
                if found.st_size == 0:
                    raise AudioError(f"{path}: the file is empty. Record or copy it again")
                return source
            try:  # a named pipe: its size says nothing, and each read gives what is there
                pipe = cast(BinaryIO, opened.enter_context(path.open("rb", buffering=0)))
            except OSError as error:
                raise AudioError(f"{path}: cannot be opened ({reason_of(error)}). Check your rights to it") from error
        elif source.seekable():
            return source
        else:
            pipe = source
        one_way = OneWay(pipe)
        return opened.enter_context(keep(one_way)) if needs_way_back(one_way) else one_way

    def _duration(self) -> float | None:
        """Length as the file states it, in seconds; None where it does not say."""
        stated_s: float | None = None
        if self._stream.duration is not None and self._stream.time_base is not None:
            stated_s = float(self._stream.duration * self._stream.time_base)
        elif self._container.duration is not None:
            stated_s = self._container.duration / av.time_base
        if self._container.format.name == "wav" and self._stream.codec_context.name.startswith("pcm_"):
            # FFmpeg counts what is there, not what shall be there, and of a pipe nothing.
            samples = self._wav_samples()
            if samples is not None:
                return samples / self.sample_rate_hz if self.sample_rate_hz > 0 else None
            return stated_s if self._seekable else None
        if not self._seekable and stated_s and stated_s * (self._stream.bit_rate or 0) / 8 >= _ENDLESS_BYTES:
            return None
        return stated_s

    def _wav_samples(self) -> int | None:
        """What `promised_samples` says of this file."""
        source = self._source
        if isinstance(source, OneWay):
            return promised_samples(io.BytesIO(source.head))
        with suppress(OSError):  # who decodes meets the same error, and tells it
            if isinstance(source, (str, Path)):
                with Path(source).open("rb") as file:
                    return promised_samples(file)
            before = source.tell()
            try:
                source.seek(0)
                return promised_samples(source)
            finally:
                source.seek(before)
        return None

    def __iter__(self) -> Iterator[np.ndarray]:
        # Packets of some codecs hold 20 ms: joined, they cost whoever takes them less.
        waiting: list[np.ndarray] = []
        count, samples = 0, 0
        for block in self._decoded():
            waiting.append(block)
            count += len(block)
            if count >= self._least_s * self.sample_rate_hz:
                yield np.concatenate(waiting)
                samples += count
                waiting, count = [], 0
        if waiting:
            yield np.concatenate(waiting)
            samples += count
        damage = self._damage
        if samples == 0:
            raise AudioError(
                f"{self.name}: holds no sound that can be decoded{f' ({damage})' if damage else ''}: {_WANTED}"
            )
        read_s = samples / self.sample_rate_hz
        if damage:
            raise AudioError(
                f"{self.name}: damaged ({damage}): the {read_s:.1f} s that could be decoded were used. "
                "Copy or convert it again"
            )
        # Headers round, and codecs pad by a fraction of a second; a cut-off download lacks much more.
        if self.duration_s is not None and read_s < 0.98 * self.duration_s - 1.0:
            raise AudioError(
                f"{self.name}: cut off: {read_s:.1f} s of {self.duration_s:.1f} s are there and were used. "
                "Copy it again"
            )

    def _decoded(self) -> Iterator[np.ndarray]:
        """The sound of each packet. What was wrong with the last that could not be decoded is in `_damage`."""
        to_float: av.AudioResampler | None = None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError, EOFError) as error:
                self._damage = reason_of(error)
                return
            try:
                frames: list[av.AudioFrame | None] = list(packet.decode())
                if packet.size == 0 and packet.dts is None:
                    frames.append(None)  # the packet that ends a file: the converter must give up what it holds too
            except (av.FFmpegError, EOFError) as error:
                if not isinstance(error, EOFError):
                    self._damage = reason_of(error)
                continue  # a broken packet is skipped: what comes after it may be sound
            for frame in frames:
                try:
                    if frame is not None and is_float(frame):
                        converted = [frame]
                    else:
                        if to_float is None and frame is not None:
                            to_float = make_converter(frame)
                        converted = [] if to_float is None else to_float.resample(frame)
                except (av.FFmpegError, ValueError) as error:
                    self._damage = reason_of(error)
                    continue
                for part in converted:
                    assert part is not None
                    channels = channels_of(part)
                    if not self._separate:
                        yield np.stack(channels).mean(axis=0, dtype=np.float32) if len(channels) > 1 else channels[0]
                        continue
                    # What a header says of channels is not always what is decoded: some AAC says one and has two.
                    self._apart = self._apart or len(channels)
                    if len(channels) == self._apart:
                        yield np.stack(channels, axis=1)
                    else:
                        self._damage = "the number of channels changes"

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
