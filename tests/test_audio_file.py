"""Reading files: every kind people have, and what happens with broken ones."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import tracemalloc

import numpy as np
import pytest
from audio_files import KINDS, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.audio_file import AudioFile
from asr.errors import AudioError


def tone(seconds: float, rate_hz: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def read(path) -> tuple[np.ndarray, int]:
    with AudioFile(path) as audio:
        return np.concatenate(list(audio)), audio.sample_rate_hz


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_file_is_read(tmp_path, kind) -> None:
    """The tone that went into a file comes out: length, pitch and level."""
    rate_hz = 48_000
    samples, got_hz = read(write_audio(tmp_path / f"tone.{kind}", tone(1.5, rate_hz), rate_hz))
    assert abs(len(samples) / got_hz - 1.5) < 0.1
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(spectrum.argmax() * got_hz / len(middle) - 440) < 3
    assert abs(np.sqrt(np.mean(middle**2)) - 0.5 / np.sqrt(2)) < 0.03


@pytest.mark.parametrize("channels", [1, 2, 6, 7, 8])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_any_rate_and_number_of_channels(tmp_path, channels, rate_hz) -> None:
    """Channels that say the same average to that, at any rate."""
    samples, got_hz = read(write_audio(tmp_path / "a.wav", tone(0.5, rate_hz), rate_hz, channels))
    assert got_hz == rate_hz
    np.testing.assert_allclose(samples, tone(0.5, rate_hz), atol=1e-3)


def test_an_open_file_is_read_too(tmp_path) -> None:
    """Bytes in memory decode as the file does."""
    path = write_audio(tmp_path / "a.flac", tone(0.5))
    np.testing.assert_array_equal(read(io.BytesIO(path.read_bytes()))[0], read(path)[0])


def test_a_long_file_takes_no_more_memory(tmp_path) -> None:
    """Ten minutes are read block by block: the blocks alive at once stay under a megabyte."""
    path = write_audio(tmp_path / "long.flac", tone(600))
    tracemalloc.start()
    with AudioFile(path) as audio:
        seconds = sum(len(block) for block in audio) / audio.sample_rate_hz
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(seconds - 600) < 0.1
    assert peak < 1_000_000


def test_a_missing_file(tmp_path) -> None:
    """The error names it."""
    with pytest.raises(AudioError, match=r"nothing\.wav: no such file"):
        AudioFile(tmp_path / "nothing.wav")


def test_an_empty_file(tmp_path) -> None:
    """The error says that it is empty."""
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match="the file is empty"):
        AudioFile(tmp_path / "empty.wav")


def test_a_folder(tmp_path) -> None:
    """The error says that it is a folder."""
    with pytest.raises(AudioError, match="is a folder"):
        AudioFile(tmp_path)


def test_text_renamed_wav(tmp_path) -> None:
    """The error says that it is not audio and what to give instead."""
    (tmp_path / "notes.wav").write_text("Dear diary, today I renamed a file.\n" * 50)
    with pytest.raises(AudioError, match=r"not readable as audio .*: give a WAV"):
        read(tmp_path / "notes.wav")


def test_a_wav_that_says_zero_hertz(tmp_path) -> None:
    """A header with a sample rate of 0 Hz is refused, not divided by."""
    path = write_audio(tmp_path / "a.wav", tone(0.5))
    data = bytearray(path.read_bytes())
    at = data.index(b"fmt ") + 12
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(AudioError):
        read(path)


@pytest.mark.parametrize("kind", ["mp3", "flac", "m4a", "webm"])
@pytest.mark.parametrize("share", [0.5, 0.02])
def test_a_file_cut_off_gives_what_it_has(tmp_path, kind, share) -> None:
    """What can be decoded comes out first; then the error says how much there was, or that there is nothing."""
    path = write_audio(tmp_path / f"cut.{kind}", np.random.default_rng(0).uniform(-0.5, 0.5, 480_000).astype("f4"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    blocks = []
    with pytest.raises(AudioError) as caught, AudioFile(path) as audio:
        blocks.extend(audio)
    assert "cut" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    if kind in ("mp3", "flac") and share == 0.5:
        assert 10 < sum(map(len, blocks)) / 16_000 < 20


class Pipe:
    """Bytes without a way back."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._file.getvalue()) - self._file.tell()

    def seekable(self) -> bool:
        return False


