"""The stream API on real speech with the shipped model: what the product promises."""

from __future__ import annotations

import difflib
import itertools
import random
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from audio_files import write_audio
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr import AudioError, ConfigError, DecoderOptions, EndpointRule, Final, HotWord, ModelError, Partial, StreamError
from asr.recognizer import Recognizer
from asr.text.score import ErrorCount, count_errors, count_word_errors

GREEDY = DecoderOptions(method="greedy")
BEAM = DecoderOptions(beam=8)


def events_of(recognizer, samples, cuts=(), **options) -> list:
    stream = recognizer.stream(16_000, **options)
    events = []
    for part in np.split(samples, list(cuts)):
        events += stream.accept(part)
    return events + stream.finish()


def text_of(events) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final))


def test_speech_becomes_words(recognizer, clips) -> None:
    """Most letters of five speakers are right, and none of the clips comes out empty."""
    texts = [text_of(events_of(recognizer, clip.samples)) for clip in clips]
    assert all(texts)
    errors = sum((count_errors(c.text, t) for c, t in zip(clips, texts, strict=True)), ErrorCount())
    assert errors.rate < 0.45


@settings(max_examples=15)
@given(data=st.data())
def test_any_chunking_gives_the_same_events(recognizer, speech, data) -> None:
    """Chunks from one sample to ten seconds: the same texts, word times and partials, bit for bit."""
    samples = speech[: data.draw(st.integers(0, 9 * 16_000), label="length")]
    lengths = st.one_of(st.integers(1, 3), st.integers(1, 4_000), st.integers(1, 160_000))
    cuts, at = [], 0
    while at < len(samples) and len(cuts) < 200:
        at += data.draw(lengths, label="chunk")
        cuts.append(min(at, len(samples)))
    assert events_of(recognizer, samples, cuts) == events_of(recognizer, samples)


def test_chunks_of_one_sample(recognizer, clips) -> None:
    """Fed sample by sample, a stream gives the events of the whole."""
    samples = clips[0].samples[: 16_000 * 2]
    assert events_of(recognizer, samples, range(len(samples))) == events_of(recognizer, samples)


