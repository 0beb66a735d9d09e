"""The server over real sockets: both protocols, limits, errors, and its end."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import numpy as np
import pytest
from asr.server import logs
from asr.server.client import AsyncClient, Client, ServerError
from asr.server.options import ServerOptions
from serving import is_ready, pcm_of, serving, texts_of, wait_until_ready, wav_of
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import asr
from asr import HotWord
from asr.errors import ConfigError
from asr.search.decoder import with_beam


@pytest.fixture(scope="module")
def server(recognizer) -> Iterator[str]:
    with serving(recognizer, idle_s=5.0) as (address, _):
        yield address


def send_in_turns(socket: ClientConnection, pcm: bytes, size: int) -> list[dict]:
    """What sample clients of vosk-server do: send a chunk, wait for the reply."""
    replies = []
    for begin in range(0, len(pcm), size):
        socket.send(pcm[begin : begin + size])
        replies.append(json.loads(socket.recv(timeout=30)))
    socket.send('{"eof" : 1}')
    replies.append(json.loads(socket.recv(timeout=30)))
    return replies


@pytest.mark.parametrize("path", ["/", "/vosk"])
def test_vosk_gives_one_reply_a_chunk_and_the_engine_s_text(server, recognizer, speech, path) -> None:
    """In turns, through several utterances: partials and results, with words and absolute times."""
    pcm = pcm_of(speech)
    with connect(server + path) as socket:
        socket.send('{ "config" : { "sample_rate" : 16000.0 } }')
        replies = send_in_turns(socket, pcm, 8_000)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 1000
    finals = [reply["text"] for reply in replies if reply.get("text")]
    assert " ".join(finals) == " ".join(texts_of(recognizer, pcm, written=False))
    assert all(("partial" in reply) != ("text" in reply) for reply in replies)
    words = [word for reply in replies for word in reply.get("result", [])]
    assert [word["word"] for word in words] == " ".join(finals).split()
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert starts[-1] > 15


def test_vosk_s_other_requests(server, recognizer, clips) -> None:
    """Alternatives have no text beside them, words can be left out, reset answers once, and the stream goes on."""
    pcm = pcm_of(clips[1].samples)
    with connect(server) as socket:
        socket.send(json.dumps({"config": {"sample_rate": 16000, "max_alternatives": 3, "words": 0}}))
        socket.send(pcm)
        assert "partial" in json.loads(socket.recv(timeout=30))
        socket.send('{"reset": 1}')
        final = json.loads(socket.recv(timeout=30))
        assert list(final) == ["alternatives"]
        assert len(final["alternatives"]) == 3
        assert set(final["alternatives"][0]) == {"confidence", "text"}
        again = send_in_turns(socket, pcm, len(pcm))
        assert again[-1]["alternatives"][0]["text"]


def test_vosk_clients_that_send_a_wav_header_and_no_config(server, recognizer, clips) -> None:
    """The header's rate is taken in place of the 8 kHz of clients that say nothing, and is no sound."""
    pcm = pcm_of(clips[0].samples)
    with connect(server) as socket:
        replies = send_in_turns(socket, wav_of(pcm, 16_000), 4_001)  # an odd number of bytes, too
    texts = [reply["text"] for reply in replies if reply.get("text")]
    assert texts == texts_of(recognizer, pcm, written=False)
    with connect(server) as socket:
        socket.send('{"config": {"sample_rate": 8000}}')
        socket.send(wav_of(pcm, 16_000))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 1008
        assert "16000 Hz" in socket.close_reason
        assert "8000 Hz" in socket.close_reason


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/listen"])
def test_wav_files_as_they_are(server, recognizer, clips, path) -> None:
    """One of 8 kHz, with a chunk before its samples, is heard with its own settings."""
    pcm = pcm_of(clips[2].samples[::2])
    note = b"LIST\x1a\0\0\0INFOISFT\x0d\0\0\0Lavf61.7.100\0\0"
    end = '{"type": "end"}' if path == "/v1/stream" else '{"type": "CloseStream"}'
    with connect(server + path) as socket:
        socket.send(wav_of(pcm, 8_000, before=note))
        socket.send(end)
        messages = [json.loads(message) for message in iter_messages(socket)]
    words = [word for message in messages for word in words_of(message)]
    stream = recognizer.stream(8_000, written=path == "/v1/stream")
    events = [*stream.accept(pcm), *stream.finish()]
    assert words == [word.text for event in events if isinstance(event, asr.Final) for word in event.words] != []


