"""Punctuation and capitals: on held-out text, and on speech as it is recognised.

    python benchmarks/punctuation.py --text books.txt calls.txt --speech *.dev.jsonl
    python benchmarks/punctuation.py --speech *.dev.jsonl --peer moonshine

The text's words are given without pauses; lines are those that `asr punctuation train` never reads. Manifests of speech
have `raw` texts with punctuation. `truecase` (its English model comes with it) sets capitals on the same text where it
is installed; `--peer moonshine` recognises the same speech with moonshine-voice, which writes punctuation.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from speech import RATE_HZ, machine

import asr
from asr.train.corpus import decode_samples, read_corpus
from asr.train.marked_text import CAPITAL, HELD_OUT, QUESTION, STOP, UNSAID, MarkedText, MarkedTextReader
from asr.train.punctuation_score import CAPITALS, PunctuationScore, count_places, pieces, score_text
from asr.written.punctuation import MARKS


def score_peer_capitals(text: MarkedText, words: list[str]) -> PunctuationScore | None:
    """Capitals that truecase sets, told where sentences end, which no recogniser is."""
    try:
        from truecase.TrueCaser import TrueCaser
    except ImportError:
        return None
    caser, score = TrueCaser(), PunctuationScore()
    for piece in pieces(text):
        marks, capitals = text.marks[piece].tolist(), text.capitals[piece].tolist()
        spoken, written = [words[number] for number in text.words[piece]], list[str]()
        ends = [at + 1 for at, mark in enumerate(marks) if mark in (STOP, QUESTION)]
        for start, end in itertools.pairwise([0, *ends, len(spoken)]):
            written += caser.get_true_case_from_tokens(spoken[start:end], "lower")
        count_places(score, written, marks, capitals)
    return score


def recognised(recognizer: asr.Recognizer, samples: np.ndarray) -> str:
    """Our own written text."""
    stream = recognizer.stream(RATE_HZ, written=asr.WrittenForm(numerals=False))
    events = stream.accept(samples) + stream.finish()
    return " ".join(event.text for event in events if isinstance(event, asr.Final))


def moonshine() -> Callable[[np.ndarray], str]:
    """Text of moonshine's tiny model, offline."""
    from moonshine_voice import ModelArch, Transcriber
    from moonshine_voice.utils import get_assets_path

    transcriber = Transcriber(os.path.join(get_assets_path(), "tiny-en"), ModelArch.TINY)
    return lambda samples: " ".join(
        line.text for line in transcriber.transcribe_without_streaming(samples.tolist(), RATE_HZ).lines
    )


def marked(reader: MarkedTextReader, raw: str) -> tuple[list[str], list[int], list[bool | None]]:
    """Words of a text, what follows each, and whether it has a capital, where its place or its own letters say so."""
    text = reader.lines([raw], 10**6)
    marks = text.marks.tolist()
    starts = [True, *(mark in (STOP, QUESTION) for mark in marks)]
    capitals = [
        True if start else None if own == UNSAID else own == CAPITAL
        for start, own in zip(starts, text.capitals.tolist(), strict=False)
    ]
    return [reader.forms.words[number] for number in text.words], marks, capitals


def score_speech(manifest: Path, recognise: Callable[[np.ndarray], str]) -> tuple[PunctuationScore, int]:
    """Marks after the words that are right; where words are missing or wrong, they are missed or set in vain."""
    score, count, reader = PunctuationScore(), 0, MarkedTextReader()
    raws = {row["id"]: row.get("raw") or "" for row in map(json.loads, manifest.read_text().splitlines())}
    with tarfile.open(manifest.with_suffix(".tar")) as tar:
        for utterance in read_corpus(manifest):
            raw = raws[utterance.id]
            if not any(char.islower() for char in raw) or any(char.isdigit() for char in raw):
                continue
            member = tar.extractfile(utterance.member)
            assert member is not None
            words, marks, capitals = marked(reader, raw)
            heard, heard_marks, heard_capitals = marked(
                reader, recognise(decode_samples(member.read(), utterance.id, RATE_HZ))
            )
            count += 1
            match = difflib.SequenceMatcher(None, words, heard, autojunk=False)
            for kind, a, b, c, d in match.get_opcodes():
                for k in range(max(b - a, d - c)):
                    here = marks[a + k] if a + k < b else 0
                    set_ = heard_marks[c + k] if c + k < d else 0
                    own = capitals[a + k] if kind == "equal" else None
                    if own is not None:
                        score.add(CAPITALS, own, heard_capitals[c + k] is True)
                    for name in MARKS[1:]:
                        score.add(name, MARKS[here] == name, kind == "equal" and MARKS[set_] == name)
    return score, count


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="*", default=[])
    parser.add_argument("--most-words", type=int, default=30_000, help="of each text")
    parser.add_argument("--speech", type=Path, nargs="*", default=[])
    parser.add_argument("--peer", choices=["moonshine"])
    parser.add_argument("--model")
    options = parser.parse_args()
    print(machine())
    recognizer = asr.load(options.model)
    model = recognizer.bundle.punctuation
    assert model is not None
    for path in options.text:
        reader = MarkedTextReader()
        text = reader.read(path, options.most_words, HELD_OUT)
        started = time.process_time()
        print(f"\n{path.stem}, {len(text.words):,} words\n{score_text(model, text, reader.forms).table()}")
        print(f"{1e6 * (time.process_time() - started) / len(text.words):.0f} us a word")
        peer = score_peer_capitals(text, reader.forms.words)
        if peer is not None:
            print(f"truecase, told the marks: F1 of capitals {peer.hits[CAPITALS].f1:.3f}")
    for manifest in options.speech:
        for name, recognise in [
            ("asr", lambda samples: recognised(recognizer, samples)),
            *([("moonshine", moonshine())] if options.peer else []),
        ]:
            score, count = score_speech(manifest, recognise)
            if count:
                print(f"\n{manifest.stem}, {count} utterances as recognised by {name}\n{score.table()}")


if __name__ == "__main__":
    main()
