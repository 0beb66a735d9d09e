"""Coded sound that is decoded while it comes: the same as whole files, at once, and whatever may be wrong with it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from audio_files import write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from live_files import KINDS, browser_webm, opus_packets, pieces

from asr.audio.audio_file import AudioFile
from asr.audio.coded import CodedSound
from asr.audio.flac_frames import FlacFrames
from asr.audio.forms import Form
from asr.errors import AudioError

FORMS = {"webm": Form.WEBM, "ogg": Form.OGG, "ogg flac": Form.OGG, "mp3": Form.MP3, "mp3 alone": Form.MP3}
FORMS |= {"flac": Form.FLAC, "aac": Form.AAC, "mp4": Form.MP4, "au": Form.AU}


class Pieces:
    """A source that gives one piece after the other, and knows how many were asked for."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter([part for part in parts if part])
        self._rest = b""
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        part = self._rest or next(self._parts, b"")
        size = len(part) if size < 0 else size
        part, self._rest = part[:size], part[size:]
        self.read_bytes += len(part)
        return part


def decode(parts: Iterable[bytes], form: Form, channels: int = 1) -> tuple[np.ndarray, str]:
    """All that can be decoded, ``(n, channels)``, and what was wrong."""
    blocks, wrong = [], ""
    try:
        for block in CodedSound(Pieces(parts), form, channels):
            blocks.append(block)
    except AudioError as error:
        wrong = str(error)
    return np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32), wrong


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    ends = itertools.takewhile(lambda end: end < len(data), itertools.accumulate(itertools.cycle(sizes)))
    return [data[begin:end] for begin, end in itertools.pairwise([0, *ends, len(data)])]


class Recordings(dict[str, bytes]):
    """By kind. Not to be written out where an example fails."""

    def __repr__(self) -> str:
        return "recorded"


@pytest.fixture(scope="module")
def recorded(clips) -> Recordings:
    """Two seconds of speech of every kind."""
    return Recordings((name, b"".join(pieces(name, clips[1].samples[:32_000]))) for name in KINDS)


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(KINDS)), sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=6))
def test_samples_are_those_of_the_whole_file(recorded, name: str, sizes: list[int]) -> None:
    """However the bytes are cut, what is decoded live is what `AudioFile` reads, to the bit."""
    data = recorded[name]
    with AudioFile(io.BytesIO(data)) as file:
        whole = np.concatenate(list(file))
    got, wrong = decode(cut(data, sizes), FORMS[name])
    assert not wrong
    np.testing.assert_array_equal(got[:, 0], whole)


@pytest.mark.parametrize(
    ("name", "most_s"),
    [("webm", 0.06), ("ogg", 0.04), ("ogg flac", 0.16), ("flac", 0.16), ("aac", 0.15), ("mp3", 0.5), ("mp4", 0.3)],
)
def test_little_is_held_back(clips, name: str, most_s: float) -> None:
    """When more is asked for, all that was recorded before is decoded but for what the encoder, a frame and a fragment
    hold; from the first pieces on."""
    samples = clips[1].samples[: 3 * 16_000]
    lacking: list[float] = []
    decoded_s = 0.0

    def parts() -> Iterable[bytes]:
        for number, part in enumerate(pieces(name, samples)):
            if number >= 5:  # half a second
                lacking.append(0.1 * number - decoded_s)
            yield part

    source = Pieces([])
    source._parts = filter(None, parts())
    sound = CodedSound(source, FORMS[name])
    for block in sound:
        decoded_s += len(block) / sound.sample_rate_hz
    assert len(lacking) > 20
    assert max(lacking[:-1]) < most_s


def test_a_browser_s_webm(clips) -> None:
    """A cluster without a size, in pieces of 20 ms, gives each but one of them at once."""
    parts = browser_webm(clips[1].samples[:16_000])
    whole, wrong = decode([b"".join(parts)], Form.WEBM)
    assert not wrong
    assert abs(len(whole) - 48_000) < 2_000
    half, _ = decode(parts[:20], Form.WEBM)
    np.testing.assert_array_equal(half, whole[: len(half)])
    assert len(half) > 17 * 960


def test_opus_packets(clips) -> None:
    """Packets by themselves are the same sound as in an Ogg file, but for what that says is to be left out."""
    samples = clips[1].samples[:32_000]
    got, wrong = decode(opus_packets(samples), Form.OPUS)
    inside, _ = decode(pieces("ogg", samples), Form.OGG)
    assert not wrong
    skipped = 312  # the encoder's own delay, which the file's header states
    np.testing.assert_array_equal(got[skipped : skipped + len(inside)], inside)


def test_channels_are_kept_apart(clips) -> None:
    """Blocks have the channels of the file, or of packets as many as the client says."""
    samples = np.stack([clips[1].samples[:16_000], np.zeros(16_000, np.float32)], axis=1)
    for name in ("webm", "flac", "mp4"):
        got, wrong = decode(pieces(name, samples), FORMS[name])
        assert not wrong
        loud = np.sqrt(np.mean(got**2, axis=0))
        assert got.shape[1] == 2
        assert loud[0] > 20 * loud[1]
    packets = opus_packets(samples)
    assert decode(packets, Form.OPUS, 2)[0].shape[1] == 2
    assert decode(packets, Form.OPUS, 1)[0].shape[1] == 1


