"""Streaming speech-to-text: words while they are spoken, on an ordinary CPU, offline.

import asr

recognizer = asr.load()
print(recognizer.transcribe("talk.mp3").text)

stream = recognizer.stream(sample_rate=48_000)
for chunk in microphone:
    for event in stream.accept(chunk):
        print(event.text)
for event in stream.finish():
    print(event.text)
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from asr.version import __version__

if TYPE_CHECKING:
    from asr.errors import AsrError, AudioError, ConfigError, DataError, ModelError
    from asr.events import Alternative, Event, Final, Partial, Word
    from asr.recognizer import Recognizer, Transcript, load
    from asr.search.decoder import DecoderOptions
    from asr.search.endpoint import DEFAULT_RULES, EndpointRule
    from asr.search.hotwords import HotWord
    from asr.stream import Stream, StreamError
    from asr.written.form import WrittenForm
    from asr.written.replacements import Replacement, read_replacements

# Whoever runs Python at the root of a checkout gets this folder for the package that they have installed. The server,
# the command line and the shipped model, which the package has within it, lie beside it there.
_BESIDE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_BESIDE, "pretrained", "model.toml")):
    __path__.append(_BESIDE)

# Names are fetched when they are used: `asr --version` loads no recogniser, nor does a program that only wants errors.
_HOMES = {
    "Alternative": "asr.events",
    "AsrError": "asr.errors",
    "AudioError": "asr.errors",
    "ConfigError": "asr.errors",
    "DEFAULT_RULES": "asr.search.endpoint",
    "DataError": "asr.errors",
    "DecoderOptions": "asr.search.decoder",
    "EndpointRule": "asr.search.endpoint",
    "Event": "asr.events",
    "Final": "asr.events",
    "HotWord": "asr.search.hotwords",
    "ModelError": "asr.errors",
    "Partial": "asr.events",
    "Recognizer": "asr.recognizer",
    "Replacement": "asr.written.replacements",
    "Stream": "asr.stream",
    "StreamError": "asr.stream",
    "Transcript": "asr.recognizer",
    "Word": "asr.events",
    "WrittenForm": "asr.written.form",
    "load": "asr.recognizer",
    "read_replacements": "asr.written.replacements",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = [
    "DEFAULT_RULES",
    "Alternative",
    "AsrError",
    "AudioError",
    "ConfigError",
    "DataError",
    "DecoderOptions",
    "EndpointRule",
    "Event",
    "Final",
    "HotWord",
    "ModelError",
    "Partial",
    "Recognizer",
    "Replacement",
    "Stream",
    "StreamError",
    "Transcript",
    "Word",
    "WrittenForm",
    "__version__",
    "load",
    "read_replacements",
]
