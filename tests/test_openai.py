"""OpenAI's official client, pointed at this server: files, streams of events, models, and what goes wrong."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
import openai
import pytest
from asr.server.client import Client
from serving import pcm_of, serving, texts_of

from asr.audio.resample import StreamResampler
from asr.formats import to_srt, to_vtt

ROOT = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 3_000_000


@pytest.fixture(scope="module")
def address(recognizer) -> Iterator[str]:
    with serving(recognizer, idle_s=3.0, max_upload_bytes=LIMIT_BYTES) as (address, _):
        yield address


@pytest.fixture(scope="module")
def client(address) -> Iterator[openai.OpenAI]:
    with openai_at(address) as client:
        yield client


def openai_at(address: str, token: str = "none") -> openai.OpenAI:
    where = address.replace("ws://", "http://")
    return openai.OpenAI(base_url=f"{where}/v1", api_key=token, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def alone(recognizer, clips):
    """What the engine makes of the first clip's file."""
    return recognizer.transcribe(clips[0].path)


def test_json_and_text(client, clips, alone) -> None:
    """The whole text, as the engine gives it for the file, and how long the file is."""
    path = clips[0].path
    whole = " ".join(final.text for final in alone.finals)
    answer = client.audio.transcriptions.create(model="whisper-1", file=path)
    assert answer.text == whole
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == pytest.approx(alone.duration_s, abs=0.01)
    assert client.audio.transcriptions.create(model="asr", file=path, response_format="text") == whole + "\n"


def test_subtitles(client, clips, alone) -> None:
    """SRT and WebVTT are those that the command line writes."""
    path = clips[0].path
    for response_format, write in (("srt", to_srt), ("vtt", to_vtt)):
        text = client.audio.transcriptions.create(model="asr", file=path, response_format=response_format)
        assert text == write(alone.finals, "", alone.duration_s)


@pytest.mark.parametrize("granularities", [["word"], ["segment"], ["word", "segment"]])
def test_verbose_json(client, clips, alone, granularities) -> None:
    """Words and segments with their times, those that were asked for."""
    answer = client.audio.transcriptions.create(
        model="asr", file=clips[0].path, response_format="verbose_json", timestamp_granularities=granularities
    )
    assert answer.duration == pytest.approx(alone.duration_s, abs=0.01)
    words = None if answer.words is None else [(w.word, w.start, w.end) for w in answer.words]
    assert words == ([(w.text, w.start_s, w.end_s) for w in alone.words] if "word" in granularities else None)
    segments = None if answer.segments is None else [(s.text, s.start, s.end) for s in answer.segments]
    expected = [(final.text, final.start_s, final.end_s) for final in alone.finals]
    assert segments == (expected if "segment" in granularities else None)


def test_events(client, tmp_path, speech) -> None:
    """With stream=True the deltas, joined, are the text at the end, over several utterances."""
    events = list(client.audio.transcriptions.create(model="asr", file=("x.wav", wav_of(speech)), stream=True))
    deltas = [event.delta for event in events[:-1]]
    assert events[-1].type == "transcript.text.done"
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert "".join(deltas) == events[-1].text
    assert len(deltas) > 5


def wav_of(samples, rate_hz: int = 16_000) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm_of(samples))
    return target.getvalue()


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "aac"), ("flac", "flac"), ("mp3", "libmp3lame"), ("webm", "libopus")]
)
def test_any_kind_of_file(client, recognizer, clips, tmp_path, suffix, codec) -> None:
    """What can only be read with a way back, as an MP4, gives the text that it gives from disk; so do the others."""
    path = tmp_path / f"speech.{suffix}"
    write_audio(path, clips[1].samples, codec)
    expected = " ".join(final.text for final in recognizer.transcribe(path).finals)
    assert expected
    assert client.audio.transcriptions.create(model="asr", file=path).text == expected


def write_audio(path, samples, codec: str) -> None:
    """A file of any kind, at 48 kHz."""
    rate_hz = 48_000
    resampler = StreamResampler(16_000, rate_hz)
    sound = np.concatenate([resampler.accept(samples), resampler.finish()])
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray((np.clip(sound, -1, 1) * 32767).astype("<i2")[None], "s16", "mono")
        frame.sample_rate = rate_hz
        fifo = av.AudioResampler(
            format=stream.format, layout="mono", rate=rate_hz, frame_size=stream.frame_size or 1024
        )
        for part in [*fifo.resample(frame), *fifo.resample(None)]:
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))


