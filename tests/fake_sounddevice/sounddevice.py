"""Stands in for sounddevice: a microphone that plays a WAV file into the callback, from a thread of its own.

The environment says what is there: ``FAKE_MIC`` is the file (without it there is no device), and
``FAKE_MIC_FAULT`` what goes wrong: ``unplugged`` (gone after the file), ``busy`` (cannot be opened),
``rate`` (only opens at 16 kHz), ``portaudio`` (no C library). Sound comes twenty times as fast as it was
spoken; after the file there is silence until the stream is stopped.
"""

from __future__ import annotations

import os
import threading
import time
import wave
from collections import namedtuple

_FAULT = os.environ.get("FAKE_MIC_FAULT", "")
_SPEED = 20.0
if _FAULT == "portaudio":
    raise OSError("PortAudio library not found")

CallbackFlags = namedtuple("CallbackFlags", "input_overflow")


class PortAudioError(Exception):
    pass


class default:
    device = (1, 0)


def query_hostapis(index):
    return {"name": "Fake"}


def query_devices(device=None, kind=None):
    speaker = {"name": "Speaker", "hostapi": 0, "max_input_channels": 0, "default_samplerate": 48000.0}
    microphone = {"name": "Fake microphone", "hostapi": 0, "max_input_channels": 1, "default_samplerate": 48000.0}
    found = [speaker, microphone] if "FAKE_MIC" in os.environ else [speaker]
    if kind is None:
        return found
    if len(found) == 1:
        raise PortAudioError("Error querying device -1")
    if device not in (None, 1) and str(device).lower() not in microphone["name"].lower():
        raise ValueError(f"No input device matching {device!r}")
    return microphone


class RawInputStream:
    def __init__(self, samplerate, blocksize, device, channels, dtype, callback, finished_callback):
        if _FAULT == "busy":
            raise PortAudioError("Error opening RawInputStream: Device unavailable [PaErrorCode -9985]")
        if _FAULT == "rate" and samplerate != 16000:
            raise PortAudioError("Error opening RawInputStream: Invalid sample rate [PaErrorCode -9997]")
        assert (channels, dtype) == (1, "int16")
        with wave.open(os.environ["FAKE_MIC"], "rb") as file:
            assert file.getframerate() == samplerate, "the test's file must be at the microphone's rate"
            self._data = file.readframes(file.getnframes())
        self.samplerate, self._block = float(samplerate), 2 * blocksize
        self._callback, self._finished = callback, finished_callback
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def _play(self):
        at, size = 0, self._block
        while not self._stop.is_set() and not (_FAULT == "unplugged" and at >= len(self._data)):
            block = self._data[at : at + size].ljust(size, b"\0")
            at += size
            self._callback(memoryview(block), size // 2, None, CallbackFlags(False))
            time.sleep(size / 2 / self.samplerate / _SPEED)
        self._finished()

    def start(self):
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join()

    def close(self):
        self._stop.set()
