"""Channels that are heard apart, one speaker on each: files, the command, and Deepgram's protocols."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from asr.cli.main import main
from asr.cli.turns import Turns
from asr.server.channels import ChannelSplitter
from asr.server.codec import Audio, End, Outcome, ProtocolError, Reply
from asr.server.deepgram import DeepgramCodec
from asr.server.outbox import Outbox
from audio_files import write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import pcm_of, serving, texts_of, wav_of
from test_deepgram_file import media_at, posted
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import asr
from asr.audio.audio_file import AudioFile
from asr.channels import in_order
from asr.events import Final, Partial, Word

RATE_HZ = 16_000


def together(*sounds: np.ndarray) -> np.ndarray:
    """Sounds as channels of one recording, ``(n, channels)``; the shorter ones end in silence."""
    longest = max(map(len, sounds))
    return np.stack([np.pad(sound, (0, longest - len(sound))) for sound in sounds], axis=1)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE_HZ), dtype=np.float32)


@pytest.fixture(scope="module")
def call(clips) -> np.ndarray:
    """Two who take turns, and at last speak at once, ``(n, 2)``: clips 0 and 2 on one channel, 1 and 3 on the other."""
    one = np.concatenate([clips[0].samples, silence(5.5), clips[2].samples])
    other = np.concatenate([silence(5), clips[1].samples, silence(1.2), clips[3].samples])
    sound = together(one, other, silence(16))[:, :2]
    return np.frombuffer(pcm_of(sound), "<i2").reshape(-1, 2).astype(np.float32) / 32_768  # as a file can hold it


@pytest.fixture(scope="module")
def call_file(call, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("call") / "call.wav"
    path.write_bytes(wav_of((call * 32_768).astype("<i2").tobytes(), RATE_HZ, 2))
    return path


def texts(finals, channel: int) -> list[str]:
    return [final.text for final in finals if final.channel == channel]


# Files, and samples.


@pytest.mark.parametrize("kind", ["wav", "float", "flac", "mp3", "ogg", "opus", "m4a"])
def test_a_file_s_channels_are_kept_apart(tmp_path, kind) -> None:
    """Each has its own tone, and their mean is what is heard without asking for them."""
    times_s = np.arange(RATE_HZ * 3) / RATE_HZ
    tones = np.stack([0.4 * np.sin(2 * np.pi * hz * times_s) for hz in (440, 1_000)], axis=1).astype(np.float32)
    path = write_audio(tmp_path / f"a.{kind}", tones, kind=kind)
    with AudioFile(path, separate=True) as audio:
        sound, rate_hz = np.concatenate(list(audio)), audio.sample_rate_hz
    assert sound.ndim == 2
    for channel, hz in zip(sound.T, (440, 1_000), strict=True):
        middle = channel[len(channel) // 4 : 3 * len(channel) // 4]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert abs(spectrum.argmax() * rate_hz / len(middle) - hz) < 3
    with AudioFile(path) as audio:
        np.testing.assert_array_equal(np.concatenate(list(audio)), sound.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("channels", [1, 3, 7, 8, 9, 20, 64])
def test_any_number_of_channels(tmp_path, channels) -> None:
    """However many there are, each has its own samples, and their mean is what is heard without asking for them."""
    sound = np.random.default_rng(channels).integers(-32_768, 32_767, (RATE_HZ * 3, channels), dtype=np.int16)
    path = tmp_path / "a.wav"
    path.write_bytes(wav_of(sound.tobytes(), RATE_HZ, channels))
    with AudioFile(path, separate=True) as audio:
        np.testing.assert_array_equal(np.concatenate(list(audio)), sound.astype(np.float32) / 32_768)
    with AudioFile(path) as audio:
        np.testing.assert_allclose(np.concatenate(list(audio)), sound.mean(axis=1) / 32_768, atol=1e-6)


def test_a_long_file_with_channels_takes_no_more_memory(tmp_path) -> None:
    """Five minutes of two channels are read block by block."""
    path = write_audio(tmp_path / "long.flac", np.zeros((RATE_HZ * 300, 2), dtype=np.float32))
    tracemalloc.start()
    with AudioFile(path, separate=True) as audio:
        seconds = sum(len(block) for block in audio) / audio.sample_rate_hz
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(seconds - 300) < 0.1
    assert peak < 1_000_000


def test_each_channel_has_the_text_that_it_has_alone(recognizer, call, call_file) -> None:
    """A file's and samples' alike, word for word; utterances are in the order in which they begin."""
    alone = [recognizer.transcribe(channel).finals for channel in call.T]
    expected = [Final(**{**vars(f), "channel": channel}) for channel in (0, 1) for f in alone[channel]]
    expected = tuple(sorted(expected, key=lambda final: final.start_s))
    assert [final.channel for final in expected] == [0, 1, 0, 1]
    for source in (call_file, call, (call * 32_768).astype(np.int16)):
        transcript = recognizer.transcribe(source, channels="separate")
        assert transcript.finals == expected
        assert transcript.duration_s == pytest.approx(len(call) / RATE_HZ)
    assert recognizer.transcribe(call_file).finals == recognizer.transcribe(call.mean(axis=1)).finals


def test_partials_say_their_channel_too(recognizer, call_file) -> None:
    """Events of a file come side by side, and each channel's are those of a stream."""
    events = [event for event, _ in recognizer.transcribe_events(call_file, channels="separate") if event]
    assert {(type(event), event.channel) for event in events} == {
        (kind, k) for kind in (Partial, Final) for k in (0, 1)
    }


