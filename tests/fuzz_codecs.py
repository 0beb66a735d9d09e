"""A fuzz target over every codec: whatever a client sends, it gets messages or a ProtocolError, never a crash.

`test_codecs.py` runs it with Hypothesis, `fuzz.py` with a coverage-guided fuzzer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from asr.server.app import CODECS
from asr.server.codec import (
    Audio,
    Codec,
    Coded,
    Command,
    End,
    Flush,
    Outcome,
    ProtocolError,
    Reply,
    SampleFormat,
    Say,
    Settings,
)
from asr.server.deepgram import DeepgramCodec
from asr.server.openai_api import HttpError
from asr.server.transcription import EventStream, TranscriptionCodec, render
from asr.server.wyoming import WyomingCodec

from asr import Alternative, Final, Partial, Word

WORD = Word("one", 0.1, 0.4, 0.9)
PARTIAL = Partial("one", (WORD,), 1)
FINAL = Final("one", (WORD,), "silence", -1.5, (Alternative("won", (WORD,), -2.0),))
EVENTS = ((), (PARTIAL,), (PARTIAL, FINAL), (FINAL, FINAL))


WYOMING, REALTIME = "wyoming", "/v1/realtime"
WYOMING_BYTES = 1_000  # of audio in an event
PROTOCOLS = {**CODECS, WYOMING: lambda _: WyomingCodec(WYOMING_BYTES)}


def received(codec: Codec, message: str | bytes) -> tuple[list[Command | Say], ProtocolError | None]:
    """What a message asks for, and what is wrong with the rest of it."""
    commands: list[Command | Say] = []
    try:
        for command in codec.receive(message):
            commands.append(command)  # what comes before an error counts
    except ProtocolError as error:
        return commands, error
    return commands, None


def converse(path: str, query: dict[str, list[str]], messages: list[str | bytes]) -> None:
    """Let a codec take messages and answer them, with events as an engine might give."""
    try:
        codec = PROTOCOLS[path](query)
    except ProtocolError:
        return
    read_all(path, codec.opened())
    seconds = 0.0
    for number, message in enumerate(messages):
        commands, refusal = received(codec, message)
        assert_usable(codec.settings)
        answers = 0
        for command in map_decoded(commands):
            if isinstance(command, Say):
                assert read_all(path, list(command.replies))
                answers += len(command.replies)
                continue
            assert isinstance(command, Command)
            if isinstance(command, Audio):
                seconds += len(command.data) / 32_000
            lane = command.lane if isinstance(command, Audio) else 0
            partly = Outcome(command, EVENTS[number % len(EVENTS)], False, seconds, lane=lane)
            replies = read_all(path, codec.reply(partly))
            replies += read_all(path, codec.reply(Outcome(command, (), True, seconds, lane=lane)))
            answers += len(replies)
            if isinstance(command, End):
                break
        if path in ("/", "/vosk"):
            expected = any(isinstance(command, Audio | Flush | End | Say) for command in commands)
            assert answers == expected, "vosk clients wait for exactly one"
        if any(isinstance(command, End) for command in commands):
            return
        if refusal is not None:
            read_all(path, codec.failed(refusal.code, str(refusal)))
            return


def map_decoded(commands: list[Command | Say]) -> Iterator[Command | Say]:
    """What an engine gets, where any sound that is coded is a sample."""
    for command in commands:
        if isinstance(command, Coded):
            yield from command.decoded(SampleFormat(48_000.0, 1, "f32le"), bytes(4))
        else:
            yield command


def read_all(path: str, replies: list[Reply]) -> list[dict]:
    """What the replies say."""
    messages = [read_event(reply.text) if path == WYOMING else json.loads(reply.text) for reply in replies]
    assert all(isinstance(message, dict) for message in messages)
    return messages


def read_event(text: str) -> dict:
    """An event as Wyoming writes it: a line, and data of the length that the line says."""
    line, _, body = text.partition("\n")
    header = json.loads(line)
    assert header.get("data_length", 0) == len(body.encode())
    return {"type": header["type"], **json.loads(body or "{}")}


def assert_usable(settings: Settings) -> None:
    assert isinstance(settings.sample_rate_hz, float)  # its range is the stream's to check
    assert 1 <= settings.channels <= 64
    assert 0 <= settings.alternatives <= 100


def upload(pieces: list[bytes]) -> None:
    """Let the codec of uploads take a body in pieces and answer it, with events as an engine might give."""
    codec, refusal = TranscriptionCodec("multipart/form-data; boundary=B"), None
    try:
        for piece in pieces:
            sound = codec.receive(piece)
            assert codec.file_begun or not sound
        codec.finish()
    except HttpError as error:
        refusal = json.loads(error.body)["error"]
    if refusal is not None:
        assert refusal["message"]
        return
    assert_usable(codec.settings)
    _, body = render(codec.wishes, [FINAL, FINAL], 1.0)
    assert b"one" in body
    stream = EventStream()
    told = [stream.accept(event) for events in EVENTS for event in events]
    deltas = [json.loads(data.removeprefix(b"data: "))["delta"] for data in told if data]
    assert "".join(deltas) == json.loads(stream.end().removeprefix(b"data: "))["text"]


def fuzz(data: bytes) -> None:
    """Bytes as a conversation: the first chooses the path; 0xFF parts messages, whose first byte says of what kind.

    A first byte of 0xFE chooses an upload, in pieces.
    """
    if data[:1] == b"\xfe":
        upload(data[1:].split(b"\xff"))
        return
    path = sorted(PROTOCOLS)[data[0] % len(PROTOCOLS)] if data else "/"
    messages: list[str | bytes] = []
    for part in data[1:].split(b"\xff"):
        messages.append(part[1:] if part[:1] < b"\x20" else part.decode(errors="replace"))
    query: dict[str, list[str]] = {}
    if PROTOCOLS[path] is DeepgramCodec:
        pairs = (pair.partition("=") for pair in str(messages.pop(0)).split("&"))
        query = {key: [value] for key, _, value in pairs}
    converse(path, query, messages)
