"""Transcripts as text, JSON, subtitles and tables. Pure functions of finished utterances."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from asr.captions import Cue, captions
from asr.events import Event, Final, Partial, Word

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
    return "\n".join(srt_cue(number, cue) for number, cue in enumerate(captions(finals), start=1))


def srt_cue(number: int, cue: Cue) -> str:
    """One subtitle of SubRip, without the empty line between two."""
    times = f"{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n"
    return f"{number}\n{times}" + "".join(f"{line}\n" for line in cue.lines)


def to_vtt(finals: Transcript, name: str, duration_s: float) -> str:
    """WebVTT subtitles."""
    return "\n".join(["WEBVTT\n", *(vtt_cue(cue) for cue in captions(finals))])


def vtt_cue(cue: Cue) -> str:
    """One subtitle of WebVTT, without the empty line between two."""
    # Its text is markup: what a user's replacement writes must not become a tag.
    lines = "".join(f"{escape(line, quote=False)}\n" for line in cue.lines)
    return f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{lines}"


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


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