def test_one_channel_is_as_without(recognizer, clips, capsys) -> None:
    """A recording that has but one says nothing of channels."""
    mixed = recognizer.transcribe(clips[0].path)
    assert recognizer.transcribe(clips[0].path, channels="separate") == mixed
    samples = clips[0].samples
    for source in (samples, samples[:, None]):
        assert recognizer.transcribe(source, channels="separate") == recognizer.transcribe(samples)
    assert main(["transcribe", "--channels", "separate", str(clips[0].path)]) == 0
    assert capsys.readouterr().out == mixed.text + "\n"


def test_what_is_given_once_holds_for_each_channel(recognizer, clips) -> None:
    """Hot words and replacements that can be gone through but once."""
    same = together(clips[4].samples, clips[4].samples)
    hot_words, replacements = (["hurstwood"], [asr.Replacement("office", "OFFICE")])
    found = recognizer.transcribe(
        same, hot_words=iter(hot_words), replacements=iter(replacements), channels="separate"
    ).finals
    assert texts(found, 0) == texts(found, 1)
    assert "OFFICE" in found[0].text
    assert "hurstwood" in found[0].text.lower()


def test_a_way_that_is_none() -> None:
    """The error names those there are."""
    with pytest.raises(asr.ConfigError, match="'stereo': choose mixed or separate"):
        asr.load().transcribe(np.zeros(100, dtype=np.float32), channels="stereo")


def test_a_cut_off_file_gives_the_beginning_of_each_channel(call, tmp_path, capsys) -> None:
    """What was heard of both is printed in order, and the error says how much that was."""
    path = write_audio(tmp_path / "cut.flac", call)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    assert main(["transcribe", "--channels", "separate", str(path)]) == 1
    out, error = capsys.readouterr()
    assert [line[:11] for line in out.splitlines()[:2]] == ["Channel 1: ", "Channel 2: "]
    assert "were used" in error


# The command.


