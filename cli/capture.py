"""A microphone until it is stopped, which may go away meanwhile and come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.cli.microphone import PATIENCE_S, DeviceGone, Microphone
from asr.cli.sound_library import look_again, sound_library

from asr.errors import AudioError

if TYPE_CHECKING:
    import numpy as np

    from asr.audio.resample import StreamResampler

_LOOK_S = 1.0  # between two looks for a device that is away


@dataclass(frozen=True)
class Gone:
    """The device went away, and is waited for."""

    message: str


@dataclass(frozen=True)
class Back:
    """It, or with no device named what is the system's default now, is there again."""

    name: str


class Capture:
    """Sound from ``with`` until `stop`. Iterating gives chunks of s16le bytes, one channel, at `sample_rate_hz`, and
    where a device is waited for, `Gone` and `Back`.

    An empty chunk says that there is no sound at the moment. Recording begins at once, not with the first reading, so
    that nothing is lost while a reader gets ready. After `stop`, which any thread or signal handler may call, iterating
    gives the rest and ends.
    """

    def __init__(self, device: str | int | None = None, reconnect: bool = False) -> None:
        """Open a device, as `Microphone` does.

        Args:
            device: which one.
            reconnect: wait for one that goes away, instead of raising DeviceGone.
        """
        self._device, self._reconnect = device, reconnect
        self._microphone: Microphone | None = Microphone(device)
        # Numbers change with what is plugged in: a device that was chosen by its number is waited for by its name.
        self._again = self._microphone.name if isinstance(device, int) else device
        self._stopped = False
        self._overflows = 0  # of devices that went away
        self._resampler: StreamResampler | None = None
        self.name = self._microphone.name
        self.sample_rate_hz = self._microphone.sample_rate_hz

    @property
    def overflows(self) -> int:
        """Times that sound was lost since the beginning."""
        return self._overflows + (self._microphone.overflows if self._microphone else 0)

    @property
    def silent_line(self) -> str:
        """What to say if it gives nothing but zeros."""
        return self._microphone.silent_line if self._microphone else ""

    def stop(self) -> None:
        """End the recording."""
        self._stopped = True

    def __enter__(self) -> Capture:
        if self._microphone is not None:
            self._microphone.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._microphone is not None:
            self._overflows += self._microphone.overflows
            self._microphone.__exit__()
            self._microphone = None

    def __iter__(self) -> Iterator[bytes | Gone | Back]:
        while not self._stopped:
            if self._microphone is None:
                yield from self._wait()
                continue
            try:
                yield self._at_rate(self._microphone.read())
            except DeviceGone as error:
                if not self._reconnect:
                    raise
                if self._resampler is not None:
                    yield _pcm(self._resampler.finish())
                self._leave()
                yield Gone(f"{str(error).partition(':')[0]}; waiting for it to come back, Ctrl-C ends")
        if self._microphone is not None:
            self._microphone.stop()
            for chunk in self._microphone.rest():
                yield self._at_rate(chunk)

    def _wait(self) -> Iterator[bytes | Back]:
        """Look for the device until it is there."""
        due_s = time.monotonic() + _LOOK_S
        while time.monotonic() < due_s:
            if self._stopped:
                return
            time.sleep(PATIENCE_S)
            yield b""
        try:
            look_again(sound_library())
            found = Microphone(self._again, self.sample_rate_hz).__enter__()
        except (AudioError, sound_library().PortAudioError):
            return
        self._microphone, self.name, self._resampler = found, found.name, None
        if found.sample_rate_hz != self.sample_rate_hz:
            from asr.audio.resample import StreamResampler

            self._resampler = StreamResampler(found.sample_rate_hz, self.sample_rate_hz)
        yield Back(found.name)

    def _at_rate(self, chunk: bytes) -> bytes:
        """A chunk at the rate of the first device, whatever the present one has."""
        if self._resampler is None or not chunk:
            return chunk
        import numpy as np

        return _pcm(self._resampler.accept(np.frombuffer(chunk, "<i2").astype(np.float32) / 32_768))


def _pcm(samples: np.ndarray) -> bytes:
    import numpy as np

    return bytes(np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype("<i2").tobytes())
