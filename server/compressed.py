"""Files that hold sound but no raw samples, known by how they begin."""

from __future__ import annotations

from asr.audio.forms import Form

# Raw samples may begin with any bytes, but with these four by a chance of one in 2^32.
FILE_MARKS = {
    b"OggS": Form.OGG,
    b"\x1aE\xdf\xa3": Form.WEBM,
    b"fLaC": Form.FLAC,
    b"ID3\x02": Form.MP3,
    b"ID3\x03": Form.MP3,
    b"ID3\x04": Form.MP3,
    b"#!AM": Form.AMR,
    b"FORM": Form.AIFF,
    b"caff": Form.CAF,
    b".snd": Form.AU,
}

_FRAMES = 3  # that must follow each other: the two bytes that one begins with are a sample as any other
_HEADER_BYTES = 6
_MPEG_1, _MPEG_2 = 144, 72  # bytes of an MP3's frame are so many times its bits a second, by its samples a second
_KBITS = {
    _MPEG_1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    _MPEG_2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {0b11: (44_100, 48_000, 32_000), 0b10: (22_050, 24_000, 16_000), 0b00: (11_025, 12_000, 8_000)}


def is_mp4(head: bytes) -> bool:
    """Whether a file of QuickTime's kind begins so, if enough of it is there."""
    return head[4:8] == b"ftyp"


def may_be_mp4(head: bytes) -> bool:
    """Whether one may begin so, and more is needed to tell."""
    return len(head) < 8 and b"\0\0".startswith(head[:2]) and b"ftyp".startswith(head[4:])


def begins_with_frames(head: bytes) -> bool | None:
    """Whether MP3's or AAC's frames begin here, one behind the other; None if more is needed to tell."""
    at, first = 0, (0, 0)
    for _ in range(_FRAMES):
        header = head[at : at + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES:
            return None if _may_be_frame(header) else False
        size = _mp3_bytes(header) or _aac_bytes(header)
        same = header[1], header[2] & 0x0C
        if not size or (at and same != first):
            return False
        at, first = at + size, same
    return True


def frames_form(head: bytes) -> Form:
    """Which of the two these frames are."""
    return Form.AAC if _is_aac(head[1]) else Form.MP3


def _may_be_frame(header: bytes) -> bool:
    return header[:1] in (b"", b"\xff") and (len(header) < 2 or _is_mp3(header[1]) or _is_aac(header[1]))


def _is_mp3(second: int) -> bool:
    """Whether a header's second byte is one of layer III, in a version that there is."""
    return second & 0xE6 == 0xE2 and second >> 3 & 0b11 in _RATES_HZ


def _is_aac(second: int) -> bool:
    return second & 0xF6 == 0xF0


def _mp3_bytes(header: bytes) -> int:
    """The length of the frame that a header of MP3 is of; 0 if it is none."""
    kbits, rate = header[2] >> 4, header[2] >> 2 & 0b11
    if header[0] != 0xFF or not _is_mp3(header[1]) or not 1 <= kbits <= 14 or rate == 0b11:
        return 0
    version = header[1] >> 3 & 0b11
    times = _MPEG_1 if version == 0b11 else _MPEG_2
    padding = header[2] >> 1 & 1
    return times * 1000 * _KBITS[times][kbits - 1] // _RATES_HZ[version][rate] + padding


def _aac_bytes(header: bytes) -> int:
    """The same of AAC (ADTS)."""
    if header[0] != 0xFF or not _is_aac(header[1]) or header[2] >> 2 & 0x0F > 12:
        return 0
    size = (header[3] & 0b11) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > _HEADER_BYTES else 0
