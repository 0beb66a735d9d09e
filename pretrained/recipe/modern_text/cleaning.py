"""What every source's lines go through: tidied, judged, rid of what recognition is measured on."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from asr.errors import DataError

SENTENCES = 3  # in a row that are compared with a transcript
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')\]\u201d\u2019])\s+")
_END = re.compile(r"[.!?\u2026][\"')\]\u201d\u2019]*$")
# Of running English about half; of lists of names, other languages and code next to none.
_COMMON_WORDS = """the of and to a in is that it for on was with as by at from he be are this an or which you i we they
    have has had his her their its not but were been will would can so do did if about there what when who all my your
    our me no just like know one out up then more some than them other into also only over after first she how get go
    want yes please"""
_COMMON = frozenset(_COMMON_WORDS.split())
_CODE = re.compile(
    r"[{}<>|\u266a\\=~^`]|[a-z_]\(\)|\w_\w|::|->|https?:|www\.|\S+@\S+\.\w|\[\[|\]\]|https?//|#\w+#"
)  # addresses and wiki links too
_INVISIBLE = re.compile(r"[\u200b-\u200f\u2060\ufeff\u00ad\x00-\x08\x0b-\x1f\x7f]")
_SPACES = re.compile(r"[\s\u00a0\u2000-\u200a\u202f\u3000]+")
_SIGNS = re.compile(r"[\u202a-\u202e\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]")  # arrows, emoji


def tidy(line: str) -> str:
    """A line with single spaces, without signs that nobody says and without what removed markup left behind."""
    line = html.unescape(html.unescape(line)) if "&" in line else line  # some sources escaped twice
    line = _SPACES.sub(" ", _INVISIBLE.sub("", line)).strip()
    line = _SIGNS.sub("", line)
    line = re.sub(r'\(\s*[,;]?\s*\)|\[\s*\]|""', "", line)  # emptied brackets and quotes
    line = re.sub(r"\(\s*[;,]\s*", "(", line)
    line = re.sub(r"\s+([,.;:!?)])(?=\s|$)", r"\1", line)
    return re.sub(r" {2,}", " ", line).strip()


def is_good(line: str, fewest: int) -> bool:
    """Whether a tidied line is English prose or talk of that many words, written with care."""
    if len(line) < 2 or _CODE.search(line) or "\ufffd" in line:
        return False
    if line[0].islower() or re.search(r"(^| )i(?=[ '\u2019])", line):  # careless capitals
        return False
    words = line.split()
    letters = sum(c.isalpha() for c in line)
    ascii_letters = sum(c.isascii() and c.isalpha() for c in line)
    if len(words) < fewest or letters < 0.6 * len(line) or ascii_letters < 0.96 * letters or letters > 9 * len(words):
        return False
    if len(words) >= 3 and sum(c.isupper() for c in line) > 0.3 * letters:
        return False
    common = sum(word.lower().strip(".,\"'!?") in _COMMON for word in words)
    return len(words) < 10 or common >= 0.12 * len(words)


def letters_of(text: str) -> str:
    """Lower-case words of letters and digits: what is the same in a transcript and in print."""
    return " ".join(re.sub(r"[^\w\s]|_", "", text.lower()).split())


class Measured:
    """The transcripts that no text may hold as sentences of its own.

    Raises:
        DataError: a manifest that cannot be read.
    """

    def __init__(self, manifests: Sequence[Path] = ()) -> None:
        self.transcripts = {letters_of(text) for path in manifests for text in _read_texts(path)} - {""}
        self.longest = max(map(len, self.transcripts), default=0)  # letters and spaces

    def drop(self, line: str) -> str:
        """The line without each run of one to three sentences that is a transcript."""
        sentences = [sentence for sentence in _SENTENCE.split(line) if sentence]
        letters = [letters_of(sentence) for sentence in sentences]
        known: set[int] = set()
        for start in range(len(sentences)):
            run = ""
            for end in range(start, min(start + SENTENCES, len(sentences))):
                run = f"{run} {letters[end]}".strip()
                if len(run) > self.longest:
                    break
                if run in self.transcripts:
                    known.update(range(start, end + 1))
        if not known:
            return line
        return " ".join(sentence for index, sentence in enumerate(sentences) if index not in known)


def _read_texts(path: Path) -> Iterator[str]:
    """Transcripts as they were written: `read_corpus` would need the audio and makes two words of *well-known*."""
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield str(json.loads(line)["text"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: needs a JSON object with a text on each line ({error})") from error


def clean(lines: Iterable[str], measured: Measured, fewest: int, whole: bool) -> Iterator[str]:
    """The good ones of raw lines, each once, without measured sentences; with ``whole`` they end like a sentence."""
    seen: set[int] = set()  # hashes take less memory than the lines
    for raw in lines:
        line = tidy(raw)
        if not is_good(line, fewest) or (whole and not _END.search(line)):
            continue
        kept = measured.drop(line)
        if (kept != line and not is_good(kept, fewest)) or hash(kept) in seen:
            continue
        seen.add(hash(kept))
        yield kept