def test_keywords_are_hot_words(client, recognizer, clips) -> None:
    """Keywords change the text as the engine's hot words do."""
    answer = client.audio.transcriptions.create(
        model="asr", file=clips[0].path, extra_body={"keywords": ["quandary", "hurstwood"]}
    )
    expected = recognizer.transcribe(clips[0].path, hot_words=["quandary", "hurstwood"])
    assert answer.text == " ".join(final.text for final in expected.finals)


def test_models(client) -> None:
    """There is one, and another cannot be found."""
    assert [model.id for model in client.models.list()] == ["asr"]
    assert client.models.retrieve("asr").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"response_format": "srt", "stream": True}, "response_format"),
        ({"timestamp_granularities": ["syllable"]}, "timestamp_granularities"),
        ({"extra_body": {"colour": "blue"}}, "colour"),
        ({"extra_body": {"stream": "maybe"}}, "stream"),
        ({"extra_body": {"keywords": ["   "]}}, "keywords"),
        ({"extra_body": {"keywords": ["C3PO"]}}, "keywords"),
        ({"extra_body": {"keywords": [" ".join(["quandary"] * 1_001)]}}, "keywords"),
    ],
)
def test_wrong_fields(client, clips, settings, param) -> None:
    """The error names the field."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(model="asr", file=clips[0].path, **settings)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code == "bad_field"


def test_the_error_of_an_unknown_field_names_those_that_are_known(client, clips) -> None:
    """Whoever misspells a field reads all of those that docs/protocol.md lists."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(model="asr", file=clips[0].path, extra_body={"colour": "blue"})
    named = caught.value.body["message"].partition("there are ")[2].split(", ")
    table = (ROOT / "docs" / "protocol.md").read_text().partition("| field | |\n|---|---|\n")[2].partition("\n\n")[0]
    assert sorted(named) == sorted(re.findall(r"`([^`]+)`", " ".join(row.split("|")[1] for row in table.split("\n"))))


