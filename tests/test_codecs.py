"""The wire protocols as pure functions: no message may break a codec."""

from __future__ import annotations

import json

import pytest
from asr.server import vosk
from asr.server.app import CODECS
from asr.server.client import make_config, parse
from asr.server.codec import Audio, Outcome, ProtocolError
from asr.server.deepgram import DeepgramCodec
from asr.server.native import NativeCodec
from asr.server.vosk import VoskCodec
from fuzz_codecs import converse, fuzz, upload
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.events import Final, Word
from asr.written.writer import Writer

KEYS = ["config", "sample_rate", "words", "max_alternatives", "phrase_list", "eof", "reset", "model", "type"]
KEYS += ["encoding", "channels", "hot_words", "endpointing", "silence_ms", "alternatives", "partial_interval_ms"]
KEYS += ["phrase", "boost", "written", "replacements"]
KINDS = ["config", "hot_words", "flush", "end", "Finalize", "KeepAlive", "CloseStream", "s16le", "f32le"]
PARAMETERS = ["model", "encoding", "sample_rate", "channels", "interim_results", "endpointing", "keyterm", "keywords"]
PARAMETERS += ["smart_format", "numerals", "replace"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["config", "hot_words", "flush", "end", "Finalize", "KeepAlive", "CloseStream", "s16le", "f32le"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
REQUESTS = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), VALUES, max_size=4).map(json.dumps)
MESSAGES = st.lists(st.binary(max_size=64) | REQUESTS | st.text(max_size=20), max_size=6)
QUERIES = st.dictionaries(
    st.sampled_from(PARAMETERS),
    st.lists(st.sampled_from(["linear16", "opus", "true", "nan", "inf", "1e9", "16000", "a:b", ":", ""]), min_size=1),
)


@pytest.mark.parametrize("path", sorted(CODECS))
def test_no_conversation_breaks_a_codec(path: str) -> None:
    """Whatever comes, a codec answers with JSON objects or refuses with a reason; Vosk's answers exactly once."""

    @settings(max_examples=300, deadline=None)
    @given(QUERIES, MESSAGES)
    @example({}, ['{"config": {"sample_rate": NaN}}', b"\0" * 3, b"\0"])
    @example({}, ['{"type": "config", "sample_rate": NaN}', b"\0" * 3])
    @example({}, ['{"config": {"sample_rate": 1e999, "max_alternatives": true}}'])
    def hold(query: dict[str, list[str]], messages: list[str | bytes]) -> None:
        converse(path, query, messages)

    hold()


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_the_fuzz_target(data: bytes) -> None:
    """The target that a fuzzer can go on with runs, and finds nothing at once."""
    fuzz(data)


@pytest.mark.parametrize("path", sorted(CODECS))
def test_deep_nesting_is_refused(path: str) -> None:
    """A message that would exhaust the parser is bad JSON, not a crash."""
    with pytest.raises(ProtocolError, match="nested"):
        CODECS[path]({}).receive("[" * 100_000)


def test_vosk_s_partials_are_written_as_its_other_messages() -> None:
    """The fast way to write a partial gives what the encoder gives."""
    for text in ("", "one two", 'quote " and \\ and \n', "naïve ☃"):
        assert vosk._partial(text) == vosk._dump({"partial": text})


FIELDS = st.tuples(
    st.sampled_from(["file", "stream", "response_format", "keywords[]", "timestamp_granularities[]", "model", "x"])
    | st.text(max_size=4),
    st.booleans(),
    st.sampled_from(["true", "srt", "verbose_json", "word", "nan", ""]) | st.text(max_size=8),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FIELDS, max_size=5), st.booleans(), st.integers(1, 40), st.binary(max_size=20))
def test_no_upload_breaks_the_codec(fields, whole: bool, size: int, junk: bytes) -> None:
    """Fields of any name and value, in pieces of any size, whole or not: an answer or a reason."""
    body = b""
    for name, is_file, value in fields:
        file = '; filename="a"' if is_file else ""
        body += f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{value}\r\n'.encode()
    body += b"--B--\r\n" if whole else junk
    upload([body[begin : begin + size] for begin in range(0, len(body), size)])


def test_the_written_form_is_asked_for_in_each_protocol() -> None:
    """`written`, `smart_format` and `numerals` ask for it, and for replacements; without them nobody gets it."""
    native = NativeCodec()
    assert not native.settings.written
    native.receive('{"type": "config", "written": true, "replacements": {"open a i": "OpenAI"}}')
    assert native.settings.written
    assert native.settings.replacements[0].written == "OpenAI"
    for bad in ('{"type": "config", "written": 1}', '{"type": "config", "replacements": {"x": ""}}'):
        with pytest.raises(ProtocolError):
            NativeCodec().receive(bad)
    assert not DeepgramCodec({}).settings.written
    assert DeepgramCodec({"smart_format": ["true"]}).settings.written
    assert DeepgramCodec({"numerals": ["true"], "replace": ["a b:AB"]}).settings.replacements[0].spoken == "a b"
    with pytest.raises(ProtocolError):
        DeepgramCodec({"replace": ["nothing"]})
    assert not VoskCodec().settings.written


def test_clients_get_written_words_with_what_was_heard() -> None:
    """A written final comes through our own protocol whole: its text, what was heard, and the words with both."""
    heard = tuple(Word(word, k, k + 0.5, 0.9) for k, word in enumerate(["paid", "twenty", "five", "dollars"]))
    final = Writer().final(Final("paid twenty five dollars", heard, "end"))
    codec = NativeCodec()
    codec.receive(make_config(written=True))
    (reply,) = codec.reply(Outcome(Audio(b""), (final,), True, 4.0))
    assert parse(reply.text) == final
    assert json.loads(reply.text)["spoken"] == "paid twenty five dollars"
    assert final.text == "paid $25"
