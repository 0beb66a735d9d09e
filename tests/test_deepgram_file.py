"""Deepgram's official client with whole files, pointed at this server: settings, limits, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import socket
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from asr.server.client import Client
from asr.server.deepgram_file import DeepgramFileCodec
from serving import pcm_of, serving, wav_of
from test_openai import wait_for, write_audio

from asr.search.hotwords import HotWord
from asr.written.form import WrittenForm

deepgram = pytest.importorskip("deepgram")

LIMIT_BYTES = 3_000_000


@pytest.fixture(scope="module")
def address(recognizer) -> Iterator[str]:
    with serving(recognizer, idle_s=3.0, max_upload_bytes=LIMIT_BYTES) as (address, _):
        yield address


@pytest.fixture(scope="module")
def media(address):
    """What transcribes files."""
    return media_at(address)


def media_at(address: str, key: str = "any"):
    from deepgram.environment import DeepgramClientEnvironment

    http = address.replace("ws:", "http:")
    here = DeepgramClientEnvironment(base=http, production=address, agent=address, agent_rest=http)
    return deepgram.DeepgramClient(api_key=key, environment=here).listen.v1.media


def best(answer):
    """The likeliest reading of an answer."""
    [channel] = answer.results.channels
    return channel.alternatives[0]


def text_of(transcript) -> str:
    return " ".join(final.text for final in transcript.finals)


def test_a_file(media, recognizer, clips) -> None:
    """The words as they are heard, with times and confidences, and what the file is: its length and its hash."""
    data = clips[0].path.read_bytes()
    alone = recognizer.transcribe(clips[0].path, written=False)
    answer = media.transcribe_file(request=data, model="nova-3")
    assert best(answer).transcript == text_of(alone)
    words = [(word.word, word.start, word.end, word.confidence) for word in best(answer).words]
    assert words == [(word.text, word.start_s, word.end_s, word.confidence) for word in alone.words]
    assert best(answer).confidence == pytest.approx(np.mean([word.confidence for word in alone.words]), abs=1e-3)
    assert answer.metadata.duration == pytest.approx(alone.duration_s, abs=0.01)
    assert answer.metadata.sha256 == hashlib.sha256(data).hexdigest()
    assert answer.metadata.channels == 1
    assert answer.metadata.request_id
    assert answer.metadata.created.tzinfo is not None
    assert answer.results.utterances is None
    assert not any(hasattr(word, "punctuated_word") for word in best(answer).words)


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        ({"punctuate": True}, WrittenForm(numerals=False, punctuation=True)),
        ({"numerals": True}, WrittenForm(numerals=True, punctuation=False)),
        ({"smart_format": True}, WrittenForm()),
    ],
)
def test_the_written_form(media, recognizer, clips, settings, form) -> None:
    """punctuate, numerals and smart_format mean what they mean for live streams; words say how they are punctuated."""
    alone = recognizer.transcribe(clips[1].path, written=form)
    answer = media.transcribe_file(request=clips[1].path.read_bytes(), **settings)
    assert best(answer).transcript == text_of(alone)
    if form.punctuation:
        assert [word.punctuated_word for word in best(answer).words] == [word.text for word in alone.words]
        assert all(word.word == word.word.lower() for word in best(answer).words)


def test_utterances(media, recognizer, speech, tmp_path) -> None:
    """With utterances=True they are those of the engine, and with utt_split a silence must be so long to part them."""
    path = tmp_path / "speech.wav"
    path.write_bytes(wav_of(pcm_of(speech), 16_000))
    alone = recognizer.transcribe(path, written=False)
    answer = media.transcribe_file(request=path.read_bytes(), utterances=True)
    found = [(part.transcript, part.start, part.end, part.channel) for part in answer.results.utterances]
    assert found == [(final.text, final.start_s, final.end_s, 0) for final in alone.finals]
    assert [len(part.words) for part in answer.results.utterances] == [len(final.words) for final in alone.finals]
    assert len({part.id for part in answer.results.utterances}) == len(found) > 3
    assert best(answer).transcript == text_of(alone)
    longer = media.transcribe_file(request=path.read_bytes(), utterances=True, utt_split=5.0)
    assert len(longer.results.utterances) < len(found)


def test_key_terms_and_replacements(media, recognizer, clips) -> None:
    """keyterm and keywords are hot words, and replace writes something else for what was said."""
    data = clips[0].path.read_bytes()
    hot_words = [HotWord("quandary"), HotWord("hurstwood", 6.0)]
    expected = recognizer.transcribe(clips[0].path, hot_words=hot_words, written=False)
    answer = media.transcribe_file(request=data, keyterm=["quandary"], keywords=["hurstwood:6"])
    assert best(answer).transcript == text_of(expected)
    word = expected.words[0].text
    replaced = media.transcribe_file(
        request=data, keyterm=["quandary"], keywords=["hurstwood:6"], replace=f"{word}:XYZ"
    )
    assert best(replaced).transcript.startswith("XYZ ")


def test_alternatives(media, clips) -> None:
    """Other readings of the whole follow the likeliest."""
    more = {"additional_query_parameters": {"alternatives": "3"}}
    answer = media.transcribe_file(request=clips[0].path.read_bytes(), request_options=more)
    transcripts = [reading.transcript for reading in answer.results.channels[0].alternatives]
    assert len(set(transcripts)) == len(transcripts) > 1
    assert transcripts[0] == best(media.transcribe_file(request=clips[0].path.read_bytes())).transcript


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "aac"), ("flac", "flac"), ("mp3", "libmp3lame"), ("webm", "libopus")]
)
def test_any_kind_of_file(media, recognizer, clips, tmp_path, suffix, codec) -> None:
    """A file says itself how it is to be read, whatever encoding is named, and may come piece by piece."""
    path = tmp_path / f"speech.{suffix}"
    write_audio(path, clips[1].samples, codec)
    data = path.read_bytes()
    expected = text_of(recognizer.transcribe(path, written=False))
    assert expected
    assert best(media.transcribe_file(request=data)).transcript == expected
    pieces = (data[begin : begin + 999] for begin in range(0, len(data), 999))
    assert best(media.transcribe_file(request=pieces, encoding="linear16")).transcript == expected


@pytest.mark.parametrize(
    ("query", "samples"),
    [
        ("encoding=linear16", lambda sound: pcm_of(sound)),
        ("encoding=linear16&sample_rate=8000", lambda sound: pcm_of(sound[::2])),
        ("encoding=linear16&channels=2", lambda sound: pcm_of(np.repeat(sound, 2))),
        ("encoding=linear32", lambda sound: sound.astype("<f4").tobytes()),
    ],
)
def test_samples_without_a_header(address, recognizer, clips, query, samples) -> None:
    """With encoding the body is samples, at the rate and in the channels that are named, as in a live stream."""
    sound = clips[1].samples
    status, answer = posted(address, f"/v1/listen?{query}", samples(sound))
    is_half = "8000" in query
    if "linear16" in query:  # what is rounded may be heard otherwise
        sound = np.frombuffer(pcm_of(sound), "<i2").astype(np.float32) / 32_768
    alone = recognizer.transcribe(sound[:: 1 + is_half], sample_rate=16_000 >> is_half, written=False)
    assert status == 200
    assert answer["results"]["channels"][0]["alternatives"][0]["transcript"] == text_of(alone)
    assert answer["metadata"]["duration"] == pytest.approx(len(sound) / 16_000, abs=0.01)
    assert "warnings" not in answer["metadata"]


def posted(
    address: str, target: str, body: bytes, kind: str = "application/octet-stream", **headers
) -> tuple[int, dict]:
    """Status and body of the answer."""
    url = address.replace("ws:", "http:") + target
    request = urllib.request.Request(url, body, {"Content-Type": kind, **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    "begin", [b"RIFF", b"fLaC\0\0\0\x22", b"\0\0\0\x20ftypM4A ", b"\xff\xfb\x90\x64", b"\1\0\2\0\3\0\4\0"]
)
def test_it_does_not_matter_how_a_body_is_cut(begin) -> None:
    """Whether it has a header is told from its first bytes, in pieces as small as one; nothing of it is lost."""
    body = begin + bytes(range(200))
    whole = DeepgramFileCodec("", {"encoding": ["mulaw"]})
    expected = whole.receive(body) + whole.finish()
    codec = DeepgramFileCodec("", {"encoding": ["mulaw"]})
    assert b"".join(codec.receive(body[at : at + 1]) for at in range(len(body))) + codec.finish() == expected
    assert expected.endswith(body)
    assert (len(expected) == len(body)) == (begin[:1] not in (b"\xff", b"\1"))


@pytest.mark.parametrize("kind", ["audio/ogg", "video/mp4", "application/x-www-form-urlencoded", "nonsense"])
def test_the_kind_of_content_is_not_what_tells(address, clips, kind) -> None:
    """Any kind that is not known to hold something else is heard, with curl's own, too."""
    status, answer = posted(address, "/v1/listen", clips[1].path.read_bytes(), kind)
    assert status == 200
    assert answer["results"]["channels"][0]["alternatives"][0]["transcript"]