def opened(data: bytes, how: str, folder):
    """Bytes as a file's path, as an open file or as a pipe."""
    path = folder / "sound"
    path.write_bytes(data)
    return {"path": path, "file": io.BytesIO(data), "pipe": Pipe(data)}[how]


def wav(header: str, promised_bytes: int | None = None) -> bytes:
    """Ten seconds of a tone at 16 kHz as a WAV file that says it has so many bytes of them (default: as many)."""
    sound = (tone(10) * 32767).astype("<i2").tobytes()
    promised_bytes = len(sound) if promised_bytes is None else promised_bytes
    layout = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    notes = b"LIST" + struct.pack("<I", 5) + b"INFO.\0"  # of odd length, and so followed by a byte of nothing
    if header == "RIFF":
        start = b"RIFF" + struct.pack("<I", min(promised_bytes + 50, 0xFFFFFFFF)) + b"WAVE"
        return start + layout + notes + b"data" + struct.pack("<I", promised_bytes) + sound
    sizes = b"ds64" + struct.pack("<IQQQI", 28, promised_bytes, promised_bytes, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + layout + notes + b"data\xff\xff\xff\xff" + sound


@pytest.mark.parametrize("how", ["path", "file", "pipe"])
@pytest.mark.parametrize("header", ["RIFF", "RF64"])
def test_a_wav_cut_off_says_so(tmp_path, header, how) -> None:
    """A WAV whose header promises more sound than is there gives what it has, and then says how much is missing."""
    data = wav(header)
    samples = []
    expected = r"cut off: [45]\.\d s of 10\.0 s are there and were used. Copy it again"
    with (
        pytest.raises(AudioError, match=expected),
        AudioFile(opened(data[: len(data) // 2], how, tmp_path)) as audio,
    ):
        samples.extend(audio)
    assert 4.9 < sum(map(len, samples)) / 16_000 < 5.1
    assert abs(len(read(opened(data, how, tmp_path))[0]) - 160_000) < 2_000


@pytest.mark.parametrize("how", ["path", "file", "pipe"])
@pytest.mark.parametrize(
    ("header", "promised_bytes"),
    [
        ("RIFF", 0),
        ("RIFF", 0xFFFF_FFFF),  # FFmpeg
        ("RIFF", 0x7FFF_F000),  # SoX
        ("RIFF", 0x8000_0000),  # arecord
        ("RF64", (1 << 63) - 1),
    ],
)
def test_a_wav_of_unknown_length_is_whole(tmp_path, header, promised_bytes, how) -> None:
    """A WAV that was written into a pipe, and so does not know its length, is read to its end without complaint."""
    assert len(read(opened(wav(header, promised_bytes), how, tmp_path))[0]) == 160_000


@pytest.mark.parametrize("kind", ["adpcm", "alaw", "float"])
@pytest.mark.parametrize("how", ["path", "pipe"])
def test_a_compressed_wav_is_whole_or_cut_off(tmp_path, kind, how) -> None:
    """WAV files with other sound than 16-bit integers are cut off where they are, and only there."""
    data = write_audio(tmp_path / f"a.{kind}", tone(10)).read_bytes()
    assert abs(len(read(opened(data, how, tmp_path))[0]) / 16_000 - 10) < 0.2
    with pytest.raises(AudioError, match=r"cut off: [45]\.\d s of 10\.\d s|damaged"):
        read(opened(data[: len(data) // 2], how, tmp_path))


@pytest.mark.parametrize("kind", ["flac", "webm", "mkv"])
def test_what_a_pipe_s_header_promises_must_come(tmp_path, kind) -> None:
    """A file that is cut off on its way through a pipe is told of where its header says how long it is."""
    data = write_audio(tmp_path / f"a.{kind}", np.random.default_rng(0).uniform(-0.5, 0.5, 320_000).astype("f4"))
    whole = data.read_bytes()
    assert abs(len(read(Pipe(whole))[0]) / read(data)[1] - 20) < 0.1
    with pytest.raises(AudioError, match=r"cut off: \d+\.\d s of 20\.0 s|damaged"):
        read(Pipe(whole[: len(whole) // 2]))


def test_a_pipe_s_aiff_of_unknown_length_is_whole() -> None:
    """AIFF out of SoX into a pipe claims 2 GiB, as its length is not known yet."""
    sound = (tone(10) * 32767).astype(">i2").tobytes()
    rate = b"\x40\x0c\xfa\x00\0\0\0\0\0\0"  # 16,000 as 80-bit float
    claimed = 0x7F00_0000 // 2
    common = b"COMM" + struct.pack(">IHIH", 18, 1, claimed, 16) + rate
    head = common + b"SSND" + struct.pack(">III", claimed * 2 + 8, 0, 0)
    data = b"FORM" + struct.pack(">I", 0x7F00_0000 + 46) + b"AIFF" + head + sound
    assert len(read(Pipe(data))[0]) == 160_000


@pytest.mark.parametrize("movflags", ["", "faststart", "frag_keyframe+empty_moov"])
def test_an_m4a_out_of_a_pipe_is_the_one_on_disk(tmp_path, movflags) -> None:
    """An M4A gives the same samples from a pipe as from disk, wherever its table of contents lies."""
    path = write_audio(tmp_path / "a.m4a", tone(5), movflags=movflags)
    expected, rate_hz = read(path)
    samples, found_hz = read(Pipe(path.read_bytes()))
    assert found_hz == rate_hz
    assert np.array_equal(samples, expected)


def test_an_m4a_that_tells_where_its_sound_is_comes_as_it_is_sent(tmp_path) -> None:
    """An M4A whose table of contents comes first is decoded while more of it is still to come."""
    pipe = Pipe(write_audio(tmp_path / "a.m4a", tone(60), movflags="faststart").read_bytes())
    with AudioFile(pipe) as audio:
        next(iter(audio))
        assert pipe.left > 200_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a"])
def test_a_named_pipe_is_read(tmp_path, kind) -> None:
    """A named pipe, whose size is always nothing, gives what its writer puts in."""
    whole = write_audio(tmp_path / f"a.{kind}", tone(2))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(whole.read_bytes(),), daemon=True)
    writer.start()
    assert np.array_equal(read(pipe)[0], read(Pipe(whole.read_bytes()))[0])
    writer.join()


def test_a_damaged_middle_is_skipped(tmp_path) -> None:
    """Noise over the middle of an MP3 costs that middle, not what comes after it."""
    path = write_audio(tmp_path / "a.mp3", tone(20))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2_000] = np.random.default_rng(0).bytes(2_000)
    path.write_bytes(data)
    blocks = []
    with contextlib.suppress(AudioError), AudioFile(path) as audio:
        blocks.extend(audio)
    assert sum(map(len, blocks)) / 16_000 > 18


@settings(max_examples=50, deadline=5_000)
@given(st.binary(min_size=1, max_size=3_000), st.sampled_from(["", "RIFF", "fLaC", "OggS", "ID3", "\x1aE\xdf\xa3"]))
def test_random_bytes_are_never_more_than_an_error(data, magic) -> None:
    """Whatever bytes a file holds, with or without a known beginning, reading ends, at worst in AudioError."""
    with contextlib.suppress(AudioError), AudioFile(io.BytesIO(magic.encode("latin-1") + data)) as audio:
        for block in audio:
            assert block.ndim == 1


@settings(max_examples=40, deadline=5_000)
@given(kind=st.sampled_from(sorted(KINDS)), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8))
def test_flipped_bytes_are_never_more_than_an_error(tmp_path_factory, kind, flips) -> None:
    """A file with some bytes changed is read as far as it goes, at worst with AudioError."""
    path = tmp_path_factory.getbasetemp() / f"flip.{kind}"
    if not path.exists():
        write_audio(path, tone(0.3, 48_000), 48_000)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[min(int(place * len(data)), len(data) - 1)] = value
    with contextlib.suppress(AudioError), AudioFile(io.BytesIO(bytes(data))) as audio:
        for block in audio:
            assert block.ndim == 1
