"""Raw audio off the wire."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.pcm import PcmDecoder
from asr.errors import AudioError


@pytest.mark.parametrize(("encoding", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_companded_bytes_agree_with_ffmpeg(encoding, codec) -> None:
    """All 256 codes decode to the values that FFmpeg gives."""
    context = av.CodecContext.create(codec, "r")
    context.sample_rate = 8_000
    context.layout = "mono"
    codes = bytes(range(256))
    expected = np.concatenate([f.to_ndarray()[0] for f in context.decode(av.Packet(codes))]) / 32768
    np.testing.assert_array_equal(PcmDecoder(encoding).accept(codes), expected.astype(np.float32))


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10), st.integers(1, 3))
def test_bytes_may_be_cut_anywhere(data, cuts, channels) -> None:
    """Cut in the middle of a sample or a frame, bytes decode to what they decode to whole."""
    whole = PcmDecoder("s16le", channels).accept(data)
    decoder, at, parts = PcmDecoder("s16le", channels), 0, []
    for cut in [*sorted(cuts), len(data)]:
        parts.append(decoder.accept(data[at:cut]))
        at = max(at, cut)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_arrays_and_bytes_of_the_same_audio_agree() -> None:
    """int16 arrays, float arrays and bytes of the same samples give the same."""
    integers = np.array([0, 1, -1, 32767, -32768, 1234], dtype=np.int16)
    floats = integers.astype(np.float32) / 32768
    for pcm, encoding in [
        (integers.tobytes(), "s16le"),
        (floats.tobytes(), "f32le"),
        (integers, "s16le"),
        (floats, "s16le"),
        (floats.astype(np.float64), "s16le"),
    ]:
        np.testing.assert_array_equal(PcmDecoder(encoding).accept(pcm), floats)


def test_channels_are_averaged() -> None:
    """Interleaved or as columns, two channels become their mean."""
    stereo = np.array([[0.5, -0.5], [0.25, 0.75]], dtype=np.float32)
    np.testing.assert_array_equal(PcmDecoder(channels=2).accept(stereo), [0.0, 0.5])
    np.testing.assert_array_equal(PcmDecoder(channels=2).accept(stereo.reshape(-1)), [0.0, 0.5])


@pytest.mark.parametrize(
    ("pcm", "message"),
    [
        (np.array([0.0, np.nan], dtype=np.float32), "NaN or infinite"),
        (np.array([0.0, np.inf], dtype=np.float32), "NaN or infinite"),
        (np.array([0.0, -3000.0], dtype=np.float32), "divide 16-bit values by 32768"),
        (np.zeros((10, 7), dtype=np.float32), "open the stream with channels"),
        (np.zeros(4, dtype=np.int32), "give float32"),
    ],
)
def test_unusable_samples_are_refused(pcm, message) -> None:
    """Each error says what is wrong and what to do, and the decoder goes on with the next chunk."""
    decoder = PcmDecoder()
    with pytest.raises(AudioError, match=message):
        decoder.accept(pcm)
    assert decoder.accept(np.zeros(3, dtype=np.float32)).shape == (3,)


def test_unknown_encoding_is_refused() -> None:
    """The error lists the encodings there are."""
    with pytest.raises(AudioError, match="s16le, f32le, mulaw, alaw"):
        PcmDecoder("s24le")  # type: ignore[arg-type]
