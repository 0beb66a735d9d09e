"""Sound from a microphone: the sound card's thread only queues, and whoever reads takes what is there."""

from __future__ import annotations

import queue
from typing import Any

from asr.cli.sound_faults import FaultKind, absence_line, fault_kind, fault_line, reason_of
from asr.cli.sound_library import sound_library

from asr.errors import AudioError

CHUNK_MS = 50
PATIENCE_S = 0.1  # how long a reader waits for sound: between two looks, a status line moves and Ctrl-C is noticed
_LONGEST_WAIT_S = 300.0  # of sound that nobody has taken yet; what is beyond this is lost, and counted
_STALLED_S = 5.0  # without a chunk: some systems never say that a device is gone
_OTHER_RATES_HZ = (16_000, 48_000, 44_100)  # tried where a device refuses its own default


class DeviceGone(AudioError):
    """The device has stopped by itself."""


class Microphone:
    """One device, opened once. Chunks are s16le bytes, one channel, at `sample_rate_hz`.

    with Microphone() as microphone:
        while True:
            use(microphone.read())
    """

    def __init__(self, device: str | int | None = None, sample_rate_hz: int | None = None) -> None:
        """Open a device.

        Args:
            device: a number or part of a name as `asr devices` shows them; by default the system's choice.
            sample_rate_hz: tried first; by default the device's own.

        Raises AudioError if it is not there or cannot be opened: a line that says what to do.
        """
        self._library = sound_library()
        self._chunks: queue.Queue[bytes] = queue.Queue(round(_LONGEST_WAIT_S * 1000 / CHUNK_MS))
        self._ended = False
        self._waited_s = 0.0  # by the reader, since the last chunk: a process that was halted has not waited
        self.overflows = 0  # times that sound had to be thrown away
        try:
            found = self._library.query_devices(device, "input")
        except (ValueError, self._library.PortAudioError) as error:
            if not any(one["max_input_channels"] for one in self._library.query_devices()):
                raise AudioError(absence_line()) from error
            what = "no default microphone" if device is None else f"no microphone {device!r}"
            raise AudioError(f"{what} ({reason_of(error)}): `asr devices` shows those there are") from error
        self.name = str(found["name"])
        rates_hz = (round(found["default_samplerate"]), *_OTHER_RATES_HZ)
        self._stream = self._open(device, rates_hz if sample_rate_hz is None else (sample_rate_hz, *rates_hz))
        self.sample_rate_hz = round(self._stream.samplerate)

    def _open(self, device: str | int | None, rates_hz: tuple[int, ...]) -> Any:
        failure: Exception | None = None
        for rate_hz in dict.fromkeys(rates_hz):
            try:
                return self._library.RawInputStream(
                    samplerate=rate_hz,
                    blocksize=rate_hz * CHUNK_MS // 1000,
                    device=device,
                    channels=1,
                    dtype="int16",
                    callback=self._take,
                    finished_callback=self._end,
                )
            except (ValueError, self._library.PortAudioError) as error:
                failure = failure or error
        raise AudioError(fault_line(fault_kind(failure), self.name, reason_of(failure))) from failure

    def __enter__(self) -> Microphone:
        try:
            self._stream.start()
        except self._library.PortAudioError as error:
            self._stream.close()
            raise AudioError(fault_line(fault_kind(error), self.name, reason_of(error))) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def stop(self) -> None:
        """End the recording; what was recorded can still be read."""
        if not self._ended:
            self._stream.stop()

    def read(self) -> bytes:
        """The next chunk, or none (``b""``) if there is no sound yet.

        Raises DeviceGone if there will be no more, once all that came was read.
        """
        try:
            chunk = self._chunks.get(timeout=PATIENCE_S)
        except queue.Empty:
            self._waited_s += PATIENCE_S
        else:
            self._waited_s = 0.0
            return chunk
        if self._ended and self._chunks.empty():
            raise DeviceGone(f"{self.name} has stopped: was it unplugged?")
        if self._waited_s > _STALLED_S:
            raise DeviceGone(f"{self.name} has given no sound for {_STALLED_S:.0f} seconds: was it unplugged?")
        return b""

    def rest(self) -> list[bytes]:
        """All that was recorded and not read."""
        chunks = []
        while not self._chunks.empty():
            chunks.append(self._chunks.get())
        return chunks

    @property
    def silent_line(self) -> str:
        """What to say if it gives nothing but zeros."""
        return fault_line(FaultKind.SILENT, self.name)

    def _take(self, data: Any, frames: int, at: Any, status: Any) -> None:
        # Runs in the sound card's own thread, which must never wait.
        if status.input_overflow:
            self.overflows += 1
        try:
            self._chunks.put_nowait(bytes(data))
        except queue.Full:
            self.overflows += 1

    def _end(self) -> None:
        self._ended = True
