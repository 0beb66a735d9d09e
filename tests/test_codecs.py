"""The wire protocols as pure functions: no message may break a codec."""

from __future__ import annotations

import io
import itertools
import json
from contextlib import suppress

import pytest
from asr.server import vosk
from asr.server.client import make_config, parse
from asr.server.codec import Audio, End, Flush, Outcome, ProtocolError
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
from wyoming.event import Event as WyomingEvent
from wyoming.event import write_event

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
PARAMETERS += ["smart_format", "numerals", "replace"]
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
