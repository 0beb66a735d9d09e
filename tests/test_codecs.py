"""The wire protocols as pure functions: no message may break a codec."""

from __future__ import annotations

import base64
import io
import itertools
import json
from contextlib import suppress

import pytest
from asr.server import vosk
from asr.server.client import make_config, parse
from asr.server.codec import (
    Audio,
    Codec,
    Coded,
    End,
    Flush,
    Outcome,
    ProtocolError,
    SampleFormat,
    Say,
    SetHotWords,
)
from asr.server.deepgram import DeepgramCodec
from asr.server.native import NativeCodec
from asr.server.vosk import VoskCodec
from asr.server.wyoming import WyomingCodec
from fuzz_codecs import (
    PROTOCOLS,
    REALTIME,
    WYOMING,
    WYOMING_BYTES,
    converse,
    fuzz,
    read_all,
    received,
    upload,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from serving import wav_of
from wyoming.event import Event as WyomingEvent
from wyoming.event import write_event

from asr.audio.forms import Form
from asr.events import Event, Final, Partial, Word
from asr.written.form import WrittenForm
from asr.written.writer import Writer

KEYS = ["config", "sample_rate", "words", "max_alternatives", "phrase_list", "eof", "reset", "model", "type"]
KEYS += ["encoding", "channels", "hot_words", "endpointing", "silence_ms", "alternatives", "partial_interval_ms"]
KEYS += ["phrase", "boost", "written", "replacements"]
KEYS += ["session", "audio", "input", "format", "rate", "turn_detection", "silence_duration_ms", "transcription"]
KEYS += ["keywords", "input_audio_format", "input_audio_transcription", "event_id"]
KEYS += ["event", "start", "media", "dtmf", "mark", "payload", "track", "chunk", "timestamp", "sequenceNumber"]
KEYS += ["callSid", "streamSid", "tracks", "customParameters", "mediaFormat", "hot_words"]
KINDS = ["config", "hot_words", "flush", "end", "Finalize", "KeepAlive", "CloseStream", "s16le", "f32le"]
KINDS += ["session.update", "transcription_session.update", "transcription", "audio/pcmu", "g711_ulaw", "server_vad"]
KINDS += ["input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear", "AAAA", "AAA="]
KINDS += ["start", "media", "dtmf", "mark", "stop", "inbound", "outbound", "1", "2", "CA1"]
PARAMETERS = ["model", "encoding", "sample_rate", "channels", "interim_results", "endpointing", "keyterm", "keywords"]
PARAMETERS += ["smart_format", "numerals", "replace", "multichannel"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
REQUESTS = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), VALUES, max_size=4).map(json.dumps)
MESSAGES = st.lists(st.binary(max_size=64) | REQUESTS | st.text(max_size=20), max_size=6)
QUERIES = st.dictionaries(
    st.sampled_from(PARAMETERS),
    st.lists(st.sampled_from(["linear16", "opus", "true", "nan", "inf", "1e9", "16000", "a:b", ":", ""]), min_size=1),
)


@pytest.mark.parametrize("path", sorted(PROTOCOLS))
def test_no_conversation_breaks_a_codec(path: str) -> None:
    """Whatever comes, a codec answers with JSON objects or refuses with a reason; Vosk's answers exactly once."""

    @settings(max_examples=300)
    @given(QUERIES, MESSAGES)
    @example({}, ['{"config": {"sample_rate": NaN}}', b"\0" * 3, b"\0"])
    @example({}, ['{"type": "config", "sample_rate": NaN}', b"\0" * 3])
    @example({}, ['{"config": {"sample_rate": 1e999, "max_alternatives": true}}'])
    def hold(query: dict[str, list[str]], messages: list[str | bytes]) -> None:
        converse(path, query, messages)

    hold()


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_the_fuzz_target(data: bytes) -> None:
    """The target that a fuzzer can go on with runs, and finds nothing at once."""
    fuzz(data)