@pytest.mark.parametrize("decoding", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_stable_text_never_changes(recognizer, speech, decoding) -> None:
    """Characters once called stable begin every later partial of the utterance, and its final."""
    stable = ""
    for event in events_of(recognizer, speech, decoding=decoding):
        assert event.text.startswith(stable)
        stable = "" if isinstance(event, Final) else event.text[: event.stable_chars]


@pytest.mark.parametrize("decoding", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_sixteen_streams_together_are_each_alone(recognizer, clips, decoding) -> None:
    """Advanced together in random order and in random chunks, each stream gives the events it gives alone."""
    rng = random.Random(7)
    audio = [np.roll(clips[i % len(clips)].samples, 977 * i)[: 16_000 * 3 + 800 * i] for i in range(16)]
    streams = [recognizer.stream(16_000, decoding=decoding) for _ in audio]
    position = [0] * 16
    events: list[list] = [[] for _ in audio]
    pending = set(range(16))
    while pending:
        for i in rng.sample(sorted(pending), k=rng.randint(1, len(pending))):
            size = rng.randint(1, 6_000)
            streams[i].push(audio[i][position[i] : position[i] + size])
            position[i] += size
            if position[i] >= len(audio[i]):
                streams[i].end()
                pending.discard(i)
        chosen = rng.sample(range(16), k=rng.randint(1, 16))
        for i, new in zip(chosen, recognizer.advance([streams[i] for i in chosen]), strict=True):
            events[i] += new
    while any(stream.ready for stream in streams):
        for own, new in zip(events, recognizer.advance(streams), strict=True):
            own += new
    for samples, own in zip(audio, events, strict=True):
        assert own == events_of(recognizer, samples, decoding=decoding)


def test_the_language_model_takes_errors_off(recognizer, clips) -> None:
    """On real speech, the default search makes fewer word errors than greedy and than one without the model."""

    def errors(decoding) -> int:
        texts = [text_of(events_of(recognizer, clip.samples, decoding=decoding)) for clip in clips]
        return sum(count_word_errors(clip.text, text).errors for clip, text in zip(clips, texts, strict=True))

    default = recognizer.bundle.decoding
    assert errors(None) < errors(GREEDY)
    assert errors(None) < errors(replace(default, alpha=0.0))


def test_hot_words_change_what_is_heard(recognizer, clips) -> None:
    """A boosted word that no vocabulary holds is written, only while it is set, and only on its own stream."""
    audio = clips[0].samples
    plain = text_of(events_of(recognizer, audio, written=False))
    odd = "fatherlover"  # said in one breath
    assert odd not in recognizer.bundle.lexicon
    boosted = text_of(events_of(recognizer, audio, hot_words=[HotWord(odd, 12.0)], written=False))
    assert odd not in plain.split()
    assert odd in boosted.split()
    assert text_of(events_of(recognizer, audio, written=False)) == plain
    stream = recognizer.stream(16_000, hot_words=[HotWord(odd, 12.0)], written=False)
    first = [*stream.accept(audio), *stream.accept(np.zeros(32_000, dtype=np.float32))]
    stream.set_hot_words([])
    second = [*stream.accept(np.zeros(16_000, dtype=np.float32)), *stream.accept(audio), *stream.finish()]
    assert odd in text_of(first).split()
    assert odd not in text_of(second).split()


def test_hot_words_that_cannot_work_are_refused(recognizer) -> None:
    """A phrase with digits is named, and so is a decoder that has no choice to make."""
    with pytest.raises(ConfigError, match="'b52'"):
        recognizer.stream(16_000, hot_words=["b52"])
    with pytest.raises(ConfigError, match="beam"):
        recognizer.stream(16_000, hot_words=["word"], decoding=GREEDY)


def test_alternatives_are_other_texts_in_order(recognizer, clips) -> None:
    """Asked for three, a final brings up to three more readings, each less likely, with words and times."""
    decoding = replace(recognizer.bundle.decoding, alternatives=3)
    (final,) = [e for e in events_of(recognizer, clips[1].samples, decoding=decoding) if isinstance(e, Final)]
    assert 2 <= len(final.alternatives) <= 3  # the search may have given up on all others
    texts = [final.text, *(other.text for other in final.alternatives)]
    scores = [final.score, *(other.score for other in final.alternatives)]
    assert len(set(texts)) == len(texts)
    assert scores == sorted(scores, reverse=True)
    for other in final.alternatives:
        assert " ".join(word.text for word in other.words) == other.text


def test_threads_share_a_recognizer(recognizer, clips) -> None:
    """Streams in five threads at once give what they give one after the other."""
    results: dict[int, list] = {}

    def work(i: int) -> None:
        results[i] = events_of(recognizer, clips[i].samples, range(0, len(clips[i].samples), 1_600))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, clip in enumerate(clips):
        assert results[i] == events_of(recognizer, clip.samples)


def test_word_times_are_in_order_and_absolute(recognizer, speech, clips) -> None:
    """Over several utterances word times rise, lie in the audio, and fall where each clip does."""
    finals = [event for event in events_of(recognizer, speech) if isinstance(event, Final)]
    words = [word for final in finals for word in final.words]
    for word in words:
        assert 0 <= word.start_s < word.end_s <= len(speech) / 16_000
        assert 0 < word.confidence <= 1
    for before, after in itertools.pairwise(words):
        assert before.start_s < after.start_s
    start_s = 0.0
    for clip in clips:
        end_s = start_s + len(clip.samples) / 16_000
        inside = [w.text for w in words if start_s - 0.2 < w.start_s < end_s + 0.5]
        assert abs(len(inside) - len(clip.text.split())) <= 4
        start_s = end_s + 1.0


def test_pauses_end_utterances(recognizer, clips) -> None:
    """Two clips with a second between are two finals for silence's sake, and one without rules."""
    gap = np.zeros(20_000, dtype=np.float32)
    samples = np.concatenate([clips[0].samples, gap, clips[2].samples, gap])
    options = {"decoding": GREEDY, "written": False}
    finals = [e for e in events_of(recognizer, samples, **options) if isinstance(e, Final)]
    assert len(finals) >= 2
    assert finals[0].reason == "silence"
    single = [e for e in events_of(recognizer, samples, rules=(), **options) if isinstance(e, Final)]
    assert [e.reason for e in single] == ["end"]
    assert [w.text for w in single[0].words] == [w.text for f in finals for w in f.words]


def test_a_long_utterance_is_ended(recognizer, clips) -> None:
    """A rule on length ends an utterance that never pauses, and no word is lost by it."""
    rules = (EndpointRule("length", speech=True, silence_s=0.0, length_s=2.0),)
    options = {"decoding": GREEDY, "written": False}
    finals = [e for e in events_of(recognizer, clips[0].samples, rules=rules, **options) if isinstance(e, Final)]
    assert len(finals) >= 2
    assert finals[0].reason == "length"
    whole = text_of(events_of(recognizer, clips[0].samples, rules=(), **options))
    assert "".join(f.text for f in finals).replace(" ", "") == whole.replace(" ", "")


def test_a_flush_ends_the_utterance_and_keeps_the_clock(recognizer, clips) -> None:
    """Flushed between two clips that follow without a pause: the first is final to its last word, and the words
    of the second have the times that they have without a flush."""
    first, second = clips[1].samples, clips[2].samples
    stream = recognizer.stream(16_000, rules=(), decoding=GREEDY, written=False)
    events = [*stream.accept(first), *stream.flush()]
    (final,) = [e for e in events if isinstance(e, Final)]
    assert final.reason == "flush"
    assert final.text == text_of(events_of(recognizer, first, rules=(), decoding=GREEDY, written=False))
    assert stream.flush() == []
    later = [*stream.accept(second), *stream.finish()][-1]
    alone = events_of(recognizer, second, rules=(), decoding=GREEDY, written=False)[-1]
    shift = len(first) / 16_000
    assert count_errors(alone.text, later.text).rate < 0.5
    assert later.words[0].start_s - shift == pytest.approx(alone.words[0].start_s, abs=0.2)
    assert later.words[-1].end_s - shift == pytest.approx(alone.words[-1].end_s, abs=0.2)
    assert stream.position_s == pytest.approx((len(first) + len(second)) / 16_000)


def test_silence_gives_no_events(recognizer) -> None:
    """Half a minute of digital silence, and of its last bit in noise, brings no event; of faint noise, no word."""
    rng = np.random.default_rng(0)
    assert events_of(recognizer, np.zeros(30 * 16_000, dtype=np.float32)) == []
    assert events_of(recognizer, rng.integers(-1, 2, 30 * 16_000).astype(np.int16)) == []
    assert text_of(events_of(recognizer, rng.normal(0, 1e-3, 30 * 16_000).astype(np.float32))) == ""


def test_words_have_the_same_times_by_pieces_and_by_letters(recognizer, clips) -> None:
    """Where greedy decoding and the beam write the same word, it begins and ends within 0.1 s, nearly always."""
    off: list[float] = []
    for clip in clips:
        ways = [events_of(recognizer, clip.samples, rules=(), decoding=way)[-1].words for way in (GREEDY, None)]
        texts = [[word.text for word in words] for words in ways]
        for block in difflib.SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks():
            for k in range(block.size):
                ours, theirs = ways[0][block.a + k], ways[1][block.b + k]
                off += [abs(ours.start_s - theirs.start_s), abs(ours.end_s - theirs.end_s)]
    assert len(off) > 20
    assert np.quantile(off, 0.8) <= 0.1


def test_a_mute_button_changes_nothing_that_is_said_around_it(recognizer, clips) -> None:
    """Speech after two minutes of digital silence gives the words that it gives after one second of it."""
    first, second = clips[0].samples, clips[1].samples

    def around(mute_s: float) -> list[Final]:
        audio = np.concatenate([first, np.zeros(round(mute_s * 16_000), dtype=np.float32), second])
        return [event for event in events_of(recognizer, audio) if isinstance(event, Final)]

    # 120 ms blocks must fall alike on the second clip.
    short, long = around(2.4), around(2.4 + 120.0)
    assert [final.text for final in short] == [final.text for final in long]
    assert short[0] == long[0]
    assert [word.start_s + 120 for word in short[-1].words] == pytest.approx([word.start_s for word in long[-1].words])


def test_a_mute_stream_does_not_hold_up_others(recognizer, clips) -> None:
    """A stream that is mute and one that is not, advanced together, each give what they give alone."""
    speech = np.concatenate([np.zeros(48_000, dtype=np.float32), clips[0].samples])
    mute = np.concatenate([clips[1].samples, np.zeros(len(speech), dtype=np.float32)])
    streams = [recognizer.stream(16_000) for _ in range(2)]
    got: list[list[asr.Event]] = [[], []]
    for stream, audio in zip(streams, (speech, mute), strict=True):
        stream.push(audio)
        stream.end()
    while any(stream.ready for stream in streams):
        for mine, events in zip(got, recognizer.advance(streams), strict=True):
            mine += events
    assert got == [events_of(recognizer, speech), events_of(recognizer, mute)]


def test_far_at_once_and_block_by_block_are_the_same(recognizer, clips) -> None:
    """What waits for a stream, a flush and two seconds of nothing within it, gives the events that `advance` gives."""
    far, near = (recognizer.stream(16_000) for _ in range(2))
    got: list[list[asr.Event]] = [[], []]
    for stream in (far, near):
        stream.push(clips[0].samples[:40_000])
        stream.push_flush()
        stream.push(np.concatenate([clips[0].samples[40_000:], np.zeros(32_000, np.float32), clips[1].samples]))
    for ends in (False, True):
        got[0] += far.finish() if ends else far.accept(b"")
        if ends:
            near.end()
        while near.ready:
            got[1] += recognizer.advance([near])[0]
    assert got[0] == got[1]
    assert [event.reason for event in got[0] if isinstance(event, Final)][:2] == ["flush", "silence"]


def test_without_partials_the_finals_are_the_same(recognizer, speech) -> None:
    """A stream that is asked for none gives the finals that it gives otherwise, and nothing else."""
    stream = recognizer.stream(16_000, partials=False)
    finals = [event for at in range(0, len(speech), 3_000) for event in stream.accept(speech[at : at + 3_000])]
    finals += stream.finish()
    assert finals == [event for event in events_of(recognizer, speech) if isinstance(event, Final)]


def test_the_first_and_last_word_are_kept(recognizer, clips) -> None:
    """In a recording that starts and stops with its words, words are found up to both of its ends."""
    for clip in clips:
        loud = np.flatnonzero(np.abs(clip.samples) > 0.02)
        tight = clip.samples[loud[0] : loud[-1]]
        words = [word for e in events_of(recognizer, tight) if isinstance(e, Final) for word in e.words]
        assert words[0].start_s < 0.5
        assert words[-1].end_s > len(tight) / 16_000 - 0.5


def test_other_rates_and_encodings(recognizer, clips) -> None:
    """48 kHz bytes, stereo and 16 kHz floats of the same speech give nearly the same words."""
    import soxr

    clip = clips[0]
    expected = text_of(events_of(recognizer, clip.samples))
    high = soxr.resample(clip.samples, 16_000, 48_000)
    integers = np.clip(high * 32768, -32768, 32767).astype("<i2")
    for pcm, channels in [(integers.tobytes(), 1), (np.repeat(integers, 2).tobytes(), 2)]:
        stream = recognizer.stream(48_000, channels=channels)
        events = [e for i in range(0, len(pcm), 4_801) for e in stream.accept(pcm[i : i + 4_801])]
        text = text_of(events + stream.finish())
        assert count_word_errors(expected, text).rate < 0.25


def test_partials_come_while_speaking(recognizer, clips) -> None:
    """Before the speech ends there are partials, and each says something new."""
    stream = recognizer.stream(16_000)
    partials = [e for e in stream.accept(clips[0].samples) if isinstance(e, Partial)]
    assert len(partials) > 5
    for before, after in itertools.pairwise(partials):
        assert (before.text, before.stable_chars) != (after.text, after.stable_chars)


def test_files_and_streams_agree(recognizer, clips, tmp_path) -> None:
    """A FLAC file transcribes to what its samples do, by path and as an open file."""
    samples = np.rint(clips[1].samples * 32767).astype(np.int16)
    path = write_audio(tmp_path / "clip.flac", clips[1].samples)
    transcript = recognizer.transcribe(path)
    assert transcript.text == text_of(events_of(recognizer, samples))
    assert transcript.duration_s == pytest.approx(len(samples) / 16_000)
    with path.open("rb") as file:
        assert recognizer.transcribe(file) == transcript


def test_the_float_model_agrees_with_the_integer_one(recognizer, clips) -> None:
    """8-bit weights change few words: the texts of the two precisions differ in at most one word of eight."""
    precise = asr.load(precision="float32")
    errors = sum(
        (
            count_word_errors(text_of(events_of(precise, c.samples)), text_of(events_of(recognizer, c.samples)))
            for c in clips
        ),
        ErrorCount(),
    )
    assert errors.rate <= 0.125


def test_bad_chunks_leave_the_stream_usable(recognizer, clips) -> None:
    """After a refused chunk of NaN the stream gives what it would have given."""
    samples = clips[0].samples
    stream = recognizer.stream(16_000)
    events = stream.accept(samples[:20_000])
    with pytest.raises(AudioError, match="NaN"):
        stream.accept(np.full(100, np.nan, dtype=np.float32))
    events += stream.accept(samples[20_000:]) + stream.finish()
    assert events == events_of(recognizer, samples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hot_words": "hurstwood"}, r"hot_words must be a list, not 'hurstwood'"),
        ({"hot_words": [("hurstwood", 6)]}, r"hot_words cannot hold \('hurstwood', 6\): write .*HotWord"),
        ({"hot_words": HotWord("hurstwood")}, "hot_words must be a list"),
        ({"replacements": {"a": "b"}}, r"replacements cannot hold 'a': write .*Replacement\("),
        ({"rules": EndpointRule("silence", True, 0.9)}, r"rules must be a list.*EndpointRule\("),
    ],
)
def test_arguments_of_the_wrong_kind(recognizer, options, message) -> None:
    """What is no list, or a list of something else, is told by the argument's name with what to write."""
    with pytest.raises(ConfigError, match=message):
        recognizer.stream(**options)


@pytest.mark.parametrize("chunk", [[0.1, 0.2], [1, 2], "sound", 5, None])
def test_chunks_of_the_wrong_kind_leave_the_stream_usable(recognizer, clips, chunk) -> None:
    """A list, a string or a number is no audio, and the stream gives what it would have given."""
    stream = recognizer.stream(16_000)
    with pytest.raises(AudioError, match=f"bytes or a NumPy array, not {type(chunk).__name__}"):
        stream.accept(chunk)
    assert stream.accept(clips[0].samples) + stream.finish() == events_of(recognizer, clips[0].samples)


@pytest.mark.parametrize("source", [bytes(32_000), [0.0, 0.1]])
def test_what_is_no_audio_is_not_transcribed(recognizer, source) -> None:
    """Bytes or a list given to `transcribe` are an error that says what it takes."""
    with pytest.raises(AudioError, match=f"NumPy array, not {type(source).__name__}"):
        recognizer.transcribe(source)


def test_samples_are_transcribed(recognizer, clips) -> None:
    """An array of samples gives the finals that a stream gives, and its length; so it does with two channels."""
    samples = clips[0].samples
    found = recognizer.transcribe(samples, written=False)
    expected = [event for event in events_of(recognizer, samples, written=False) if isinstance(event, Final)]
    assert list(found.finals) == expected
    assert found.duration_s == pytest.approx(len(samples) / 16_000)
    stereo = np.stack([np.repeat(samples, 2)] * 2, axis=1)
    assert recognizer.transcribe(stereo, sample_rate=32_000).duration_s == pytest.approx(found.duration_s)
    with pytest.raises(AudioError, match="channels"):
        recognizer.transcribe(np.zeros((2, 16_000), np.float32))


def test_a_finished_stream_says_so(recognizer) -> None:
    """Feeding or finishing again is an error that says what to do."""
    stream = recognizer.stream()
    assert stream.finish() == []
    with pytest.raises(StreamError, match="open a new one"):
        stream.accept(b"\0\0")
    with pytest.raises(StreamError, match="finished already"):
        stream.finish()


def test_one_stream_twice_in_a_step(recognizer) -> None:
    """Naming a stream twice in one step is refused."""
    stream = recognizer.stream()
    with pytest.raises(StreamError, match="twice"):
        recognizer.advance([stream, stream])
    with pytest.raises(StreamError, match="another recogniser"):
        Recognizer(recognizer.bundle).advance([stream])


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_cannot_be(recognizer, rate) -> None:
    """0 Hz and the like are refused with the rates that can be."""
    with pytest.raises(AudioError, match="give one from"):
        recognizer.stream(rate)


def test_a_rate_in_quotes(recognizer) -> None:
    """A rate that is a string is told as one."""
    with pytest.raises(AudioError, match="'16000' is a string"):
        recognizer.stream("16000")


def copy_model(recognizer, to):
    shutil.copytree(recognizer.bundle.path, to, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return to


@pytest.mark.parametrize("name", ["weights.safetensors", "tokens.txt", "model.toml"])
def test_a_model_folder_with_a_file_missing(recognizer, tmp_path, name) -> None:
    """The error names the missing file."""
    folder = copy_model(recognizer, tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        asr.load(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "tokens.txt", "model.toml"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_model_folder_with_a_damaged_file(recognizer, tmp_path, name, damage) -> None:
    """The error names the damaged file in one line."""
    folder = copy_model(recognizer, tmp_path / "model")
    data = (folder / name).read_bytes()
    noise = np.random.default_rng(0).bytes(64)
    (folder / name).write_bytes({"cut": data[: len(data) // 3], "noise": noise + data[64:], "empty": b""}[damage])
    with pytest.raises(ModelError) as caught:
        asr.load(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value) or "tokens" in str(caught.value)


def test_a_model_of_phonemes_without_its_lexicon(recognizer, clips, tmp_path) -> None:
    """It finds no words and names the file it lacks; its word pieces are still read greedily."""
    folder = copy_model(recognizer, tmp_path / "model")
    (folder / "lexicon.safetensors").unlink()
    bare = asr.load(folder)
    with pytest.raises(ModelError, match=r"has no lexicon\.safetensors"):
        bare.transcribe(clips[0].path)
    assert bare.transcribe(clips[0].path, decoding=GREEDY) == recognizer.transcribe(clips[0].path, decoding=GREEDY)


def test_no_model_there(tmp_path) -> None:
    """A path without a model is an error that says what a model folder is."""
    with pytest.raises(ModelError, match="no model folder"):
        asr.load(tmp_path / "nowhere")