def words_of(message: dict) -> list[str]:
    """Words of a final, in our own protocol or in Deepgram's."""
    if message["type"] == "final":
        return [word["text"] for word in message["words"]]
    if message["type"] == "Results" and message["is_final"]:
        return [word["punctuated_word"] for word in message["channel"]["alternatives"][0]["words"]]
    return []


@pytest.mark.parametrize(
    "message",
    ["hello", "[]", '{"config": 3}', '{"config": {"model": "/etc/passwd"}}', '{"config": {"sample_rate": "x"}}'],
)
def test_vosk_requests_that_are_wrong(server, message) -> None:
    """The connection is closed with a reason."""
    with connect(server) as socket:
        socket.send(message)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 1008
        assert socket.close_reason


def converse(address: str, config: dict, parts: list[bytes | str], query: str = "") -> list[dict]:
    """Send everything at once and read to the end."""
    with connect(address + "/v1/stream" + query) as socket:
        if config:
            socket.send(json.dumps({"type": "config", **config}))
        with suppress(ConnectionClosed):
            for part in parts:
                socket.send(part)
        return [json.loads(message) for message in iter_messages(socket)]


def test_our_protocol_gives_the_engine_s_events(server, recognizer, speech) -> None:
    """Partials with their stable length, finals, and the length at the end; stable text never changes."""
    pcm = pcm_of(speech)
    chunks = [pcm[i : i + 3_200] for i in range(0, len(pcm), 3_200)]
    messages = converse(server, {"sample_rate": 16_000, "alternatives": 2}, [*chunks, '{"type": "end"}'])
    assert messages[0]["type"] == "ready"
    assert messages[-1] == {"type": "closed", "duration": pytest.approx(len(speech) / 16_000, abs=0.01)}
    decoding = asr.search.decoder.replace(recognizer.bundle.decoding, alternatives=2)
    finals = [message for message in messages if message["type"] == "final"]
    assert [final["text"] for final in finals] == texts_of(recognizer, pcm, decoding=decoding)
    assert all(len(final["alternatives"]) == 2 for final in finals)
    stable = ""
    for message in messages[1:-1]:
        assert message["text"].startswith(stable)
        stable = message["text"][: message["stable"]] if message["type"] == "partial" else ""


def test_a_server_with_a_beam_of_its_own(recognizer, clips) -> None:
    """Streams search with the beam that the server was given; one that cannot be is told before it serves."""
    pcm = pcm_of(clips[0].samples)
    decoding = with_beam(recognizer.bundle.decoding, 5)
    with serving(recognizer, beam=5) as (address, app):
        messages = converse(address, {"sample_rate": 16_000}, [pcm, '{"type": "end"}'])
        assert app._scheduler._decoding == decoding
    finals = [message["text"] for message in messages if message["type"] == "final"]
    assert finals == texts_of(recognizer, pcm, decoding=decoding)
    with pytest.raises(ConfigError, match="beam -1: choose"):
        ServerOptions(beam=-1)
    with pytest.raises(ConfigError, match="at most 10000"):
        ServerOptions(beam=20_000)


