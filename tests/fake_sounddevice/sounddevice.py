"""Stands in for sounddevice: a microphone that plays WAV files into the callback, from a thread of its own.

The environment says what is there:

FAKE_MIC         the file; without it there is no device. Several, with the system's separator of paths between: after
                 each the device is gone, and is there again at the second look, with the next one.
FAKE_MIC_FAULT   what goes wrong: ``unplugged`` (gone after the last file), ``busy`` or ``denied`` (cannot be opened),
                 ``stalls`` (gives nothing more after the file, and does not say so), ``rate`` (opens at 16 kHz alone),
                 ``portaudio`` (no C library), ``overflow`` (sound is lost once).
FAKE_MIC_SPEED   how much faster than it was spoken sound comes (20).
FAKE_MIC_TIMES   how often a file is played (1); after it there is silence until the stream is stopped.
"""

from __future__ import annotations

import os
import threading
import time
import wave
from collections import namedtuple

_FAULT = os.environ.get("FAKE_MIC_FAULT", "")
_SPEED = float(os.environ.get("FAKE_MIC_SPEED", "20"))
_TIMES = int(os.environ.get("FAKE_MIC_TIMES", "1"))
if _FAULT == "portaudio":
    raise OSError("PortAudio library not found")

CallbackFlags = namedtuple("CallbackFlags", "input_overflow")
_files = [name for name in os.environ.get("FAKE_MIC", "").split(os.pathsep) if name]
_looks_to_come = 0  # before the device is there again


class PortAudioError(Exception):
    pass


class default:
    device = (1, 0)


def get_portaudio_version():
    return 1246720, "PortAudio V19.6.0-fake"


def _terminate():
    pass


def _initialize():
    global _looks_to_come
    _looks_to_come = max(0, _looks_to_come - 1)


def query_hostapis(index):
    return {"name": "Fake"}


def query_devices(device=None, kind=None):
    speaker = {"name": "Speaker", "hostapi": 0, "max_input_channels": 0, "default_samplerate": 48000.0}
    microphone = {"name": "Fake microphone", "hostapi": 0, "max_input_channels": 1, "default_samplerate": 48000.0}
    found = [speaker, microphone] if _files and not _looks_to_come else [speaker]
    if kind is None:
        return found
    if len(found) == 1:
        raise PortAudioError("Error querying device -1")
    if device not in (None, 1) and str(device).lower() not in microphone["name"].lower():
        raise ValueError(f"No input device matching {device!r}")
    return microphone


def check_input_settings(device, channels, dtype, samplerate):
    _rate_of(_files[0], samplerate)


def _rate_of(name, samplerate):
    with wave.open(name, "rb") as file:
        if file.getframerate() != samplerate:
            raise PortAudioError("Error opening RawInputStream: Invalid sample rate [PaErrorCode -9997]", -9997)
        return file.readframes(file.getnframes())


class RawInputStream:
    def __init__(self, samplerate, blocksize, device, channels, dtype, callback, finished_callback):
        if _FAULT == "busy":
            raise PortAudioError("Error opening RawInputStream: Device unavailable", -9985)
        if _FAULT == "denied":
            host = (8, -13, "Permission denied")
            raise PortAudioError("Error opening RawInputStream: Unanticipated host error", -9999, host)
        if _FAULT == "rate" and samplerate != 16000:
            raise PortAudioError("Error opening RawInputStream: Invalid sample rate [PaErrorCode -9997]", -9997)
        assert (channels, dtype) == (1, "int16")
        self._data = _rate_of(_files[0], samplerate)
        self.samplerate, self._block = float(samplerate), 2 * blocksize
        self._callback, self._finished = callback, finished_callback
        self._goes = _FAULT == "unplugged" or len(_files) > 1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def _play(self):
        global _looks_to_come
        at, size, began_s = 0, self._block, time.monotonic()
        once, total = len(self._data), _TIMES * len(self._data)
        twice = self._data + self._data[:size] if _TIMES > 1 else self._data
        while not self._stop.is_set() and not (self._goes and at >= total):
            if _FAULT == "stalls" and at >= total:
                self._stop.wait()
                break
            block = twice[at % once : at % once + min(size, max(0, total - at))].ljust(size, b"\0")
            self._callback(memoryview(block), size // 2, None, CallbackFlags(_FAULT == "overflow" and at == 0))
            at += size
            time.sleep(max(0.0, began_s + at / 2 / self.samplerate / _SPEED - time.monotonic()))
        if self._goes and not self._stop.is_set() and len(_files) > 1:
            del _files[0]
            _looks_to_come = 2
        self._finished()

    def start(self):
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join()

    def close(self):
        self._stop.set()
