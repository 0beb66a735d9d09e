"""Subtitles: where a transcript is cut into cues, and cues into lines.

Every place between two words has a worth as a break: ends of utterances and sentences most, clauses and pauses less,
and where there are neither, the place before a word that joins. The best cuts of the whole transcript are found
together, so that no cue is paid for by the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge

from asr.channels import channel_name
from asr.events import Final, Word
from asr.written.words import word_set


@dataclass(frozen=True)
class CaptionOptions:
    """How much a reader can take."""

    line_chars: int = 42  # a line that can be read at a glance; a longer word is kept whole
    chars_per_s: float = 20.0  # reading speed, where what is said leaves the time for it
    shortest_s: float = 1.0  # a shorter cue flashes up
    longest_s: float = 6.0  # a longer one is read twice; a single word may be longer


@dataclass(frozen=True)
class Cue:
    """A subtitle: one or two lines, and when they are shown."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]
    channel: int | None = None  # as in `asr.events.Final`


DEFAULT_OPTIONS = CaptionOptions()

# What cuts cost, in units of a cue: fewer cues are better, and so are even ones.
_LACKING_S = 6.0  # a second less than a reader needs
_UNEVEN = 0.3  # an empty cue, compared with a full one
_INSIDE = 0.5  # the worth of the best break that a cue goes over
_PAUSE_INSIDE_S = 4.0  # a second of silence beyond `_LONG_PAUSE_S` that a cue goes over
_LONG_PAUSE_S = 0.8  # a pause as good as the end of a sentence
_NEVER = float("inf")

# What breaks are worth.
_SENTENCE, _CLAUSE, _JOINING, _RELATING, _BINDING = 1.0, 0.7, 0.5, 0.3, -0.4
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”\u2019»)\]]*$")
_CLAUSE_END = re.compile(r"[,;:\u2013\u2014][\"'”\u2019»)\]]*$")
_ABBREVIATION = re.compile(r"(?:.* )?(?:(?:\w\.)+|Mr\.|Mrs\.|Ms\.|Dr\.|Prof\.|St\.|Jr\.|Sr\.|vs\.|etc\.)")
# English words that begin a clause, those that begin a phrase, and those that the next word belongs to.
_JOINS = word_set(
    "and but or nor so yet because although though unless until while when whenever where wherever whether if that "
    "which who whom whose"
)
_RELATES = word_set(
    "about above across after against along among around as at before behind below between beyond by during for from "
    "in into like near of off on onto over since than through to toward towards under upon with within without"
)
_BINDS = word_set(
    "a an the this that these those my your his her its our their no some any every each all both such very too more "
    "most i you he she it we they is are was were am be been have has had do does did will would can could shall "
    "should may might must not and but or nor because if of to at by for from in into on with about than as mr mrs ms "
    "dr"
)


def captions(finals: Sequence[Final], options: CaptionOptions = DEFAULT_OPTIONS, named: bool = False) -> Iterator[Cue]:
    """Cues of a transcript: each word once, in order, and no cue reaches into the next.

    A cue begins with its first word. It lasts beyond its last one into the pause that follows, until it can have been
    read. Cues of separate channels come in the order in which they begin; what two say at once is shown at once.

    Args:
        finals: the utterances.
        options: what a reader can take.
        named: whether cues of separate channels begin with their channel's name.
    """
    channels = sorted({final.channel for final in finals if final.channel is not None})
    if not channels:
        yield from _captions(finals, options, "")
        return
    found = []
    for channel in channels:
        name = f"{channel_name(channel)}: " if named else ""
        own = _captions([final for final in finals if final.channel == channel], options, name)
        found.append([replace(cue, channel=channel) for cue in own])
    yield from merge(*found, key=lambda cue: cue.start_s)


def _captions(finals: Sequence[Final], options: CaptionOptions, name: str) -> Iterator[Cue]:
    """Cues of one speaker's utterances, each of which begins with a name."""
    words = [word for final in finals for word in final.words]
    if not words:
        return
    gaps = [_worth(words, k) for k in range(len(words))]
    last = -1
    for final in finals:
        last += len(final.words)
        if final.reason != "length":  # an utterance that had become too long may end anywhere
            gaps[last] = _SENTENCE
    begin = 0
    for end in _cuts(words, gaps, options, len(name)):
        texts = [word.text for word in words[begin:end]]
        texts[0] = name + texts[0]
        end_s = _end_s(words, begin, end, len(" ".join(texts)), options)
        yield Cue(words[begin].start_s, end_s, _lines(texts, gaps[begin:end], options))
        begin = end