def printed(capsys, *arguments: object) -> str:
    assert main(["transcribe", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_text_says_whose_each_line_is(recognizer, call_file, capsys) -> None:
    """A line an utterance, in order of time, with its channel, counted from one; a table counts from zero."""
    finals = recognizer.transcribe(call_file, channels="separate").finals
    lines = printed(capsys, "--channels", "separate", call_file).splitlines()
    assert lines == [f"Channel {final.channel + 1}: {final.text}" for final in finals]
    head, *rows = printed(capsys, "--channels", "separate", "--format", "tsv", call_file).splitlines()
    assert head == "start\tend\tchannel\ttext"
    assert [row.split("\t")[2:] for row in rows] == [[str(final.channel), final.text] for final in finals]


def test_json_says_whose_each_segment_is(recognizer, call_file, capsys) -> None:
    """Segments are in order of time, each with its channel, counted from zero."""
    finals = recognizer.transcribe(call_file, channels="separate").finals
    found = json.loads(printed(capsys, "--channels", "separate", "--format", "json", call_file))
    assert [(part["channel"], part["text"]) for part in found["segments"]] == [(f.channel, f.text) for f in finals]
    assert not any("channel" in part for part in json.loads(printed(capsys, "--format", "json", call_file))["segments"])


def test_subtitles_say_whose_each_is(call_file, capsys) -> None:
    """WebVTT has voices, SubRip names, within lines that can be read at a glance; cues are in order of time."""
    voices = printed(capsys, "--channels", "separate", "--format", "vtt", call_file).split("\n\n")[1:]
    names = printed(capsys, "--channels", "separate", "--format", "srt", call_file).split("\n\n")
    for cues, form in ((voices, "<v Channel {}>"), (names, "Channel {}: ")):
        times = [next(line for line in cue.splitlines() if "-->" in line) for cue in cues]
        assert times == sorted(times)
        owners = [next(k for k in (1, 2) if form.format(k) in cue) for cue in cues]
        assert [owner for owner, _ in itertools.groupby(owners)] == [1, 2, 1, 2]
    lines = [line for cue in names for line in cue.splitlines()]
    assert max(map(len, lines)) <= 42


def test_several_files_in_several_processes(clips, call_file, tmp_path, capsys) -> None:
    """Each process hears channels apart, as one alone does."""
    talks, out = tmp_path / "talks", tmp_path / "out"
    talks.mkdir()
    (talks / "mono.opus").write_bytes(clips[1].path.read_bytes())
    (talks / "call.wav").write_bytes(call_file.read_bytes())
    printed(capsys, "--channels", "separate", "--recursive", "--jobs", "2", "--output", out, talks)
    assert (out / "call.txt").read_text() == printed(capsys, "--channels", "separate", call_file)
    assert (out / "mono.txt").read_text() == printed(capsys, clips[1].path)


@st.composite
def conversations(draw) -> list[tuple[Final, float]]:
    """Utterances of three channels, none longer than half a minute, each with when it is over."""
    said = []
    for channel in range(3):
        now_s = 0.0
        for _ in range(draw(st.integers(0, 6))):
            begin_s = now_s + draw(st.floats(0.0, 60.0))
            now_s = begin_s + draw(st.floats(0.1, 30.0))
            word = Word("word", begin_s, now_s, 0.9)
            said.append((Final("word", (word,), "silence", channel=channel), now_s + draw(st.floats(0.0, 0.9))))
            now_s += 0.9
    return sorted(said, key=lambda pair: pair[1])


@given(conversations())
def test_turns_are_told_in_order(said) -> None:
    """Utterances come in the order in which they begin, and none later than half a minute of sound after it is over."""
    turns, told = Turns(), []
    for final, over_s in said:
        told += turns.add(final, over_s)
        waiting = [other for other, other_s in said if other_s <= over_s and other not in told]
        assert all(other.start_s >= over_s - 31.0 for other in waiting)
    assert (*told, *turns.rest()) == in_order(final for final, _ in said)


# Live streams.


@given(
    st.integers(1, 8),
    st.sampled_from([1, 2, 4]),
    st.binary(max_size=200),
    st.lists(st.integers(0, 30), min_size=1, max_size=8),
)
def test_samples_may_be_cut_anywhere(channels: int, sample_bytes: int, data: bytes, sizes: list[int]) -> None:
    """Each channel gets its own samples, of all that are whole, however they come."""
    splitter, parts, rest = ChannelSplitter(channels, sample_bytes), [b""] * channels, data
    for size in itertools.chain(sizes, itertools.repeat(31)):
        piece, rest = rest[:size], rest[size:]
        parts = [part + new for part, new in zip(parts, splitter.accept(piece), strict=True)]
        if not rest:
            break
    frame = channels * sample_bytes
    for channel, part in enumerate(parts):
        own = [
            data[begin + channel * sample_bytes :][:sample_bytes]
            for begin in range(0, len(data) - len(data) % frame, frame)
        ]
        assert part == b"".join(own)


@settings(max_examples=200)
@given(
    st.sampled_from([("linear16", 1, 16), ("linear32", 3, 32), ("alaw", 6, 8), ("mulaw", 7, 8)]),
    st.integers(1, 8),
    st.booleans(),
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.sampled_from(['{"type": "CloseStream"}', b""]),
)
def test_each_channel_is_a_lane(form, channels: int, in_file: bool, sizes: list[int], end: str | bytes) -> None:
    """Raw samples and a WAV file's go to as many streams as they have channels, however they are cut; all are ended,
    and then one Metadata says how many there were."""
    encoding, code, bits = form
    frame = channels * bits // 8
    data = bytes(range(1, 1 + frame)) * 5
    named = {"encoding": [encoding], "channels": [str(channels)], "sample_rate": ["8000"]}
    codec = DeepgramCodec({"multichannel": ["true"], **({} if in_file else named)})
    message = wav_of(data, 8_000, channels, code, bits) if in_file else data
    commands, rest = [], iter(itertools.cycle(sizes))
    while message:
        size = next(rest)
        commands += codec.receive(message[:size])
        message = message[size:]
    *commands, last = [*commands, *codec.receive(end)]
    for lane in range(channels):
        own = data[lane * bits // 8 : (lane + 1) * bits // 8] * 5
        assert b"".join(command.data for command in commands if command.lane == lane) == own
    assert {command.lane for command in commands} == set(range(channels))
    assert (codec.settings.channels, codec.settings.sample_rate_hz) == (1, 8_000)
    assert last == End()
    replies = [codec.reply(Outcome(last, (), True, 1.5, lane=lane)) for lane in range(channels)]
    assert [len(told) for told in replies] == [0] * (channels - 1) + [1]
    assert json.loads(replies[-1][0].text)["channels"] == channels


def test_finalize_without_audio_is_answered_for_each_channel() -> None:
    """All channels have their streams from the first message on that asks something of them."""
    codec = DeepgramCodec({"multichannel": ["true"], "channels": ["3"]})
    *audio, flush = codec.receive('{"type": "Finalize"}')
    assert audio == [Audio(b"", lane) for lane in range(3)]
    told = [json.loads(codec.reply(Outcome(flush, (), True, 0.0, lane=lane))[0].text) for lane in range(3)]
    assert [(message["channel_index"], message["from_finalize"]) for message in told] == [
        ([lane, 3], True) for lane in range(3)
    ]


def test_each_channel_has_its_own_utterance_ends() -> None:
    """What one says does not put off the end of the other's turn, nor announce the beginning of their speech."""
    codec = DeepgramCodec(
        {"multichannel": ["true"], "channels": ["2"], "utterance_end_ms": ["1000"], "vad_events": ["true"]}
    )
    codec.receive(b"." * 64)
    words = [Word("one", 0.5, 1.0, 0.9), Word("two", 1.6, 2.0, 0.9)]
    told = []
    for lane, word in enumerate(words):
        told += codec.reply(Outcome(Audio(b"", lane), (Final(word.text, (word,), "silence"),), True, 2.5, lane=lane))
    messages = [json.loads(reply.text) for reply in told]
    assert [(message["type"], message.get("channel_index", message.get("channel"))) for message in messages] == [
        ("SpeechStarted", [0]),
        ("Results", [0, 2]),
        ("UtteranceEnd", [0, 2]),
        ("SpeechStarted", [1]),
        ("Results", [1, 2]),
    ]
    [end] = codec.reply(Outcome(Audio(b"", 1), (), True, 3.0, lane=1))
    assert json.loads(end.text) == {"type": "UtteranceEnd", "channel": [1, 2], "last_word_end": 2.0}


@pytest.mark.parametrize("query", [{"channels": ["9"]}, {}])
def test_too_many_channels(query) -> None:
    """More than eight are refused, as the query or a WAV header says them, with what to do; averaged, there may be."""
    head = wav_of(bytes(36), 8_000, 9)
    with pytest.raises(
        ProtocolError, match="8 channels at most, and there are 9: send fewer, or leave it out"
    ) as error:
        DeepgramCodec({"multichannel": ["true"], **query}).receive(head)
    assert error.value.code == "bad_config"
    assert DeepgramCodec(query).receive(head)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=30))
def test_a_partial_gives_way_only_to_its_own_channel(steps) -> None:
    """Whatever a client reads when, no final is lost, and of each channel's waiting partials the newest is kept."""
    import asyncio

    async def read(outbox: Outbox) -> list[str]:
        outbox.close()
        return [text async for text in _all(outbox)]

    async def _all(outbox: Outbox):
        while (text := await outbox.get()) is not None:
            yield text

    async def run() -> None:
        outbox, got, put = Outbox(1_000), [], []
        for number, (lane, replaceable, reads) in enumerate(steps):
            put.append(Reply(f"{number}", replaceable, lane))
            outbox.put([put[-1]])
            if reads:
                got.append(await outbox.get())
        got += await read(outbox)
        assert got == sorted(got, key=int)
        for number, reply in enumerate(put):
            stale = any(later.lane == reply.lane for later in put[number + 1 :])
            assert reply.text in got or (reply.replaceable and stale)

    asyncio.run(run())


@pytest.fixture(scope="module")
def address(recognizer) -> Iterator[str]:
    with serving(recognizer) as (address, _):
        yield address


def test_deepgram_s_sdk(address, recognizer, call) -> None:
    """Live results say of which channel of how many they are, interim ones too, with the text of each channel alone;
    Finalize is answered for each; Metadata counts them."""
    deepgram = pytest.importorskip("deepgram")
    from deepgram.core.events import EventType
    from deepgram.environment import DeepgramClientEnvironment

    here = DeepgramClientEnvironment(
        base=address.replace("ws:", "http:"), production=address, agent=address, agent_rest=address
    )
    client = deepgram.DeepgramClient(api_key="any", environment=here)
    pcm, received = (call * 32_768).astype("<i2").tobytes(), []
    options = {"model": "nova-3", "encoding": "linear16", "sample_rate": RATE_HZ, "interim_results": True}
    options |= {"multichannel": True, "channels": 2, "utterance_end_ms": 1000, "vad_events": True}
    with client.listen.v1.connect(**options) as socket:
        socket.on(EventType.MESSAGE, received.append)
        for begin in range(0, len(pcm), 6_401):  # within samples
            socket.send_media(pcm[begin : begin + 6_401])
        socket.send_finalize()
        socket.send_close_stream()
        socket.start_listening()
    results = [message for message in received if message.type == "Results"]
    for channel in (0, 1):
        own = [result for result in results if result.channel_index == [channel, 2]]
        finals = [result for result in own if result.is_final]
        said = [text for text in (final.channel.alternatives[0].transcript for final in finals) if text]
        assert said == texts_of(recognizer, (call[:, channel] * 32_768).astype("<i2").tobytes(), written=False)
        assert len(own) > len(finals) + 5
        assert sum(result.from_finalize for result in own) == 1
        started = [message for message in received if message.type == "SpeechStarted" and message.channel == [channel]]
        ends = [message for message in received if message.type == "UtteranceEnd" and message.channel == [channel, 2]]
        assert len(started) == len(said) == 2
        assert ends
    assert len(results) == sum(result.channel_index in ([0, 2], [1, 2]) for result in results)
    assert [message.type for message in received].count("Metadata") == 1
    assert received[-1].type == "Metadata"
    assert received[-1].channels == 2
    assert received[-1].duration == pytest.approx(len(call) / RATE_HZ, abs=0.01)


def test_a_wav_file_over_a_websocket(address, recognizer, call, call_file) -> None:
    """Its header says how many channels there are, and one message may hold all of it."""
    with connect(f"{address}/v1/listen?multichannel=true") as socket:
        socket.send(call_file.read_bytes())
        socket.send('{"type": "CloseStream"}')
        told = [json.loads(message) for message in socket]
    assert told[-1]["type"] == "Metadata"
    for channel in (0, 1):
        own = [message for message in told if message.get("channel_index") == [channel, 2]]
        said = [message["channel"]["alternatives"][0]["transcript"] for message in own]
        assert said == texts_of(recognizer, (call[:, channel] * 32_768).astype("<i2").tobytes(), written=False)


def test_the_handshake_says_what_is_too_much(address) -> None:
    """More channels than are served apart get 400 and the reason."""
    with pytest.raises(InvalidStatus) as error:
        connect(f"{address}/v1/listen?multichannel=true&channels=9")
    assert error.value.response.status_code == 400
    assert "8 channels at most" in error.value.response.body.decode()


# Whole files over HTTP.


def test_a_file_s_channels_in_deepgram_s_sdk(address, recognizer, call, call_file) -> None:
    """Each channel has an entry with the text that it has alone; utterances are in order of time, each with its
    channel."""
    pytest.importorskip("deepgram")
    answer = media_at(address).transcribe_file(
        request=call_file.read_bytes(), multichannel=True, utterances=True, smart_format=True
    )
    finals = recognizer.transcribe(call_file, channels="separate").finals
    assert answer.metadata.channels == 2
    said = [channel.alternatives[0].transcript for channel in answer.results.channels]
    assert said == [" ".join(texts(finals, channel)) for channel in (0, 1)]
    found = [(part.channel, part.transcript, part.start) for part in answer.results.utterances]
    assert found == [(final.channel, final.text, final.start_s) for final in finals]


def test_samples_a_silent_channel_and_one_alone(address, recognizer, clips) -> None:
    """Samples without a header have the channels that are named; one in which nobody speaks has an empty entry; a file
    with one channel is as without."""
    three = pcm_of(together(silence(1), clips[1].samples, silence(2)))
    target = "/v1/listen?encoding=linear16&channels=3&multichannel=true&utterances=true"
    status, answer = posted(address, target, three)
    assert status == 200
    assert answer["metadata"]["channels"] == 3
    said = [channel["alternatives"][0]["transcript"] for channel in answer["results"]["channels"]]
    assert said == ["", " ".join(texts_of(recognizer, pcm_of(clips[1].samples), written=False)), ""]
    assert {part["channel"] for part in answer["results"]["utterances"]} == {1}
    answers = [
        posted(address, f"/v1/listen{query}", clips[1].path.read_bytes())[1] for query in ("", "?multichannel=true")
    ]
    assert answers[0]["results"] == answers[1]["results"]


def test_a_file_with_too_many_channels(address) -> None:
    """It is refused with 400 and what to do; without multichannel its channels are averaged."""
    data = wav_of(bytes(RATE_HZ * 2 * 9), RATE_HZ, 9)
    status, error = posted(address, "/v1/listen?multichannel=true", data)
    assert status == 400
    assert "8 channels at most, and there are 9" in error["err_msg"]
    status, answer = posted(address, "/v1/listen", data)
    assert (status, answer["metadata"]["channels"]) == (200, 1)