@pytest.mark.parametrize("path", sorted(PROTOCOLS))
def test_deep_nesting_is_refused(path: str) -> None:
    """A message that would exhaust the parser is bad JSON, not a crash."""
    codec = PROTOCOLS[path]({})
    commands, refusal = received(codec, "[" * 60_000 + "\n")
    replies = [reply for say in commands for reply in say.replies]
    replies += codec.failed(refusal.code, str(refusal)) if refusal is not None else []
    assert "nested" in (str(refusal) if path in ("/", "/vosk") else replies[-1].text)


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


@settings(max_examples=300)
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
    """Our own protocol has it unless `written` is false; Deepgram's queries ask for parts of it; Vosk has none."""
    native = NativeCodec()
    assert native.settings.written
    native.receive('{"type": "config", "written": false, "replacements": {"open a i": "OpenAI"}}')
    assert not native.settings.written
    assert native.settings.replacements[0].written == "OpenAI"
    for bad in ('{"type": "config", "written": 1}', '{"type": "config", "replacements": {"x": ""}}'):
        with pytest.raises(ProtocolError):
            NativeCodec().receive(bad)
    for query, form in {
        "": WrittenForm(False, False),
        "smart_format": WrittenForm(True, True),
        "numerals": WrittenForm(True, False),
        "punctuate": WrittenForm(False, True),
    }.items():
        assert DeepgramCodec({query: ["true"]}).settings.written == form
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


@st.composite
def speech(draw) -> list[tuple[Event, ...]]:
    """What an engine may say of a stream, as one batch of events after another: stable text never changes."""
    batches: list[tuple[Event, ...]] = []
    seconds = 0.0
    for _ in range(draw(st.integers(0, 4))):
        spoken = draw(st.lists(st.sampled_from(["a", "bee", "see", "dee", "☃"]), min_size=1, max_size=5))
        text, stable = " ".join(spoken), 0
        words = tuple(Word(word, seconds + k, seconds + k + 0.5, 0.9) for k, word in enumerate(spoken))
        for _ in range(draw(st.integers(0, 3))):
            stable = draw(st.integers(stable, len(text)))
            guess = text[:stable] + draw(st.sampled_from(["", "x", " ex"]))
            batches.append((Partial(guess, words, stable),))
        final = Final(text, words, draw(st.sampled_from(["silence", "length"])))
        seconds += len(spoken) + 1.0
        batches.append((final,))
    if draw(st.booleans()):
        batches = [tuple(event for batch in batches for event in batch)]
    return batches


def transcript_of(batches: list[tuple[Event, ...]]) -> str:
    return " ".join(event.text for batch in batches for event in batch if isinstance(event, Final))


@settings(max_examples=300)
@given(speech())
def test_wyoming_s_chunks_are_its_transcript(batches: list[tuple[Event, ...]]) -> None:
    """Between one start and one stop, the chunks joined are the transcript, which is all that was said."""
    codec = WyomingCodec(WYOMING_BYTES)
    told = [read_all(WYOMING, codec.reply(Outcome(Audio(b""), batch, True, 1.0))) for batch in batches]
    told.append(read_all(WYOMING, codec.reply(Outcome(End(), (), True, 1.0))))
    first, *chunks, transcript, last = [message for messages in told for message in messages]
    assert (first["type"], last["type"]) == ("transcript-start", "transcript-stop")
    assert {chunk["type"] for chunk in chunks} <= {"transcript-chunk"}
    assert transcript["text"] == "".join(chunk["text"] for chunk in chunks) == transcript_of(batches)


WYOMING_EVENTS = st.builds(
    WyomingEvent,
    st.sampled_from(["describe", "ping", "transcribe", "audio-start", "audio-chunk", "audio-stop", "detect", "x"]),
    st.just({"rate": 16_000, "width": 2, "channels": 1})
    | st.dictionaries(st.sampled_from(["rate", "width", "transcript_names", "text"]), VALUES, max_size=3),
    st.none() | st.binary(max_size=12),
)


