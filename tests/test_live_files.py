"""Coded sound over live connections: the text of the whole file, in order, with an end to every thread."""

from __future__ import annotations

import asyncio
import io
import json
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np
import pytest
from asr.server.client import Client
from asr.server.codec import Coded, Flush, SampleFormat
from asr.server.live_decoding import LiveDecoding
from live_files import browser_webm, opus_packets, pieces
from serving import serving
from test_coded import FORMS, cut, decode
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import asr
from asr.audio.forms import Form

END = {"/v1/stream": '{"type": "end"}', "/v1/listen": '{"type": "CloseStream"}'}
FLUSH = {"/v1/stream": '{"type": "flush"}', "/v1/listen": '{"type": "Finalize"}'}


@pytest.fixture(scope="module")
def server(recognizer) -> Iterator[str]:
    with serving(recognizer) as (address, _):
        yield address


def read(socket: ClientConnection) -> Iterator[dict]:
    with suppress(ConnectionClosed):
        while True:
            yield json.loads(socket.recv(timeout=30))


def send(socket: ClientConnection, parts: Iterable[bytes | str]) -> None:
    with suppress(ConnectionClosed):
        for part in parts:
            if part:
                socket.send(part)


def converse(address: str, parts: Iterable[bytes | str]) -> tuple[list[dict], int | None]:
    """Send everything, read to the end; the messages, and the code of the close."""
    with connect(address) as socket:
        sender = threading.Thread(target=send, args=(socket, parts))
        sender.start()
        messages = list(read(socket))
        sender.join()
        return messages, socket.close_code


def finals(messages: Iterable[dict]) -> list[str]:
    """Their texts, in our own protocol or in Deepgram's."""
    texts = []
    for message in messages:
        if message["type"] == "final":
            texts.append(message["text"])
        elif message["type"] == "Results" and message["is_final"]:
            texts.append(message["channel"]["alternatives"][0]["transcript"])
    return [text for text in texts if text]


def texts_of(recognizer, samples: np.ndarray, rate_hz: int, written: bool) -> list[str]:
    """What the engine gives the samples, ``(n, 1)``."""
    stream = recognizer.stream(rate_hz, "f32le", written=written)
    events = [*stream.accept(samples[:, 0].astype("<f4").tobytes()), *stream.finish()]
    return [event.text for event in events if isinstance(event, asr.Final)]


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "asr-decoding"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever a connection was, nothing decodes for it when it is over."""
    yield
    for _ in range(300):
        if not decoders():
            return
        time.sleep(0.05)
    pytest.fail("a thread still decodes")


@pytest.mark.parametrize("path", sorted(END))
@pytest.mark.parametrize("name", ["webm", "ogg", "ogg flac", "mp3", "mp3 alone", "flac", "aac", "mp4"])
def test_the_text_is_the_whole_file_s(server, recognizer, clips, path: str, name: str) -> None:
    """Without an encoding a file is known by its first bytes, and its text is that of the file, however it is cut."""
    data = b"".join(pieces(name, clips[2].samples))
    whole = recognizer.transcribe(io.BytesIO(data), written=path == "/v1/stream")
    expected = [final.text for final in whole.finals]
    assert expected
    for seed in range(2):
        sizes = [random.Random(seed).choice([1, 7, 100, 1_500, 8_000]) for _ in range(5)]
        messages, code = converse(server + path, [*cut(data, sizes), END[path]])
        assert finals(messages) == expected, sizes
        assert code == 1000
    assert messages[-1]["duration"] == pytest.approx(whole.duration_s, abs=0.01)


@pytest.mark.parametrize("path", sorted(END))
def test_a_flush_is_after_the_sound_before_it(server, recognizer, clips, path: str) -> None:
    """What was sent before it is in its final, what comes later is not; and what is said meanwhile changes nothing."""
    parts = browser_webm(clips[2].samples)
    before, after = parts[:100], parts[100:]
    whole, _ = decode(parts, Form.WEBM)
    heard, _ = decode(before, Form.WEBM)
    stream = recognizer.stream(48_000, "f32le", written=path == "/v1/stream")
    events = [*stream.accept(heard.astype("<f4").tobytes()), *stream.flush()]
    first = [event.text for event in events if isinstance(event, asr.Final)]
    events = [*stream.accept(whole[len(heard) :].astype("<f4").tobytes()), *stream.finish()]
    rest = [event.text for event in events if isinstance(event, asr.Final)]
    assert first
    keep = [] if path == "/v1/stream" else ['{"type": "KeepAlive"}']
    messages, _ = converse(server + path, [*before, FLUSH[path], *keep, *after, END[path]])
    flushed = [n for n, one in enumerate(messages) if one["type"] == "flushed" or one.get("from_finalize")]
    assert len(flushed) == 1
    assert finals(messages[: flushed[0] + 1]) == first
    assert finals(messages[flushed[0] + 1 :]) == rest


def test_a_flush_before_any_sound(server, clips) -> None:
    """It is answered, and so are hot words taken, when all that came is the beginning of a file's header."""
    parts = browser_webm(clips[1].samples)
    hot_words = '{"type": "hot_words", "hot_words": ["husband"]}'
    with connect(server + "/v1/stream") as socket:
        send(socket, [parts[0][:40], FLUSH["/v1/stream"]])
        assert [json.loads(socket.recv(timeout=30))["type"] for _ in range(2)] == ["ready", "flushed"]
        send(socket, [hot_words, parts[0][40:], *parts[1:], END["/v1/stream"]])
        *messages, closed = read(socket)
    assert finals(messages)
    assert closed["type"] == "closed"


