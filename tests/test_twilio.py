"""Telephone calls: sound as Twilio's Media Streams send it, and what those get who listen."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from asr.server.codec import Audio, End, ProtocolError, Say
from asr.server.options import ServerOptions
from asr.server.twilio import TwilioCodec
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import asr
from asr.audio.pcm import PcmDecoder
from asr.audio.resample import StreamResampler
from asr.errors import ConfigError

CHUNK = 160  # bytes: 20 ms
CALL, STREAM = "CA0123456789abcdef0123456789abcdef", "MZ0123456789abcdef0123456789abcdef"
FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


@pytest.fixture(scope="module")
def address(recognizer) -> Iterator[str]:
    with serving(recognizer) as (address, _):
        yield address


def coded(samples: np.ndarray) -> bytes:
    """Speech at 16 kHz as a telephone has it, whole chunks of it, by the decoder's own table."""
    resampler = StreamResampler(16_000, 8_000)
    narrow = np.concatenate([resampler.accept(samples), resampler.finish()])
    values = PcmDecoder("mulaw").accept(bytes(range(256)))
    order = np.argsort(values)
    data = order[np.clip(np.searchsorted(values[order], narrow), 0, 255)].astype(np.uint8).tobytes()
    return data[: len(data) - len(data) % CHUNK]


@pytest.fixture(scope="module")
def sound(speech) -> bytes:
    return coded(speech)


def texts_of(recognizer, data: bytes, **options) -> list[str]:
    """What the engine makes of a telephone's sound."""
    stream = recognizer.stream(8_000, encoding="mulaw", **options)
    return [event.text for event in [*stream.accept(data), *stream.finish()] if isinstance(event, asr.Final)]


def start(call: str = CALL, stream: str = STREAM, tracks: tuple[str, ...] = ("inbound",), **parameters: str) -> dict:
    about = {"accountSid": "AC1", "callSid": call, "streamSid": stream, "tracks": list(tracks)}
    about |= {"mediaFormat": FORMAT, "customParameters": parameters}
    return {"event": "start", "start": about}


