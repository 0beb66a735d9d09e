"""Sound from a microphone: the sound card's thread only queues, and whoever iterates takes what is there."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from asr.errors import AudioError, ConfigError

CHUNK_MS = 50
_PATIENCE_S = 0.2  # how often a waiting reader looks up: on Windows, only then does it notice Ctrl-C
_LONGEST_WAIT_S = 60.0  # of sound that nobody has taken yet; what is beyond this is lost, and counted
_OTHER_RATES_HZ = (16_000, 48_000, 44_100)  # tried where a device refuses its own default


def sound_library() -> ModuleType:
    """The sounddevice package, or a ConfigError that says how to get it."""
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise ConfigError(f"the microphone needs {error.name}: pip install 'asr-stream[mic]'") from error
    except OSError as error:  # its wheels for Linux come without the C library
        raise ConfigError(
            f"the microphone needs PortAudio ({error}): apt install libportaudio2, or the like"
        ) from error
    library: ModuleType = sounddevice
    return library


def list_microphones() -> str:
    """A line for each device that can record: its number, name and rate; ``*`` marks the default."""
    library = sound_library()
    default = library.default.device[0]
    lines = [
        f"{'*' if number == default else ' '} {number:3}  {device['name']}"
        f" ({library.query_hostapis(device['hostapi'])['name']}, {device['default_samplerate']:.0f} Hz)\n"
        for number, device in enumerate(library.query_devices())
        if device["max_input_channels"] > 0
    ]
    if not lines:
        raise AudioError("no microphone is there: connect one, or allow this program to use it")
    return "".join(lines)


class Microphone:
    """Records until `stop`. Iterating gives chunks of s16le bytes, one channel, at `sample_rate_hz`.

        with Microphone() as microphone:
            for chunk in microphone:
                …

    After `stop`, which any thread or signal handler may call, iterating gives the rest and ends.
    """

    def __init__(self, device: str | int | None = None) -> None:
        """Open a device: a number or part of a name as `list_microphones` has them, or the default.

        Raises AudioError if it is not there or cannot be opened.
        """
        self._library = sound_library()
        self._chunks: queue.Queue[bytes] = queue.Queue(round(_LONGEST_WAIT_S * 1000 / CHUNK_MS))
        self._stopped = self._ended = False
        self.overflows = 0  # times that the sound card had to throw sound away
        try:
            found = self._library.query_devices(device, "input")
        except (ValueError, self._library.PortAudioError) as error:
            what = "no default microphone" if device is None else f"no microphone {device!r}"
            raise AudioError(f"{what} ({_reason(error)}): `asr mic --list` shows those there are") from error
        self.name = str(found["name"])
        self._stream = self._open(device, round(found["default_samplerate"]))
        self.sample_rate_hz = round(self._stream.samplerate)

    def _open(self, device: str | int | None, own_rate_hz: int) -> Any:
        failure: Exception | None = None
        for rate_hz in dict.fromkeys((own_rate_hz, *_OTHER_RATES_HZ)):
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
        raise AudioError(
            f"cannot record from {self.name} ({_reason(failure)}): "
            "is another program using it? `asr mic --list` shows the others"
        ) from failure

    def __enter__(self) -> Microphone:
        try:
            self._stream.start()
        except self._library.PortAudioError as error:
            self._stream.close()
            raise AudioError(f"cannot record from {self.name} ({_reason(error)})") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def stop(self) -> None:
        """End the recording."""
        self._stopped = True

    def __iter__(self) -> Iterator[bytes]:
        while not self._stopped and not self._ended:
            try:
                yield self._chunks.get(timeout=_PATIENCE_S)
            except queue.Empty:
                continue
        if not self._ended:
            self._stream.stop()
        while not self._chunks.empty():
            yield self._chunks.get()
        if not self._stopped:
            raise AudioError(f"{self.name} has stopped: was it unplugged?")

    def _take(self, data: Any, frames: int, time: Any, status: Any) -> None:
        # Runs in the sound card's own thread, which must never wait.
        if status.input_overflow:
            self.overflows += 1
        try:
            self._chunks.put_nowait(bytes(data))
        except queue.Full:
            self.overflows += 1

    def _end(self) -> None:
        self._ended = True


def _reason(error: Exception | None) -> str:
    """PortAudio's own words, without its numbers and call names."""
    text = str(error.args[0]) if error is not None and error.args else str(error)
    return text.splitlines()[0].removeprefix("Error opening RawInputStream: ").removeprefix("Error starting stream: ")