def test_our_client_sends_a_file(server, recognizer, clips) -> None:
    """Without an encoding it names no rate and no channels either, and sends a file as it is."""
    data = b"".join(pieces("mp3", clips[2].samples))
    with Client(server, encoding=None) as client:
        client.send(data)
        client.end()
        texts = [event.text for event in client if isinstance(event, asr.Final)]
    assert texts == [final.text for final in recognizer.transcribe(io.BytesIO(data)).finals]


def test_text_comes_while_it_is_recorded(server, clips) -> None:
    """Partials are there though neither the file nor the stream is over."""
    with connect(server + "/v1/stream") as socket:
        send(socket, browser_webm(clips[2].samples)[:130])
        assert any(message["type"] == "partial" and message["words"] for message in read(socket))


def test_deepgram_s_sdk_without_an_encoding(server, recognizer, clips) -> None:
    """The official SDK sends a browser's WebM, as Deepgram's documents have it, and names no encoding."""
    deepgram = pytest.importorskip("deepgram")
    from deepgram.core.events import EventType
    from deepgram.environment import DeepgramClientEnvironment

    http = server.replace("ws:", "http:")
    here = DeepgramClientEnvironment(base=http, production=server, agent=server, agent_rest=http)
    client, received = deepgram.DeepgramClient(api_key="any", environment=here), []
    parts = browser_webm(clips[2].samples)
    with client.listen.v1.connect(model="nova-3", interim_results=True) as socket:
        socket.on(EventType.MESSAGE, received.append)
        for begin in range(0, len(parts), 12):
            socket.send_media(b"".join(parts[begin : begin + 12]))
        socket.send_finalize()
        socket.send_close_stream()
        socket.start_listening()
    results = [message for message in received if message.type == "Results"]
    texts = [result.channel.alternatives[0].transcript for result in results if result.is_final]
    expected = texts_of(recognizer, decode(parts, Form.WEBM)[0], 48_000, written=False)
    assert [text for text in texts if text] == expected
    assert any(not result.is_final for result in results)
    assert received[-1].type == "Metadata"


@pytest.mark.parametrize("query", ["encoding=opus&sample_rate=16000", "encoding=opus&sample_rate=48000&channels=2"])
def test_opus_packets(server, recognizer, clips, query: str) -> None:
    """One packet a message, at whatever rate they were made from; in our own protocol and in Deepgram's."""
    channels = 2 if "channels" in query else 1
    samples = clips[2].samples if channels == 1 else np.stack([clips[2].samples] * 2, axis=1)
    packets = opus_packets(samples)
    expected = texts_of(recognizer, decode(packets, Form.OPUS, channels)[0], 48_000, written=False)
    messages, code = converse(f"{server}/v1/listen?{query}", [*packets, END["/v1/listen"]])
    assert finals(messages) == expected != []
    assert code == 1000
    config = json.dumps({"type": "config", "encoding": "opus", "channels": channels, "written": False})
    messages, code = converse(server + "/v1/stream", [config, *packets, END["/v1/stream"]])
    assert finals(messages) == expected
    assert code == 1000


