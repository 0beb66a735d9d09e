"""Running text of markdown files, with the HTML and the template languages that blogs put into them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINK_END = r"\([^()]*(?:\([^()]*\)[^()]*)*\)"  # an address may have brackets in it


def read_paragraphs(text: str) -> Iterator[str]:
    """Paragraphs and list items; no front matter, code, headings, tables, pictures or addresses."""
    text = re.sub(r"\A\s*---\s*\n.*?\n---\s*\n", "", text, flags=re.S)
    text = re.sub(r"^\s*(```|~~~).*?^\s*(```|~~~)\s*$", "", text, flags=re.S | re.M)
    text = re.sub(r"\{%-? *(highlight|raw|comment).*?%\}.*?\{%-? *end\w+ *-?%\}", "", text, flags=re.S)
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->|<(script|style|table|figure|pre|code|iframe)\b.*?</\1>", "", text, flags=re.S | re.I)
    text = re.sub(r"</?(p|div|li|ul|ol|br|h\d|blockquote|section|details|summary)\b[^>]*>", "\n\n", text, flags=re.I)
    text = re.sub(r"<[a-zA-Z/][^<>]*>", "", text)
    text = re.sub(rf"!\[[^\]]*\]({_LINK_END}|\[[^\]]*\])", "", text)
    text = re.sub(r"\[\^[^\]]*\]:?", "", text)
    for _ in range(2):  # a picture within a link leaves a link
        text = re.sub(rf"\[([^\[\]]*)\]{_LINK_END}(\{{[^}}]*\}})?", r"\1", text)
    text = re.sub(r"\[([^\[\]]+)\] ?\[[^\[\]]*\]", r"\1", text)
    text = re.sub(r"^\s*\[[^\]]+\]:.*$", "", text, flags=re.M)
    text = re.sub(r"<https?:[^>]*>|\(https?:[^)]*\)", "", text)
    for block in re.split(r"\n\s*\n", text):
        yield from _split_block(block)


def _split_block(block: str) -> Iterator[str]:
    paragraph: list[str] = []
    for line in block.split("\n"):
        if re.match(r"\s*(#|\||:::|---|===|\[\^|%|\{)", line):
            line = ""
        item = re.match(r"\s*([-*+]|\d+[.)])\s+(.*)", line)
        if item or not line.strip():
            if paragraph:
                yield " ".join(paragraph)
            paragraph = [item[2]] if item else []
        else:
            paragraph.append(re.sub(r"^\s*>+ ?", "", line).strip())
    if paragraph:
        yield " ".join(paragraph)


def drop_marks(text: str) -> str:
    """A paragraph without the marks of code, bold and italics."""
    text = re.sub(r"\\([\\`*_{}\[\]()#+.!~-])", r"\1", text)
    text = re.sub(r"`([^`]*)`", r"\1", text)
    text = re.sub(r"\*\*|__", "", text)
    return re.sub(r"(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)", "", text)
