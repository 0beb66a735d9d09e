"""Forms of coded sound."""

from __future__ import annotations

from enum import Enum


class Form(Enum):
    """What sound comes in that is no raw samples. The value is what people call it."""

    OGG = "Ogg"
    WEBM = "WebM or Matroska"
    MP4 = "MP4"
    FLAC = "FLAC"
    MP3 = "MP3"
    AAC = "AAC"
    AMR = "AMR"
    AIFF = "AIFF"
    CAF = "CAF"
    AU = "AU"
    AVI = "AVI"
    OPUS = "Opus packets"  # each by itself, in no file
