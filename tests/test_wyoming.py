"""Wyoming, with the client library that Home Assistant uses: transcripts, what is wrong, and the server's limits."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from asr.server.app import App
from asr.server.client import Client
from asr.server.options import ServerOptions
from serving import pcm_of, serving, texts_of
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

import asr
from asr.errors import ConfigError

RATE_HZ = 16_000
LIMIT_BYTES = 100_000


@pytest.fixture(scope="module")
def address(recognizer) -> Iterator[str]:
    with wyoming(recognizer, max_message_bytes=LIMIT_BYTES) as (address, _):
        yield address


@contextmanager
def wyoming(recognizer, where: str = "tcp://127.0.0.1:0", **options) -> Iterator[tuple[str, str]]:
    """A server; gives the address at which it speaks Wyoming, and the other one."""
    with serving(recognizer, wyoming=where, **options) as (websockets, app):
        yield app.wyoming, websockets


def talk(address: str, *events: Event, stop_at: str = "") -> list[Event]:
    """Send events; give the answers up to one of a type, or all until the server hangs up."""

    async def main() -> list[Event]:
        answers: list[Event] = []
        async with AsyncClient.from_uri(address, read_timeout=30) as client:
            for event in events:
                await client.write_event(event)
            while (answer := await client.read_event()) is not None:
                answers.append(answer)
                if answer.type == stop_at:
                    break
        return answers

    return asyncio.run(main())


def speech_events(pcm: bytes, size: int = 2_048, rate_hz: int = RATE_HZ, channels: int = 1) -> list[Event]:
    form = {"rate": rate_hz, "width": 2, "channels": channels}
    chunks = [AudioChunk(audio=pcm[i : i + size], **form).event() for i in range(0, len(pcm), size)]
    return [AudioStart(**form).event(), *chunks, AudioStop().event()]


def test_describe(address) -> None:
    """A client that asks what there is learns of one installed model, its language, and that transcripts stream."""
    (answer,) = talk(address, Describe().event(), stop_at="info")
    (program,) = Info.from_event(answer).asr
    assert program.installed
    assert program.supports_transcript_streaming
    assert program.requires_external_vad
    assert [(model.name, model.languages, model.installed) for model in program.models] == [("asr", ["en"], True)]
    (answer,) = talk(address, Ping("are you there, ☃?").event(), stop_at="pong")
    assert Pong.from_event(answer).text == "are you there, ☃?"


@pytest.mark.parametrize("size", [640, 2_048, 32_000])
def test_a_transcript_as_home_assistant_asks_for_it(address, recognizer, speech, size) -> None:
    """However the audio is cut, the engine's text comes in chunks that join to the transcript, which ends it."""
    pcm = pcm_of(speech)
    answers = talk(address, Transcribe(language="en").event(), *speech_events(pcm, size))
    kinds = [answer.type for answer in answers]
    assert TranscriptStart.is_type(kinds[0])
    assert Transcript.is_type(kinds[-2])
    assert TranscriptStop.is_type(kinds[-1])
    assert all(TranscriptChunk.is_type(kind) for kind in kinds[1:-2])
    transcript = Transcript.from_event(answers[-2])
    assert transcript.text == " ".join(texts_of(recognizer, pcm))
    assert "".join(TranscriptChunk.from_event(answer).text for answer in answers[1:-2]) == transcript.text
    assert len(kinds) > 10


def test_silence_has_an_empty_transcript(address) -> None:
    """Whoever waits for a transcript gets one, with or without audio."""
    for audio in (b"", bytes(32_000)):
        answers = talk(address, *speech_events(audio))
        assert [answer.type for answer in answers] == ["transcript-start", "transcript", "transcript-stop"]
        assert Transcript.from_event(answers[1]).text == ""


def test_names_and_terms_are_hot_words(address, recognizer, clips) -> None:
    """They change the text as the engine's hot words do; what cannot be said is left out."""
    pcm = pcm_of(clips[0].samples)
    asked = Transcribe(transcript_names=["quandary", "TV 2", "Küche"], transcript_terms=["hurstwood", ""])
    answers = talk(address, asked.event(), *speech_events(pcm))
    expected = texts_of(recognizer, pcm, hot_words=["quandary", "hurstwood"])
    assert Transcript.from_event(answers[-2]).text == " ".join(expected)