def media(data: bytes, track: str = "inbound") -> list[dict]:
    """A track's messages, with their own chunks and times."""
    return [
        {
            "event": "media",
            "media": {
                "track": track,
                "chunk": str(1 + begin // CHUNK),
                "timestamp": str(40 + begin // 8),
                "payload": base64.b64encode(data[begin : begin + CHUNK]).decode(),
            },
        }
        for begin in range(0, len(data), CHUNK)
    ]


CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
STOP = {"event": "stop", "stop": {"accountSid": "AC1", "callSid": CALL}}


def numbered(events: list[dict], stream: str = STREAM) -> list[str]:
    """Messages as they are sent: in a row, each with its number and the stream's name."""
    rows = [{**event, "sequenceNumber": str(number), "streamSid": stream} for number, event in enumerate(events, 1)]
    return [json.dumps(row) for row in rows]


def stream_call(address: str, events: list[dict] | list[str], path: str = "/v1/twilio") -> tuple[int, str]:
    """Be the telephone company; return how the connection ended. Nothing may be sent here."""
    messages = [json.dumps(CONNECTED), *(numbered(events) if isinstance(events[0], dict) else events)]
    with connect(address + path) as company:
        with suppress(ConnectionClosed):
            for message in messages:
                company.send(message)
        with pytest.raises(ConnectionClosed):
            company.recv(timeout=60)
        return company.close_code, company.close_reason


def listen(address: str, name: str = CALL, **options) -> ClientConnection:
    return connect(f"{address}/v1/twilio/{name}/transcripts", **options)


def heard(listener: ClientConnection) -> list[dict]:
    """All that a listener gets."""
    messages = []
    with suppress(ConnectionClosed):
        while True:
            messages.append(json.loads(listener.recv(timeout=60)))
    return messages


def finals(messages: list[dict], track: str = "inbound") -> list[str]:
    return [message["text"] for message in messages if message["type"] == "final" and message["track"] == track]


def test_a_call(address, recognizer, sound) -> None:
    """Who listens gets the start with the app's parameters, text as it comes, keys, marks and the end; the company's
    side gets nothing."""
    mark, key = {"event": "mark", "mark": {"name": "greeting"}}, {"event": "dtmf", "dtmf": {"digit": "5"}}
    with listen(address) as listener:
        events = [start(customer="42"), *media(sound), mark, key, STOP]
        assert stream_call(address, events) == (1000, "")
        messages = heard(listener)
        assert listener.close_code == 1000
    assert all((message["call"], message["stream"]) == (CALL, STREAM) for message in messages)
    first, *between, last = messages
    assert (first["type"], first["tracks"], first["parameters"]) == ("started", ["inbound"], {"customer": "42"})
    assert (last["type"], last["track"]) == ("closed", "inbound")
    assert last["duration"] == pytest.approx(len(sound) / 8_000, abs=0.05)
    assert finals(messages) == texts_of(recognizer, sound)
    assert any(message["type"] == "partial" and message["stable"] for message in between)
    others = [message for message in between if message["type"] not in ("partial", "final")]
    assert [(other["type"], other.get("name"), other.get("digit")) for other in others] == [
        ("mark", "greeting", None),
        ("dtmf", None, "5"),
    ]


def test_both_tracks(address, recognizer, clips) -> None:
    """Caller and callee are two streams: each has the text that it has alone."""
    tracks = {"inbound": coded(clips[0].samples), "outbound": coded(clips[1].samples)}
    parts = [media(data, track) for track, data in tracks.items()]
    both = [event for pair in zip(*parts, strict=False) for event in pair]
    both += [event for part in parts for event in part[len(both) // 2 :]]
    with listen(address, "MZboth") as listener:
        stream_call(address, [start("CAboth", "MZboth", ("inbound", "outbound")), *both, STOP])
        messages = heard(listener)
    for track, data in tracks.items():
        assert finals(messages, track) == texts_of(recognizer, data)
        assert [message["type"] for message in messages if message.get("track") == track][-1] == "closed"


def test_who_comes_late(address, recognizer, clips) -> None:
    """When the call is over, all but the partials is still there for a while, by either name."""
    sound, call, stream = coded(clips[2].samples), "CAlate", "MZlate"
    stream_call(address, [start(call, stream), *media(sound), STOP])
    for name in (call, stream):
        with listen(address, name) as listener:
            messages = heard(listener)
        assert [message["type"] for message in messages] == ["started", *["final"] * (len(messages) - 2), "closed"]
        assert finals(messages) == texts_of(recognizer, sound)


def test_a_caller_who_hangs_up(address, recognizer, clips) -> None:
    """Without a stop, the text of what was said until then still comes."""
    sound = coded(clips[1].samples)
    with listen(address, "MZgone") as listener:
        with connect(address + "/v1/twilio") as company:
            for message in numbered([start("CAgone", "MZgone"), *media(sound)]):
                company.send(message)
            company.socket.close()
        assert finals(heard(listener)) == texts_of(recognizer, sound)


def test_messages_that_come_early_twice_or_never(address, recognizer, sound) -> None:
    """Order and repeats change nothing, and what is missing is silence of its length."""
    events = [start("CAmess", "MZmess"), *media(sound), STOP]
    messages = numbered(events)
    rng = np.random.default_rng(0)
    for begin in range(10, len(messages) - 20, 40):
        messages[begin : begin + 6] = rng.permutation(messages[begin : begin + 6]).tolist()
        messages[begin + 8] = messages[begin + 7]  # a repeat, and one that is lost
    lost = range(10 + 8, len(messages) - 20 + 8, 40)
    quiet = bytearray(sound)
    for number in lost:
        quiet[(number - 1) * CHUNK : number * CHUNK] = b"\xff" * CHUNK
    with listen(address, "CAmess") as listener:
        stream_call(address, messages)
        messages_heard = heard(listener)
    assert finals(messages_heard) == texts_of(recognizer, bytes(quiet))
    assert messages_heard[-1]["duration"] == pytest.approx(len(sound) / 8_000, abs=0.05)


@settings(max_examples=100)
@given(st.lists(st.binary(min_size=8, max_size=24), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_messages_changes_nothing(parts: list[bytes], random) -> None:
    """However a start and a few messages are mixed, the same is asked for as in their order."""
    chunks = [
        {"event": "media", "media": {"track": "inbound", "payload": base64.b64encode(part).decode()}} for part in parts
    ]
    messages = numbered([start(), *chunks, STOP])
    mixed = messages[:-1]
    random.shuffle(mixed)
    codecs = [TwilioCodec(), TwilioCodec()]
    whole, other = (
        [command for message in order for command in codec.receive(message) if not isinstance(command, Say)]
        for codec, order in zip(codecs, (messages, [*mixed, messages[-1]]), strict=True)
    )
    assert whole == other == [*map(Audio, parts), End()]


def test_settings_are_parameters_of_the_stream(recognizer, clips, address) -> None:
    """Hot words, the silence that ends utterances and the written form are asked for where the stream is made."""
    sound = coded(clips[0].samples)
    with listen(address, "CAset") as listener:
        parameters = {"hot_words": "quandary, hurstwood", "written": "true", "silence_ms": "60000"}
        stream_call(address, [start("CAset", "MZset", **parameters), *media(sound), STOP])
        messages = heard(listener)
    assert finals(messages) == texts_of(recognizer, sound, hot_words=["quandary", "hurstwood"])
    assert all("spoken" in message for message in messages if message["type"] == "final")
    assert messages[0]["parameters"] == parameters
    for wrong in ({"silence_ms": "soon"}, {"hot_words": "x" * 1000}):
        with suppress(ProtocolError):
            assert list(TwilioCodec().receive(json.dumps(start(**wrong))))


PAYLOAD = base64.b64encode(bytes(CHUNK)).decode()
WRONG = [
    ([{"event": "media", "media": {"payload": PAYLOAD}}], "no_start"),
    ([start(), start()], "bad_start"),
    ([start(call="../../etc")], "bad_start"),
    ([start(tracks=("both",))], "bad_start"),
    ([{"event": "start", "start": {**start()["start"], "mediaFormat": {"encoding": "audio/opus"}}}], "bad_start"),
    ([{"event": "start"}], "bad_message"),
    ([start(), {"event": "media", "media": {"payload": "no base64!"}}], "bad_media"),
    ([start(), {"event": "media", "media": {"payload": PAYLOAD, "track": "outbound"}}], "bad_media"),
    ([start(), {"event": "media", "media": None}], "bad_message"),
    ([start(silence_ms="-1")], "bad_start"),
]


@pytest.mark.parametrize(("events", "code"), WRONG)
def test_what_is_refused(events, code) -> None:
    """Each has a code and a reason; events of unknown kinds are none of it."""
    codec = TwilioCodec()
    *before, last = numbered([{"event": "weather"}, *events])
    for message in before:
        list(codec.receive(message))
    with pytest.raises(ProtocolError) as error:
        list(codec.receive(last))
    assert error.value.code == code
    assert json.loads(codec.failed(code, str(error.value))[0].text)["code"] == code
    with pytest.raises(ProtocolError, match="JSON"):
        list(codec.receive(b"\0"))


def test_a_stream_that_is_refused(address) -> None:
    """The company's connection is closed with the reason, which those who listen get as an error."""
    with listen(address, "CAbad") as listener:
        code, reason = stream_call(
            address, [start("CAbad", "MZbad"), {"event": "media", "media": {"payload": PAYLOAD, "track": "other"}}]
        )
        messages = heard(listener)
    assert code == 1008
    assert "'other'" in reason
    assert [message["type"] for message in messages] == ["started", "error"]
    assert messages[-1]["code"] == "bad_media"


def test_who_may_call_and_listen(recognizer) -> None:
    """The token is a parameter of the stream, as addresses of streams hold none, or in the address of others; without
    it nothing is heard, and nobody stays who says nothing."""
    with serving(recognizer, token="correct horse", handshake_s=0.5) as (address, _):
        code, reason = stream_call(address, [start(token="wrong horse")])
        assert (code, "parameter token" in reason) == (1008, True)
        code, reason = stream_call(address, [CONNECTED])
        assert (code, "start did not come" in reason) == (1008, True)
        with pytest.raises(InvalidStatus) as error:
            listen(address)
        assert error.value.response.status_code == 401
        for events, path in (
            ([start("CAa", "MZa", token="correct horse"), STOP], "/v1/twilio"),
            ([start("CAb", "MZb"), STOP], "/v1/twilio?token=correct%20horse"),
        ):
            assert stream_call(address, events, path) == (1000, "")
        with connect(f"{address}/v1/twilio/CAa/transcripts?token=correct%20horse") as listener:
            assert heard(listener)[0]["parameters"] == {}


def test_a_call_that_never_comes(recognizer) -> None:
    """Who waits for it is told so, and leaves."""
    with serving(recognizer, idle_s=0.3) as (address, _), listen(address, "CAnever") as listener:
        (message,) = heard(listener)
        assert (message["type"], message["code"], listener.close_code) == ("error", "no_call", 1008)


def test_several_processes(recognizer) -> None:
    """Where a call may be at another process, whoever wants to listen is told what to do."""
    with serving(recognizer, reuse_port=True) as (address, _), pytest.raises(InvalidStatus) as error:
        listen(address)
    assert error.value.response.status_code == 501
    assert b"--call-url" in error.value.response.body


def test_stopping_finishes_calls(recognizer, clips) -> None:
    """Told to stop, the server gives those who listen the last text before it closes with 1001."""
    sound = coded(clips[1].samples)
    with serving(recognizer) as (address, app), listen(address) as listener, connect(address + "/v1/twilio") as company:
        for message in numbered([start(), *media(sound)]):
            company.send(message)
        while json.loads(listener.recv(timeout=30))["type"] != "partial":
            pass
        app._scheduler._loop.call_soon_threadsafe(app.stop)
        messages = heard(listener)
        assert [message["type"] for message in messages if message["type"] != "partial"] == ["final", "closed"]
        assert listener.close_code == 1001


@contextmanager
def posts(statuses: Iterator[int]) -> Iterator[tuple[str, list[dict]]]:
    """A web server that takes events, and answers with these statuses."""
    taken: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = next(statuses, 204)
            if status < 300:
                taken.append(json.loads(body))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/events?secret=1", taken
        server.shutdown()
        thread.join()


def test_events_are_posted(recognizer, sound) -> None:
    """All but partials, in their order, tried again after a failure and after a redirection, which is not followed."""
    options = {"reuse_port": True}  # as where there are several processes
    with posts(iter([204, 500, 302])) as (url, taken), serving(recognizer, call_url=url, **options) as (address, _):
        stream_call(address, [start(), *media(sound), STOP])
        end_s = time.monotonic() + 60
        while not taken or taken[-1]["type"] != "closed":
            assert time.monotonic() < end_s
            time.sleep(0.05)
    assert [event["type"] for event in taken] == ["started", *["final"] * (len(taken) - 2), "closed"]
    assert finals(taken) == texts_of(recognizer, sound)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "nonsense", "http://a:b:c/"])
def test_addresses_that_cannot_be_posted_to(url) -> None:
    """They are refused when the server starts."""
    with pytest.raises(ConfigError, match="posted"):
        ServerOptions(call_url=url)