@settings(max_examples=300)
@given(st.lists(WYOMING_EVENTS, max_size=6), st.binary(max_size=8), st.lists(st.integers(1, 60), min_size=1))
def test_wyoming_is_the_same_however_its_bytes_are_cut(events, junk: bytes, sizes: list[int]) -> None:
    """Events as the protocol's own library writes them, and junk after them, ask for the same in any pieces."""
    target = io.BytesIO()
    for event in events:
        with suppress(UnicodeEncodeError):  # halves of characters, which the library cannot write
            write_event(event, target)
    data = target.getvalue() + junk
    whole, refusal = received(WyomingCodec(WYOMING_BYTES), data)
    codec, found = WyomingCodec(WYOMING_BYTES), []
    for size in itertools.cycle(sizes):
        commands, wrong = received(codec, data[:size])
        found += commands
        data = data[size:]
        if wrong is not None or not data:
            break
    assert found == whole
    assert str(wrong) == str(refusal)


def test_nothing_after_a_wyoming_stop_matters() -> None:
    """What comes behind audio-stop, be it junk, does not take the transcript away."""
    start = b'{"type": "audio-start", "data": {"rate": 16000, "width": 2, "channels": 1}}\n'
    commands, refusal = received(WyomingCodec(WYOMING_BYTES), start + b'{"type": "audio-stop"}\n' + b"junk\n")
    assert commands == [End()]
    assert refusal is None


