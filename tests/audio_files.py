"""Makes audio files of any kind for the tests, with the encoders that PyAV carries."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

KINDS = {
    "wav": ("wav", "pcm_s16le", "s16"),
    "adpcm": ("wav", "adpcm_ima_wav", "s16p"),
    "alaw": ("wav", "pcm_alaw", "s16"),
    "float": ("wav", "pcm_f32le", "flt"),
    "flac": ("flac", "flac", "s16"),
    "mp3": ("mp3", "libmp3lame", "s16p"),
    "ogg": ("ogg", "vorbis", "fltp"),
    "opus": ("ogg", "libopus", "s16"),
    "m4a": ("ipod", "aac", "fltp"),
    "webm": ("webm", "libopus", "s16"),
    "mkv": ("matroska", "flac", "s16"),
}


def write_audio(
    path: Path,
    samples: np.ndarray,
    rate_hz: int = 16_000,
    channels: int = 1,
    kind: str | None = None,
    movflags: str = "",
) -> Path:
    """Write ``(n,)`` float32 samples, the same in every channel, or ``(n, channels)``, as the kind of file that the
    suffix says.

    ``movflags``: FFmpeg's, of an M4A: where its table of contents lies, at the end unless they say otherwise.
    """
    container_format, codec, sample_format = KINDS[kind or path.suffix[1:]]
    channels = channels if samples.ndim == 1 else samples.shape[1]
    layout = {1: "mono", 2: "stereo", 6: "5.1", 7: "6.1", 8: "7.1"}[channels]
    options = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", format=container_format, options=options) as container:
        if codec == "vorbis":  # FFmpeg's own encoder: stereo only, and asks to be trusted
            channels, layout = 2, "stereo"
        stream = container.add_stream(codec, rate=rate_hz, layout=layout, options={"strict": "experimental"})
        assert isinstance(stream, av.AudioStream)
        integers = np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)
        converter = av.AudioResampler(
            format=sample_format, layout=layout, rate=rate_hz, frame_size=stream.frame_size or 1024
        )
        interleaved = np.repeat(integers, channels) if samples.ndim == 1 else integers.reshape(-1)
        frame = av.AudioFrame.from_ndarray(interleaved[None], format="s16", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
        for part in [*converter.resample(frame), *converter.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path
