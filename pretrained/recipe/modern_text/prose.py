"""Sources of what was written: encyclopaedia, textbooks, news, blogs. Each function makes raw lines of files."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Iterator

from modern_text.clones import File
from modern_text.markdown import drop_marks, read_paragraphs

csv.field_size_limit(1 << 30)  # characters: an article is one field

_REFERENCE = re.compile(
    r"ISBN|\bpp?\. ?\d|\bdoi:|\bVol\. \d|University Press,|^The (racial makeup|median income)|"
    r"^As of the (census|\d{4} census)|^(This|The following) is a (\w+ )?list|^There were \d+ households"
)  # and sentences that stand in a thousand articles
_HOLE = re.compile(
    r"^\W*[,;:.)]|\b(of|the|a|an|at|between|approximately|and) ?[,.;)]|"
    r"\b(approximately|around|roughly|nearly) (north|south|east|west|long|wide|high|tall|deep|from|above|and)\b|"
    r"\b(length|height|width|area|depth|distance|speed|elevation|altitude|weight|diameter) of "
    r"(and|at|in|from|on|by|with|above|to)\b"
)  # that a template left behind


def wikipedia(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs of articles as wikiextractor leaves them, each article once."""
    done: set[str] = set()
    for file in files:
        for number, body in re.findall(r'<doc id="(\d+)"[^>]*>\n(.*?)</doc>', file.text, re.S):
            if number in done:
                continue
            done.add(number)
            for line in body.split("\n")[1:]:  # the first line is the title
                # Shorter lines are headings and list items.
                if len(line) > 80 and not _REFERENCE.search(line) and not _HOLE.search(line):
                    yield re.sub(r"\(\s*[^()]{0,6}[;,]\s*[^()]{0,4}\)", "", line)


def openstax(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs of textbooks in CNXML that hold no formula, list or reference to a figure."""
    for file in files:
        text = re.sub(r"<metadata.*?</metadata>", "", file.text, flags=re.S)
        for tag in ("equation", "table", "code", "media", "glossary", "problem", "solution", "figure"):
            text = re.sub(rf"<{tag}\b[^>]*(?<!/)>.*?</{tag}>", "", text, flags=re.S)
        for paragraph in re.findall(r"<para\b[^>]*>(.*?)</para>", text, re.S):
            if "<m:math" in paragraph or "<list" in paragraph:
                continue
            paragraph = re.sub(r"\s*\((see |See )?<link [^>]*/>\)", "", paragraph)
            if re.search(r"<link [^>]*/>", paragraph):  # "see Figure 3" would lose its name
                continue
            paragraph = re.sub(r"<footnote.*?</footnote>", "", paragraph, flags=re.S)
            yield re.sub(r"^\s*\(?[a-z]\)\s*", "", re.sub(r"<[^>]+>", "", paragraph))


def wikinews(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs of the column ``text`` of a table."""
    for file in files:
        for row in csv.DictReader(io.StringIO(file.text)):
            for line in row["text"].split("\n"):
                yield re.sub(r"^\s*\(\([^()]*\)\)\s*", "", line)


def currentevents(files: Iterable[File]) -> Iterator[str]:
    """News whose links have titles, and whose last link names the newspaper."""
    for file in files:
        text = re.sub(r"\[\(.*?\)\]\((?:[^()]|\([^()]*\))*\)", "", file.text)
        for block in read_paragraphs(re.sub(r'\]\((\S+) "(?:[^"\\]|\\.)*"\)', r"](x)", text)):
            yield drop_marks(block)


def government(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs of pages, transcripts of slides among them."""
    for file in files:
        for block in read_paragraphs(file.text):
            yield re.sub(r"^(Slide|Page) \d+: *", "", drop_marks(block))


def turingway(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs of pages with roles like ``{ref}`text<target>```."""
    for file in files:
        for block in read_paragraphs(file.text):
            yield drop_marks(re.sub(r"\{\w+\}`([^`<]*)(<[^>]*>)?`", r"\1", block))


def pages(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs of plain markdown."""
    for file in files:
        for block in read_paragraphs(file.text):
            yield drop_marks(block)


def stackexchange(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs of questions and answers in a dump's Posts.xml, less code and formulas."""
    for file in files:
        for body in re.findall(r' Body="([^"]*)"', file.text):
            body = re.sub(r"<(pre|code|table)\b.*?</\1>", " ", html.unescape(body), flags=re.S)
            for paragraph in re.split(r"</?(?:p|li|ul|ol|h\d|blockquote|hr|br)\b[^>]*>", body):
                if "$" not in paragraph:
                    yield re.sub(r"<[^>]+>", "", paragraph)


def health(files: Iterable[File]) -> Iterator[str]:
    """Paragraphs and list items of MedQuAD's answers, less what is the same in each."""
    for file in files:
        for answer in re.findall(r"<Answer>(.*?)</Answer>", file.text, re.S):
            for paragraph in re.split(r"\n\s*|\s{3,}", answer):
                if "Human Phenotype Ontology" not in paragraph and "Key Points" not in paragraph:
                    yield re.sub(r"^\s*([-*\u2022]|\d+[.)])\s*|<[^>]*>", "", paragraph)