APPEND = json.dumps({"type": "input_audio_buffer.append", "audio": "AAAAAAAA"})
COMMIT, CLEAR = (json.dumps({"type": f"input_audio_buffer.{what}"}) for what in ("commit", "clear"))
NO_TURNS = json.dumps({"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}})


@settings(max_examples=300)
@given(st.lists(st.tuples(speech(), st.sampled_from([COMMIT, CLEAR])), max_size=4), st.booleans(), st.booleans())
def test_realtime_s_deltas_are_its_transcripts(parts, turns: bool, hurried: bool) -> None:
    """Every item's deltas joined are its transcript, each is committed once, and only what is cleared is missing.

    It is the same for a client that waits for each answer and for one that sends all at once.
    """
    codec = PROTOCOLS[REALTIME]({})
    told = [] if turns else said(codec, NO_TURNS)
    waiting = []
    for batches, end in parts:
        (audio,), (flush,) = codec.receive(APPEND), codec.receive(end)
        waiting.append((audio, flush, batches))
        if not hurried:
            told += serve(codec, waiting)
    told += serve(codec, waiting)
    kept = [batches for batches, end in parts if end == COMMIT]
    deltas: dict[str, str] = {}
    items, completed = [], []
    for message in told:
        match message["type"].rpartition(".")[2]:
            case "delta":
                deltas[message["item_id"]] = deltas.get(message["item_id"], "") + message["delta"]
            case "committed":
                assert message["previous_item_id"] == (items[-1] if items else None)
                items.append(message["item_id"])
            case "completed":
                assert message["item_id"] == items[-1]
                assert message["transcript"] == deltas.get(message["item_id"], "")
                completed.append(message["transcript"])
    assert len(set(items)) == len(items) == len(completed)
    assert " ".join(filter(None, completed)) == " ".join(filter(None, map(transcript_of, kept)))
    if not turns:
        assert completed == [transcript_of(batches) for batches in kept]
    assert sum(message["type"].endswith(".cleared") for message in told) == len(parts) - len(kept)


def serve(codec, waiting: list) -> list[dict]:
    """Let a codec report all that an engine has to say of what waits."""
    told = []
    for audio, flush, batches in waiting:
        for batch in batches:
            told += read_all(REALTIME, codec.reply(Outcome(audio, batch, False, 1.0)))
        for command in (audio, flush):
            told += read_all(REALTIME, codec.reply(Outcome(command, (), True, 1.0)))
    waiting.clear()
    return told


def said(codec, message: str | bytes) -> list[dict]:
    """What a codec answers at once."""
    return read_all(REALTIME, [reply for say in codec.receive(message) for reply in say.replies])


def append(audio: object) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": audio, "event_id": "mine"})


def update(session: object, kind: str = "session.update") -> str:
    return json.dumps({"type": kind, "session": session})


def of_input(**values: object) -> dict:
    return {"type": "transcription", "audio": {"input": values}}


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        (append("not base64!"), "invalid_value", "audio"),
        (append("AAA"), "invalid_value", "audio"),
        (append("AA=="), "invalid_value", "audio"),
        (append("AA☃="), "invalid_value", "audio"),
        (append(None), "missing_required_parameter", "audio"),
        (append([0, 1]), "missing_required_parameter", "audio"),
        (COMMIT, "input_audio_buffer_commit_empty", None),
        (b"\0\0", "invalid_value", None),
        ("hello", "bad_json", None),
        ("{}", "missing_required_parameter", "type"),
        ('{"type": "response.create"}', "invalid_value", "type"),
        ('{"type": ["x"]}', "invalid_value", "type"),
        (update(None), "invalid_value", "session"),
        (update({"type": "realtime"}), "invalid_value", "session.type"),
        (update({"colour": "blue"}), "unknown_parameter", "session.colour"),
        (update({"audio": {"input": 3}}), "invalid_value", "session.audio.input"),
        (update(of_input(loud=True)), "unknown_parameter", "session.audio.input.loud"),
        (update(of_input(format={"type": "audio/mp3"})), "invalid_value", "session.audio.input.format"),
        (update(of_input(format={"type": "audio/pcm", "rate": 1})), "invalid_value", "session.audio.input.format.rate"),
        (update(of_input(turn_detection={"type": "x"})), "invalid_value", "session.audio.input.turn_detection.type"),
        (
            update(of_input(transcription={"keywords": "a"})),
            "invalid_value",
            "session.audio.input.transcription.keywords",
        ),
        (
            update(of_input(turn_detection={"silence_duration_ms": -1})),
            "invalid_value",
            "session.audio.input.turn_detection.silence_duration_ms",
        ),
        (
            update({"input_audio_format": "opus"}, "transcription_session.update"),
            "invalid_value",
            "session.input_audio_format",
        ),
    ],
)
def test_realtime_says_what_is_wrong_and_goes_on(message: str | bytes, code: str, param: str | None) -> None:
    """An error event names the code, the field and the client's event; then audio is taken as before."""
    codec = PROTOCOLS[REALTIME]({})
    (answer,) = said(codec, message)
    assert answer["type"] == "error"
    assert (answer["error"]["code"], answer["error"]["param"]) == (code, param)
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["event_id"] == ("mine" if "mine" in str(message) else None)
    assert answer["error"]["message"]
    assert codec.receive(APPEND) == (Audio(bytes(6)),)