def test_our_protocol_s_other_requests(server, recognizer, clips) -> None:
    """Flush ends an utterance and says so, hot words may change, and other encodings and rates are taken."""
    loud = clips[1].samples
    floats = np.repeat(loud, 2).astype("<f4").tobytes()
    hot = json.dumps({"type": "hot_words", "hot_words": [{"phrase": "zebra", "boost": 1.0}, "quagga"]})
    config = {"sample_rate": 32_000, "encoding": "f32le", "endpointing": False, "partial_interval_ms": 500}
    messages = converse(server, config, [hot, floats, '{"type": "flush"}', floats, '{"type": "end"}'])
    kinds = [message["type"] for message in messages if message["type"] != "partial"]
    assert kinds == ["ready", "final", "flushed", "final", "closed"]


@pytest.mark.parametrize(
    ("config", "part", "code", "hint"),
    [
        ({"encoding": "mp3"}, b"", "bad_config", "s16le"),
        ({"sample_rate": 0}, b"", "bad_config", "4000 to 768000"),
        ({"sampling": 1}, b"", "bad_config", "unknown key 'sampling'"),
        ({"hot_words": ["b52"]}, bytes(8), "bad_audio", "'b52'"),
        ({"endpointing": "soon"}, b"", "bad_config", "silence_ms"),
        ({}, "{", "bad_json", "JSON"),
        ({}, '{"type": "stop"}', "unknown_message", "expected config"),
        ({"encoding": "f32le"}, np.full(100, np.nan, dtype="<f4").tobytes(), "bad_audio", "NaN"),
    ],
)
def test_our_protocol_names_what_is_wrong(server, config, part, code, hint) -> None:
    """An error message with a code and a reason, then the connection is closed."""
    *_, last = converse(server, config, [part])
    assert (last["type"], last["code"]) == ("error", code)
    assert hint in last["message"]


def test_our_client_blocking(server, recognizer, clips) -> None:
    """It gives the engine's own events, and says what the server refused."""
    pcm = pcm_of(clips[3].samples)
    with Client(server, endpointing=False, hot_words=["zebra", HotWord("quagga", 2.0)]) as client:
        client.send(pcm)
        client.flush()
        client.set_hot_words([])
        client.send(pcm)
        client.end()
        events = list(client)
    finals = [event for event in events if isinstance(event, asr.Final)]
    assert [final.reason for final in finals] == ["flush", "end"]
    assert finals[0].text == texts_of(recognizer, pcm, rules=())[0]
    assert any(isinstance(event, asr.Partial) and event.stable_chars > 0 for event in events)
    with Client(server, encoding="mp3") as client, pytest.raises(ServerError, match="s16le") as error:
        list(client)
    assert error.value.code == "bad_config"
    with pytest.raises(ServerError, match="cannot connect"):
        Client("ws://127.0.0.1:1")


def test_our_client_asynchronous(server, recognizer, clips) -> None:
    """Sending and reading at the same time, in one task each."""
    pcm = pcm_of(clips[4].samples)

    async def main() -> list[asr.Event]:
        async with AsyncClient(server) as client:

            async def talk() -> None:
                for begin in range(0, len(pcm), 3_200):
                    await client.send(pcm[begin : begin + 3_200])
                await client.end()

            talking = asyncio.create_task(talk())
            events = [event async for event in client]
            await talking
            return events

    finals = [event.text for event in asyncio.run(main()) if isinstance(event, asr.Final)]
    assert finals == texts_of(recognizer, pcm)


def test_our_client_sends_any_length_at_once(server, recognizer, clips) -> None:
    """More audio than a message may hold is sent in one call, and heard as it is."""
    pcm = pcm_of(clips[4].samples)
    pcm *= (1 << 20) // len(pcm) + 1
    with Client(server) as client:
        client.send(pcm)
        client.end()
        assert [event.text for event in client if isinstance(event, asr.Final)] == texts_of(recognizer, pcm)


