"""Transcripts as text, JSON, subtitles and tables. Pure functions of finished utterances."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from asr.captions import Cue, captions
from asr.channels import channel_name
from asr.events import Event, Final, Partial, Word

Transcript = Sequence[Final]


def word_fields(word: Word) -> dict[str, Any]:
    """A word for JSON; with what was heard if that is written otherwise."""
    fields = {"text": word.text, "start_s": word.start_s, "end_s": word.end_s, "confidence": word.confidence}
    return {**fields, "spoken": word.spoken} if word.heard else fields


def event_fields(event: Event) -> dict[str, Any]:
    """An event for JSON."""
    words = [word_fields(word) for word in event.words]
    more: dict[str, Any] = {"spoken": event.spoken} if any(word.heard for word in event.words) else {}
    if event.channel is not None:
        more["channel"] = event.channel
    if isinstance(event, Partial):
        return {"text": event.text, "words": words, "stable_chars": event.stable_chars, **more}
    others = [
        {"text": other.text, "words": [word_fields(word) for word in other.words], "score": other.score}
        for other in event.alternatives
    ]
    final = {"text": event.text, "words": words, "reason": event.reason, "score": event.score}
    return {**final, "alternatives": others, **more}


def txt_line(final: Final) -> str:
    """An utterance, after its channel's name if there are several."""
    return final.text if final.channel is None else f"{channel_name(final.channel)}: {final.text}"


def to_txt(finals: Transcript, name: str, duration_s: float) -> str:
    """An utterance a line."""
    return "".join(f"{txt_line(final)}\n" for final in finals)


def to_json(finals: Transcript, name: str, duration_s: float) -> str:
    """One object: file, duration, the whole text, and the utterances with their words."""
    segments = [_segment(final) for final in finals]
    text = " ".join(final.text for final in finals)
    return (
        json.dumps({"file": name, "duration_s": round(duration_s, 3), "text": text, "segments": segments}, indent=2)
        + "\n"
    )


def _segment(final: Final) -> dict[str, Any]:
    channel = {} if final.channel is None else {"channel": final.channel}
    spoken = {} if final.spoken == final.text else {"spoken": final.spoken}
    words = [word_fields(word) for word in final.words]
    return {"start_s": final.start_s, "end_s": final.end_s, **channel, "text": final.text, "words": words, **spoken}


def to_srt(finals: Transcript, name: str, duration_s: float) -> str:
    """SubRip subtitles."""
    return "\n".join(srt_cue(number, cue) for number, cue in enumerate(captions(finals, named=True), start=1))


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
    voice = "" if cue.channel is None else f"<v {channel_name(cue.channel)}>"
    return f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{voice}{lines}"


def to_tsv(finals: Transcript, name: str, duration_s: float) -> str:
    """A table: start and end in milliseconds, and text, an utterance a line; with channels, where there are several."""
    several = any(final.channel is not None for final in finals)
    rows = [(f"{round(f.start_s * 1000)}", f"{round(f.end_s * 1000)}", f"{f.channel}", f.text) for f in finals]
    table = [("start", "end", "channel", "text"), *rows]
    return "".join("\t".join(row if several else (*row[:2], row[3])) + "\n" for row in table)


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