def test_realtime_s_settings() -> None:
    """Formats, silence and keywords of both versions of the API open the stream as they say; each is reported back."""
    codec = PROTOCOLS[REALTIME]({})
    assert (codec.settings.sample_rate_hz, codec.settings.encoding) == (24_000, "s16le")
    turns = {"type": "server_vad", "silence_duration_ms": 300, "threshold": 0.4, "prefix_padding_ms": 300}
    form, keywords = {"type": "audio/pcmu"}, {"model": "gpt-transcribe", "keywords": ["quandary"]}
    (answer,) = said(codec, update(of_input(format=form, transcription=keywords, turn_detection=turns)))
    assert answer["type"] == "session.updated"
    sound = answer["session"]["audio"]["input"]
    assert sound["format"] == form
    assert sound["turn_detection"]["silence_duration_ms"] == 300
    assert sound["transcription"]["keywords"] == ["quandary"]
    s = codec.settings
    assert (s.sample_rate_hz, s.encoding, s.rules[0].silence_s) == (8_000, "mulaw", 0.3)
    assert [hot.phrase for hot in s.hot_words] == ["quandary"]
    first = {"input_audio_format": "g711_alaw", "turn_detection": None, "input_audio_transcription": {"model": "x"}}
    (answer,) = said(codec, update(first, "transcription_session.update"))
    assert answer["type"] == "transcription_session.updated"
    assert answer["session"]["input_audio_format"] == "g711_alaw"
    assert answer["session"]["turn_detection"] is None
    assert codec.settings.encoding == "alaw"
    assert all(rule.silence_s != 0.3 or rule.length_s for rule in codec.settings.rules)


def test_realtime_s_settings_while_audio_runs() -> None:
    """Keywords may change at any time, the format may not: the error says to open another connection."""
    codec = PROTOCOLS[REALTIME]({})
    codec.receive(APPEND)
    say, change = codec.receive(update(of_input(transcription={"keywords": ["zebra"]})))
    assert read_all(REALTIME, list(say.replies))[0]["type"] == "session.updated"
    assert [hot.phrase for hot in change.hot_words] == ["zebra"]
    (answer,) = said(codec, update(of_input(format={"type": "audio/pcma"})))
    assert "open another connection" in answer["error"]["message"]
    assert codec.settings.encoding == "s16le"
    (answer,) = said(codec, update(of_input(format={"type": "audio/pcm", "rate": 24_000})))
    assert answer["type"] == "session.updated"


def test_realtime_commits_what_silence_has_not() -> None:
    """A commit that finds an utterance ended by the silence that it brought gets that item, and no empty one after."""
    codec = PROTOCOLS[REALTIME]({})
    (audio,), (flush,) = codec.receive(APPEND), codec.receive(COMMIT)
    final = Final("one", (Word("one", 0.1, 0.4, 0.9),), "silence")
    told = read_all(REALTIME, codec.reply(Outcome(audio, (), True, 1.0)))
    told += read_all(REALTIME, codec.reply(Outcome(flush, (final,), False, 1.0)))
    told += read_all(REALTIME, codec.reply(Outcome(flush, (), True, 1.0)))
    kinds = [message["type"].rpartition(".")[2] for message in told]
    assert kinds == ["speech_started", "delta", "speech_stopped", "committed", "completed"]
    codec.receive(APPEND)
    (flush,) = codec.receive(COMMIT)
    assert isinstance(flush, Flush)
    told = read_all(REALTIME, codec.reply(Outcome(flush, (), True, 1.0)))
    assert [message.get("transcript") for message in told] == [None, ""]


def test_realtime_refuses_other_intents() -> None:
    """A client that wants something else is told so at the handshake; one that does not say gets transcripts."""
    with pytest.raises(ProtocolError, match="transcription"):
        PROTOCOLS[REALTIME]({"intent": ["conversation"]})
    assert PROTOCOLS[REALTIME]({"model": ["gpt-realtime"]}).opened()


PIECES = st.lists(st.integers(1, 40), min_size=1, max_size=8)
END = {
    "/vosk": '{"eof": 1}',
    "/v1/stream": '{"type": "end"}',
    "/v1/listen": '{"type": "CloseStream"}',
    REALTIME: COMMIT,
}