def test_deepgram_s_sdk(server, recognizer, speech) -> None:
    """The official SDK, pointed at this server: interim and final results, words, Finalize, and the end."""
    deepgram = pytest.importorskip("deepgram")
    from deepgram.core.events import EventType
    from deepgram.environment import DeepgramClientEnvironment

    http = server.replace("ws:", "http:")
    here = DeepgramClientEnvironment(base=http, production=server, agent=server, agent_rest=http)
    client = deepgram.DeepgramClient(api_key="any", environment=here)
    pcm, received = pcm_of(speech), []
    options = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16_000, "interim_results": True}
    with client.listen.v1.connect(**options) as socket:
        socket.on(EventType.MESSAGE, received.append)
        for begin in range(0, len(pcm), 6_400):
            socket.send_media(pcm[begin : begin + 6_400])
        socket.send_keep_alive()
        socket.send_finalize()
        socket.send_close_stream()
        socket.start_listening()
    results = [message for message in received if message.type == "Results"]
    finals = [result for result in results if result.is_final and result.channel.alternatives[0].transcript]
    assert len(results) > len(finals)
    texts = texts_of(recognizer, pcm, written=False)
    assert [final.channel.alternatives[0].transcript for final in finals] == texts
    assert any(final.speech_final for final in finals)
    assert any(result.from_finalize for result in results)
    assert finals[-1].channel.alternatives[0].words[-1].end > 15
    assert received[-1].type == "Metadata"
    assert received[-1].duration == pytest.approx(len(speech) / 16_000, abs=0.01)


def test_deepgram_s_utterance_end(server, clips) -> None:
    """It comes once, when so much audio has passed after the last word, whether or not silence ends utterances."""
    pcm = pcm_of(clips[1].samples) + bytes(4 * 32_000)
    for query in ("endpointing=false&utterance_end_ms=1000", "endpointing=300&utterance_end_ms=2500"):
        told = []
        with connect(f"{server}/v1/listen?{query}&interim_results=true") as socket:
            for begin in range(0, len(pcm), 3_200):
                socket.send(pcm[begin : begin + 3_200])
            socket.send('{"type": "CloseStream"}')
            for message in map(json.loads, iter_messages(socket)):
                if message["type"] == "UtteranceEnd" or words_of(message):
                    told.append(message)
        *_, final, end = told
        assert [message["type"] for message in told].count("UtteranceEnd") == 1
        word = final["channel"]["alternatives"][0]["words"][-1]
        assert end == {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": word["end"]}
        assert final["speech_final"] == ("false" not in query)


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("encoding=g729", "linear16"),
        ("sample_rate=x", "sample_rate"),
        ("utterance_end_ms=soon", "positive number of milliseconds"),
        ("utterance_end_ms=0", "positive number of milliseconds"),
        ("utterance_end_ms=nan", "positive number of milliseconds"),
    ],
)
def test_deepgram_settings_that_cannot_work(server, query, hint) -> None:
    """The handshake is refused with 400 and the reason."""
    with pytest.raises(InvalidStatus) as error:
        connect(f"{server}/v1/listen?{query}")
    assert error.value.response.status_code == 400
    assert hint in error.value.response.body.decode()


