"""What every wire protocol is made of: messages in become commands, outcomes become messages out.

A codec belongs to one connection, does no input or output, and knows nothing of tasks or threads: its
conformance can be tested with plain strings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from asr.audio.forms import Form
from asr.audio.pcm import Encoding
from asr.errors import AsrError
from asr.events import Event
from asr.search.decoder import DecoderOptions
from asr.search.endpoint import DEFAULT_RULES, EndpointRule
from asr.search.hotwords import HotWord
from asr.written.form import WrittenForm
from asr.written.replacements import Replacement


class ProtocolError(AsrError):
    """A client sent what its protocol does not allow. The message goes to the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse_object(message: str | bytes, name: str = "a text message") -> dict[str, Any]:
    """What a client has sent as JSON. Raises ProtocolError, which calls it ``name``, if it is no JSON object."""
    try:
        request = json.loads(message)
    except ValueError as error:
        raise ProtocolError("bad_json", f"{name} must be JSON: {error}") from error
    except RecursionError as error:
        raise ProtocolError("bad_json", f"{name} is nested too deeply") from error
    if not isinstance(request, dict):
        raise ProtocolError("bad_json", f"{name} must be a JSON object")
    return request


LEAST_PAUSE_S = 0.2  # shorter ones are within words: what is said would be cut to pieces


def pause_rule(silence_s: float) -> EndpointRule:
    """The rule that ends utterances after so much silence, or after `LEAST_PAUSE_S` if a client asks for less."""
    return EndpointRule("silence", speech=True, silence_s=max(silence_s, LEAST_PAUSE_S))


@dataclass(frozen=True)
class Settings:
    """How a connection's stream is opened."""

    sample_rate_hz: float = 16_000.0
    encoding: Encoding = "s16le"
    channels: int = 1
    rules: tuple[EndpointRule, ...] = DEFAULT_RULES
    alternatives: int = 0
    hot_words: tuple[HotWord, ...] = ()
    written: bool | WrittenForm = False  # sentences, capitals, numbers and the like as one writes them
    replacements: tuple[Replacement, ...] = ()

    def decoding(self, default: DecoderOptions) -> DecoderOptions:
        """How to search: as the model's makers tuned it, with as many alternatives as were asked for."""
        return replace(default, alternatives=self.alternatives)


@dataclass(frozen=True)
class Audio:
    """Audio to recognise."""

    data: bytes
    lane: int = 0  # which of a connection's streams it is of, where there are several


@dataclass(frozen=True)
class SampleFormat:
    """How samples are written."""

    sample_rate_hz: float
    channels: int
    encoding: Encoding


@dataclass(frozen=True)
class Coded:
    """Audio to decode first: bytes of a file that is cut anywhere, or one packet."""

    data: bytes
    form: Form
    decoded: Callable[[SampleFormat, bytes], Iterable[Command]]  # what to do with samples that come of it, in order
    channels: int = 1  # of packets, which do not say


@dataclass(frozen=True)
class SetHotWords:
    """Expect these phrases from the next utterance on."""

    hot_words: tuple[HotWord, ...]


@dataclass(frozen=True)
class Flush:
    """End the utterance here."""


@dataclass(frozen=True)
class End:
    """The audio is over."""


Command = Audio | Coded | SetHotWords | Flush | End


@dataclass(frozen=True)
class Outcome:
    """What a command has brought so far."""

    command: Command
    events: tuple[Event, ...]
    done: bool  # whether the command has brought all that it will
    position_s: float  # seconds of audio taken so far
    error: Exception | None = None  # the stream is broken: an AsrError is the client's doing
    lane: int = 0  # of the command


@dataclass(frozen=True)
class Reply:
    """A message to the client."""

    text: str
    replaceable: bool = False  # a newer one may take its place if it was not sent yet
    lane: int = 0  # which of a connection's streams it tells of: one newer than another is of the same


@dataclass(frozen=True)
class Say:
    """What a client is told at once, whatever of its audio is still waiting. It is no command to the engine."""

    replies: tuple[Reply, ...]


class Codec(Protocol):
    """One connection's protocol."""

    @property
    def settings(self) -> Settings:
        """How to open the stream. Asked for once, when the first command comes that is for the engine."""

    def opened(self) -> list[Reply]:
        """What is said to a client that has just connected."""

    def receive(self, message: str | bytes) -> Iterable[Command | Say]:
        """What a client's message asks for. It, or going through it, raises ProtocolError."""

    def reply(self, outcome: Outcome) -> list[Reply]:
        """What the client is told of an outcome."""

    def failed(self, code: str, message: str) -> list[Reply]:
        """What the client is told before the connection is closed for an error."""