def samples_of(path: str, codec: Codec, data: bytes, sizes: list[int]) -> bytes:
    """What a codec lets an engine hear of a stream in pieces of these sizes, to its end."""
    commands, rest = [], iter(itertools.cycle(sizes))
    while data:
        size = next(rest)
        piece, data = data[:size], data[size:]
        message = append(base64.b64encode(piece).decode()) if path == REALTIME else piece
        commands += [*codec.receive(message)]
    commands += [*codec.receive(END[path])]
    assert isinstance(commands[-1], End | Flush)
    return b"".join(command.data for command in commands if isinstance(command, Audio))


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(END)),
    st.sampled_from([(1, 16, "s16le"), (3, 32, "f32le"), (6, 8, "alaw"), (7, 8, "mulaw")]),
    st.sampled_from([b"", b"LIST\x04\0\0\0INFO", b"odd \x03\0\0\0abc\0"]),
    st.integers(1, 3),
    PIECES,
)
def test_a_wav_header_sets_what_nobody_named(path: str, form, before: bytes, channels: int, sizes: list[int]) -> None:
    """Rate, channels and encoding are the header's, however it is cut and whatever other chunks there are before the
    samples, of which none is lost."""
    code, bits, encoding = form
    data = bytes(range(48))
    codec = PROTOCOLS[path]({})
    head = wav_of(b"", 11_025, channels, code, bits, before)
    first = [4] if path == REALTIME else []  # whose samples may not be cut, unless it is seen to be a file
    assert samples_of(path, codec, head + data, [*first, *sizes, 50]) == data
    s = codec.settings
    assert (s.sample_rate_hz, s.channels, s.encoding) == (11_025, channels, encoding)


@pytest.mark.parametrize(
    ("path", "query", "message", "said"),
    [
        ("/v1/listen", {"sample_rate": ["16000"]}, None, "16000 Hz"),
        ("/v1/listen", {"channels": ["1"]}, None, "1 channel:"),
        ("/v1/listen", {"encoding": ["mulaw"]}, None, "mu-law"),
        ("/v1/stream", {}, '{"type": "config", "sample_rate": 16000}', "16000 Hz"),
        ("/v1/stream", {}, '{"type": "flush"}', "16000 Hz"),
        ("/vosk", {}, '{"config": {"sample_rate": 16000}}', "16000 Hz"),
        (REALTIME, {}, update(of_input(format={"type": "audio/pcm", "rate": 16_000})), "16000 Hz"),
        (REALTIME, {}, update(of_input(format={"type": "audio/pcma"})), "A-law"),
    ],
)
def test_a_wav_header_must_be_as_the_client_said(path: str, query, message: str | None, said: str) -> None:
    """Where it contradicts what the client has named, or what the engine was told, the error says both."""
    codec = PROTOCOLS[path](query)
    if message is not None:
        list(codec.receive(message))
    head = wav_of(bytes(8), 11_025, channels=2)
    with pytest.raises(ProtocolError, match="WAV header says") as error:
        list(codec.receive(append(base64.b64encode(head).decode()) if path == REALTIME else head))
    assert error.value.code == "bad_audio"
    assert f"the settings say {said.rstrip(':')}" in str(error.value)


def test_a_wav_header_that_says_the_same_is_none_of_the_sound() -> None:
    """A client that names settings and sends a file with the same ones is served, and hot words may come first."""
    named = {"sample_rate": ["8000"], "encoding": ["linear16"], "channels": ["2"]}
    assert samples_of("/v1/listen", DeepgramCodec(named), wav_of(b"abcd", 8_000, 2), [100]) == b"abcd"
    codec = NativeCodec()
    assert codec.receive('{"type": "hot_words", "hot_words": ["quandary"]}') == ()
    assert codec.receive(wav_of(b"abcd", 8_000, 2)) == (Audio(b"abcd"),)
    assert (codec.settings.sample_rate_hz, codec.settings.hot_words[0].phrase) == (8_000, "quandary")
    assert isinstance(codec.receive('{"type": "hot_words", "hot_words": []}')[0], SetHotWords)