def test_text_comes_while_somebody_speaks(address, speech) -> None:
    """The first chunk of text is there before the audio is over."""

    async def main() -> str:
        start, *chunks, _ = speech_events(pcm_of(speech[: 8 * RATE_HZ]))
        async with AsyncClient.from_uri(address, read_timeout=30) as client:
            for event in (start, *chunks):
                await client.write_event(event)
            assert TranscriptStart.is_type((await client.read_event()).type)
            return TranscriptChunk.from_event(await client.read_event()).text

    assert asyncio.run(main())


FORM = {"rate": RATE_HZ, "width": 2, "channels": 1}
START = AudioStart(**FORM).event()


@pytest.mark.parametrize(
    ("events", "code", "hint"),
    [
        ([AudioStart(rate=RATE_HZ, width=4, channels=1).event()], "bad_event", "16 bits"),
        ([AudioStart(rate=0, width=2, channels=1).event()], "bad_event", "4000 to 768000"),
        ([Event("audio-start", {"rate": "fast", "width": 2, "channels": 1})], "bad_event", "rate"),
        ([Event("audio-start", {})], "bad_event", "rate"),
        ([START, START], "bad_event", "a connection for each transcript"),
        ([START, AudioChunk(audio=b"abc", **FORM).event()], "bad_audio", "2 bytes"),
        ([START, AudioChunk(audio=b"ab", rate=8_000, width=2, channels=1).event()], "bad_event", "audio-start had"),
        ([START, AudioChunk(audio=bytes(LIMIT_BYTES + 2), **FORM).event()], "too_large", "smaller events"),
        ([AudioStop().event()], "bad_event", "audio-start"),
        ([START, Transcribe().event()], "bad_event", "before the audio"),
        ([Event("transcribe", {"transcript_names": "kitchen"})], "bad_event", "list of strings"),
        ([Event("describe", {"x": "y" * 70_000})], "too_large", "smaller events"),
    ],
)
def test_events_that_are_wrong(address, events, code, hint) -> None:
    """An error says what is wrong and what to do, and the connection is closed."""
    *_, answer = talk(address, *events)
    assert answer.type == "error"
    assert answer.data["code"] == code
    assert hint in answer.data["text"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"hello, is this on?\n", "bad_json"),
        (b"[1]\n", "bad_json"),
        (b"[" * 60_000 + b"\n", "bad_json"),
        (b"\xff\xfe\n", "bad_json"),
        (bytes(70_000), "too_large"),
        (b"{}\n", "bad_event"),
        (b'{"type": "audio-start", "data": [1]}\n', "bad_event"),
        (b'{"type": "audio-chunk", "payload_length": -1}\n', "bad_event"),
        (b'{"type": "audio-chunk", "payload_length": 2147483648}\n', "too_large"),
        (b'{"type": "describe", "data_length": 3}\n...', "bad_json"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bad_json"),
    ],
)
def test_bytes_that_are_no_events(address, recognizer, clips, data, code) -> None:
    """Each gets its error, and somebody who speaks to another protocol meanwhile gets the text they get alone."""
    pcm = pcm_of(clips[1].samples)
    host, port = address.removeprefix("tcp://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(data)
        while more := peer.recv(1 << 16):
            answer += more
    header, _, body = answer.partition(b"\n")
    assert json.loads(header)["type"] == "error"
    assert json.loads(body)["code"] == code
    answers = talk(address, *speech_events(pcm))
    assert Transcript.from_event(answers[-2]).text == " ".join(texts_of(recognizer, pcm))


def test_events_of_other_services(address) -> None:
    """A request to another service is answered with an error; what nobody knows is dropped; the connection goes on."""
    events = [Event("synthesize", {"text": "hello"}), Event("weather", {"sun": True}), Describe().event()]
    answers = talk(address, *events, stop_at="info")
    assert [answer.type for answer in answers] == ["error", "info"]
    assert answers[0].data["code"] == "not_served"


def test_both_servers_share_one_engine(recognizer, clips) -> None:
    """Somebody who speaks Wyoming and somebody on a WebSocket at the same time each get the text they get alone."""
    here, there = pcm_of(clips[1].samples), pcm_of(clips[2].samples)
    heard: list[str] = []
    with wyoming(recognizer) as (address, websockets), Client(websockets) as client:
        speaking = threading.Thread(
            target=lambda: heard.extend(
                Transcript.from_event(event).text
                for event in talk(address, *speech_events(here))
                if event.type == "transcript"
            )
        )
        speaking.start()
        for begin in range(0, len(there), 3_200):
            client.send(there[begin : begin + 3_200])
        client.end()
        finals = [event.text for event in client if isinstance(event, asr.Final)]
        speaking.join(60)
    assert heard == [" ".join(texts_of(recognizer, here))]
    assert finals == texts_of(recognizer, there)


def test_a_client_that_says_nothing(recognizer) -> None:
    """It is told so, and its connection is closed."""
    with wyoming(recognizer, idle_s=0.2) as (address, _):
        (answer,) = talk(address)
    assert answer.type == "error"
    assert answer.data["code"] == "idle"


def test_when_there_is_no_place(recognizer) -> None:
    """A client too many is told to try later."""
    with wyoming(recognizer, max_connections=1) as (address, websockets), Client(websockets) as client:
        (answer,) = talk(address, Describe().event())
        assert answer.type == "error"
        assert answer.data["code"] == "server_busy"
        client.end()


def test_stopping_finishes_what_was_said(recognizer, clips) -> None:
    """Told to stop in the middle of a stream, the server sends the transcript of what it has heard."""
    start, *chunks, _ = speech_events(pcm_of(clips[1].samples))

    async def main(address: str, stop) -> list[Event]:
        answers: list[Event] = []
        async with AsyncClient.from_uri(address, read_timeout=30) as client:
            for event in (start, *chunks):
                await client.write_event(event)
            answers.append(await client.read_event())
            stop()
            while (answer := await client.read_event()) is not None:
                answers.append(answer)
        return answers

    with serving(recognizer, wyoming="tcp://127.0.0.1:0") as (_, app):
        stop = partial(app._scheduler._loop.call_soon_threadsafe, app.stop)
        answers = asyncio.run(main(app.wyoming, stop))
    assert Transcript.from_event(answers[-2]).text


@pytest.mark.skipif(not hasattr(asyncio, "open_unix_connection"), reason="this system has no Unix sockets")
def test_a_unix_socket(recognizer, clips, tmp_path) -> None:
    """It serves as TCP does, and its file is gone when the server is."""
    path, pcm = tmp_path / "wyoming.sock", pcm_of(clips[1].samples)
    with wyoming(recognizer, f"unix://{path}") as (address, _):
        answers = talk(address, *speech_events(pcm))
    assert Transcript.from_event(answers[-2]).text == " ".join(texts_of(recognizer, pcm))
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"wyoming": "10300"}, "tcp://HOST:PORT"),
        ({"wyoming": "tcp://127.0.0.1"}, "tcp://HOST:PORT"),
        ({"wyoming": "tcp://127.0.0.1:99999"}, "tcp://HOST:PORT"),
        ({"wyoming": "unix://relative"}, "absolute path"),
        ({"wyoming": "tcp://0.0.0.0:10300", "token": "long enough"}, "--insecure"),
        ({"wyoming": "unix:///tmp/x", "reuse_port": True}, "--workers"),
        ({"wyoming": "tcp://127.0.0.1:0", "reuse_port": True}, "--workers"),
    ],
)
def test_addresses_that_cannot_work(options, hint) -> None:
    """Each is refused with what to do."""
    with pytest.raises(ConfigError, match=hint):
        ServerOptions(**options)
    assert ServerOptions(wyoming="tcp://0.0.0.0:10300", insecure=True).wyoming


def test_an_address_that_is_taken(recognizer) -> None:
    """The server says so and does not start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        async def main() -> None:
            await App(recognizer, ServerOptions(port=0, wyoming=f"tcp://127.0.0.1:{port}")).run(lambda _: None)

        with pytest.raises(ConfigError, match=f"cannot listen on tcp://127.0.0.1:{port}"):
            asyncio.run(main())
