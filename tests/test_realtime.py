"""OpenAI's official client in a Realtime transcription session: items, settings, and what goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import openai
import pytest
from asr.server.client import Client
from serving import pcm_of, serving, texts_of
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

import asr
from asr.audio.pcm import PcmDecoder
from asr.audio.resample import StreamResampler
from asr.search.endpoint import DEFAULT_RULES

RATE_HZ = 24_000
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"


@pytest.fixture(scope="module")
def address(recognizer) -> Iterator[str]:
    with serving(recognizer) as (address, _):
        yield address


def session(address: str, token: str = "none"):
    """A transcription session, as the official client opens it."""
    client = openai.OpenAI(base_url=address.replace("ws://", "http://") + "/v1", api_key=token, max_retries=0)
    return client.realtime.connect(extra_query={"intent": "transcription"})


def at(rate_hz: int, samples: np.ndarray) -> np.ndarray:
    """Speech at 16 kHz at another rate."""
    resampler = StreamResampler(16_000, rate_hz)
    return np.concatenate([resampler.accept(samples), resampler.finish()])


@pytest.fixture(scope="module")
def pcm(speech) -> bytes:
    """Five utterances with pauses between."""
    return pcm_of(at(RATE_HZ, speech))


@pytest.fixture(scope="module")
def short(clips) -> bytes:
    return pcm_of(at(RATE_HZ, clips[1].samples))


def finals_of(recognizer, data: bytes, rate_hz: int = RATE_HZ, **options) -> list[asr.Final]:
    """As a commit ends them."""
    stream = recognizer.stream(rate_hz, **options)
    return [event for event in [*stream.accept(data), *stream.flush()] if isinstance(event, asr.Final)]


def append(connection, data: bytes, size: int = 9_600) -> None:
    for begin in range(0, len(data), size):
        connection.input_audio_buffer.append(audio=base64.b64encode(data[begin : begin + size]).decode())


def set_input(connection, **values) -> None:
    connection.session.update(session={"type": "transcription", "audio": {"input": values}})
    assert until(connection, "session.updated")[-1].session.type == "transcription"


def until(connection, kind: str, count: int = 1) -> list:
    """Events up to the last of so many of a kind."""
    events = []
    while sum(event.type == kind for event in events) < count:
        events.append(connection.recv())
        if kind != "error":
            assert events[-1].type != "error", events[-1]
    return events


def transcripts(events: list) -> list[str]:
    return [event.transcript for event in events if event.type == COMPLETED]


@pytest.mark.parametrize("size", [4_802, 9_600, 300_000, 10_000_000])
def test_pauses_end_items(address, recognizer, pcm, size) -> None:
    """However the audio is cut, every utterance is an item: it starts, grows, stops, is committed and completed."""
    finals = finals_of(recognizer, pcm)
    with session(address) as connection:
        created = connection.recv()
        assert created.type == "session.created"
        assert created.session.type == "transcription"
        append(connection, pcm, size)
        events = until(connection, COMPLETED, len(finals))
    assert transcripts(events) == [final.text for final in finals]
    before = None
    for final in finals:
        first, events = events[0], events[1:]
        assert first.type == "input_audio_buffer.speech_started"
        assert first.audio_start_ms == pytest.approx(1000 * final.start_s, abs=200)  # as it was first heard
        deltas = []
        while events[0].type == DELTA:
            deltas.append(events.pop(0))
        stopped, committed, completed, *events = events
        assert [event.type for event in (stopped, committed)] == [
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
        ]
        assert stopped.audio_end_ms == round(1000 * final.end_s)
        assert committed.previous_item_id == before
        before = committed.item_id
        assert {event.item_id for event in (first, *deltas, stopped, completed)} == {before}
        assert "".join(delta.delta for delta in deltas) == completed.transcript == final.text
        assert completed.usage.type == "duration"
    assert not events


def test_the_client_ends_items(address, recognizer, pcm, clips) -> None:
    """With turn detection off an item lasts until it is committed, and what is cleared is in none."""
    thrice = pcm_of(at(RATE_HZ, clips[2].samples))
    with session(address) as connection:
        connection.recv()
        set_input(connection, turn_detection=None)
        append(connection, pcm)
        connection.input_audio_buffer.commit()
        events = until(connection, COMPLETED)
        kinds = [event.type for event in events]
        assert kinds == [DELTA] * (len(kinds) - 2) + ["input_audio_buffer.committed", COMPLETED]
        assert len(kinds) > 10
        (text,) = transcripts(events)
        assert "".join(event.delta for event in events[:-2]) == text
        stream = recognizer.stream(RATE_HZ, rules=DEFAULT_RULES[1:])
        said = [*stream.accept(pcm), *stream.flush()]
        assert text == " ".join(event.text for event in said if isinstance(event, asr.Final))
        # A few milliseconds wait in the resampler for what comes next.
        assert events[-1].usage.seconds == pytest.approx(len(pcm) / 2 / RATE_HZ, abs=0.05)
        append(connection, thrice)
        connection.input_audio_buffer.clear()
        until(connection, "input_audio_buffer.cleared")
        stream.accept(thrice)
        stream.flush()
        append(connection, thrice)
        connection.input_audio_buffer.commit()
        (again,) = transcripts(until(connection, COMPLETED))
        assert again == " ".join(
            event.text for event in [*stream.accept(thrice), *stream.flush()] if isinstance(event, asr.Final)
        )
        append(connection, bytes(4_800))
        connection.input_audio_buffer.commit()
        assert transcripts(until(connection, COMPLETED)) == [""]


@pytest.mark.parametrize(("kind", "encoding"), [("audio/pcmu", "mulaw"), ("audio/pcma", "alaw")])
def test_telephone_audio(address, recognizer, clips, kind, encoding) -> None:
    """Mu-law and A-law at 8 kHz give what the engine makes of them."""
    data = (np.arange(32_000) % 251).astype(np.uint8).tobytes() + coded(at(8_000, clips[0].samples), encoding)
    expected = finals_of(recognizer, data, 8_000, encoding=encoding, rules=DEFAULT_RULES[1:])
    assert expected
    with session(address) as connection:
        connection.recv()
        set_input(connection, format={"type": kind}, turn_detection=None)
        append(connection, data, 3_201)
        connection.input_audio_buffer.commit()
        assert transcripts(until(connection, COMPLETED)) == [" ".join(final.text for final in expected)]


def coded(samples: np.ndarray, encoding: str) -> bytes:
    """Speech in a telephone's coding, by the decoder's own table."""
    values = PcmDecoder(encoding).accept(bytes(range(256)))
    order = np.argsort(values)
    places = np.clip(np.searchsorted(values[order], samples), 0, 255)
    return order[places].astype(np.uint8).tobytes()


def test_keywords_are_hot_words(address, recognizer, clips) -> None:
    """They change the text as the engine's hot words do."""
    data = pcm_of(at(RATE_HZ, clips[0].samples))
    words = ["quandary", "hurstwood"]
    with session(address) as connection:
        connection.recv()
        set_input(connection, transcription={"model": "gpt-transcribe", "language": "en", "keywords": words})
        append(connection, data)
        connection.input_audio_buffer.commit()
        assert transcripts(until(connection, COMPLETED)) == [
            final.text for final in finals_of(recognizer, data, hot_words=words)
        ]