def test_vosk_answers_each_piece_of_a_header_once() -> None:
    """A header in pieces has no sound yet, and the stream is not opened; each message still has its answer."""
    codec, head = VoskCodec(), wav_of(b"", 16_000)
    for begin in range(0, len(head), 10):
        (say,) = codec.receive(head[begin : begin + 10])
        assert isinstance(say, Say)
        assert [json.loads(reply.text) for reply in say.replies] == [{"partial": ""}]
    assert codec.receive(bytes(4)) == (Audio(bytes(4)),)


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        (wav_of(b"", 16_000, bits=24), "samples of 24 bits: send 16-bit integers, 32-bit floats"),
        (wav_of(b"", 16_000, code=0x55, bits=0), "of format 85"),
        (wav_of(b"", 16_000, channels=65), "65 channels"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "no fmt chunk"),
        (b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0ab", "fmt chunk of 2 bytes"),
        (b"RIFF\0\0\0\0WAVEJUNK" + (1 << 20).to_bytes(4, "little") + bytes(1 << 16), "no samples within"),
    ],
)
def test_wav_files_that_cannot_be_heard(head: bytes, hint: str) -> None:
    """Samples that no protocol has, and headers without what they must have, are refused with what to send."""
    with pytest.raises(ProtocolError, match="send") as error:
        DeepgramCodec({}).receive(head)
    assert error.value.code == "bad_audio"
    assert hint in str(error.value)


def mp3(frames: int) -> bytes:
    """Frames of 128 kbit/s at 44.1 kHz, the first of them with a byte of padding."""
    padded, other = b"\xff\xfb\x92\x00" + bytes(414), b"\xff\xfb\x90\x00" + bytes(413)
    return padded + other * (frames - 1)


def aac(frames: int) -> bytes:
    """ADTS frames of 100 bytes at 44.1 kHz."""
    return (b"\xff\xf1\x50\x80\x0c\x9f\xfc" + bytes(93)) * frames


CONTAINERS = [
    (b"OggS\0\x02", Form.OGG),
    (b"\x1aE\xdf\xa3", Form.WEBM),
    (b"fLaC\0\0", Form.FLAC),
    (b"ID3\x04\0\0", Form.MP3),
    (b"\0\0\0\x20ftypM4A ", Form.MP4),
    (b"RIFF\0\0\0\0AVI ", Form.AVI),
    (b"#!AMR\n", Form.AMR),
    (mp3(3), Form.MP3),
    (aac(3), Form.AAC),
]


@pytest.mark.parametrize(("head", "form"), CONTAINERS)
def test_containers_are_refused(head: bytes, form: Form) -> None:
    """OpenAI's protocol has raw samples alone: the error says to send those, and ends the connection."""
    head += bytes(len(head) % 2)
    with pytest.raises(ProtocolError, match="send raw samples: containers are not served") as error:
        samples_of(REALTIME, PROTOCOLS[REALTIME]({}), head, [len(head)])
    assert error.value.code == "bad_audio"
    assert form.value in str(error.value)


@given(st.sampled_from(sorted(set(END) - {REALTIME})), st.sampled_from(CONTAINERS), st.binary(max_size=50), PIECES)
def test_containers_are_to_be_decoded(path: str, container, rest: bytes, sizes: list[int]) -> None:
    """Every byte of a file goes to the decoder, under its form; what is decoded goes to the engine, as it then is."""
    (head, form), pieces = container, iter(itertools.cycle(sizes))
    data, codec, commands = head + rest, PROTOCOLS[path]({}), []
    while data:
        size = next(pieces)
        commands += [one for one in codec.receive(data[:size]) if not isinstance(one, Say)]
        data = data[size:]
    assert all(isinstance(command, Coded) and command.form is form for command in commands)
    assert b"".join(command.data for command in commands) == head + rest
    assert tuple(commands[0].decoded(SampleFormat(44_100.0, 2, "f32le"), b"12345678")) == (Audio(b"12345678"),)
    s = codec.settings
    assert (s.sample_rate_hz, s.channels, s.encoding) == (44_100.0, 2, "f32le")