@pytest.mark.parametrize("name", ["webm", "flac"])
def test_channels_heard_apart(server, recognizer, clips, name: str) -> None:
    """With `multichannel` each of a file's channels is a stream of its own, as many as the file has."""
    one, other = clips[1].samples, clips[2].samples
    both = np.zeros((max(len(one), len(other)), 2), np.float32)
    both[: len(one), 0], both[: len(other), 1] = one, other
    parts = pieces(name, both)
    samples, _ = decode(parts, FORMS[name], 2)
    rate_hz = 48_000 if name == "webm" else 16_000
    messages, _ = converse(server + "/v1/listen?multichannel=true", [*parts, FLUSH["/v1/listen"], END["/v1/listen"]])
    for channel in range(2):
        own = [message for message in messages if message.get("channel_index") == [channel, 2]]
        said = " ".join(finals(own))
        assert said == " ".join(texts_of(recognizer, samples[:, [channel]], rate_hz, written=False))
    assert messages[-1]["channels"] == 2


@pytest.mark.parametrize("name", ["webm", "flac"])
def test_vosk_clients_in_turns(server, recognizer, clips, name: str) -> None:
    """Each message is answered by exactly one, and the text is that of the file."""
    parts, said = pieces(name, clips[2].samples, 0.5), []
    with connect(server + "/vosk") as socket:
        socket.send('{"config": {"sample_rate": 16000}}')
        for part in [part for part in parts if part] + ['{"eof": 1}']:
            socket.send(part)
            said.append(json.loads(socket.recv(timeout=30)))
        assert not list(read(socket))
    samples, _ = decode(parts, FORMS[name])
    rate_hz = 48_000 if name == "webm" else 16_000
    expected = texts_of(recognizer, samples, rate_hz, written=False)
    assert " ".join(one["text"] for one in said if one.get("text")) == " ".join(expected) != ""