def test_the_first_version_of_the_api(address, recognizer, short) -> None:
    """Its flat settings are taken, and told back in its own event."""
    flat = {"input_audio_format": "pcm16", "turn_detection": None, "input_audio_transcription": {"model": "whisper-1"}}
    with session(address) as connection:
        connection.recv()
        connection.send({"type": "transcription_session.update", "session": flat})
        updated = connection.recv()
        assert updated.type == "transcription_session.updated"
        append(connection, short)
        connection.input_audio_buffer.commit()
        assert transcripts(until(connection, COMPLETED)) == [final.text for final in finals_of(recognizer, short)]


def test_the_asynchronous_client(address, recognizer, short) -> None:
    """It sends and reads at the same time: deltas come while audio is still to be sent."""

    async def main() -> list:
        client = openai.AsyncOpenAI(base_url=address.replace("ws://", "http://") + "/v1", api_key="none")
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            await connection.recv()
            for begin in range(0, len(short), 9_600):
                audio = base64.b64encode(short[begin : begin + 9_600]).decode()
                await connection.input_audio_buffer.append(audio=audio)
            events = [await connection.recv(), await connection.recv()]  # before the commit
            await connection.input_audio_buffer.commit()
            async for event in connection:
                events.append(event)
                if event.type == COMPLETED:
                    return events
        return events

    events = asyncio.run(main())
    assert [event.type for event in events[:2]] == ["input_audio_buffer.speech_started", DELTA]
    assert transcripts(events) == [final.text for final in finals_of(recognizer, short)]


WRONG = [
    ({"type": "input_audio_buffer.append", "audio": "is this on?"}, "invalid_value", "audio"),
    ({"type": "input_audio_buffer.append", "audio": "AA=="}, "invalid_value", "audio"),
    ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
    ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None),
    ({"type": "response.create"}, "invalid_value", "type"),
    ({"type": "session.update", "session": {"type": "realtime"}}, "invalid_value", "session.type"),
    ({"type": "session.update", "session": {"colour": "blue"}}, "unknown_parameter", "session.colour"),
    ("hello, is this on?", "bad_json", None),
    (b"\0\0\0\0", "invalid_value", None),
    ("[" * 100_000, "bad_json", None),
]


