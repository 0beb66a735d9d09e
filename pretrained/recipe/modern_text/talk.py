"""Sources of what was said: interviews, meetings, speeches, dialogue. Each function makes raw lines of files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator

from modern_text.clones import File
from modern_text.markdown import drop_marks, read_paragraphs

# What transcribers note beside the words.
_NOTE = re.compile(
    r"\[(\d+:)?\d+:\d\d(\.\d+)?\]|\[?\(?(unintelligible|inaudible|laughter|laughs?|laughing|applause|crosstalk|"
    r"cross-talk|music|pause|silence|sic|clip|audio|sound|coughs?|sighs?|break|ph|indiscernible)[^\]\)]{0,25}[\]\)]|"
    r"\((\d+:)?\d+:\d\d\)",
    re.I,
)
_SPEAKER = re.compile(
    r"^([A-Z][\w.'\u2019-]*( [A-Z(][\w.'\u2019)-]*){0,3}|[A-Z]{1,3}\d?|Speaker \d+|Q|A)( \([^)]*\))? ?"
    r"(: ?(\d+:)?\d\d:\d\d(\.\d+)?|(?<!^I):(?= ))\s*"
)
_ABOUT = re.compile(
    r"(Transcript|Slides|Video|Paper|Location|Date|Media|Name|Topic|Speakers?|Audio|Repo)\b.{0,12}:"
)  # a line on the talk, not of it
_PRESIDENTS = "Roosevelt Truman Eisenhower Kennedy Johnson Nixon Ford Carter Reagan Bush Clinton Obama Trump Biden"
_SINCE_1933 = frozenset(_PRESIDENTS.split())


def changelog(files: Iterable[File]) -> Iterator[str]:
    """Turns that begin with a speaker in bold, less jingles and advertisements."""
    for file in files:
        skip = False
        for block in read_paragraphs(file.text):
            block = re.sub(r"\\([\[\]])", r"\1", block)
            if who := re.match(r"\*\*([^*]{1,60}?):?\*\*:?\s*", block):
                skip = bool(re.match(r"(Break|Jingle|Song|Music|Clip|Outro|Ad)\b", who[1]))
                block = block[who.end() :]
            if not skip:
                yield drop_marks(_NOTE.sub(" ", block))


def bitcointranscripts(files: Iterable[File]) -> Iterator[str]:
    """English transcripts by many hands: speakers and times stand before a turn in many ways."""
    for file in files:
        language = re.search(r"^language: *(\w+)", file.text[:1500], re.M)
        if language and language[1] != "en":
            continue
        for block in read_paragraphs(file.text):
            block = _SPEAKER.sub("", _NOTE.sub(" ", drop_marks(block)).strip())
            block = re.sub(r"^(\d+:)?\d\d:\d\d(\.\d+)?\s*", "", block)
            block = re.sub(r"^[QA]\d? ?[-\u2013:.] +", "", block)
            if not _ABOUT.match(block):
                yield block


def bitcoinops(files: Iterable[File]) -> Iterator[str]:
    """What follows a page's heading of the transcription."""
    for file in files:
        for block in read_paragraphs(file.text.partition("## Transcription")[2]):
            yield drop_marks(_NOTE.sub(" ", re.sub(r"^\*\*[^*]{1,60}\*\*:?\s*", "", block)))


def _join_tokens(text: str) -> str:
    text = re.sub(r"\s+([,.?!;:%)])", r"\1", text)
    text = re.sub(r"\s+('s|'re|'ve|'ll|'d|'m|n't)\b", r"\1", text)
    text = re.sub(r"(\w) - (\w)", r"\1-\2", text)
    return re.sub(r"([($])\s+", r"\1", text)


def meetings(files: Iterable[File]) -> Iterator[str]:
    """Turns of QMSum that were not broken off."""
    for file in files:
        for turn in json.loads(file.text)["meeting_transcripts"]:
            if not re.search(r"\{(disfmarker|gap)\}\s*$", turn["content"]):
                content = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", turn["content"])
                yield _join_tokens(content).replace("Mr.Chair", "Mr. Chair")


def sgd(files: Iterable[File]) -> Iterator[str]:
    """Turns of schema-guided dialogues."""
    for file in files:
        for dialogue in json.loads(file.text):
            for turn in dialogue["turns"]:
                yield turn["utterance"]


def taskmaster(files: Iterable[File]) -> Iterator[str]:
    """Turns of Taskmaster dialogues."""
    for file in files:
        for dialogue in json.loads(file.text):
            for turn in dialogue.get("utterances", []):
                yield turn["text"]


def topicalchat(files: Iterable[File]) -> Iterator[str]:
    """Turns of Topical-Chat, some of which are lists of sentences."""
    for file in files:
        for dialogue in json.loads(file.text).values():
            for turn in dialogue["content"]:
                message = turn["message"]
                yield " ".join(message) if isinstance(message, list) else message


def banking(files: Iterable[File]) -> Iterator[str]:
    """The column ``text`` of a table."""
    for file in files:
        for row in csv.DictReader(io.StringIO(file.text)):
            yield row["text"]


def presidents(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs of presidents since 1933; the first line of a file names one."""
    for file in files:
        head, _, body = file.text.partition("\n")
        name = head.replace("President:", "").strip()
        if name.split()[-1] not in _SINCE_1933 or name.startswith(("Theodore", "Andrew")):
            continue
        for block in re.split(r"\n\s*\n", body):
            who = r"^\s*((THE PRESIDENT|The President|Q|QUESTION|[A-Z]+\. [A-Z]+)[.:]|Q(?= [A-Z]))\s*"
            yield re.sub(who, "", _NOTE.sub(" ", block))


def apollo(files: Iterable[File]) -> Iterator[str]:
    """Lines of radio talk; of a glossary's ``[term:words]`` the words are kept."""
    for file in files:
        for line in file.text.split("\n"):
            if not line.startswith(("[", "_", "#")):  # times, page numbers and the like
                line = re.sub(r"^[A-Z][\w /()-]{0,20}:\s*", "", line)
                line = re.sub(r"\[\w+:[^\]]*?([^\]:]*)\]", r"\1", line)
                yield re.sub(r"\([^)]*\)|\[[^\]]*\]", "", line)