def test_damage_is_told_after_the_text_before_it(server, clips) -> None:
    """What was said before it is final, the stream is closed in its protocol's way, and then the error says so."""
    data = b"".join(pieces("aac", clips[2].samples))
    data = data[: len(data) * 2 // 3] + bytes(range(256)) * 20
    messages, code = converse(server + "/v1/stream", cut(data, [500]))  # it need not be ended
    *before, closed, error = messages
    assert len(finals(before)[0].split()) > 3
    assert closed["type"] == "closed"
    assert error["code"] == "bad_audio"
    assert "could be decoded were used" in error["message"]
    assert code == 1008


@pytest.mark.parametrize(
    ("path", "parts", "hint"),
    [
        ("/v1/stream", [b"\x1aE\xdf\xa3" + bytes(9_000)], "holds no sound that can be decoded"),
        ("/v1/listen", [b"fLaC" + bytes(9_000)], "from its first byte on"),
        ("/v1/stream", [b"OggS", END["/v1/stream"]], "from its first byte on"),
        ("/v1/stream", ['{"type": "flush"}', b"OggS" + bytes(100)], "send sound before all else"),
        (
            "/v1/stream",
            ['{"type": "config", "encoding": "s16le"}', b"OggS" + bytes(100)],
            "16-bit integers and this is",
        ),
        (
            "/v1/stream",
            ['{"type": "config", "encoding": "opus"}', b"OggS" + bytes(100)],
            "Opus packets and this is Ogg",
        ),
        ("/v1/stream", ['{"type": "config", "encoding": "opus", "channels": 3}', b"\xf8"], "1 or 2 channels"),
        ("/v1/stream", ['{"type": "config", "encoding": "opus"}', b"\xff\xff", END["/v1/stream"]], "as a message"),
        ("/v1/listen?encoding=linear16", [b"OggS" + bytes(100)], "leave the encoding out"),
        ("/v1/listen?encoding=flac", [bytes(100)], "FLAC and this is none"),
        ("/v1/listen?encoding=ogg-opus", [b"fLaC" + bytes(100)], "Ogg and this is FLAC"),
        ("/v1/listen", [b"\x1f\x43\xb6\x75" + bytes(100)], "without its beginning"),
        ("/v1/listen?multichannel=true", ["nine"], "8 channels at most"),
    ],
)
def test_what_cannot_be_heard(server, clips, path: str, parts: list[bytes | str], hint: str) -> None:
    """The error says what is wrong and what to do, and the connection is closed with it."""
    if parts == ["nine"]:
        parts = [b".snd" + b"".join(n.to_bytes(4, "big") for n in (24, 0xFFFFFFFF, 3, 16_000, 9)) + bytes(40_000)]
    messages, code = converse(server + path, parts)
    assert hint in messages[-1]["message"]
    assert code == 1008


def test_encodings_of_files(server, recognizer, clips) -> None:
    """Deepgram's names for what comes in a file are taken where the file is such a one."""
    for encoding, name in (("ogg-opus", "ogg"), ("flac", "flac")):
        parts = pieces(name, clips[1].samples)
        messages, code = converse(
            f"{server}/v1/listen?encoding={encoding}&sample_rate=8000", [*parts, END["/v1/listen"]]
        )
        rate_hz = 48_000 if name == "ogg" else 16_000
        assert finals(messages) == texts_of(recognizer, decode(parts, FORMS[name])[0], rate_hz, written=False)
        assert code == 1000


def test_clients_that_hang_up(server, clips) -> None:
    """In the header, in the middle, and with as much sent as the server takes: threads end, and the next is served."""
    parts = browser_webm(clips[2].samples)
    for count in (1, 50, len(parts)):
        for _ in range(3):
            with connect(server + "/v1/stream", close_timeout=0.5) as socket:
                send(socket, [parts[0][:100]] if count == 1 else parts[:count] * (1 if count < 100 else 20))
    messages, code = converse(server + "/v1/stream", [*parts, END["/v1/stream"]])
    assert finals(messages)
    assert code == 1000


def test_who_sends_no_more_is_idle(recognizer, clips) -> None:
    """A file that goes on no more is no reason to wait for ever."""
    with serving(recognizer, idle_s=1.0) as (address, _):
        messages, code = converse(address + "/v1/stream", browser_webm(clips[1].samples)[:50])
    assert messages[-1]["code"] == "idle"
    assert code == 1008


def test_stopping_finishes_what_was_said(recognizer, clips) -> None:
    """What is decoded when the server stops is final before the close."""
    parts = browser_webm(clips[2].samples)
    with serving(recognizer) as (address, app), connect(address + "/v1/stream") as socket:
        send(socket, parts)
        assert any(message["type"] == "partial" and message["words"] for message in read(socket))
        app._scheduler._loop.call_soon_threadsafe(app.stop)
        messages = list(read(socket))
        assert socket.close_code == 1001
    assert finals(messages)
    assert messages[-1]["type"] == "closed"


def test_no_more_is_decoded_than_the_engine_takes(clips) -> None:
    """While samples are not taken, no more are decoded, and after some bytes no more are asked for; commands wait in
    their places."""
    parts = browser_webm(clips[2].samples)
    taken: list[int | str] = []

    async def main() -> None:
        gate, over = asyncio.Semaphore(0), asyncio.Event()

        async def hear(form: SampleFormat, data: bytes) -> None:
            await gate.acquire()
            taken.append(len(data) // 4)

        async def obey(command: object) -> None:
            taken.append(type(command).__name__)

        coded = [Coded(part, Form.WEBM, lambda form, data: ()) for part in parts]
        decoding = LiveDecoding(coded[0], hear, obey, lambda failure: over.set())
        decoding.put(coded[0])
        put = 1
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                while True:
                    await decoding.make_room()
                    decoding.put(coded[put % 100 or 1] if put != 60 else Flush())
                    put += 1
        assert not taken
        assert put < 300
        for _ in range(10):
            gate.release()
        while len(taken) < 5:
            await asyncio.sleep(0.01)
        assert max(count for count in taken if isinstance(count, int)) <= 48_000
        decoding.close()
        for _ in range(1_000):
            gate.release()

    asyncio.run(main())