def test_events_that_are_wrong(address, recognizer, clips, short) -> None:
    """Each gets its error, the session goes on, and somebody who speaks meanwhile gets the text they get alone."""
    pcm16 = pcm_of(clips[2].samples)
    with Client(address) as speaker, session(address) as connection:
        connection.recv()
        speaker.send(pcm16[:32_000])
        for event, code, param in WRONG:
            connection.send_raw(json.dumps(event) if isinstance(event, dict) else event)
            (answer,) = until(connection, "error")
            assert (answer.error.code, answer.error.param) == (code, param)
            assert answer.error.type == "invalid_request_error"
            assert answer.error.message
        append(connection, short)
        connection.input_audio_buffer.commit()
        assert transcripts(until(connection, COMPLETED)) == [final.text for final in finals_of(recognizer, short)]
        speaker.send(pcm16[32_000:])
        speaker.end()
        assert [event.text for event in speaker if isinstance(event, asr.Final)] == texts_of(recognizer, pcm16)


def test_what_ends_a_session(address, recognizer) -> None:
    """A keyword that cannot be said, and nothing for too long, close it with the reason."""
    with session(address) as connection:
        connection.recv()
        set_input(connection, transcription={"keywords": ["b52"]})
        append(connection, bytes(9_600))
        (answer,) = until(connection, "error")
        assert answer.error.code == "bad_audio"
        assert "b52" in answer.error.message
        with pytest.raises(ConnectionClosedError, match="1008"):
            connection.recv()
    with serving(recognizer, idle_s=0.2) as (hurried, _), session(hurried) as connection:
        connection.recv()
        (answer,) = until(connection, "error")
        assert answer.error.code == "idle"


def test_messages_that_are_too_large(recognizer, short) -> None:
    """They get an error event before the close, and so many connections may send large ones as there is memory for."""
    large = bytes(900_000)
    with serving(recognizer, max_large_senders=1) as (address, _):
        with session(address) as first, session(address) as second:
            for connection in (first, second):
                connection.recv()
            with suppress(ConnectionClosedError):  # the server may hang up before all is sent
                append(second, large, len(large))
            (answer,) = until(second, "error")
            assert (answer.error.code, answer.error.type) == ("message_too_large", "invalid_request_error")
            assert "1048576" in answer.error.message
            with pytest.raises(ConnectionClosedError, match="1009"):
                second.recv()
            append(first, large, len(large))
            first.input_audio_buffer.clear()
            until(first, "input_audio_buffer.cleared")
            append(first, short, len(short))
            first.input_audio_buffer.commit()
            stream = recognizer.stream(RATE_HZ)
            stream.accept(large)
            stream.flush()
            said = [event.text for event in [*stream.accept(short), *stream.flush()] if isinstance(event, asr.Final)]
            assert transcripts(until(first, COMPLETED)) == said
        for _ in range(100):  # until the server has seen that it is gone
            with session(address) as third:
                third.recv()
                with suppress(ConnectionClosedError, AssertionError):
                    append(third, large, len(large))
                    third.input_audio_buffer.clear()
                    until(third, "input_audio_buffer.cleared")
                    break
        else:
            pytest.fail("a place that has become free is not given")


def test_who_may_come_in(recognizer) -> None:
    """The key is the server's token, also where browsers put it; other intents are refused with what to ask for."""
    with serving(recognizer, token="correct-horse") as (address, _):
        with pytest.raises(InvalidStatus) as error, session(address, "wrong key"):
            pass
        assert error.value.response.status_code == 401
        with session(address, "correct-horse") as connection:
            assert connection.recv().type == "session.created"
        for key, status in (("correct-horse", 101), ("wrong", 401)):
            offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{key}")]
            with suppress(InvalidStatus), connect(f"{address}/v1/realtime?model=x", subprotocols=offered) as client:
                assert client.subprotocol == "realtime"
                assert status == 101
        with pytest.raises(InvalidStatus) as error:
            connect(f"{address}/v1/realtime?intent=conversation&token=correct-horse")
        assert error.value.response.status_code == 400
        assert b"transcription" in error.value.response.body


def test_stopping_finishes_what_was_said(recognizer, short) -> None:
    """Told to stop, the server completes the item in progress and closes with 1001."""
    with serving(recognizer) as (address, app), session(address) as connection:
        connection.recv()
        append(connection, short)
        until(connection, DELTA)
        app._scheduler._loop.call_soon_threadsafe(app.stop)
        assert transcripts(until(connection, COMPLETED))[0]
        with pytest.raises(ConnectionClosedOK, match="1001"):
            connection.recv()