def test_silence(address) -> None:
    """A file in which nothing is said has an empty transcript."""
    status, answer = posted(address, "/v1/listen?utterances=true", wav_of(bytes(32_000), 16_000))
    assert status == 200
    assert answer["results"]["channels"] == [{"alternatives": [{"transcript": "", "confidence": 0.0, "words": []}]}]
    assert answer["results"]["utterances"] == []


def test_a_file_that_is_cut_off_has_a_warning(media, speech, tmp_path) -> None:
    """What is there is transcribed, and the answer says that it is not all."""
    path = tmp_path / "speech.flac"
    write_audio(path, speech[: 16_000 * 10], "flac")
    data = path.read_bytes()
    cut = media.with_raw_response.transcribe_file(request=data[: len(data) // 2])
    assert "were used" in cut.headers["x-asr-warning"]
    assert "were used" in cut.data.metadata.warnings[0]["message"]
    assert best(cut.data).transcript


@pytest.mark.parametrize(
    ("query", "kind", "body", "code", "hint"),
    [
        ("", "application/json", b'{"url": "https://example.com/a.wav"}', "bad_content_type", "the file itself"),
        ("", "application/json; charset=utf-8", b"{}", "bad_content_type", "the file itself"),
        ("", "multipart/form-data; boundary=B", b"--B--", "bad_content_type", "not in a form"),
        ("callback=https%3A%2F%2Fexample.com", "audio/wav", b"RIFF", "bad_config", "callback is not served"),
        ("encoding=g729", "audio/wav", b"RIFF", "bad_config", "linear16"),
        ("encoding=opus", "audio/wav", b"RIFF", "bad_config", "in a file, such as Ogg"),
        ("encoding=linear16&sample_rate=1", "audio/wav", b"RIFF", "bad_config", "sample_rate"),
        ("utt_split=soon", "audio/wav", b"RIFF", "bad_config", "utt_split"),
        ("utt_split=nan", "audio/wav", b"RIFF", "bad_config", "utt_split"),
        ("replace=nothing", "audio/wav", b"RIFF", "bad_config", "spoken:written"),
        ("keywords=x:y", "audio/wav", b"RIFF", "bad_config", "keyterm or keywords"),
        ("", "audio/wav", b"", "bad_audio", "the file is empty"),
        ("encoding=linear16", "audio/raw", b"", "bad_audio", "the file is empty"),
        ("", "audio/wav", b"hello, is this on?" * 1_000, "bad_audio", "the file"),
        ("", "audio/wav", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "bad_audio", "the file"),
        ("encoding=linear32", "audio/raw", b"\xff" * 64_000, "bad_audio", "NaN"),
    ],
)
def test_wrong_requests(address, query, kind, body, code, hint) -> None:
    """Each is refused with 400 and a reason, in Deepgram's form."""
    status, error = posted(address, f"/v1/listen?{query}", body, kind)
    assert status == 400
    assert error["err_code"] == code
    assert hint in error["err_msg"]
    assert error["request_id"]
    assert set(error) == {"err_code", "err_msg", "request_id"}


def test_wrong_hot_words(address, clips) -> None:
    """One that cannot be said, or too many, are no fault of the file."""
    for term in ("C3PO", "%20".join(["quandary"] * 1_001)):
        status, error = posted(address, f"/v1/listen?keyterm={term}", clips[1].path.read_bytes())
        assert (status, error["err_code"]) == (400, "bad_field")


def test_an_address_in_place_of_a_file(media) -> None:
    """The SDK's transcribe_url raises its own error, which says to send the file."""
    from deepgram.errors import BadRequestError

    with pytest.raises(BadRequestError) as caught:
        media.transcribe_url(url="https://example.com/a.wav")
    assert "send the file itself" in caught.value.body["err_msg"]


def test_too_large(address) -> None:
    """More than the limit is refused."""
    status, error = posted(address, "/v1/listen", bytes(LIMIT_BYTES + 1))
    assert (status, error["err_code"]) == (413, "too_large")


def test_one_who_stalls(address) -> None:
    """A request that does not go on gets 408, in Deepgram's form."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=30) as peer:
        peer.sendall(b"POST /v1/listen HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\nRIFF")
        received = b""
        while more := peer.recv(1 << 16):
            received += more
    assert received.startswith(b"HTTP/1.1 408 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["err_code"] == "idle"


def test_a_token(recognizer, clips) -> None:
    """Without the token a file is refused with 401; with it, as the SDK's key, it is heard."""
    data = clips[1].path.read_bytes()
    with serving(recognizer, token="correct horse") as (address, _):
        status, error = posted(address, "/v1/listen", data, Authorization="Token wrong")
        assert (status, error["err_code"]) == (401, "invalid_api_key")
        assert best(media_at(address, "correct horse").transcribe_file(request=data)).transcript


def test_too_many(recognizer, clips) -> None:
    """When all places are taken, a file is refused like a connection; one that hangs up gives its place back."""
    data = clips[1].path.read_bytes()
    with serving(recognizer, max_connections=1) as (address, app):
        with Client(address) as speaker:
            status, error = posted(address, "/v1/listen", data)
            assert (status, error["err_code"]) == (503, "server_busy")
            speaker.end()
        wait_for(lambda: not app._places.guests)
        where = urlsplit(address)
        with socket.create_connection((where.hostname, where.port), timeout=30) as peer:
            peer.sendall(b"POST /v1/listen HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + data)
            wait_for(lambda: len(app._places.guests) == 1)
        wait_for(lambda: not app._places.guests)


def test_a_long_file_takes_no_more_memory(recognizer) -> None:
    """30 MB that are sent piece by piece are never all there."""
    piece = bytes(1 << 16)
    with serving(recognizer) as (address, _):
        media = media_at(address)
        raw = {"encoding": "linear32", "request_options": {"additional_query_parameters": {"sample_rate": "384000"}}}
        media.transcribe_file(request=iter([piece]), **raw)  # what is made once
        tracemalloc.start()
        try:
            answer = media.transcribe_file(request=(piece for _ in range(480)), **raw)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert answer.metadata.duration == pytest.approx(480 * len(piece) / 4 / 384_000, abs=0.01)
    assert peak < 15_000_000