def test_containers_that_deepgram_hears_apart() -> None:
    """What is decoded is parted by channels, as many as the file has."""
    codec = DeepgramCodec({"multichannel": ["true"]})
    (coded,) = codec.receive(b"OggS" + bytes(10))
    decoded = tuple(coded.decoded(SampleFormat(48_000.0, 2, "f32le"), b"aaaabbbbccccdddd"))
    assert [one for one in decoded if one.data] == [Audio(b"aaaacccc", 0), Audio(b"bbbbdddd", 1)]


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(END)),
    st.sampled_from([b"", b"R", b"RIFF", b"RIFFxxxxWAV", b"ID3", b"Ogg", b"\xff", b"\xff\xff", mp3(2), aac(2)]),
    st.sampled_from([b"", bytes(60), b"\xff\xe0" * 60]) | st.binary(max_size=60).map(lambda data: b"." + data),
    PIECES,
)
def test_raw_samples_pass_byte_for_byte(path: str, head: bytes, rest: bytes, sizes: list[int]) -> None:
    """What only begins as a file might is heard as it is, in any pieces, and the settings stay the client's."""
    data = head + rest
    data += b"." * (len(data) % 2)
    codec = PROTOCOLS[path]({})
    before = codec.settings
    if not data:
        return
    assert samples_of(path, codec, data, [size + size % 2 for size in sizes]) == data
    assert codec.settings == before


def utterance_ends(codec: DeepgramCodec, event: Event | None, position_s: float) -> list[float]:
    """The ends that a client is told of with an event, or with audio up to here that brought none."""
    replies = codec.reply(Outcome(Audio(b""), () if event is None else (event,), False, 60.0)) if event else []
    replies += codec.reply(Outcome(Audio(b""), (), True, position_s))
    told = [json.loads(reply.text) for reply in replies]
    return [message["last_word_end"] for message in told if message["type"] == "UtteranceEnd"]


def test_deepgram_s_utterance_ends_are_told_once() -> None:
    """One comes when so much audio has passed after the last word, whatever ends utterances, and none for a word that
    only changed; where all audio came at once, what was said long after the end tells of it."""
    codec = DeepgramCodec({"utterance_end_ms": ["2500"], "endpointing": ["300"]})
    one, two = Word("one", 1.0, 1.4, 0.9), Word("two", 6.0, 6.3, 0.9)
    assert utterance_ends(codec, Partial("one", (one,), 0), 1.5) == []
    assert utterance_ends(codec, Final("one", (one,), "silence"), 1.9) == []
    assert utterance_ends(codec, None, 3.8) == []
    assert utterance_ends(codec, None, 3.9) == [1.4]
    assert utterance_ends(codec, None, 5.0) == []
    assert utterance_ends(codec, Partial("two", (two,), 0), 6.5) == []
    assert utterance_ends(codec, Partial("two", (two,), 0), 9.0) == []  # its final is on its way
    assert utterance_ends(codec, None, 9.3) == [6.3]
    assert utterance_ends(codec, Final("two", (Word("two", 6.0, 6.4, 0.9),), "end"), 9.5) == []
    codec = DeepgramCodec({"utterance_end_ms": ["1000"]})
    assert utterance_ends(codec, Final("one", (one,), "silence"), 2.0) == []
    assert utterance_ends(codec, Partial("two", (two,), 0), 6.4) == [1.4]
    assert utterance_ends(codec, Final("two", (two,), "silence"), 7.3) == [6.3]


def test_a_pause_within_a_word_ends_no_utterance() -> None:
    """Whatever a client asks for, in any protocol, no utterance ends after less than 200 ms of silence."""
    deepgram = DeepgramCodec({"endpointing": ["10"]})
    native = NativeCodec()
    native.receive('{"type": "config", "endpointing": {"silence_ms": 0}}')
    for codec in (deepgram, native):
        assert codec.settings.rules[0].silence_s == 0.2
