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

from asr.errors import AsrError, AudioError, ConfigError, DataError, ModelError
from asr.events import Alternative, Event, Final, Partial, Word
from asr.recognizer import Recognizer, Transcript, load
from asr.search.decoder import DecoderOptions
from asr.search.endpoint import DEFAULT_RULES, EndpointRule
from asr.search.hotwords import HotWord
from asr.stream import Stream, StreamError
from asr.version import __version__
from asr.written.replacements import Replacement, read_replacements

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
    "__version__",
    "load",
    "read_replacements",
]