def _worth(words: Sequence[Word], at: int) -> float:
    """Of a break after a word: about 0 for any place, 1 for the end of a sentence."""
    if at + 1 == len(words):
        return _SENTENCE
    text, following = words[at].text, words[at + 1].text.lower()
    worth = min(_SENTENCE, (words[at + 1].start_s - words[at].end_s) / _LONG_PAUSE_S)
    if _SENTENCE_END.search(text) and not _ABBREVIATION.fullmatch(text):
        return _SENTENCE
    if _CLAUSE_END.search(text):
        return max(worth, _CLAUSE)
    if _ABBREVIATION.fullmatch(text) or text.lower() in _BINDS:
        return worth + _BINDING
    return max(worth, _JOINING if following in _JOINS else _RELATING if following in _RELATES else 0.0)


def _cuts(words: Sequence[Word], gaps: Sequence[float], options: CaptionOptions, name_chars: int) -> list[int]:
    """Where each cue ends: the cuts that cost least together."""
    costs, origins = [0.0] + [_NEVER] * len(words), [0] * (len(words) + 1)
    for begin in range(len(words)):
        for end, cost in _cues(words, gaps, begin, options, name_chars):
            if costs[begin] + cost < costs[end]:
                costs[end], origins[end] = costs[begin] + cost, begin
    cuts = [len(words)]
    while origins[cuts[-1]] > 0:
        cuts.append(origins[cuts[-1]])
    return cuts[::-1]


def _cues(
    words: Sequence[Word], gaps: Sequence[float], begin: int, options: CaptionOptions, name_chars: int
) -> Iterator[tuple[int, float]]:
    """The cues that can begin with a word: where each ends, and what it costs."""
    room = 2 * options.line_chars + 1
    start_s, chars, line, lines, inside = words[begin].start_s, -1, 0, 1, 0.0
    for end in range(begin + 1, len(words) + 1):
        last = words[end - 1]
        length = len(last.text) + (name_chars if end == begin + 1 else 0)
        if line and line + 1 + length > options.line_chars:
            line, lines = 0, lines + 1
        line += length + (1 if line else 0)
        chars += length + 1
        if end > begin + 1:
            if lines > 2 or last.end_s - start_s > options.longest_s:
                return
            pause_s = last.start_s - words[end - 2].end_s
            inside += _INSIDE * max(0.0, gaps[end - 2]) + _PAUSE_INSIDE_S * max(0.0, pause_s - _LONG_PAUSE_S)
        lacking_s = max(0.0, _needed_s(chars, options) - (_end_s(words, begin, end, chars, options) - start_s))
        uneven = _UNEVEN * max(0.0, 1 - chars / room) ** 2
        yield end, 1 + (1 - gaps[end - 1]) + inside + uneven + _LACKING_S * lacking_s


def _needed_s(chars: int, options: CaptionOptions) -> float:
    return max(options.shortest_s, chars / options.chars_per_s)


def _end_s(words: Sequence[Word], begin: int, end: int, chars: int, options: CaptionOptions) -> float:
    """When a cue goes: not before its last word is over, and not before it could be read, but before the next comes."""
    wanted_s = max(words[end - 1].end_s, words[begin].start_s + _needed_s(chars, options))
    return wanted_s if end == len(words) else min(wanted_s, words[end].start_s)


def _lines(texts: Sequence[str], gaps: Sequence[float], options: CaptionOptions) -> tuple[str, ...]:
    """One line if it fits, else two, broken where that is worth most; even ones are better."""
    whole = " ".join(texts)
    if len(texts) == 1 or len(whole) <= options.line_chars:
        return (whole,)
    best = -_NEVER
    found: tuple[str, ...] = (whole,)
    for k in range(1, len(texts)):
        lines = " ".join(texts[:k]), " ".join(texts[k:])
        sizes = (k, len(texts) - k)
        if all(len(line) <= options.line_chars or size == 1 for line, size in zip(lines, sizes, strict=True)):
            worth = gaps[k - 1] - abs(len(lines[0]) - len(lines[1])) / options.line_chars
            if worth > best:
                best, found = worth, lines
    return found