@pytest.mark.parametrize(
    "content",
    [
        b"hello, is this on?" * 1_000,
        b"",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        b"\0\0\0\x20ftypM4A " + bytes(5_000),
    ],
    ids=["text", "nothing", "playlist", "session", "broken"],
)
def test_what_is_no_sound(client, content) -> None:
    """Is refused with a reason, and nothing that it names is opened."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(model="asr", file=("speech.wav", content))
    assert caught.value.code == "bad_audio"
    assert caught.value.body["message"].startswith("the file")


CUT_OFF = [
    ("wav", "pcm_s16le"),
    ("flac", "flac"),
    ("webm", "libopus"),
    ("aiff", "pcm_s16be"),
    ("au", "pcm_s16be"),
]


def test_a_file_that_breaks_off(client, clips) -> None:
    """What can be decoded is transcribed, and the answer says that it is not all."""
    whole = wav_of(clips[1].samples)
    path_bytes = clips[1].path.read_bytes()
    answer = client.audio.transcriptions.create(model="asr", file=("x.opus", path_bytes[: len(path_bytes) // 2]))
    assert answer.text
    assert len(answer.text) < len(client.audio.transcriptions.create(model="asr", file=("x.wav", whole)).text)


@pytest.mark.parametrize(("suffix", "codec"), CUT_OFF)
def test_a_file_that_is_cut_off_has_a_warning(client, speech, tmp_path, suffix, codec) -> None:
    """The answer to an upload whose header promises more than came says so, and that to a whole one does not."""
    path = tmp_path / f"speech.{suffix}"
    write_audio(path, speech[: 16_000 * 10], codec)
    data = path.read_bytes()
    transcribe = client.audio.transcriptions.with_raw_response.create
    whole = transcribe(model="asr", file=(path.name, data))
    assert "x-asr-warning" not in whole.headers
    cut = transcribe(model="asr", file=(path.name, data[: len(data) // 2]))
    assert "were used" in cut.headers["x-asr-warning"]
    assert json.loads(cut.content)["text"]


def test_too_large(client) -> None:
    """More than the limit is refused while it comes."""
    with pytest.raises(openai.APIStatusError) as caught:
        client.audio.transcriptions.create(model="asr", file=("x.wav", bytes(LIMIT_BYTES + 1)))
    assert caught.value.status_code == 413
    assert caught.value.code == "too_large"


def test_a_token(recognizer, clips) -> None:
    """Without the token nothing is served, with it everything."""
    with serving(recognizer, token="correct horse") as (address, _):
        with openai_at(address) as stranger:
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
            with pytest.raises(openai.AuthenticationError) as caught:
                stranger.audio.transcriptions.create(model="asr", file=clips[1].path)
            assert caught.value.code == "invalid_api_key"
        with openai_at(address, "correct horse") as friend:
            assert list(friend.models.list())
            assert friend.audio.transcriptions.create(model="asr", file=clips[1].path).text


def test_too_many(recognizer, clips) -> None:
    """When all places are taken, an upload is refused like a connection."""
    with (
        serving(recognizer, max_connections=1) as (address, _),
        Client(address) as speaker,
        openai_at(address) as client,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            client.audio.transcriptions.create(model="asr", file=clips[1].path)
        assert caught.value.status_code == 503
        speaker.end()


# What no client's library sends.

HEAD = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n"
FILE = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n'


def answer_to(address: str, *parts: bytes, pause_s: float = 0.0) -> tuple[int, dict]:
    """Status and body of the answer to bytes as they are."""
    where = urlsplit(address)
    received = b""
    with socket.create_connection((where.hostname, where.port), timeout=30) as peer, suppress(ConnectionError):
        for part in parts:
            peer.sendall(part)
            time.sleep(pause_s)
        while more := peer.recv(1 << 16):
            received += more
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([HEAD + b"Content-Length: 2147483648\r\n\r\n" + FILE], 413, "too_large"),
        ([HEAD + b"Content-Length: 4000\r\n\r\n" + FILE + b"RIFF"], 408, "idle"),
        ([HEAD + b"Content-Length: 5\r\n\r\n--B--"], 400, "no_file"),
        ([HEAD + b"Content-Length: 9\r\n\r\nnonsense\n"], 400, "bad_multipart"),
        ([HEAD + b"Content-Length: %d\r\n\r\n" % len(FILE) + FILE], 400, "bad_multipart"),
        ([HEAD.replace(b"multipart/form-data", b"audio/wav") + b"Content-Length: 1\r\n\r\nx"], 400, "bad_content_type"),
        ([HEAD + b"Content-Length: no\r\n\r\n"], 400, "bad_request"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], 400, "bad_request"),
        ([b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"], 404, "not_found"),
        ([b"DELETE /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n\r\n"], 405, "method_not_allowed"),
        ([b"GET /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n\r\n"], 405, "method_not_allowed"),
        ([bytes(range(256)) * 10], 400, "bad_request"),
    ],
    ids=[
        "2 GB",
        "stalls",
        "no file",
        "no multipart",
        "half",
        "no form",
        "length",
        "chunk",
        "path",
        "method",
        "get",
        "garbage",
    ],
)
def test_requests_that_are_wrong(address, recognizer, clips, parts, status, code) -> None:
    """Each gets its reason in the API's shape, and somebody who speaks meanwhile gets the text they get alone."""
    pcm = pcm_of(clips[1].samples)
    with Client(address) as speaker:
        answers: list[tuple[int, dict]] = []
        asking = threading.Thread(target=lambda: answers.append(answer_to(address, *parts)))
        asking.start()
        sent = 0
        while asking.is_alive():
            speaker.send(pcm[sent : sent + 3_200])  # slowly, but never silent for as long as the server waits
            sent += 3_200
            asking.join(0.5)
        [(found, error)] = answers
        assert (found, error["code"]) == (status, code)
        assert error["message"]
        speaker.send(pcm[sent:])
        speaker.end()
        assert [event.text for event in speaker if hasattr(event, "reason")] == texts_of(recognizer, pcm)


def test_an_upload_that_waits_for_leave_and_comes_in_pieces(address, clips, alone) -> None:
    """Expect: 100-continue, a chunked body in small pieces, and the file before the fields, as curl sends them."""
    end = b'\r\n--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nasr\r\n--B--\r\n'
    body = FILE + clips[0].path.read_bytes() + end
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=30) as peer:
        peer.sendall(HEAD + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert peer.recv(1_000).startswith(b"HTTP/1.1 100 ")
        for begin in range(0, len(body), 1_000):
            piece = body[begin : begin + 1_000]
            peer.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        peer.sendall(b"0\r\n\r\n")
        received = b""
        while more := peer.recv(1 << 16):
            received += more
    assert json.loads(received.partition(b"\r\n\r\n")[2])["text"] == " ".join(final.text for final in alone.finals)


def test_one_who_hangs_up(recognizer, clips) -> None:
    """An upload that is broken off gives its place back."""
    with serving(recognizer) as (address, app):
        where = urlsplit(address)
        with socket.create_connection((where.hostname, where.port), timeout=30) as peer:
            peer.sendall(HEAD + b"Content-Length: 2000000\r\n\r\n" + FILE + wav_of(clips[1].samples))
            wait_for(lambda: len(app._places.guests) == 1)
        wait_for(lambda: not app._places.guests)


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