def test_many_clients_at_once_each_get_their_own_text(server, recognizer, clips) -> None:
    """Twenty connections in threads: each gets the text that its audio has alone; then there is room again."""
    pcms = [pcm_of(np.roll(clips[i % 5].samples, 1_237 * i)) for i in range(20)]
    texts: dict[int, list[str]] = {}

    def client(i: int) -> None:
        chunks = [pcms[i][j : j + 6_400] for j in range(0, len(pcms[i]), 6_400)]
        messages = converse(server, {}, [*chunks, '{"type": "end"}'])
        texts[i] = [message["text"] for message in messages if message["type"] == "final"]

    threads = [threading.Thread(target=client, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, pcm in enumerate(pcms):
        assert texts[i] == texts_of(recognizer, pcm)
    wait_until_ready(server)


def test_clients_that_vanish_or_send_too_much_disturb_nobody(server, recognizer, clips) -> None:
    """Cut off mid-word, a message beyond the limit, silence for too long: each connection ends, the next one works."""
    with connect(server + "/v1/stream") as socket:
        socket.send(pcm_of(clips[0].samples))
        socket.socket.close()
    with connect(server + "/v1/stream", max_size=None) as socket:
        socket.recv(timeout=10)
        with suppress(ConnectionClosed):
            socket.send(bytes(2 << 20))
        assert [json.loads(message)["code"] for message in iter_messages(socket)] == ["message_too_large"]
        assert socket.close_code == 1009
    messages = converse(server, {}, [])  # says nothing
    assert messages[-1]["code"] == "idle"
    pcm = pcm_of(clips[2].samples)
    messages = converse(server, {}, [pcm, '{"type": "end"}'])
    assert [message["text"] for message in messages if message["type"] == "final"] == texts_of(recognizer, pcm)


def test_limits_and_tokens(recognizer) -> None:
    """Without the token 401, with too many connections 503, on an unknown path 404; the address may hold the token."""
    with serving(recognizer, token="correct horse", max_connections=2, idle_s=30.0) as (address, _):

        def refused(path: str, **options) -> int:
            with pytest.raises(InvalidStatus) as error:
                connect(address + path, **options)
            return error.value.response.status_code

        header = {"additional_headers": {"Authorization": "Bearer correct horse"}}
        assert refused("/v1/stream") == 401
        assert refused("/v1/stream?token=wrong") == 401
        assert refused("/elsewhere", **header) == 404
        with connect(address + "/v1/stream?token=correct%20horse"), connect(address + "/", **header):
            assert refused("/v1/stream", **header) == 503


def test_a_full_server_is_not_ready(recognizer) -> None:
    """With as many connections as it takes, /readyz is 503, and who comes is told that the limit is the server's."""
    with serving(recognizer, max_connections=1) as (address, _):
        assert is_ready(address)
        with connect(address + "/v1/stream"):
            assert not is_ready(address)
            assert "too many connections: this server takes 1 " in refusal(address)
        wait_until_ready(address)


def test_a_full_address_leaves_the_server_ready(recognizer) -> None:
    """Where one address has its share, that is what it is told, and /readyz stays: there is room for others."""
    with serving(recognizer, max_per_address=1) as (address, _), connect(address + "/v1/stream"):
        assert is_ready(address)
        assert "too many connections from one address: this server takes 1 " in refusal(address)


def refusal(address: str) -> str:
    """What is answered to one connection too many."""
    with pytest.raises(InvalidStatus) as error:
        connect(address + "/v1/stream")
    assert error.value.response.status_code == 503
    return error.value.response.body.decode()


def test_stopping_finishes_what_was_said(recognizer, clips) -> None:
    """Told to stop in the middle of a stream, the server sends the final of what it has heard, and closes with 1001."""
    with serving(recognizer) as (address, app), connect(address + "/v1/stream") as socket:
        socket.send(pcm_of(clips[1].samples))
        while json.loads(socket.recv(timeout=30))["type"] != "partial":
            pass
        app._scheduler._loop.call_soon_threadsafe(app.stop)
        messages = [json.loads(message) for message in iter_messages(socket)]
        assert [message["type"] for message in messages if message["type"] != "partial"] == ["final", "closed"]
        assert socket.close_code == 1001


def iter_messages(socket: ClientConnection) -> Iterator[str]:
    try:
        while True:
            yield str(socket.recv(timeout=30))
    except ConnectionClosed:
        return


def test_a_public_address_needs_a_token() -> None:
    """It is refused with what to do; a token or an explicit word allows it."""
    with pytest.raises(ConfigError, match="--token"):
        ServerOptions(host="0.0.0.0")
    assert ServerOptions(host="0.0.0.0", token="long enough").token
    assert ServerOptions(host="::1").is_local
    with pytest.raises(ConfigError, match="8 characters"):
        ServerOptions(token="short")
    with pytest.raises(ConfigError, match="--key"):
        ServerOptions(cert="cert.pem")


def test_the_log_holds_no_words_unless_asked(recognizer, clips, caplog) -> None:
    """Each connection's opening and end are lines with fields; texts come only with log_transcripts, tokens never."""
    pcm = pcm_of(clips[1].samples)
    caplog.set_level("INFO", logger="asr.server")
    for transcripts in (False, True):
        caplog.clear()
        with serving(recognizer, token="correct horse", log_transcripts=transcripts) as (address, _):
            messages = converse(address, {}, [pcm, '{"type": "end"}'], "?token=correct%20horse")
        finals = [message["text"] for message in messages if message["type"] == "final"]
        lines = {record.getMessage(): record.fields for record in caplog.records if record.name == "asr.server"}
        assert lines["opened"]["path"] == "/v1/stream"
        assert lines["closed"]["code"] == 1000
        assert lines["closed"]["finals"] == len(finals) > 0
        assert lines["closed"]["audio_s"] == pytest.approx(len(pcm) / 32_000, abs=0.01)
        assert ("final" in lines) == transcripts
        for log_format in ("text", "json"):
            text = "\n".join(logs._Formatter(log_format).format(record) for record in caplog.records)
            assert ("text" in text and finals[0] in text) == transcripts
            assert "horse" not in text


def test_pages_of_other_origins(recognizer) -> None:
    """With --origin, browsers' pages from elsewhere are refused; our own, and programs, which name none, are not."""
    with serving(recognizer, origins=("https://ours.example",)) as (address, _):
        with connect(address + "/v1/stream", origin="https://ours.example"), connect(address + "/v1/stream"):
            pass
        with connect(address + "/v1/stream", origin=address.replace("ws:", "http:")):
            pass
        for theirs in ("https://theirs.example", "http://127.0.0.1:1", "null", "http://["):
            with pytest.raises(InvalidStatus) as error:
                connect(address + "/v1/stream", origin=theirs)
            assert error.value.response.status_code == 403


def test_plain_http(server) -> None:
    """The page, whether the server is alive and ready, and figures for Prometheus."""
    http = server.replace("ws:", "http:")
    for path, content in (("/", "<title>"), ("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "asr_streams 0")):
        with urllib.request.urlopen(http + path) as response:
            assert content in response.read().decode()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(http + "/page/../app.py")


def asked(address: str, method: str, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of the answer to a request."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/listen", "/nowhere"])
def test_head_is_answered_as_get_is(server, path) -> None:
    """HEAD, as uptime monitors ask it, has GET's status and headers and no body."""
    status, headers, body = asked(server, "GET", path)
    assert body
    found, found_headers, nothing = asked(server, "HEAD", path)
    assert (found, nothing) == (status, b"")
    for name in ("Content-Type", "Upgrade"):
        assert found_headers[name] == headers[name]
    if path != "/metrics":  # its figures change
        assert found_headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/v1/models/asr", "GET, HEAD, OPTIONS"),
        ("/v1/stream", "GET, HEAD, OPTIONS"),
        ("/v1/listen", "GET, HEAD, POST, OPTIONS"),
        ("/v1/audio/transcriptions", "POST, OPTIONS"),
    ],
)
def test_methods(server, path, methods) -> None:
    """OPTIONS tells the methods that a path takes, as does the answer to one that it does not."""
    status, headers, body = asked(server, "OPTIONS", path)
    assert (status, headers["Allow"], body) == (200, methods, b"")
    status, headers, body = asked(server, "DELETE", path)
    assert (status, headers["Allow"]) == (405, methods)
    assert json.loads(body)["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/vosk", "/v1/stream", "/v1/listen?model=nova-3", "/v1/realtime", "/v1/twilio", "/v1/twilio/x/transcripts"]
)
def test_a_websocket_path_asked_without_an_upgrade(server, path) -> None:
    """Whoever's proxy drops the header Upgrade is told that the path speaks WebSockets."""
    status, headers, body = asked(server, "GET", path)
    assert (status, headers["Upgrade"]) == (426, "websocket")
    assert "this path speaks WebSockets" in body.decode()