@pytest.mark.parametrize("name", ["flac", "mp3", "aac", "mp4"])
def test_damage_is_told_after_all_that_could_be_decoded(recorded, name: str) -> None:
    """What comes before damage is decoded, what comes after it where its form allows, and then the error says so."""
    data = bytearray(recorded[name])
    for at in range(len(data) // 2, len(data) * 3 // 5):
        data[at] ^= 0x5A
    whole, _ = decode([recorded[name]], FORMS[name])
    got, wrong = decode(cut(bytes(data), [500]), FORMS[name])
    assert "damaged" in wrong
    assert "could be decoded were used" in wrong
    before = len(whole) // 3
    np.testing.assert_array_equal(got[:before], whole[:before])


@pytest.mark.parametrize("name", sorted(KINDS))
def test_what_ends_in_the_middle_is_not_damaged(recorded, name: str) -> None:
    """Live sound ends anywhere: what is there is decoded, and nothing is wrong."""
    whole, _ = decode([recorded[name]], FORMS[name])
    got, wrong = decode([recorded[name][: len(recorded[name]) * 2 // 3]], FORMS[name])
    assert not wrong
    assert len(got) > len(whole) // 3
    np.testing.assert_array_equal(got[:-2_000], whole[: len(got) - 2_000])


@settings(max_examples=150)
@given(
    mark=st.sampled_from([b"OggS", b"\x1aE\xdf\xa3", b"fLaC", b"ID3\x04", b"\0\0\0\x20ftyp", b"#!AMR\n", b".snd"]),
    rest=st.binary(max_size=400),
)
def test_garbage_behind_a_mark(mark: bytes, rest: bytes) -> None:
    """Whatever comes behind the first bytes of a file ends in an error, or in sound, and in nothing else."""
    forms = {b"O": Form.OGG, b"\x1a": Form.WEBM, b"f": Form.FLAC, b"I": Form.MP3, b"\0": Form.MP4, b"#": Form.AMR}
    got, wrong = decode(cut(mark + rest, [50]), forms.get(mark[:1], Form.AU))
    assert len(got) or "send it whole from its first byte on" in wrong or "POST the file" in wrong


def test_a_source_s_own_errors_are_let_through(recorded) -> None:
    """Who gives up a source in the middle gets that error, and not one about the file."""

    class Lost(Exception):
        pass

    class Broken(Pieces):
        def read(self, size: int = -1) -> bytes:
            if self.read_bytes > 2_000:
                raise Lost
            return super().read(size)

    for name, data in recorded.items():
        with pytest.raises(Lost):
            list(CodedSound(Broken(cut(data, [500])), FORMS[name]))


def test_a_file_that_never_has_sound_is_given_up() -> None:
    """A picture of any size before the sound would have to be kept: some megabytes are enough."""
    head = b"ID3\x04\x00\x00\x7f\x7f\x7f\x7fAPIC\x7f\x7f\x7f\x00\x00\x00"
    source = Pieces(itertools.chain([head], itertools.repeat(bytes(1 << 16), 5_000)))
    with pytest.raises(AudioError, match="no sound in 16 MiB"):
        list(CodedSound(source, Form.MP3))
    assert source.read_bytes < 20 << 20


def test_an_mp4_with_its_table_at_the_end(tmp_path, clips) -> None:
    """It is refused at once, with what to send in its place; one that has it first is decoded."""
    data = write_audio(tmp_path / "a.m4a", clips[1].samples).read_bytes()
    source = Pieces(cut(data, [1_000]))
    with pytest.raises(AudioError, match="send fragmented MP4"):
        list(CodedSound(source, Form.MP4))
    assert source.read_bytes < 2_000
    data = write_audio(tmp_path / "b.m4a", clips[1].samples, movflags="faststart").read_bytes()
    assert not decode(cut(data, [1_000]), Form.MP4)[1]


@given(sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=6))
def test_flac_frames(recorded, sizes: list[int]) -> None:
    """The frames of a stream are all its bytes behind its header, and begin with their mark, however it is cut."""
    parting, frames = FlacFrames(), []
    for part in cut(recorded["flac"], sizes):
        frames += parting.accept(part)
    frames += parting.finish()
    assert len(frames) == 28  # of 1,152 samples
    assert recorded["flac"].endswith(b"".join(frames))
    assert all(frame.startswith(b"\xff\xf8") for frame in frames)


def test_missing_flac_frames(recorded) -> None:
    """Where some are lost, the next good one is found; where there is no frame at all, that is an error."""
    parting = FlacFrames()
    frames = parting.accept(recorded["flac"])
    head = recorded["flac"][: recorded["flac"].index(frames[0])]
    again = FlacFrames()
    kept = [*frames[:5], *frames[9:]]
    assert again.accept(head + b"".join(kept)) == kept[:-1] + ([] if again.finish() == kept[-1:] else kept[-1:])
    with pytest.raises(AudioError, match="no frame"):
        FlacFrames().accept(head + bytes(100))
    with pytest.raises(AudioError, match="mark"):
        FlacFrames().accept(b"flac" + bytes(100))
