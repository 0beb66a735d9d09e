"""Transcripts as text, JSON, subtitles and tables. Pure functions of finished utterances."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from asr.events import Event, Final, Partial, Word

_CAPTION_CHARS = 42  # a subtitle line that can be read at a glance
_CAPTION_LINES = 2
_CAPTION_S = 6.0  # longest time for one caption
_CAPTION_PAUSE_S = 0.8  # a pause that ends one
_CAPTION_MIN_S = 0.7  # a shorter caption cannot be read

Transcript = Sequence[Final]


def word_fields(word: Word) -> dict[str, Any]:
    """A word for JSON; with what was heard if that is written otherwise."""
    fields = {"text": word.text, "start_s": word.start_s, "end_s": word.end_s, "confidence": word.confidence}
    return {**fields, "spoken": word.spoken} if word.heard else fields


def event_fields(event: Event) -> dict[str, Any]:
    """An event for JSON."""
    words = [word_fields(word) for word in event.words]
    spoken = {"spoken": event.spoken} if any(word.heard for word in event.words) else {}
    if isinstance(event, Partial):
        return {"text": event.text, "words": words, "stable_chars": event.stable_chars, **spoken}
    others = [
        {"text": other.text, "words": [word_fields(word) for word in other.words], "score": other.score}
        for other in event.alternatives
    ]
    final = {"text": event.text, "words": words, "reason": event.reason, "score": event.score}
    return {**final, "alternatives": others, **spoken}


def to_txt(finals: Transcript, name: str, duration_s: float) -> str:
    """An utterance a line."""
    return "".join(f"{final.text}\n" for final in finals)


def to_json(finals: Transcript, name: str, duration_s: float) -> str:
    """One object: file, duration, the whole text, and the utterances with their words."""
    segments = [
        {"start_s": f.start_s, "end_s": f.end_s, "text": f.text, "words": [word_fields(word) for word in f.words]}
        for f in finals
    ]
    for segment, final in zip(segments, finals, strict=True):
        if final.spoken != final.text:
            segment["spoken"] = final.spoken
    text = " ".join(final.text for final in finals)
    return (
        json.dumps({"file": name, "duration_s": round(duration_s, 3), "text": text, "segments": segments}, indent=2)
        + "\n"
    )


def to_srt(finals: Transcript, name: str, duration_s: float) -> str:
    """SubRip subtitles."""
    return "\n".join(
        f"{number}\n{_clock(start_s, ',')} --> {_clock(end_s, ',')}\n{text}\n"
        for number, (start_s, end_s, text) in enumerate(captions(finals), start=1)
    )


def to_vtt(finals: Transcript, name: str, duration_s: float) -> str:
    """WebVTT subtitles."""
    cues = [f"{_clock(start_s, '.')} --> {_clock(end_s, '.')}\n{text}\n" for start_s, end_s, text in captions(finals)]
    return "\n".join(["WEBVTT\n", *cues])


def to_tsv(finals: Transcript, name: str, duration_s: float) -> str:
    """A table: start and end in milliseconds, and text, an utterance a line."""
    rows = [f"{round(f.start_s * 1000)}\t{round(f.end_s * 1000)}\t{f.text}\n" for f in finals]
    return "".join(["start\tend\ttext\n", *rows])


FORMATS: dict[str, Callable[[Transcript, str, float], str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
}


def captions(finals: Transcript) -> Iterator[tuple[float, float, str]]:
    """Split utterances into captions of at most two lines and six seconds, at pauses where there are some."""
    groups = [group for final in finals for group in _groups(final.words)]
    for number, group in enumerate(groups, start=1):
        start_s, end_s = group[0].start_s, max(group[-1].end_s, group[0].start_s + _CAPTION_MIN_S)
        if number < len(groups):
            end_s = max(group[-1].end_s, min(end_s, groups[number][0].start_s))
        yield start_s, end_s, "\n".join(_lines([word.text for word in group]))


def _groups(words: Sequence[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group:
            too_long = len(_lines([w.text for w in [*group, word]])) > _CAPTION_LINES
            too_late = word.end_s - group[0].start_s > _CAPTION_S
            if too_long or too_late or word.start_s - group[-1].end_s > _CAPTION_PAUSE_S:
                yield group
                group = []
        group.append(word)
    if group:
        yield group


def _lines(words: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= _CAPTION_CHARS:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
